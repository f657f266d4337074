"""What is left of a run's checkpoints once the run is finished."""

import shutil
import threading
import time

import pytest
from finished import saved_steps

from wsvad_jax import evaluate, train
from wsvad_jax.evaluation import plots
from wsvad_jax.training.run import train_and_evaluate


@pytest.fixture(scope="module")
def other_threads(tiny):
    """The threads that ran before this file's first training."""
    return set(threading.enumerate())


@pytest.fixture(scope="module")
def kept(tiny, other_threads, tmp_path_factory):
    """The workdir of a finished run with its checkpoints, which tests only read."""
    workdir = tmp_path_factory.mktemp("kept") / "run"
    flags = [*tiny.flags("mil_ranking"), f"--workdir={workdir}"]
    assert train.main([*flags, "--keep_checkpoints"]) == 0
    return workdir


def test_a_finished_run_keeps_no_checkpoints(tiny, kept, tmp_path, capsys):
    config, workdir = tiny.config("mil_ranking"), tmp_path / "run"
    (workdir / "checkpoints/damaged/2").mkdir(parents=True)
    shutil.copy(kept / "config.json", workdir)
    capsys.readouterr()
    results = train_and_evaluate(config, workdir)
    assert "checkpoints removed, " in capsys.readouterr().out
    assert [p.name for p in (workdir / "checkpoints").iterdir()] == ["damaged"]
    assert (workdir / "checkpoints/damaged/2").is_dir()

    # It is shown and scored without them.
    assert train_and_evaluate(config, workdir) == results
    assert "is finished" in capsys.readouterr().out
    assert evaluate.main(["--workdir", str(workdir)]) == 0


def test_the_flag_keeps_the_checkpoints(tiny, kept, capsys):
    assert saved_steps(kept) == [4, 6]
    train_and_evaluate(tiny.config("mil_ranking"), kept)  # shows it
    assert "is finished" in capsys.readouterr().out
    assert saved_steps(kept) == [4, 6]


def test_no_thread_prepares_batches_after_the_last_step(kept, other_threads):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        new = set(threading.enumerate()) - other_threads
        if not [t for t in new if t.name == "prefetch"]:
            return
        time.sleep(0.05)
    pytest.fail("a thread still prepares batches")


def test_checkpoints_stay_until_the_results_are_written(tiny, tmp_path, monkeypatch):
    config, workdir = tiny.config("mil_ranking"), tmp_path / "run"

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(plots, "report_png", interrupt)
        train_and_evaluate(config, workdir)
    assert saved_steps(workdir) == [4, 6]
    train_and_evaluate(config, workdir)
    assert not (workdir / "checkpoints").exists()


@pytest.mark.parametrize("keep", [False, True])
def test_seeds_side_by_side_free_their_space(tiny, tmp_path, keep, capsys):
    flags = [*tiny.flags("mil_ranking"), f"--workdir={tmp_path}", "--seeds=0,1"]
    assert train.main([*flags, "--together", *["--keep_checkpoints"] * keep]) == 0
    assert capsys.readouterr().out.count("checkpoints removed") == 2 * (not keep)
    for seed in (0, 1):
        assert saved_steps(tmp_path / f"seed{seed}") == ([4, 6] if keep else [])
