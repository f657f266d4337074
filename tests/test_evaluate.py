"""Scoring a test set again: the same numbers, and what doesn't fit is refused."""

import gc
import shutil

import numpy as np
import pytest

from wsvad_jax import evaluate
from wsvad_jax.utils import program
from wsvad_jax.utils.files import read_json


@pytest.fixture(scope="module")
def trained(finished, finished_mil):
    """Workdirs of finished runs, by model."""
    return {"dsanet": finished, "mil_ranking": finished_mil}


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the MIL ranking run that a test may damage."""
    return shutil.copytree(trained["mil_ranking"], tmp_path / "run")


def refused(capsys, *arguments) -> str:
    """What the program says about arguments that it refuses, in one line."""
    with pytest.raises(SystemExit) as e:
        program.run(lambda: evaluate.main([str(a) for a in arguments]))
    assert e.value.code == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err and err.count("error: ") == 1
    return err[err.index("error: ") :].strip()


@pytest.mark.parametrize("model", ["dsanet", "mil_ranking"])
def test_a_workdir_is_scored_again(trained, tmp_path, model):
    workdir = shutil.copytree(trained[model], tmp_path / "run")
    for name in ("results.json", "scores.npz", "report.png"):
        (workdir / name).unlink()
    assert evaluate.main(["--workdir", str(workdir)]) == 0
    wanted, found = (
        read_json(path / "results.json") for path in (trained[model], workdir)
    )
    assert found.pop("versions") == wanted.pop("versions")
    assert found.pop("map") == wanted.pop("map")
    assert found.pop("events") == wanted.pop("events")
    assert found == pytest.approx(wanted)
    with (
        np.load(workdir / "scores.npz") as found,
        np.load(trained[model] / "scores.npz") as before,
    ):
        assert found.files == before.files
        for name in found.files:
            np.testing.assert_allclose(found[name], before[name], atol=1e-6)

    # The loss curves stay in the picture.
    pictures = (path / "report.png" for path in (workdir, trained[model]))
    assert len({picture.read_bytes() for picture in pictures}) == 1


def test_a_model_folder_is_scored_with_its_recipe(tiny, trained, tmp_path):
    model, out = trained["mil_ranking"] / "model", tmp_path / "out"
    flags = [*tiny.flags("mil_ranking"), f"--checkpoint={model}", f"--workdir={out}"]
    assert evaluate.main(flags) == 0
    found = read_json(out / "results.json")
    wanted = read_json(trained["mil_ranking"] / "results.json")
    assert found["auc"] == wanted["auc"] and found["step"] == wanted["step"]
    assert found["selection"] == wanted["selection"]


def test_the_size_of_batches_changes_no_score(tiny, trained, tmp_path):
    model = trained["dsanet"] / "model"
    flags = [*tiny.flags(eval__batch_size=5), f"--checkpoint={model}"]
    assert evaluate.main([*flags, f"--workdir={tmp_path}"]) == 0
    with (
        np.load(tmp_path / "scores.npz") as found,
        np.load(trained["dsanet"] / "scores.npz") as wanted,
    ):
        for name in wanted.files:
            np.testing.assert_allclose(found[name], wanted[name], atol=1e-5)


def test_no_run_and_no_model(tiny, run, tmp_path, capsys):
    line = refused(capsys, "--workdir", tmp_path / "nothing")
    assert "no config.json here" in line
    shutil.rmtree(run / "model")
    line = refused(capsys, "--workdir", run)
    assert f"{run}/model: no model here (meta.json is missing)" in line
    line = refused(capsys, "--workdir", run, "--config.seed=1")
    assert "unexpected argument '--config.seed=1'" in line


def test_results_of_a_training_are_not_replaced(tiny, trained, run, capsys):
    before = (run / "results.json").read_bytes()
    model = trained["dsanet"] / "model"
    line = refused(capsys, *tiny.flags(), f"--checkpoint={model}", f"--workdir={run}")
    assert "holds a training, whose results would be replaced" in line
    assert (run / "results.json").read_bytes() == before


def test_a_recipe_needs_a_model(tiny, tmp_path, capsys):
    for flags in (tiny.flags("mil_ranking"), [f"--checkpoint={tmp_path}"]):
        with pytest.raises(SystemExit) as e:
            evaluate.main([*flags, "--workdir", str(tmp_path)])
        assert e.value.code == 2
        assert "pass --config and --checkpoint" in capsys.readouterr().err


# What orbax leaves behind of a read that failed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("damage", ["flip", "cut", "delete"])
def test_a_damaged_model(run, capsys, damage):
    files = (f for f in (run / "model" / "params").rglob("*") if f.is_file())
    largest = max(files, key=lambda f: f.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    if damage == "delete":
        largest.unlink()
    else:
        largest.write_bytes(data[: len(data) // 2] if damage == "cut" else data)
    line = refused(capsys, "--workdir", run)
    assert f"{run}/model: the model is damaged" in line
    assert line.endswith("train or convert it again")
    gc.collect()


def test_meta_that_is_no_json(run, capsys):
    (run / "model" / "meta.json").write_text('{"model": ')
    line = refused(capsys, "--workdir", run)
    assert "meta.json: expected a JSON file" in line


def test_the_recipe_of_another_model(tiny, trained, tmp_path, capsys):
    model = trained["dsanet"] / "model"
    line = refused(
        capsys,
        *tiny.flags("mil_ranking"),
        f"--checkpoint={model}",
        f"--workdir={tmp_path}",
    )
    assert "holds a dsanet model, but the recipe is for mil_ranking" in line


def test_a_recipe_of_other_sizes(tiny, trained, tmp_path, capsys):
    model = trained["dsanet"] / "model"
    for changes in ({"model__prototypes": 5}, {"model__decoder_layers": 2}):
        flags = tiny.flags(**changes)
        line = refused(capsys, *flags, f"--checkpoint={model}", f"--workdir={tmp_path}")
        assert "the recipe asks for" in line
        assert list(tmp_path.iterdir()) == []
