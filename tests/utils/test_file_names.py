"""Names of files that are no Unicode, as of archives unpacked in another encoding."""

import csv
import os
import shutil
import sys

import pytest
from untrained import write_model

from wsvad_jax import detect
from wsvad_jax.utils.files import read_json

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="names of files are Unicode there"
)


def test_detect_reads_and_writes_them(tiny, tmp_path):
    model = write_model(tiny, "mil_ranking", tmp_path / "model")
    folder, output = tmp_path / "features", tmp_path / "out"
    folder.mkdir()
    for name in (b"caf\xe9.npy", b"b.npy"):
        source = tiny.root / "own" / "features" / "test1.npy"
        shutil.copy(source, folder / os.fsdecode(name))
    command = folder, "--checkpoint", model, "--output", output
    options = "--low", 0.001, "--high", 0.001, "--min_length", 0
    assert detect.main([str(a) for a in (*command, *options)]) == 0
    with open(output / "events.csv", encoding="utf-8") as file:
        videos = {row["video"] for row in csv.DictReader(file)}
    assert videos == {"caf\\udce9", "b"}
    found = read_json(output / "events.json")["videos"]
    name = os.fsdecode(b"caf\xe9")
    assert {v["video"] for v in found} == {name, "b"}
    assert (output / "pictures" / f"{name}.png").is_file()
    page = (output / "report.html").read_text(encoding="utf-8")
    assert "caf\\udce9" in page
