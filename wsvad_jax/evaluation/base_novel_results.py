"""Results over all, base and novel classes, `open_vocabulary` in results.json."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from wsvad_jax.experiment.base_classes import KEY
from wsvad_jax.metrics import base_novel
from wsvad_jax.utils.errors import InputError

if TYPE_CHECKING:
    from wsvad_jax.experiment.build import Experiment
    from wsvad_jax.metrics.frame_level import EvalVideo

BASE, ALL, NOTHING = "base classes", "all classes", "nothing"


def with_base_classes_of_model(
    experiment: "Experiment", meta: Mapping[str, Any], source: str | os.PathLike
) -> "Experiment":
    """Returns the experiment with the base classes by which results are split.

    They are the recipe's, or those that the model was trained on, where the dataset has
    them all; otherwise there are none.

    Args:
      experiment: opened recipe.
      meta: content of the model folder's meta.json.
      source: name of the model folder, for messages.

    Raises:
      InputError: the recipe has other base classes than the model's training.
    """
    trained, asked = tuple(meta.get("base_classes") or ()), experiment.base_classes
    known = set(experiment.dataset.card.class_names)
    if asked and trained and set(asked) != set(trained):
        raise InputError(
            f"{source} was trained on the classes {', '.join(trained)}, but {KEY} is "
            f"{', '.join(asked)}; leave the key out to take those of the training"
        )
    base = asked or (trained if known.issuperset(trained) else ())
    return dataclasses.replace(experiment, base_classes=base)


def results_of_groups(
    experiment: "Experiment", videos: Sequence["EvalVideo"], meta: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns `{"open_vocabulary": …}` of results.json, {} without base classes.

    Args:
      experiment: opened recipe that scored the videos.
      videos: scored test set.
      meta: content of the model folder's meta.json; `base_classes` are those of its
        training.
    """
    card = experiment.dataset.card
    base = [name for name in experiment.base_classes if name in card.class_names]
    if not base:
        return {}
    indices = [card.index(name) for name in base]

    # The test set as it is: each video counts once.
    weights = np.ones((1, len(videos)))
    values = base_novel.group_values(videos, weights, indices, stride=card.stride)
    rows = base_novel.group_rows(videos, indices)

    groups = {}
    for group, chosen in rows.items():
        own = {
            key.removesuffix(f"/{group}"): _number(value[0])
            for key, value in values.items()
            if key.endswith(f"/{group}")
        }
        abnormal = sum(videos[i].abnormal for i in chosen)
        groups[group] = {"videos": len(chosen), "abnormal": abnormal, **own}

    trained = BASE if meta.get("base_classes") else ALL
    return {
        "open_vocabulary": {
            "base": base,
            "novel": [n for n in card.class_names[1:] if n not in base],
            "trained_on": trained if experiment.spec.is_trained else NOTHING,
            "of_several_classes": len(videos) - len(rows["all"]),  # in no group
            "groups": groups,
        }
    }


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
