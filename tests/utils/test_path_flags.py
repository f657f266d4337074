"""Flags for files and folders: an empty one would mean the current folder."""

import contextlib
import os

import pytest

from wsvad_jax import (
    benchmark,
    calibrate,
    convert,
    detect,
    evaluate,
    export,
    extract,
    prepare,
    pretrain,
    report,
    search,
    train,
)
from wsvad_jax.utils.errors import InputError


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (report.main, ("runs", "--output", "")),
        (report.main, ("runs", "--output=")),
        (report.main, ("runs", "--html", " ")),
        (report.main, ("runs", "--collect", "")),
        (report.main, ("runs", "--markdown", "")),
        (report.main, ("runs", "--output", "x", "--figures", "--data-dir", "")),
        (search.main, ("a car", "videos", "--output", "")),
        (evaluate.main, ("--workdir", "")),
        (
            evaluate.main,
            (
                "--workdir",
                "x",
                "--data_dir=",
            ),
        ),
        (train.main, ("--config", "dsanet", "--workdir", "")),
        (detect.main, ("a.mp4", "--checkpoint", "m", "--output", "")),
        (detect.main, ("a.mp4", "--output", "o", "--ground_truth", "")),
        (detect.main, ("a.mp4", "--output", "o", "--clips", "\t")),
        (calibrate.main, ("--normal", "a", "--output", "")),
        (export.main, ("--checkpoint", "m", "--output", "")),
        (extract.main, ("a.mp4", "--clip", "c", "--output", "")),
        (prepare.main, ("folder", "--data_dir", "")),
        (pretrain.main, ("--output", "")),
        (convert.main, ("--torch", "a.pth", "--output", "")),
        (benchmark.main, ("repro", "--output", "")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else value.__module__,
)
def test_an_empty_path_is_refused(main, arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="^--[a-z_]+ is empty; expected a f"):
        main(list(arguments))
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("fps", ("1e300", "inf", "nan", "0", "-25", "1e-300"))
def test_evaluate_refuses_a_frame_rate_that_no_video_has(fps, tmp_path):
    words = ["--workdir", str(tmp_path / "run"), "--fps", fps]
    with pytest.raises(InputError, match=r"--fps is .*; expected frames per second, 0"):
        evaluate.main(words)


def test_a_path_after_a_flag_without_a_value_is_left_to_the_parser(capsys):
    with contextlib.suppress(SystemExit):
        report.main(["runs", "--output"])
    assert "--output: expected one argument" in capsys.readouterr().err
