"""Training on base classes alone, see `base_classes`.

Training sees normal videos and those of one base class, under a card with the base
classes alone: neither videos nor words of novel classes. Scoring reads the words of all
classes of the dataset's card.
"""

import dataclasses
from typing import TYPE_CHECKING

from wsvad_jax.data.class_changes import classes_of, only_classes
from wsvad_jax.experiment.base_classes import KEY
from wsvad_jax.experiment.build import open_text
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.text import count

if TYPE_CHECKING:
    from wsvad_jax.data.dataset import Dataset
    from wsvad_jax.experiment.build import Experiment


@dataclasses.dataclass(frozen=True)
class VideoCounts:
    """Training videos by what base classes make of them."""

    normal: int
    base: int
    novel: int  # left out
    several: int  # left out: videos of several anomaly classes


def count_videos(dataset: "Dataset", base: tuple[str, ...]) -> VideoCounts:
    """Counts the training videos of a dataset.

    Raises:
      InputError: no training video shows a base class alone, or none is normal.
    """
    entries = dataset.split("train").entries
    shown = [classes_of(entry) - {0} for entry in entries]
    indices = {dataset.card.index(name) for name in base}

    # A class that is never seen would be called a base class all the same.
    for name in base:
        if {dataset.card.index(name)} not in shown:
            raise InputError(
                f"{KEY}: no training video of {dataset.card.name} shows {name} alone, so "
                "it can't be a base class; leave it out"
            )
    if set() not in shown:
        raise InputError(
            f"{dataset.path}: no normal training video, which base classes are compared "
            "with; add some"
        )

    one = [next(iter(classes)) for classes in shown if len(classes) == 1]
    in_base = sum(c in indices for c in one)
    normal = sum(not classes for classes in shown)
    several = len(shown) - normal - len(one)
    return VideoCounts(normal, in_base, len(one) - in_base, several)


def training_remark(experiment: "Experiment") -> str:
    """Returns a sentence about the training videos, "" without base classes."""
    base, card = experiment.base_classes, experiment.dataset.card
    if not base or not experiment.spec.is_trained:
        return ""
    videos = count_videos(experiment.dataset, base)

    left_out = f"{count(videos.novel, 'video')} of other classes"
    if videos.several:
        left_out += f" and {videos.several} of several classes"
    return (
        f"trained on {len(base)} of {len(card.classes) - 1} anomaly classes, "
        f"{', '.join(base)}: {videos.normal} normal and {videos.base} abnormal videos, "
        f"without {left_out}"
    )


def training_view(experiment: "Experiment") -> "Experiment":
    """Returns the experiment that trains on the base classes alone.

    Without base classes, and for a model without training, it is `experiment` itself.

    Args:
      experiment: opened recipe.

    Raises:
      InputError: no training video shows a base class alone.
    """
    if not experiment.base_classes or not experiment.spec.is_trained:
        return experiment
    count_videos(experiment.dataset, experiment.base_classes)
    dataset = only_classes(experiment.dataset, experiment.base_classes)

    # Novel words in training would be learnt as words that no video shows.
    text = experiment.text
    if text is not None:
        text, _ = open_text(experiment.config, dataset)
    return dataclasses.replace(
        experiment, dataset=dataset, text=text, base_classes=(), whole=experiment
    )
