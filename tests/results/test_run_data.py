"""A run belongs to its data: resumed, shown, scored and averaged with no other."""

import dataclasses
import pathlib
import shutil

import pytest
from finished import CARD, recipe, records, write_run

from wsvad_jax import evaluate, train
from wsvad_jax.data import tfds_builder
from wsvad_jax.data.records import FeatureProtocol
from wsvad_jax.evaluation import results as evaluate_results
from wsvad_jax.results import run_data, seed_groups, seeds
from wsvad_jax.results.history import read_history
from wsvad_jax.results.runs import read_run
from wsvad_jax.training.run import train_and_evaluate, train_seeds
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json, write_json

MADE = FeatureProtocol("tower@0123456789ab", 16, 1, "middle", "stretch")


def write(folder: pathlib.Path, change: str = "") -> pathlib.Path:
    """Prepares a small dataset, or one that differs by `change`."""
    train, test = list(records(16, "a")), list(records(8, "b"))
    card, made = CARD, MADE
    if change == "a video moved":
        train, test = train[1:], [*test, train[0]]
    elif change == "a label":
        train[1] = dataclasses.replace(train[1], label=(2,), segments=())
    elif change == "truth":
        test[1] = dataclasses.replace(test[1], segments=((0, 7, test[1].label[0]),))
    elif change == "features":
        train[0] = dataclasses.replace(train[0], features=train[0].features + 1)
    elif change == "prompts":
        first, *others = card.classes
        first = dataclasses.replace(first, prompts=("a quiet place",))
        card = dataclasses.replace(card, classes=(first, *others))
    elif change == "frames":
        made = dataclasses.replace(made, frame="mean")
    elif change == "encoder":
        made = dataclasses.replace(made, encoder="tower@ba9876543210")
    splits = {"train": train, "test": test}
    return tfds_builder.write_dataset("small", card, made, splits, folder)


def settings(path: pathlib.Path, seed: int = 0):
    """A training of four steps."""
    changes = ("clean.steps=4", "clean.batch_size=4", "checkpoint_every_steps=2")
    return recipe("mil_ranking", str(path), seed, *changes, "clean.held_out=0.0")


