"""All programs under one name, and the package's own names."""

import subprocess
import sys

import pytest
from test_structure import HEAVY, PROGRAMS

import wsvad_jax
from wsvad_jax import __main__ as wsvad


def run(*words, code=0):
    command = [sys.executable, "-X", "importtime", "-m", "wsvad_jax", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code
    times = [x for x in done.stderr.splitlines() if x.startswith("import time:")]
    imported = {line.split("|")[-1].strip().split(".")[0] for line in times}
    rest = [x for x in done.stderr.splitlines() if not x.startswith("import time:")]
    return done.stdout, "\n".join(rest), imported


def test_the_list_names_every_program():
    assert tuple(sorted(wsvad.PROGRAMS)) == PROGRAMS
    text, _, imported = run("--help")
    assert all(f"  {name} " in text for name in PROGRAMS)
    assert not imported & HEAVY


def test_version_and_mistakes():
    assert run("--version")[0] == f"wsvad_jax {wsvad_jax.__version__}\n"
    assert "did you mean train?" in run("trian", code=2)[1]
    assert "usage: wsvad PROGRAM" in run(code=2)[0]


def test_a_program_gets_its_flags():
    text, _, imported = run("detect", "--help")
    assert text.startswith("usage: python -m wsvad_jax.detect")
    assert not imported & HEAVY
    _, said, _ = run("train", "--config", "dsanet", "--epochs", "5", code=2)
    assert "error: --epochs: no flag of this program" in said


def test_names_of_the_package_come_when_asked_for():
    code = (
        "import sys, wsvad_jax\n"
        f"heavy = {sorted(HEAVY)}\n"
        "assert not {m.split('.')[0] for m in sys.modules} & set(heavy)\n"
        "from wsvad_jax import Detector, load_config, train_and_evaluate\n"
        "assert {'Detector', 'load_config'} <= set(dir(wsvad_jax))\n"
        "print(load_config('mil_ranking:ucf').data.name, Detector.__module__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "ucf wsvad_jax.detection.detector\n"
    with pytest.raises(AttributeError, match="no attribute 'detektor'"):
        _ = wsvad_jax.detektor  # pyright: ignore[reportAttributeAccessIssue]
