"""Names of base classes, which a model is trained on; the other classes are novel.

The recipe's key `data.base_classes` holds them; `training_view` applies it.
"""

from typing import TYPE_CHECKING, Any

from wsvad_jax.utils.errors import InputError

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from wsvad_jax.data.cards import Card

PUBLISHED = "published"  # stands for the split of the dataset's papers
NAME = "base_classes"
KEY = f"config.data.{NAME}"


def refuse_base_classes(config: "ConfigDict", why: str) -> None:
    """Raises InputError if a recipe names base classes.

    Args:
      config: recipe.
      why: end of the message: why they don't fit, and what to do.
    """
    if config.data.get(NAME):
        raise InputError(f"--{KEY} {why}")


def read_base_classes(text: Any, card: "Card", flag: str = KEY) -> tuple[str, ...]:
    """Returns the classes that a text names, in the card's order; () for "".

    Case and blanks of names don't matter.

    Args:
      text: names with commas between them, or `published`.
      card: card of the dataset.
      flag: name of the flag, for messages.

    Raises:
      InputError: an unknown or duplicate name, the normal class, all anomaly classes, or
        `published` for a dataset without a known split.
    """
    from wsvad_jax.data.cards import fold_class_name, suggest_class
    from wsvad_jax.datasets.open_vocabulary_splits import find_split

    if not isinstance(text, str):
        raise InputError(
            f"{flag} is {text!r}; expected names of classes with commas between them"
        )
    if not text:
        return ()
    normal, *anomalies = card.class_names
    listed = ", ".join(anomalies)

    if text.strip() == PUBLISHED:
        if (split := find_split(card)) is None:
            raise InputError(
                f"{flag} is {PUBLISHED}, but no split of {card.name} is known; name its "
                f"base classes, some of {listed}"
            )
        return split.base

    # Names are compared without case, as a command line is typed.
    known = {fold_class_name(name): name for name in card.class_names}
    chosen = []
    for word in (word.strip() for word in text.split(",")):
        name = known.get(fold_class_name(word))
        if not word or name is None:
            raise InputError(
                f"{flag}: {word!r} is no class of {card.name}"
                f"{suggest_class(word, card.class_names)}; its anomaly classes are "
                f"{listed}"
            )
        if name == normal:
            raise InputError(
                f"{flag}: {name!r} is the normal class, which is always trained on; "
                f"name anomaly classes alone, some of {listed}"
            )
        if name in chosen:
            raise InputError(f"{flag}: duplicate class {name!r}; name it once")
        chosen.append(name)

    if len(chosen) == len(anomalies):
        raise InputError(
            f"{flag} names all anomaly classes of {card.name}, so none is novel; leave "
            "one out, or leave the flag out to train on all classes"
        )
    return tuple(name for name in anomalies if name in chosen)
