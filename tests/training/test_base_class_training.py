"""A training on base classes: what it leaves, and how its model is scored."""

import pathlib

import numpy as np
import pytest

from wsvad_jax import evaluate
from wsvad_jax.experiment.config import load_config
from wsvad_jax.training.run import train_and_evaluate, train_unfinished_together
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json

BASE = {"data__base_classes": "fire", "clean__epochs": "none", "clean__steps": 2}


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory) -> pathlib.Path:
    workdir = tmp_path_factory.mktemp("base") / "run"
    train_and_evaluate(tiny.config("vadclip", **BASE), workdir)
    return workdir


def test_results_say_what_was_trained_on(run):
    results = read_json(run / "results.json")
    found = results["open_vocabulary"]
    assert (found["base"], found["novel"]) == (["Fire"], ["Fight"])
    assert found["trained_on"] == "base classes" and found["of_several_classes"] == 0
    assert results["selection"].endswith("base classes only")
    remark = results["remarks"][-1]
    assert remark.startswith("trained on 1 of 2 anomaly classes, Fire: 6 normal and 3 ")
    assert remark.endswith("without 3 videos of other classes")
    assert read_json(run / "config.json")["data"]["base_classes"] == "fire"
    assert read_json(run / "model/meta.json")["base_classes"] == ["Fire"]
    card = " ".join((run / "MODEL_CARD.md").read_text().split())
    assert "base classes only" in card

    # The whole test set is scored, under all classes.
    groups = found["groups"]
    assert {k: (g["videos"], g["abnormal"]) for k, g in groups.items()} == {
        "all": (6, 3),
        "base": (5, 2),
        "novel": (4, 1),
    }
    assert groups["all"]["auc"] == pytest.approx(results["auc"])
    with np.load(run / "scores.npz") as scores:
        assert scores["test1/classes"].shape[1] == 3


def test_scoring_again_gives_the_same_results(run, tiny, tmp_path, capsys):
    before = read_json(run / "results.json")
    assert evaluate.main(["--workdir", str(run)]) == 0
    out = capsys.readouterr().out
    assert "base classes: Fire; novel classes: Fight; trained on base classes" in out
    after = read_json(run / "results.json")
    assert after["open_vocabulary"] == before["open_vocabulary"]

    # The model says its base classes where the recipe doesn't.
    flags = [*tiny.flags("vadclip"), "--checkpoint", str(run)]
    evaluate.main([*flags, "--workdir", str(tmp_path / "out")])
    again = read_json(tmp_path / "out" / "results.json")
    assert again["open_vocabulary"] == before["open_vocabulary"]
    with pytest.raises(InputError, match="was trained on the classes Fire, but config"):
        evaluate.main(
            [
                *(*flags, "--workdir", str(tmp_path / "other")),
                "--config.data.base_classes=Fight",
            ]
        )
    assert not (tmp_path / "other").exists()


def test_a_finished_run_is_shown_and_another_is_refused(run, tiny, capsys):
    train_and_evaluate(tiny.config("vadclip", **BASE), run)
    assert "trained on base classes" in capsys.readouterr().out
    other = tiny.config("vadclip", **{**BASE, "data__base_classes": "Fight"})
    with pytest.raises(
        InputError, match=r"its data.base_classes is 'fire', yours 'Fig"
    ):
        train_and_evaluate(other, run)


def test_an_unknown_class_leaves_no_file(tiny, tmp_path):
    for name, message in (
        ("Fir", "did you mean 'Fire'"),
        ("Fire,Fight", "none is nov"),
    ):
        config = tiny.config("vadclip", data__base_classes=name)
        with pytest.raises(InputError, match=message):
            train_and_evaluate(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_model_without_classes_is_split_by_videos(tiny, tmp_path):
    keys = {"clean__steps": 2, "data__base_classes": "Fight"}
    results = train_and_evaluate(tiny.config("mil_ranking", **keys), tmp_path / "run")
    groups = results["open_vocabulary"]["groups"]
    assert groups["base"]["auc"] is not None and "top1" not in groups["base"]


@pytest.mark.slow
def test_seeds_side_by_side_train_on_base_classes(run, tiny, tmp_path):
    configs = {}
    for seed in (0, 1):
        config = load_config(tiny.flags("vadclip", **BASE, seed=seed))
        configs[tmp_path / f"seed{seed}"] = config
    assert train_unfinished_together(configs) == list(configs)
    results = read_json(tmp_path / "seed0" / "results.json")
    alone = read_json(run / "results.json")
    assert results["open_vocabulary"]["base"] == ["Fire"]
    found = results["open_vocabulary"]["groups"]["novel"]["auc"]
    assert found == pytest.approx(alone["open_vocabulary"]["groups"]["novel"]["auc"])
    assert results["remarks"] == alone["remarks"]
