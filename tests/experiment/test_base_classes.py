"""Names of base classes, and the view of the data that training gets."""

import dataclasses

import numpy as np
import pytest

from wsvad_jax.data import cards
from wsvad_jax.data.class_changes import classes_of, only_classes
from wsvad_jax.experiment.base_classes import read_base_classes
from wsvad_jax.experiment.build import open_experiment
from wsvad_jax.experiment.training_view import (
    count_videos,
    training_remark,
    training_view,
)
from wsvad_jax.utils.errors import InputError

CARD = cards.infer_card(["Normal", "Fire", "Fight", "Road accident"], name="small")


def test_names_of_base_classes():
    assert read_base_classes("", CARD) == ()
    assert read_base_classes("Fire", CARD) == ("Fire",)
    # In the order of the card, without regard to case and blanks.
    assert read_base_classes(" roadaccident, FIGHT", CARD) == ("Fight", "Road accident")
    assert len(read_base_classes("published", cards.UCF)) == 6
    assert read_base_classes("published", cards.XD) == ("B1", "B2", "B6")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Fyre", r"'Fyre' is no class of small \(did you mean 'Fire'\?\)"),
        ("Fire;Fight", "'Fire;Fight' is no class"),
        ("Fire,", "'' is no class of small"),
        (" ", "'' is no class of small"),
        ("normal,Fire", "'Normal' is the normal class, which is always trained on"),
        ("Fire,fire", "duplicate class 'Fire'"),
        ("Fire,Fight,Road accident", "names all anomaly classes of small, so none"),
        ("published", "no split of small is known; name its base classes, some of F"),
        (("Fire",), r"is \('Fire',\); expected names"),
        (None, "is None; expected names"),
    ],
)
def test_names_that_are_refused(text, message):
    with pytest.raises(InputError, match=message):
        read_base_classes(text, CARD)


def test_the_only_anomaly_class_cannot_be_a_base_class():
    with pytest.raises(InputError, match="names all anomaly classes of shanghaitech"):
        read_base_classes("Anomaly", cards.SHANGHAITECH)


def test_a_view_of_some_classes(dataset):
    view = only_classes(dataset, ["Fight"])
    assert view.card.class_names == ("Normal", "Fight")
    assert view.content != dataset.content
    fight = dataset.card.index("Fight")
    for name, split in dataset.splits.items():
        kept = [e for e in split.entries if classes_of(e) in ({0}, {fight})]
        found = view.split(name)
        assert [e.video for e in found.entries] == [e.video for e in kept]
        assert {c for e in found.entries for c in e.label} == {0, 1}

        # Records are those of the entries, not of their places in the view.
        i = len(found) - 1
        own = next(r for r in split if r.video == found.entries[i].video)
        np.testing.assert_array_equal(found[i].features, own.features)


def test_videos_are_counted(dataset):
    counts = count_videos(dataset, ("Fire",))
    entries = dataset.split("train").entries
    assert dataclasses.astuple(counts) == (9, 5, 5, 4) and len(entries) == 23

    # A class that training videos never show alone can't be a base class.
    train = dataset.split("train")
    fight = dataset.card.index("Fight")
    kept = tuple(e for e in train.entries if fight not in e.label or len(e.label) > 1)
    splits = {"train": type(train)(train.path, "train", kept)}
    fewer = dataclasses.replace(dataset, splits=splits)
    with pytest.raises(
        InputError, match="no training video of small shows Fight alone"
    ):
        count_videos(fewer, ("Fire", "Fight"))


def test_training_reads_words_of_base_classes_and_scoring_all(tiny):
    whole = open_experiment(tiny.config("vadclip", data__base_classes="fire"))
    assert whole.base_classes == ("Fire",)
    view = training_view(whole)
    assert view.dataset.card.class_names == ("Normal", "Fire")
    assert view.text is not None and len(view.text.class_from_prompt) == 2
    assert view.with_all_classes is whole and whole.with_all_classes is whole
    assert whole.dataset.card.class_names == ("Normal", "Fight", "Fire")
    assert whole.text is not None and len(whole.text.class_from_prompt) == 3
    assert view.T == whole.T
    assert "trained on 1 of 2 anomaly classes, Fire: 6 normal and 3" in training_remark(
        whole
    )

    plain = open_experiment(tiny.config("vadclip"))
    assert training_view(plain) is plain and training_remark(plain) == ""
