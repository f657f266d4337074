"""Other class words for a trained model: which scores change, and what is refused."""

import dataclasses
import json

import numpy as np
import pytest
from untrained import write_model

from wsvad_jax import evaluate
from wsvad_jax.data import class_changes
from wsvad_jax.data.cards import ClassCard
from wsvad_jax.data.dataset import open_dataset
from wsvad_jax.evaluation.scorer import Scorer, score_split
from wsvad_jax.experiment import other_words
from wsvad_jax.experiment.build import open_experiment
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json
from wsvad_jax.weights.model_folder import load_params

MODELS = ("vadclip", "dsanet")


@pytest.fixture(scope="module")
def folders(tiny, tmp_path_factory):
    """Model folders of random weights, by model."""
    root = tmp_path_factory.mktemp("models")
    return {model: write_model(tiny, model, root / model) for model in MODELS}


def card_with(card, classes):
    return dataclasses.replace(card, classes=tuple(classes))


def scored(experiment, folder):
    params, stats, _ = load_params(folder)
    return score_split(experiment, Scorer(experiment), params, stats)


@pytest.mark.parametrize("model", MODELS)
def test_permuted_words_permute_the_class_probabilities(tiny, folders, model):
    experiment = open_experiment(tiny.config(model))
    normal, *others = experiment.dataset.card.classes
    own = scored(experiment, folders[model])

    # The same words: the same scores, bit for bit.
    same, unnamed = other_words.with_other_words(experiment, experiment.dataset.card)
    for a, b in zip(own, scored(same, folders[model]), strict=True):
        np.testing.assert_array_equal(a.anomaly, b.anomaly)
        np.testing.assert_array_equal(a.classes, b.classes)
        assert (a.label, a.segments) == (b.label, b.segments) and not unnamed

    # The prompts change places, the names stay.
    first, second = others
    swapped = card_with(
        experiment.dataset.card,
        [
            normal,
            ClassCard(first.name, second.prompts),
            ClassCard(second.name, first.prompts),
        ],
    )
    changed, _ = other_words.with_other_words(experiment, swapped)
    for a, b in zip(own, scored(changed, folders[model]), strict=True):
        np.testing.assert_allclose(b.classes, a.classes[:, [0, 2, 1]], atol=1e-5)
        np.testing.assert_array_equal(a.anomaly, b.anomaly)
        assert (a.label, a.segments) == (b.label, b.segments)
    assert np.abs(own[1].classes[:, 1] - own[1].classes[:, 2]).max() > 1e-3


def test_a_card_with_other_classes(tiny, folders, tmp_path, capsys):
    """Fire is left out, Smoke is new: events of Fire stay anomalous, without a name."""
    card = tmp_path / "words.json"
    classes = [
        {"name": "Normal"},
        {"name": "Smoke", "prompts": ["thick smoke"]},
        {"name": "Fight", "prompts": ["two people hit each other"]},
    ]
    card.write_text(json.dumps({"classes": classes}))
    arguments = [
        *tiny.flags("vadclip"),
        *(f"--checkpoint={folders['vadclip']}", f"--card={card}"),
    ]
    assert evaluate.main([*arguments, f"--workdir={tmp_path / 'out'}"]) == 0
    err = capsys.readouterr().err
    assert other_words.WARNING in err and "the card leaves out Fire" in err

    found = read_json(tmp_path / "out" / "results.json")
    assert found["other_words"].startswith(other_words.WARNING)
    assert found["selection"] == "other class words"
    plain = evaluate.main([*arguments[:-1], f"--workdir={tmp_path / 'plain'}"])
    own = read_json(tmp_path / "plain" / "results.json")
    assert plain == 0 and found["auc"] == own["auc"]
    assert "other_words" not in own

    with np.load(tmp_path / "out" / "scores.npz") as scores:
        classes = scores["test1/classes"]
    assert classes.shape[1] == 4 and not classes[:, 3].any()
    np.testing.assert_allclose(classes.sum(1), 1, atol=1e-5)


@pytest.mark.parametrize(
    "content, words",
    [
        ({"normal": "Calm", "classes": [{"name": "Calm"}, {"name": "Fire"}]}, "Calm"),
        ({"stride": 8, "classes": [{"name": "Normal"}, {"name": "Fire"}]}, "stride"),
        ({"name": "x"}, "the key classes is missing"),
    ],
)
def test_cards_that_are_refused(tiny, tmp_path, content, words):
    path = tmp_path / "card.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=words):
        other_words.read_words(path, open_dataset(tiny.path).card)


def test_models_without_a_text_tower_are_refused(tiny, tmp_path):
    experiment = open_experiment(tiny.config("mil_ranking"))
    with pytest.raises(InputError, match="mil_ranking reads no class words"):
        other_words.with_other_words(experiment, experiment.dataset.card)


def test_words_as_classes(tiny):
    card = open_dataset(tiny.path).card
    made = other_words.card_of_words("people fighting|a brawl,a fire", card, "a street")
    assert made.class_names == ("Normal", "people fighting", "a fire")
    assert made.prompts == (
        *(("a street",), ("people fighting", "a brawl")),
        ("a fire",),
    )
    kept = other_words.card_of_words(["a fire"], card)
    assert kept.prompts == (card.prompts[0], ("a fire",)) and kept.clip == card.clip
    for bad in ("a,a", "Normal", " ", []):
        with pytest.raises(InputError, match="--classes"):
            other_words.card_of_words(bad, card)


def test_a_dataset_without_a_class(tiny):
    whole = open_dataset(tiny.path)
    seen = class_changes.without_class(whole, "Fight")
    assert seen.card.class_names == ("Normal", "Fire")
    assert seen.content != whole.content
    for name in ("train", "test"):
        fight = whole.card.index("Fight")
        kept = [r for r in whole.split(name) if fight not in r.label]
        records = list(seen.split(name))
        assert [r.video for r in records] == [r.video for r in kept]
        assert len(records) < len(whole.split(name))
        for record, wanted in zip(records, kept, strict=True):
            np.testing.assert_array_equal(record.features, wanted.features)
            names = [whole.card.class_names[c] for c in wanted.label]
            assert [seen.card.class_names[c] for c in record.label] == names
            assert len(record.segments) == len(wanted.segments)

    # Back under the whole card, the indices are those of the whole dataset.
    back = class_changes.with_card(seen, whole.card)
    own = {e.video: e for e in whole.split("test").entries}
    assert all(own[e.video] == e for e in back.split("test").entries)
    np.testing.assert_array_equal(back.split("test")[1].features, records[1].features)
    with pytest.raises(InputError, match="Fight"):
        class_changes.with_card(whole, seen.card)
