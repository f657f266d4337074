"""Scores the test set of another dataset with a trained model.

Model, windows and text tower are those of the training. The class words are those of the
test set's card (`other_words.open_words`), so a model that reads text names the classes
of the test set. Other models have an anomaly score alone: class 0 of every card is the
normal one.
"""

import dataclasses
from typing import TYPE_CHECKING

from wsvad_jax.utils.errors import InputError

if TYPE_CHECKING:
    from wsvad_jax.data.dataset import Dataset
    from wsvad_jax.experiment.build import Experiment


def with_test_set(experiment: "Experiment", dataset: "Dataset") -> "Experiment":
    """Returns an experiment that scores the test split of another dataset.

    Args:
      experiment: opened recipe with the training's dataset.
      dataset: dataset whose test split is scored.

    Raises:
      InputError: the features of both datasets were made in other ways, or a prompt
        doesn't fit the text tower.
    """
    from wsvad_jax.experiment.other_words import open_words

    check_same_features(experiment, dataset)

    test = dataclasses.replace(dataset, splits={"test": dataset.split("test")})
    if not experiment.spec.reads_text:
        return dataclasses.replace(experiment, dataset=test)
    text, tower = open_words(experiment, dataset.card)
    return dataclasses.replace(experiment, dataset=test, text=text, text_tower_id=tower)


def check_same_features(experiment: "Experiment", dataset: "Dataset") -> None:
    """Raises InputError if a model can't score a dataset's features.

    Args:
      experiment: opened recipe with the training's dataset.
      dataset: dataset that is to be scored.
    """
    from wsvad_jax.data import feature_protocols

    trained = experiment.dataset
    sets = f"{trained.card.name} is trained on, {dataset.card.name} is scored"
    if dataset.width != trained.width:
        raise InputError(
            f"{sets}: features of {trained.card.name} are {trained.width} wide, those of "
            f"{dataset.card.name} {dataset.width}; make both with one encoder"
        )
    if dataset.card.stride != trained.card.stride:
        raise InputError(
            f"{sets}: a snippet of {trained.card.name} has {trained.card.stride} frames, "
            f"one of {dataset.card.name} {dataset.card.stride}; make both with one stride"
        )

    # A model for windows scores one crop, which the test set must have.
    windows = experiment.config.eval.mode == "windows"
    crop = dataset.card.test_crop if windows else None
    differs = feature_protocols.difference(
        dataset.protocol, trained.protocol, crop=crop
    )
    if differs:
        raise InputError(
            f"{sets}: features of {dataset.card.name} were made in another way: "
            f"{differs}; make both in one way"
        )


def unknown_protocol_note(trained: "Dataset", dataset: "Dataset") -> str:
    """Returns which values of the feature protocols could not be compared, or ""."""
    from wsvad_jax.data.feature_protocols import UNKNOWN

    unknown = [
        f"{name} of {each.card.name}"
        for each in (trained, dataset)
        for name in ("encoder", "frame", "resize")
        if getattr(each.protocol, name) in UNKNOWN
    ]
    if not unknown or trained.content == dataset.content:
        return ""
    return f"not compared, since unknown: {', '.join(dict.fromkeys(unknown))}"
