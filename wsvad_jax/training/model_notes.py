"""What a model folder says of its model besides the weights: meta.json."""

import dataclasses
from typing import TYPE_CHECKING, Any

from wsvad_jax.experiment.identity import comparable_config

if TYPE_CHECKING:
    from wsvad_jax.experiment.build import Experiment


def model_meta(
    experiment: "Experiment", step: int, remarks: list[str]
) -> dict[str, Any]:
    """Returns the notes of a model folder: all that scoring needs besides weights.

    Args:
      experiment: recipe, dataset and model that score.
      step: step of the selected weights.
      remarks: how training departed from the recipe.
    """
    return {
        "model": experiment.config.model_name,
        "config": comparable_config(experiment.config),
        "card": experiment.dataset.card.to_json(),
        "features": dataclasses.asdict(experiment.dataset.protocol),
        "step": step,
        "selection": selection_note(experiment),
        "remarks": remarks,
        **_base_classes(experiment),
        "checkpoint": "model",
        # Stored so that scoring doesn't need the dataset.
        "length": experiment.T,
        "width": experiment.width,
        "tower": experiment.text_tower_id,
        "clip_note": experiment.clip_note,
    }


def _base_classes(experiment: "Experiment") -> dict[str, list[str]]:
    names = list(experiment.base_classes)
    return {"base_classes": names} if names else {}


def selection_note(experiment: "Experiment") -> str:
    """Returns a description of the weight selection."""
    protocol_config = experiment.protocol_config
    # Tables show the note, so such a row is not taken for a training on all classes.
    classes = ", base classes only" if experiment.base_classes else ""
    if protocol_config.select == "last":
        return f"last weights{classes}"

    on_test = experiment.config.protocol == "paper"
    videos = "test" if on_test else "held-out training videos"
    return f"best {protocol_config.metric} on {videos}{classes}"
