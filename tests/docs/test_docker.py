"""The Dockerfiles copy what there is and what installing needs (not built here)."""

import pathlib
import re
import tomllib

import pytest

REPOSITORY = pathlib.Path(__file__).parent.parent.parent
FILES = sorted((REPOSITORY / "docker").glob("Dockerfile*"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_what_is_copied_and_installed_is_there(path):
    text = path.read_text()
    copied = {
        source
        for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE)
        for source in line.split()[:-1]
    }
    assert all((REPOSITORY / source).exists() for source in copied)
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["packages"], *wheel["force-include"]}
    needed |= {project["project"]["readme"], *project["project"]["license-files"]}
    assert {"pyproject.toml", *needed} <= copied
    for extra in re.findall(r"/src\[(\w+)\]", text):
        assert extra in project["project"]["optional-dependencies"]
    assert re.search(r"^USER (?!root)", text, re.MULTILINE)