def files(folder: pathlib.Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file()
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A dataset and a finished run."""
    root = tmp_path_factory.mktemp("trained")
    path = write(root / "data")
    train_and_evaluate(settings(path), root / "run", keep_checkpoints=True)
    return root


@pytest.fixture
def root(trained, tmp_path, monkeypatch):
    """A copy of both; the dataset keeps its name."""
    shutil.copytree(trained, tmp_path / "root")
    monkeypatch.chdir(tmp_path / "root")
    return tmp_path / "root"


@pytest.fixture
def config(root):
    """The recipe of the run, for the copied dataset."""
    found = settings(root / "data/small/1.0.0")
    for path in (root / "run/config.json", root / "run/model/meta.json"):
        text = path.read_text()
        name = read_json(root / "run/config.json")["data"]["name"]
        path.write_text(text.replace(name, found.data.name))
    return found


def stop(workdir: pathlib.Path) -> None:
    """Leaves what a run that was stopped after step 2 leaves."""
    shutil.rmtree(workdir / "checkpoints/4")
    shutil.rmtree(workdir / "model")
    for name in ("results.json", "run.json", "MODEL_CARD.md", "scores.npz"):
        (workdir / name).unlink()


CHANGES = ("a video moved", "a label", "truth", "features", "prompts", "frames")


@pytest.mark.parametrize("state", ["finished", "stopped", "older"])
@pytest.mark.parametrize("change", [*CHANGES, "encoder"])
def test_other_data_is_refused(root, config, capsys, change, state):
    write(root / "data", change)
    if state == "stopped":
        stop(root / "run")
    elif state == "older":  # what versions before wrote
        (root / "run/data.json").unlink()
    before = files(root / "run/checkpoints")
    with pytest.raises(InputError) as e:
        train_and_evaluate(config, root / "run")
    words = str(e.value)
    assert "run was trained on other data: " in words and "--restart" in words
    wanted = {"prompts": "card.classes", "frames": "features.frame was 'middle'"}
    wanted["encoder"] = "features.encoder was 'tower@0123456789ab'"
    assert wanted.get(change, "content was") in words
    assert "frame AUC" not in capsys.readouterr().out
    assert files(root / "run/checkpoints") == before
    assert not (root / "run/previous-1").exists()


def test_the_same_data_prepared_again_is_the_same(root, config, capsys):
    write(root / "data")
    results = train_and_evaluate(config, root / "run")
    said = capsys.readouterr()
    assert "is finished" in said.out and "not compared" not in said.out
    stop(root / "run")
    assert train_and_evaluate(config, root / "run") == results
    said = capsys.readouterr()
    assert "at step 2 of 4" in said.out and "comparison" not in said.err


def test_a_finished_run_whose_dataset_is_gone_is_shown(root, config, capsys):
    shutil.rmtree(root / "data")
    train_and_evaluate(config, root / "run")
    out = capsys.readouterr().out
    assert "frame AUC" in out and "not compared with the dataset: the dataset" in out


def test_a_stopped_run_of_an_older_version_says_that_it_cannot_compare(
    root, config, capsys
):
    stop(root / "run")
    (root / "run/data.json").unlink()
    write(root / "data", "features")
    train_and_evaluate(config, root / "run")
    said = capsys.readouterr()
    assert "resumes without a comparison of the dataset" in said.err
    assert "at step 2 of 4" in said.out
    write(root / "data")  # from then on it is noted
    with pytest.raises(InputError, match="content was"):
        train_and_evaluate(config, root / "run")


def test_another_text_tower_is_other_data(tmp_path):
    class Opened:
        content, protocol, card = "ab", MADE, CARD

    now = run_data.describe(Opened, {"clip": "a", "hash": "12"})  # pyright: ignore
    run_data.note(tmp_path, now)
    assert run_data.check(tmp_path, {**now, "tower": None})
    with pytest.raises(InputError, match="text tower was 12 and is now 34"):
        run_data.check(tmp_path, {**now, "tower": "34"})


def test_a_restart_keeps_the_old_run(root, config, capsys):
    old = files(root / "run")
    (root / "run/notes.txt").write_text("mine")
    write(root / "data", "features")
    train_and_evaluate(config, root / "run", restart=True, keep_checkpoints=True)
    assert files(root / "run/previous-1") == old
    assert f"is moved to {root / 'run/previous-1'}" in capsys.readouterr().out
    assert (root / "run/notes.txt").read_text() == "mine"
    assert (
        read_json(root / "run/run.json")["dataset"]
        != (read_json(root / "run/previous-1/run.json")["dataset"])
    )
    # All that training writes is moved, whatever it will write one day.
    left = {p.name for p in (root / "run").iterdir()} - {"notes.txt", "previous-1"}
    assert left == set(run_data.WRITTEN)

    # Back to the first data: the same run as at first, and three of them side by side.
    write(root / "data")
    train_and_evaluate(config, root / "run", restart=True)
    assert (root / "run/results.json").read_bytes() == old["results.json"]
    assert (root / "run/previous-2/results.json").is_file()
    assert len(read_history(root / "run")) == len(read_history(root / "run/previous-1"))


def test_a_restart_takes_other_settings_and_no_strange_folder(root, config, capsys):
    config.clean.steps = 3
    with pytest.raises(InputError, match="clean.steps is 4, yours 3"):
        train_and_evaluate(config, root / "run")
    train_and_evaluate(config, root / "run", restart=True)
    assert read_json(root / "run/results.json")["step"] == 3
    (root / "strange").mkdir()
    (root / "strange/thesis.tex").write_text("x")
    with pytest.raises(InputError, match="holds no run"):
        train_and_evaluate(config, root / "strange", restart=True)


def test_a_restart_of_a_recipe_that_cannot_be_trained_moves_nothing(root, config):
    config.clean.held_out, config.clean.select = 0.0, "best"
    before = files(root / "run")
    with pytest.raises(InputError, match="clean.held_out is 0"):
        train_and_evaluate(config, root / "run", restart=True)
    assert files(root / "run") == before


def two_seeds(root: pathlib.Path) -> pathlib.Path:
    """A study of two seeds, the second of which was stopped."""
    where = root / "seeds"
    for seed in (0, 1):
        shutil.copytree(root / "run", where / f"seed{seed}")
        saved = read_json(where / f"seed{seed}/config.json")
        saved["data"]["placement"], saved["seed"] = "device", seed
        write_json(where / f"seed{seed}/config.json", saved)
    stop(where / "seed1")
    return where


@pytest.mark.parametrize("together", [False, True])
def test_seeds_are_compared_before_any_is_trained(root, config, together):
    config.data.placement = "device"
    where = two_seeds(root)
    write(root / "data", "features")
    with pytest.raises(InputError, match="seed0 was trained on other data"):
        train_seeds(config, "0,1,2", where, together=together)
    assert not (where / "seed2").exists()


@pytest.mark.slow
@pytest.mark.parametrize("together", [False, True])
def test_a_restart_of_seeds(root, config, together):
    config.data.placement = "device"
    where = two_seeds(root)
    write(root / "data", "features")
    write_json(where / "summary.json", "old")
    train_seeds(config, "0,1", where, together=together, restart=True)
    for seed in (0, 1):
        assert (where / f"seed{seed}/previous-1/checkpoints/2").is_dir()
        assert not (where / f"seed{seed}/previous-2").exists()
    assert read_json(where / "previous/summary.json") == "old"
    assert read_json(where / "summary.json")["seeds"] == [0, 1]


def test_scoring_does_not_replace_results_of_other_data(root, config, capsys):
    before = files(root / "run")
    write(root / "data", "truth")
    with pytest.raises(InputError, match="other data: .*--checkpoint .*run/model"):
        evaluate.main(["--workdir", str(root / "run")])
    assert files(root / "run") == before
    model = root / "run/model"
    evaluate_results.evaluate_model(config, model, root / "scored")
    data = read_json(root / "scored/data.json")
    assert data["content"] != read_json(root / "run/data.json")["content"]
    assert read_run(root / "scored").content == data["content"]


def runs(folder: pathlib.Path, contents) -> list:
    for seed, content in enumerate(contents):
        write_run(folder / f"{seed}", recipe("dsanet", "ucf", seed))
        if content:
            write_json(folder / f"{seed}/run.json", {"dataset": content})
    return [read_run(folder / f"{seed}") for seed in range(len(contents))]


def test_numbers_of_other_data_have_no_mean(tmp_path):
    one, two = "ab" * 32, "cd" * 32
    groups = seed_groups.group_by_recipe(
        runs(tmp_path / "mixed", (one, two, one, None))
    )
    found = {g.variant: g.seeds for g in groups}
    assert found == {"data=abababab": [0, 2], "data=cdcdcdcd": [1], "data=unknown": [3]}
    (same,) = seed_groups.group_by_recipe(runs(tmp_path / "same", (one, one, None)))
    assert same.variant == "" and same.seeds == [0, 1, 2]
    with pytest.raises(InputError, match="have different data .*no mean"):
        seeds.check_alike(runs(tmp_path / "study", (one, two)))


def test_a_summary_is_of_the_data_that_was_scored(root, config):
    write(root / "data", "truth")
    with pytest.raises(InputError, match="was scored on other data than"):
        seeds.summarise_seeds([root / "run"])


def test_the_flag_reaches_a_single_run(root, config, monkeypatch):
    seen = []
    monkeypatch.setattr(train, "train_and_evaluate", lambda *a, **k: seen.append(k))
    arguments = ["--config", "mil_ranking:x", "--workdir", "w"]
    train.main(arguments)
    train.main([*arguments, "--restart"])
    assert [options["restart"] for options in seen] == [False, True]
