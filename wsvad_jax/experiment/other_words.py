"""Gives a trained model other class words: its prompts go through its text tower again.

The trained weights stay as they are, learned prompt vectors and text adapters included.
"""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from wsvad_jax.data.cards import Card, ClassCard
from wsvad_jax.experiment.class_words import card_from_words, normal_prompts
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json

if TYPE_CHECKING:
    from wsvad_jax.clip.prompts import TextInputs
    from wsvad_jax.experiment.build import Experiment
    from wsvad_jax.experiment.class_words import Words
    from wsvad_jax.models.spec import ModelSpec

WARNING = (
    "the class words are not those of the training; after training, other words may "
    "change the scores little, or name the wrong class (docs/text.md)"
)


def check_reads_text(spec: "ModelSpec", flag: str) -> None:
    """Raises InputError for a model that has no text tower to read other words.

    Args:
      spec: spec of the model.
      flag: the flag that asks for other words.
    """
    if not spec.reads_text:
        raise InputError(
            f"{flag}: {spec.name} reads no class words; only models with a text tower "
            "(vadclip, dsanet) take others"
        )


def read_words(path: pathlib.Path, trained: Card) -> Card:
    """Reads a card.json whose classes and prompts replace those of `trained`.

    Its other keys are optional, and must equal the dataset's.

    Args:
      path: the file.
      trained: card of the dataset.

    Raises:
      InputError: no card, another normal class, or another value of a key that
        describes features.
    """
    known = trained.to_json()
    del known["classes"]
    card = Card.from_json(read_json(path), str(path), defaults=known)

    # Class 0 is the normal one in all scores.
    if card.class_names[0] != trained.class_names[0]:
        raise InputError(
            f"{path}: the normal class is {card.class_names[0]!r}, but the dataset's is "
            f"{trained.class_names[0]!r}; keep its name and change its prompts"
        )
    for key in ("stride", "test_crop", "clip"):
        value, wanted = getattr(card, key), getattr(trained, key)
        if value != wanted:
            raise InputError(
                f"{path}: {key} is {value!r}, but the dataset's is {wanted!r}; a card of "
                f"other words changes classes and prompts alone, so leave {key} out"
            )
    return dataclasses.replace(card, name=trained.name)


def card_of_words(
    classes: "Words", trained: Card, normal: str | Sequence[str] | None = None
) -> Card:
    """Returns a card whose classes are described by a user's words.

    Args:
      classes: the anomaly classes, see `class_words.class_cards`.
      trained: card of the model; it keeps all other keys.
      normal: prompts of the normal class, see `class_words.card_from_words`; None keeps
        those of the training.

    Raises:
      InputError: a class has no words, or two classes share a name or a prompt.
    """
    first = trained.classes[0]
    prompts = list(first.prompts) if normal is None else normal
    named = card_from_words(classes, prompts, trained.clip).classes[1:]
    if normal is not None:
        first = ClassCard(first.name, normal_prompts(normal))
    if first.name in [c.name for c in named]:
        raise InputError(
            f"--classes: {first.name!r} is the normal class of the training; give it "
            "words by --normal"
        )
    return dataclasses.replace(trained, classes=(first, *named))


def open_words(
    experiment: "Experiment", card: Card
) -> "tuple[TextInputs, dict[str, Any]]":
    """Returns the text inputs of a card's prompts, and the text tower's identity.

    The tower is that of the training, whatever CLIP model the card names. Every scoring
    with other words than the training's reads them here.

    Args:
      experiment: opened recipe with the training's dataset.
      card: card with the prompts.

    Raises:
      InputError: a prompt doesn't fit the text tower.
    """
    from wsvad_jax.experiment.build import open_text

    dataset = experiment.dataset
    words = dataclasses.replace(card, clip=dataset.card.clip)
    return open_text(experiment.config, dataclasses.replace(dataset, card=words))


def with_other_words(
    experiment: "Experiment", card: Card
) -> "tuple[Experiment, tuple[str, ...]]":
    """Returns an experiment that reads the prompts of `card`, and the unnamed classes.

    Unnamed classes are shown by test videos, but are missing in `card`. They stay in the
    new dataset's card, behind the others; `with_unnamed` gives them probability 0.

    Args:
      experiment: opened recipe.
      card: other prompts; classes may be added, left out, or in another order.

    Raises:
      InputError: the model reads no text, or a prompt doesn't fit the text tower.
    """
    from wsvad_jax.data.class_changes import classes_shown, with_card

    check_reads_text(experiment.spec, "--card")
    dataset = experiment.dataset
    text, tower = open_words(experiment, card)

    # Training videos play no part here, so classes that only they show are left out.
    test = dataclasses.replace(dataset, splits={"test": dataset.split("test")})
    unnamed = tuple(c for c in classes_shown(test) if c not in card.class_names)
    rest = tuple(c for c in dataset.card.classes if c.name in unnamed)
    whole = dataclasses.replace(card, classes=(*card.classes, *rest))

    changed = dataclasses.replace(
        experiment, text=text, text_tower_id=tower, dataset=with_card(test, whole)
    )
    return changed, unnamed


def with_unnamed(videos: Sequence[Any], count: int) -> list[Any]:
    """Appends `count` classes of probability 0 to the scores of `EvalVideo`s."""
    import numpy as np

    # A model without the branch for classes has no class probabilities.
    if not count or any(v.classes is None for v in videos):
        return list(videos)

    def padded(classes: np.ndarray) -> np.ndarray:
        return np.pad(classes, ((0, 0), (0, count)))

    return [dataclasses.replace(v, classes=padded(v.classes)) for v in videos]


def unnamed_note(unnamed: Sequence[str]) -> str:
    """Returns a sentence about true classes that the words leave out, "" for none."""
    if not unnamed:
        return ""
    return (
        f"the card leaves out {', '.join(unnamed)}, which test videos show: no event is "
        "named so, and mAP counts them as missed"
    )
