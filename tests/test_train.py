"""Training runs: what they leave, how they resume, what stops them."""

import gc
import json
import pathlib
import random
import shutil
import signal
import time

import jax
import numpy as np
import pytest
from finished import saved_steps

from wsvad_jax.experiment.build import open_experiment
from wsvad_jax.results.history import read_history
from wsvad_jax.training import sampler, train_step
from wsvad_jax.training.run import train_and_evaluate
from wsvad_jax.training.schedule import Schedule
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json
from wsvad_jax.weights.model_folder import load_params

KEYS = ("auc", "ano_auc", "ap", "ap_trapezoid", "far", "video_auc")
ABOUT = ("model", "dataset", "seed", "protocol", "checkpoint", "step")


@pytest.fixture(scope="module")
def straight(tiny, tmp_path_factory):
    """`straight(model, **changes)`: the workdir of a run that was never stopped."""
    runs = {}

    def run(model, **changes):
        key = (model, *sorted(changes.items()))
        if key not in runs:
            runs[key] = tmp_path_factory.mktemp("straight") / "run"
            config = tiny.config(model, **changes)
            train_and_evaluate(config, runs[key], keep_checkpoints=True)
        return runs[key]

    return run


def stopped(monkeypatch, step, config, workdir):
    """Runs until the batch of `step` is asked for, and no further."""
    inputs = sampler.BatchSampler.inputs

    def until(self, first, n=1):
        if first <= step < first + n:
            raise KeyboardInterrupt
        return inputs(self, first, n)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(sampler.BatchSampler, "inputs", until)
        train_and_evaluate(config, workdir)


def assert_same(found: pathlib.Path, wanted: pathlib.Path):
    """Weights, metrics and results of two runs are equal to the last bit."""
    a, b = (load_params(workdir / "model") for workdir in (found, wanted))
    jax.tree.map(np.testing.assert_array_equal, a[:2], b[:2])
    for name in ("metrics.jsonl", "results.json", "config.json"):
        assert (found / name).read_text() == (wanted / name).read_text(), name
    with np.load(found / "scores.npz") as a, np.load(wanted / "scores.npz") as b:
        assert a.files == b.files
        for name in a.files:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_a_run_leaves_numbers_and_pictures(tiny, finished):
    results = read_json(finished / "results.json")
    for key in KEYS:
        assert 0 <= results[key] <= 1 and 0 <= results[f"{key}_align"] <= 1
    assert len(results["map"]) == 5 and {"map_avg", "map_avg_clean"} <= results.keys()
    assert [results[k] for k in ABOUT] == ["dsanet", "own", 0, "clean", "model", 6]
    assert results["selection"] == "last weights"
    assert {"jax", "flax", "python"} <= results["versions"].keys()
    assert results["device"].startswith("cpu")

    with np.load(finished / "scores.npz") as scores:
        assert len(scores.files) == 6 * 4
        for i in range(6):
            T = len(np.load(tiny.root / f"own/features/test{i}.npy"))
            assert scores[f"test{i}/anomaly"].shape == (T,)
            assert scores[f"test{i}/classes"].shape == (T, 3)
            assert f"test{i}/events" in scores.files
    assert (finished / "report.png").read_bytes().startswith(b"\x89PNG")
    assert list((finished / "tensorboard").glob("events.out.*"))
    assert read_json(finished / "config.json")["model"]["decoder_layers"] == 1


def test_a_run_writes_each_step_and_each_evaluation(finished):
    rows = read_history(finished)
    steps = [row for row in rows if "loss" in row]
    assert [row["step"] for row in steps] == [1, 2, 3, 4, 5, 6]
    terms = {"mil", "align", "text", "event", "background", "consistency", "gather"}
    assert all({*terms, "grad_norm"} <= row.keys() for row in steps)
    evaluated = [row["step"] for row in rows if "heldout/video_auc" in row]
    assert evaluated == [2, 4, 6]  # 10 videos, 2 batches an epoch


def test_a_finished_run_shows_its_results(tiny, finished, capsys):
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file()}
    results = train_and_evaluate(tiny.config(), finished)
    assert results == read_json(finished / "results.json")
    shown = capsys.readouterr().out
    assert "frame AUC" in shown and "is finished" in shown
    assert before == {p: p.stat().st_mtime_ns for p in before}


