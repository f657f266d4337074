"""Seeds trained as one program leave what each of them leaves alone."""

import pathlib
import shutil

import numpy as np
import pytest

from wsvad_jax import report, train
from wsvad_jax.results.history import read_history
from wsvad_jax.training import loop, vmapped_seeds
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json

TEXT = pytest.param("vadclip", marks=pytest.mark.slow)
NOISE = pytest.param("clip_tsa", marks=pytest.mark.slow)


def seeds(tiny, workdir, *arguments, model="mil_ranking", **changes):
    """Trains seeds 0 and 1 into `workdir`."""
    flags = [*tiny.flags(model, **changes), f"--workdir={workdir}", *arguments]
    assert train.main([*flags, "--seeds", "0,1"]) == 0


def files(workdir: pathlib.Path) -> set[str]:
    found = {str(p.relative_to(workdir)) for p in workdir.rglob("*") if p.is_file()}
    # Names of event files and of orbax's own differ from run to run.
    varying = ("tensorboard/", "checkpoints/", "model/params/")
    return {p for p in found if not p.startswith(varying)}


def assert_alike(found: pathlib.Path, wanted: pathlib.Path):
    """Two workdirs hold the same numbers, to 1e-4."""
    for a, b in zip(read_history(found), read_history(wanted), strict=True):
        assert a == pytest.approx(b, rel=1e-4, abs=1e-6)
    with np.load(found / "scores.npz") as a, np.load(wanted / "scores.npz") as b:
        assert a.files == b.files
        for name in a.files:
            np.testing.assert_allclose(a[name], b[name], atol=1e-4)
    assert (found / "config.json").read_text() == (wanted / "config.json").read_text()
    a, b = (read_json(path / "results.json") for path in (found, wanted))
    assert a.keys() == b.keys() and a["step"] == b["step"] and a["seed"] == b["seed"]


@pytest.fixture(scope="module")
def alone(tiny, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("alone")
    seeds(tiny, workdir)
    return workdir


@pytest.mark.parametrize("model", ["mil_ranking", NOISE, TEXT])
def test_each_seed_leaves_what_it_leaves_alone(tiny, alone, tmp_path, model, capsys):
    seeds(tiny, tmp_path / "together", "--together", model=model)
    assert "seeds 0, 1 together" in capsys.readouterr().out
    if model != "mil_ranking":
        alone = tmp_path / "alone"
        seeds(tiny, alone, model=model)
    for seed in ("seed0", "seed1"):
        found, wanted = tmp_path / "together" / seed, alone / seed
        assert files(found) == files(wanted)
        assert_alike(found, wanted)
    a, b = (
        read_json(folder / "summary.json")["metrics"]["auc"]["mean"]
        for folder in (tmp_path / "together", alone)
    )
    assert a == pytest.approx(b, abs=1e-3)
    arguments = [str(tmp_path / "together"), f"--output={tmp_path / 'tables'}"]
    assert report.main(arguments) == 0


@pytest.mark.slow
def test_best_weights_are_chosen_and_reloaded_seed_by_seed(tiny, tmp_path):
    paper = {
        "protocol": "paper",
        "paper__reload_best": True,
        "paper__eval_every_steps": 1,
    }
    for how, flags in (("together", ["--together"]), ("alone", [])):
        seeds(tiny, tmp_path / how, *flags, **paper)
    for seed in ("seed0", "seed1"):
        assert_alike(tmp_path / "together" / seed, tmp_path / "alone" / seed)


def stopped(monkeypatch, what, name, after):
    """Replaces `what.name` by itself, interrupted after so many calls."""
    method, calls = getattr(what, name), []

    def until(*arguments):
        calls.append(arguments)
        if len(calls) > after:
            raise KeyboardInterrupt
        return method(*arguments)

    monkeypatch.setattr(what, name, until)


@pytest.fixture(scope="module")
def study(tiny, tmp_path_factory):
    """A stopped one: seed 0 has its checkpoint of step 4, seed 1 not yet."""
    workdir = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stopped(patch, loop.SeedRun, "save", 3)
        seeds(tiny, workdir, "--together")
    return workdir


@pytest.mark.parametrize("go_on", ["--together", None])
def test_a_stopped_study_goes_on_together_or_one_by_one(
    tiny, alone, study, tmp_path, capsys, go_on
):
    shutil.copytree(study, tmp_path, dirs_exist_ok=True)
    seeds(tiny, tmp_path, *filter(None, [go_on]))
    said = capsys.readouterr().out
    if go_on:
        assert "seed 0 at step 4, seed 1 at step 2" in said
        assert "resuming 2 seeds at step 2 of 6" in said
    else:
        assert "seed0 at step 4 of 6" in said and "seed1 at step 2 of 6" in said
    for seed in ("seed0", "seed1"):
        assert_alike(tmp_path / seed, alone / seed)


def test_finished_seeds_are_skipped(tiny, alone, monkeypatch):
    before = {p: p.stat().st_mtime_ns for p in alone.glob("seed*/*")}
    monkeypatch.setattr(vmapped_seeds, "train_vmapped_seeds", None)
    seeds(tiny, alone, "--together")
    assert before == {p: p.stat().st_mtime_ns for p in before}


def test_together_needs_seeds(tiny):
    with pytest.raises(InputError, match="--together requires --seeds"):
        train.main([*tiny.flags("mil_ranking"), "--together"])


def test_a_bad_seed_is_named(tiny, tmp_path):
    with pytest.raises(InputError, match=r"step \d of seed 0: \w+ is (nan|inf)"):
        seeds(tiny, tmp_path, "--together", clean__optim__default__lr=1e38)
