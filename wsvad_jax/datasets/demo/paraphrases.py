"""Paraphrases of the demo's class prompts, for `benchmark text`."""

import dataclasses
from collections.abc import Mapping

from wsvad_jax.data.cards import Card, ClassCard
from wsvad_jax.utils.errors import InputError

# One for each of the demo's prompts, in wordings that its CLIP has read, too.
PARAPHRASES: Mapping[str, tuple[str, ...]] = {
    "Normal": (
        "a pedestrian",
        "a moving car",
        "no people and an empty road",
        "no smoke and no fire",
    ),
    "Arson": ("flames and dark smoke", "a small fire and dark smoke"),
    "Explosion": (
        "glaring light",
        "large flames and flying pieces",
        "a large fire and black smoke",
    ),
    "Fighting": (
        "people with their arms up",
        "a body lying down",
        "many people side by side with arms in the air",
        "dust in the air and raised arms",
    ),
    "RoadAccidents": (
        "two cars bumper to bumper",
        "a car with its nose up",
        "a car upside down",
        "smoke over the road and several cars",
    ),
}


def paraphrased(card: Card) -> Card:
    """Returns the demo's card with other prompts of the same meaning.

    Raises:
      InputError: the card has a class without a paraphrase.
    """
    if missing := [name for name in card.class_names if name not in PARAPHRASES]:
        raise InputError(
            f"{card.name}: no paraphrase of {missing[0]}; pass --paraphrases CARD"
        )
    classes = tuple(ClassCard(n, PARAPHRASES[n]) for n in card.class_names)
    return dataclasses.replace(card, classes=classes)
