"""The documentation says what is so: commands, keys, names, and code that runs."""

import ast
import contextlib
import functools
import importlib
import io
import pathlib
import re
import runpy
import shlex
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from wsvad_jax import models
from wsvad_jax.experiment.config import load_config
from wsvad_jax.training import run as train_run
from wsvad_jax.utils.files import read_json

REPOSITORY = pathlib.Path(__file__).parent.parent.parent
DOCS = REPOSITORY / "docs"
PAGES = [
    *sorted(REPOSITORY.glob("*.md")),
    *sorted(p for p in DOCS.rglob("*.md") if "_build" not in p.parts),
]
PROGRAM = "python -m wsvad_jax."


def blocks(page: pathlib.Path, language: str) -> list[tuple[str, str]]:
    """(caption, content) of a page's fenced blocks of a language."""
    fence = rf"^```(?:\{{code-block\}} )?{language}\n(.*?)^```$"
    found = []
    for content in re.findall(fence, page.read_text(), re.MULTILINE | re.DOTALL):
        caption = re.match(r":caption: (.+)\n\n", content)
        text = content[caption.end() :] if caption else content
        found.append((caption[1] if caption else "", text))
    return found


def commands() -> list[Any]:
    """Calls of a program in README and docs, each as its words."""
    found = []
    for page in PAGES:
        for _, block in blocks(page, "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                for command in line.split(" && "):
                    words = shlex.split(command, comments=True)
                    if " ".join(words).startswith(PROGRAM):
                        name = f"{page.relative_to(REPOSITORY)}: {' '.join(words)}"
                        found.append(pytest.param(page, words[2:], id=name))
    return found


@functools.cache
def help_of(*program: str) -> str:
    module, *parts = program
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit) as e:
        importlib.import_module(module).main([*parts, "--help"])
    assert e.value.code == 0
    return out.getvalue()


def recipes_in(page: pathlib.Path) -> set[str]:
    return {caption for caption, _ in blocks(page, "python") if caption}


@pytest.mark.parametrize("page, words", commands())
def test_commands_exist(page, words):
    program, *arguments = words
    assert (REPOSITORY / f"{program.replace('.', '/')}.py").is_file()
    parts = arguments[:1] if program == "wsvad_jax.benchmark" else []
    known = help_of(program, *parts)
    keys = [a for a in arguments if a.startswith("--config.")]
    for argument in arguments:
        if argument.startswith("-") and argument not in [*keys, "-"]:
            flag = re.escape(argument.partition("=")[0])
            assert re.search(rf"(?<![\w-]){flag}(?![\w-])", known), argument
    if "--config" in arguments:
        recipe = arguments[arguments.index("--config") + 1].partition(":")[0]
        if recipe not in recipes_in(page):
            path = REPOSITORY / "configs" / f"{pathlib.Path(recipe).stem}.py"
            load_config([f"--config={path}", *keys])


@pytest.mark.parametrize("page", sorted((DOCS / "models").glob("*.md")), ids=str)
def test_switches_are_keys_of_the_recipe(page):
    # A page on a switch of several models is read with one of their recipes.
    own = REPOSITORY / "configs" / f"{page.stem}.py"
    recipe = own if own.is_file() else own.with_name("vadclip.py")
    config = load_config([f"--config={recipe}:ucf"])
    named = re.findall(
        r"`((?:model|loss|data|eval|paper|clean)\.[\w.]+)(?:=[^`]*)?`", page.read_text()
    )
    assert named
    for name in named:
        node = config
        for key in name.split("."):
            assert key in node, name
            node = node[key]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(REPOSITORY)))
def test_no_line_is_hidden_as_a_comment(page):
    """Sphinx's Markdown leaves out lines that begin with a per cent sign."""
    prose = re.sub(
        r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL
    )
    assert not re.findall(r"^%.*$", prose, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(REPOSITORY)))
def test_names_and_files_exist(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    added = recipes_in(page)
    for name in re.findall(r"`~?(wsvad_jax(?:\.\w+)+)`", text):
        parts = name.split(".")
        for cut in range(len(parts), 0, -1):
            path = REPOSITORY.joinpath(*parts[:cut])
            if path.is_dir() or path.with_suffix(".py").is_file():
                value = importlib.import_module(".".join(parts[:cut]))
                for attribute in parts[cut:]:
                    value = getattr(value, attribute)
                break
    for name in re.findall(r"`((?:wsvad_jax|configs|tests|docs)/[\w./]*)`", text):
        assert (REPOSITORY / name).exists() or name in added, name


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(REPOSITORY)))
def test_examples_import_what_there_is(page):
    for caption, block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and not caption:
                module = importlib.import_module(node.module or "")
                assert all(hasattr(module, alias.name) for alias in node.names)


@pytest.fixture
def fifth(tmp_path, monkeypatch):
    """The files of the page on a fifth model, and the package with it."""
    found = dict(blocks(DOCS / "fifth_model.md", "python"))
    for name, content in found.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    # Imported as a part of the package, its annotations are checked as well.
    folder = str(tmp_path / "wsvad_jax" / "models")
    monkeypatch.setattr(models, "__path__", [*models.__path__, folder])
    known = runpy.run_path(str(tmp_path / "wsvad_jax/models/__init__.py"))["MODELS"]
    monkeypatch.setattr(models, "MODELS", known)
    yield tmp_path
    sys.modules.pop("wsvad_jax.models.topk_mil")
    del models.topk_mil  # pyright: ignore[reportAttributeAccessIssue]


def test_fifth_model_is_added_to_the_four(fifth):
    now = runpy.run_path(str(REPOSITORY / "wsvad_jax/models/__init__.py"))["MODELS"]
    assert list(models.MODELS) == [*now, "topk_mil"]


def test_fifth_model_passes_its_own_tests(fifth):
    written = runpy.run_path(str(fifth / "tests/models/test_topk_mil.py"))
    tests = [f for name, f in written.items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        test()


def test_fifth_model_trains_and_scores(fifth, tiny):
    from wsvad_jax.detection.detector import Detector

    changes = [
        f"--config.clean.{k}={v}" for k, v in {"steps": 6, "batch_size": 4}.items()
    ]
    recipe = f"--config={fifth}/configs/topk_mil.py:{tiny.path}"
    config = load_config([recipe, *changes])
    train_run.train_and_evaluate(config, fifth / "run")
    results = read_json(fifth / "run" / "results.json")
    assert results["model"] == "topk_mil" and results["step"] == 6
    assert 0 <= results["auc"] <= 1
    detector = Detector(fifth / "run")
    scores = detector.score(np.zeros((5, detector.width), np.float16))
    assert scores["anomaly"].shape == (5,)


@pytest.mark.slow
def test_pages_build_without_warnings(tmp_path):
    for package in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(package, reason=f"{package} of the extra docs is missing")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    run = subprocess.run(
        [*command, "-d", tmp_path / "trees", DOCS, tmp_path / "html"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "html" / "index.html").is_file()
