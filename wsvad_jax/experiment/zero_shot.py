"""Prompts of zero-shot scoring, and the checks that features and text fit together.

A trained model adapts to any features. Zero-shot scoring compares features with texts as
they are, so both must come from one CLIP model.
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from wsvad_jax.utils.errors import InputError

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from wsvad_jax.clip.prompts import TextInputs
    from wsvad_jax.data.dataset import Dataset

SLOT = "{}"  # place of the prompt in a template


def fill_templates(
    config: "ConfigDict", prompts: Sequence[Sequence[str]]
) -> tuple[tuple[str, ...], ...]:
    """Returns each class's prompts in each template of the recipe.

    Args:
      config: recipe; without `templates`, the prompts stay as they are.
      prompts: descriptions of each class.

    Raises:
      InputError: there is no template, or one has no place for the prompt.
    """
    templates = tuple(config.get("templates", (SLOT,)))
    wrong = [t for t in templates if not isinstance(t, str) or SLOT not in t]
    if wrong or not templates:
        raise InputError(
            f"config.templates is {templates!r}; expected texts with {SLOT} in the place "
            "of the prompt, such as ('{}', 'a photo of {}')"
        )
    return tuple(
        tuple(t.replace(SLOT, prompt) for prompt in descriptions for t in templates)
        for descriptions in prompts
    )


def check_recipe(config: "ConfigDict") -> None:
    """Raises InputError if the recipe selects a protocol of training."""
    if config.protocol != "clean":
        raise InputError(
            f"config.protocol is {config.protocol!r}, but {config.model_name} has no "
            "weights to select; leave it at clean"
        )


def refuse_training(config: "ConfigDict") -> None:
    """Raises InputError if the recipe's model has nothing to train."""
    from wsvad_jax.models import MODELS

    # An unknown model is reported when the recipe is opened.
    name = config.model_name
    if name in MODELS and not MODELS[name].is_trained:
        raise InputError(
            f"{name} is not trained; score it with `python -m wsvad_jax.evaluate "
            f"--config {name}:{config.data.name} --workdir DIR`"
        )


def check_features(
    dataset: "Dataset", text: "TextInputs", tower: dict[str, Any]
) -> None:
    """Checks that a dataset's features come from the CLIP model of the prompts.

    Prints a note where the dataset doesn't say which model made its features.

    Args:
      dataset: features that are to be scored.
      text: prompts with the text tower.
      tower: name, hash and settings of the tower, see `build.text_tower_id_of`.

    Raises:
      InputError: no CLIP model is named, or another one made the features.
    """
    from wsvad_jax.data import feature_protocols

    advice = "pass --config.clip=NAME|DIR with the CLIP model that made the features"
    if tower["clip"] == "random":
        raise InputError(
            f"{dataset.path}: zero_shot needs the text tower of the features' CLIP "
            f"model, but the dataset's card names none; {advice}"
        )

    width = text.params["text_projection"]["kernel"].shape[1]
    if width != dataset.width:
        raise InputError(
            f"{dataset.path}: its features are {dataset.width} wide, but {tower['clip']} "
            f"makes texts of width {width}; {advice}"
        )

    # One hash covers the weights of both towers. Older files store its start.
    made_by = feature_protocols.settings_noted(dataset.protocol).get("weights") or ""
    if made_by and not tower["settings"]["weights"].startswith(made_by):
        raise InputError(
            f"{dataset.path}: its features are of {dataset.protocol.encoder}, but the "
            f"prompts of {tower['clip']} (weights {tower['settings']['weights'][:12]}); "
            f"{advice}"
        )
    if not made_by:
        print(
            f"{dataset.path} doesn't say which CLIP weights made its features: those of "
            f"{tower['clip']} are assumed",
            file=sys.stderr,
        )
