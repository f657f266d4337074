"""Paraphrases of the demo's class prompts, for `benchmark text`."""

import dataclasses

from wsvad_jax.data.cards import Card, ClassCard
from wsvad_jax.utils.errors import InputError

# One per class, as many as the demo's own prompts, in words that these don't use.
PARAPHRASES = {
    "Normal": "pedestrians and vehicles pass by as usual",
    "Arson": "somebody lights flames that burn and smoke",
    "Explosion": "a sudden blast with a flash and a cloud of smoke",
    "Fighting": "persons hit and push each other",
    "RoadAccidents": "a vehicle crashes into another one",
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
    classes = tuple(ClassCard(n, (PARAPHRASES[n],)) for n in card.class_names)
    return dataclasses.replace(card, classes=classes)
