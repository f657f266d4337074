"""The start of programs: every program has a row, and a failing command is named."""

import pathlib

import pytest

from wsvad_jax import __main__ as wsvad
from wsvad_jax import detect
from wsvad_jax.benchmarks import start_up
from wsvad_jax.utils.errors import InputError


def test_the_programs_are_those_of_wsvad():
    assert start_up.programs() == sorted(wsvad.PROGRAMS)


def read_file(folder: pathlib.Path) -> list[str]:
    """Another command of more modules than a program's flags."""
    (folder / "a.json").write_text("{}")
    return ["-c", "import jax.numpy, sys; open(sys.argv[1])", str(folder / "a.json")]


@pytest.mark.parametrize(
    "video", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["file", "video"]
)
def test_speed_measures_the_start_of_programs(monkeypatch, video):
    # Few of many: each takes a process per run.
    monkeypatch.setattr(start_up, "PACKAGES", ("numpy",))
    monkeypatch.setattr(start_up, "programs", lambda: ["push"])
    if not video:
        monkeypatch.setattr(start_up, "_detect_command", read_file)
    found = start_up.measure_start_up(repeats=1)
    assert [*found["help"]] == ["push"] and [*found["packages"]] == ["numpy"]
    for times in (found["help"]["push"], found["detect"], found["packages"]["numpy"]):
        assert times["wall_s"] > 0 and times["cpu_s"] > 0
    assert found["detect"]["modules"] > found["help"]["push"]["modules"] > 0
    rows = [line.split("  ")[0] for line in start_up.start_up_tables(found)]
    assert {"push --help", "detect, a video", "numpy"} <= set(rows)


def test_the_timed_detection_scores_its_video(tmp_path, monkeypatch):
    monkeypatch.setattr(start_up, "FRAMES", 48)
    command = start_up._detect_command(tmp_path)
    assert command[:2] == ["-m", "wsvad_jax.detect"]
    assert detect.main(command[2:]) == 0
    assert [*(tmp_path / "found").iterdir()]


def test_a_command_that_fails_is_named():
    with pytest.raises(InputError, match="python -c import no_such_package: Module"):
        start_up._times(["-c", "import no_such_package"], repeats=1)
