"""Classes in a user's own words: names with their prompts, from a flag or from Python.

On the command line, a comma separates classes and a vertical bar the prompts of a class:
"people fighting|two people hitting each other,a fire". The first prompt is the class's
name, unless a name stands before an equals sign: "Fight=people fighting".
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from wsvad_jax.data.cards import Card, ClassCard, fold_class_name
from wsvad_jax.utils.errors import InputError

NORMAL = "Normal"  # name of class 0
# Classes in Python: as in the flag, one text per class, or prompts by name.
Words = str | Sequence[str | Sequence[str]] | Mapping[str, str | Sequence[str]]


def class_cards(words: Words, flag: str = "classes") -> tuple[ClassCard, ...]:
    """Returns classes with their prompts.

    Args:
      words: text as in the flag; or one text, or list of prompts, per class; or prompts
        by name.
      flag: name of the argument, for messages.

    Raises:
      InputError: there is no class, or one without words.
    """
    if isinstance(words, str):
        words = words.split(",")
    items: Iterable[tuple[str, Any]] = (
        words.items() if isinstance(words, Mapping) else (("", each) for each in words)
    )

    cards = []
    for name, prompts in items:
        # NAME=PROMPT|PROMPT is a text; lists and mappings have no such signs.
        if isinstance(prompts, str):
            first, equals, rest = prompts.partition("=")
            if equals and not name:
                name, prompts = first, rest
            prompts = prompts.split("|")
        prompts = tuple(str(prompt).strip() for prompt in prompts)
        if not prompts or not all(prompts):
            raise InputError(
                f"{flag}: a class or prompt without words in {words!r}; write classes as "
                '"people fighting|two people hitting each other,a fire"'
            )
        cards.append(ClassCard(name.strip() or prompts[0], prompts))

    if not cards:
        raise InputError(f"{flag} names no class; name what is to be found")
    return tuple(cards)


def card_from_words(classes: Words, normal: str | Sequence[str], clip: str) -> Card:
    """Returns the card of a detector that knows classes by their words alone.

    Args:
      classes: the anomaly classes, see `class_cards`.
      normal: prompts of what isn't to be found: a text as in the flag, or a list.
      clip: hub name or folder of the CLIP model.

    Raises:
      InputError: a class has no words, or two classes share a name or a prompt.
    """
    anomalies = class_cards(classes, "--classes")
    first = ClassCard(NORMAL, normal_prompts(normal))

    # One prompt in two classes would halve the probability of both.
    seen: dict[str, str] = {}
    for card in (first, *anomalies):
        for text in {fold_class_name(p): p for p in (card.name, *card.prompts)}.items():
            if (other := seen.setdefault(text[0], card.name)) != card.name:
                raise InputError(
                    f"--classes, --normal: {text[1]!r} stands in the class {other!r} and "
                    f"in {card.name!r}; every class needs words of its own"
                )

    named = [{"name": c.name, "prompts": list(c.prompts)} for c in (first, *anomalies)]
    content = {"name": "zero-shot", "classes": named, "normal": NORMAL, "clip": clip}
    return Card.from_json(content, "--classes")


def normal_prompts(normal: str | Sequence[str]) -> tuple[str, ...]:
    """Returns the prompts of the normal class.

    Args:
      normal: a text as in the flag, or a list.

    Raises:
      InputError: there is none, one without words, or a text that reads as several
        classes.
    """
    if isinstance(normal, str) and ("," in normal or "=" in normal):
        raise InputError(
            f"--normal is {normal!r}, but it takes the prompts of one class alone; write "
            "| between them, and no comma and no equals sign"
        )
    prompts = normal.split("|") if isinstance(normal, str) else list(normal)
    return class_cards({NORMAL: prompts}, "--normal")[0].prompts


def in_words(card: ClassCard) -> str:
    """Returns a class as the flag writes it."""
    prompts = "|".join(card.prompts)
    return prompts if card.name == card.prompts[0] else f"{card.name}={prompts}"