SLOW = pytest.mark.slow
PAPER = {"protocol": "paper", "paper__reload_best": True, "paper__eval_every_steps": 1}


DEVICE = {"data__placement": "device", "clean__eval_every_steps": 1}
STOPPED = {
    "clip_tsa": ("clip_tsa", {}),  # running statistics, dropout and noise
    "paper": ("mil_ranking", PAPER),
    "device": ("mil_ranking", DEVICE),
}
QUICK = {"paper-5", "device-1", "device-5"}  # 1 precedes all checkpoints


@pytest.mark.parametrize(
    ("model", "changes", "step"),
    [
        pytest.param(
            *STOPPED[name],
            step,
            id=f"{name}-{step}",
            marks=[] if f"{name}-{step}" in QUICK else SLOW,
        )
        for name in STOPPED
        for step in (1, 4, 5)
    ],
)
def test_a_stopped_run_goes_on(
    tiny, straight, tmp_path, monkeypatch, capsys, model, changes, step
):
    config = tiny.config(model, **changes)
    stopped(monkeypatch, step, config, tmp_path / "run")
    train_and_evaluate(config, tmp_path / "run")
    if step > 2:
        assert "at step 4 of 6" in capsys.readouterr().out
    assert_same(tmp_path / "run", straight(model, **changes))


def test_a_run_stopped_after_its_last_step(tiny, straight, tmp_path):
    """Before the test set was scored, or amid it."""
    wanted = straight("mil_ranking")
    workdir = shutil.copytree(wanted, tmp_path / "run")
    (workdir / "results.json").unlink()
    shutil.rmtree(workdir / "model/params")
    train_and_evaluate(tiny.config("mil_ranking"), workdir)
    assert_same(workdir, wanted)


def test_the_test_set_chooses_in_the_paper_protocol_alone(straight):
    """A number that the test set has chosen can't be taken for another."""
    chosen, plain = straight("mil_ranking", **PAPER), straight("mil_ranking")
    paper, clean = (read_json(path / "results.json") for path in (chosen, plain))
    assert (paper["protocol"], clean["protocol"]) == ("paper", "clean")
    assert paper["selection"] == "best auc on test"
    rows = [r for r in read_history(chosen) if "test/auc" in r]
    # Of equals, this protocol keeps the earlier weights.
    assert paper["step"] == max(rows, key=lambda r: r["test/auc"])["step"]
    assert paper["auc"] == max(r["test/auc"] for r in rows)


@pytest.mark.slow
def test_dsanet_goes_on_in_the_paper_protocol(tiny, tmp_path, monkeypatch, capsys):
    """Training goes on from the best weights of each epoch, stopped or not."""
    config = tiny.config(protocol="paper", paper__eval_every_steps=1)
    train_and_evaluate(config, tmp_path / "straight")
    stopped(monkeypatch, 5, config, tmp_path / "run")
    capsys.readouterr()
    train_and_evaluate(config, tmp_path / "run")
    assert_same(tmp_path / "run", tmp_path / "straight")
    out = capsys.readouterr().out
    assert "protocol paper" in out and "best auc on test" in out
    paper = read_json(tmp_path / "run/results.json")
    rows = [r for r in read_history(tmp_path / "run") if "test/auc" in r]
    assert paper["step"] == max(rows, key=lambda r: r["test/auc"])["step"]
    assert paper["auc"] == max(r["test/auc"] for r in rows)


