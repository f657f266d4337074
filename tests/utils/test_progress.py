"""Plain lines of progress: what they say about the speed."""

import time

import pytest

from wsvad_jax.utils import progress


@pytest.fixture(autouse=True)
def each_line(monkeypatch):
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)


def test_the_time_of_a_compilation_is_no_rate(capsys):
    with progress.Progress("train", 3, compiles=True) as bar:
        time.sleep(0.5)
        bar.update()
        bar.update()
        bar.update()
    first, second, *_ = capsys.readouterr().err.splitlines()
    assert first == "train 1/3"
    rate = second.split(", ")[1].removesuffix(" it/s")
    assert float(rate) > 10  # 4 with the half second


def test_without_a_unit_there_is_no_rate(capsys):
    with progress.Progress("detect", 3, unit="video") as bar:
        bar.update(0, frames=9)
    assert capsys.readouterr().err.splitlines() == ["detect 0/3, frames 9"]