@pytest.mark.slow
def test_killed_at_any_moment(tiny, straight, tmp_path):
    """SIGKILL and the same command again, until the run is done."""
    seed = random.randrange(1000)
    draws, workdir = random.Random(seed), tmp_path / "run"
    wanted = straight("dsanet", clean__epochs=10)
    command = (*tiny.flags(clean__epochs=10), "--workdir", workdir)
    for kill in range(2):
        process = tiny.start(*command)
        lines = len(read_history(workdir)) + draws.randrange(1, 6)

        def reached(lines=lines, kill=kill):
            # Checkpoints are saved in the background: the last kill leaves one to resume.
            saved = kill < 1 or saved_steps(workdir)
            return saved and len(read_history(workdir)) >= lines

        while process.poll() is None and not reached():
            time.sleep(0.01)
        time.sleep(draws.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert not (workdir / "results.json").exists()
    process = tiny.start(*command)
    out, err = process.communicate()
    assert process.returncode == 0, (seed, err[-2000:])
    assert "resuming" in out
    assert_same(workdir, wanted)


@pytest.fixture(scope="module")
def stopped_at_five(tiny, tmp_path_factory):
    """The workdir of a run that was stopped at step 5, which tests copy."""
    workdir = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.MonkeyPatch.context() as patch:
        stopped(patch, 5, tiny.config("mil_ranking"), workdir)
    return workdir


# What orbax leaves behind of a read that failed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "damage", ["flip", pytest.param("cut", marks=SLOW), "delete", "both"]
)
def test_a_damaged_checkpoint_is_left_out(
    tiny, straight, stopped_at_five, tmp_path, capsys, damage
):
    config = tiny.config("mil_ranking")
    workdir = shutil.copytree(stopped_at_five, tmp_path / "run")
    assert saved_steps(workdir) == [2, 4]
    for step in (2, 4) if damage == "both" else (4,):
        files = (workdir / f"checkpoints/{step}/tree").rglob("*")
        largest = max((f for f in files if f.is_file()), key=lambda f: f.stat().st_size)
        data = bytearray(largest.read_bytes())
        if damage == "delete":
            largest.unlink()
        elif damage == "cut":
            largest.write_bytes(data[: len(data) // 2])
        else:
            data[len(data) // 2] ^= 1
            largest.write_bytes(data)
    capsys.readouterr()
    train_and_evaluate(config, workdir)
    out, err = capsys.readouterr()
    assert "checkpoint 4 in" in err and "is damaged" in err
    assert ("at step 2 of 6" in out) == (damage != "both")
    assert ("training starts at step 0; the damaged ones" in err) == (damage == "both")
    assert (workdir / "checkpoints/damaged/4/tree").is_dir()
    gc.collect()
    assert_same(workdir, straight("mil_ranking"))


@pytest.mark.parametrize("model", ["mil_ranking", pytest.param("clip_tsa", marks=SLOW)])
def test_the_device_holds_what_the_host_gathers(straight, model):
    """Both placements see the same batches with the same noise."""
    changes = {"clean__eval_every_steps": 4, "checkpoint_every_steps": 6}
    host = straight(model, **changes)
    device = straight(model, **changes, data__placement="device")
    for a, b in zip(read_history(host), read_history(device), strict=True):
        assert a == pytest.approx(b, rel=1e-5)
    with np.load(host / "scores.npz") as a, np.load(device / "scores.npz") as b:
        for name in a.files:
            np.testing.assert_allclose(a[name], b[name], atol=1e-5)


def test_chunks_of_steps_change_nothing(tiny, straight, tmp_path, monkeypatch):
    """With dropout, whose noise differs by step."""
    changes = {"data__placement": "device", "checkpoint_every_steps": 6}
    wanted = straight("mil_ranking", **changes)
    for module in (train_step, sampler):
        monkeypatch.setattr(module, "MAX_STEPS_PER_CALL", 2)
    train_and_evaluate(tiny.config("mil_ranking", **changes), tmp_path / "run")
    assert_same(tmp_path / "run", wanted)


@pytest.mark.parametrize(
    ("eval_every", "save_every", "reload_best", "wanted"),
    [
        (0, 0, False, [5, 5, 3]),
        (0, 0, True, [5, 5, 3]),
        (0, 8, False, [5, 3, 2, 3]),
        (3, 13, False, [3, 5, 5]),  # counted anew in each epoch of 5
        (3, 13, True, [3, 2, 3, 2, 3]),
        (100, 100, False, [8, 5]),
    ],
)
def test_chunks_end_where_something_is_due(eval_every, save_every, reload_best, wanted):
    schedule = Schedule(13, 5, eval_every, save_every, reload_best)
    found, step = [], 0
    while step < 13:
        found.append(schedule.steps_until_due(step, 8))
        step += found[-1]
    assert found == wanted


def test_clean_runs_do_not_read_the_test_set_before_the_end(tiny, tmp_path):
    """Test features that can't be read stop a clean run when all is trained."""
    shutil.copytree(tiny.path, tmp_path / "data", ignore=lambda *_: ["packed"])
    for shard in (tmp_path / "data").glob("*test.array_record*"):
        shard.write_bytes(bytes(len(shard.read_bytes())))
    changes = {"data__name": tmp_path / "data"}
    clean = tiny.config("mil_ranking", **changes)
    with pytest.raises(InputError, match=r"of test \(test\d\) cannot be read"):
        train_and_evaluate(clean, tmp_path / "clean")
    assert read_history(tmp_path / "clean")[-1]["step"] == 6
    assert (tmp_path / "clean/model/meta.json").is_file()
    paper = tiny.config("mil_ranking", protocol="paper", **changes)
    with pytest.raises(InputError, match="cannot be read"):
        train_and_evaluate(paper, tmp_path / "paper")
    assert read_history(tmp_path / "paper")[-1]["step"] == 3


def test_the_best_weights_of_the_held_out_videos(tiny, tmp_path, capsys):
    config = tiny.config("mil_ranking", clean__select="best", clean__eval_every_steps=1)
    results = train_and_evaluate(config, tmp_path / "run")
    rows = [r for r in read_history(tmp_path / "run") if "heldout/video_auc" in r]
    best = max(rows, key=lambda r: (r["heldout/video_auc"], r["step"]))
    assert results["step"] == best["step"]  # of equals the later
    assert results["selection"] == "best video_auc on held-out training videos"
    assert not any(k.startswith("test/") for row in rows for k in row)


def test_all_videos_train_where_none_is_held_out(tiny, tmp_path):
    config = tiny.config("mil_ranking", clean__held_out=0.0, clean__steps=2)
    assert len(sampler.open_batch_sampler(open_experiment(config)).rows) == 12
    results = train_and_evaluate(config, tmp_path / "run")
    assert results["step"] == 2
    assert not any("heldout" in k for r in read_history(tmp_path / "run") for k in r)
    config = tiny.config("mil_ranking", clean__held_out=0.0, clean__select="best")
    with pytest.raises(InputError, match="clean.held_out is 0"):
        train_and_evaluate(config, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_videos_longer_than_the_window(tiny, tmp_path):
    """Training averages them down to T; held out, they are scored like that."""
    config = tiny.config("mil_ranking", data__length=16)
    results = train_and_evaluate(config, tmp_path / "run")
    assert results["step"] == 6


@pytest.mark.parametrize("placement", ["host", "device"])
def test_a_loss_that_is_not_finite_stops_the_run(tiny, tmp_path, placement):
    changes = {"data__placement": placement, "checkpoint_every_steps": 6}
    config = tiny.config("mil_ranking", clean__optim__default__lr=1e38, **changes)
    with pytest.raises(InputError) as e:
        train_and_evaluate(config, tmp_path / "run")
    words = str(e.value)
    assert words.startswith("step ") and " is nan; " in words or " is inf; " in words
    assert words.count("train") >= 4  # the videos of the batch
    step = int(words.split()[1].rstrip(":"))
    assert read_history(tmp_path / "run")[-1]["step"] == step - 1


def test_the_loss_falls(tiny, tmp_path):
    changes = {"clean__steps": 60, "checkpoint_every_steps": 60}
    train_and_evaluate(tiny.config("mil_ranking", **changes), tmp_path / "run")
    losses = [row["loss"] for row in read_history(tmp_path / "run") if "loss" in row]
    assert len(losses) == 60
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:10])


@pytest.mark.slow
def test_two_devices_train_as_one(tiny, finished, tmp_path):
    process = tiny.start(
        *tiny.flags(),
        "--workdir",
        tmp_path / "run",
        XLA_FLAGS="--xla_force_host_platform_device_count=2",
    )
    _, err = process.communicate()
    assert process.returncode == 0, err[-2000:]
    found, wanted = read_history(tmp_path / "run"), read_history(finished)
    for a, b in zip(found, wanted, strict=True):
        assert a == pytest.approx(b, rel=1e-3)
    device = json.loads((tmp_path / "run/results.json").read_text())["device"]
    assert device == "cpu (2 × cpu)"
