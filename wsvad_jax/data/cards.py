"""Dataset cards: what released code hard-codes, as data.

A card holds the classes (normal first), the words that describe each class to a text
tower, the crop that a test scores and the frames a snippet. A dataset of one's own is
a card (`card.json`), never an edit of the code.
"""

import dataclasses
import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from wsvad_jax.data.records import FRAMES_PER_SNIPPET
from wsvad_jax.data.video_names import spelt
from wsvad_jax.utils.errors import InputError

KEYS = ("name", "classes", "normal", "stride", "test_crop", "clip")


@dataclasses.dataclass(frozen=True)
class ClassCard:
    """A class and its descriptions, whose text features are averaged."""

    name: str
    prompts: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Card:
    """A dataset's classes and the conventions its features follow."""

    name: str
    classes: tuple[ClassCard, ...]  # normal first
    stride: int = FRAMES_PER_SNIPPET  # frames per snippet
    test_crop: int = 0  # the crop that a test scores
    clip: str = ""  # hub name or folder of the features' CLIP snapshot; "" unknown

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.classes)

    @property
    def prompts(self) -> tuple[tuple[str, ...], ...]:
        return tuple(c.prompts for c in self.classes)

    def index(self, name: str) -> int:
        """Returns the index of class `name`.

        Raises:
          InputError: no class has that name.
        """
        try:
            return self.class_names.index(name)
        except ValueError:
            raise InputError(
                f"label {name!r} that no class has{near(name, self.class_names)}; the "
                f"classes of {self.name} are {', '.join(self.class_names)}; correct the "
                "label or add a class to the card"
            ) from None

    def to_json(self) -> dict[str, Any]:
        """Returns the content of a `card.json` that `from_json` reads back."""
        return {
            "name": self.name,
            "classes": [
                {"name": c.name, "prompts": list(c.prompts)} for c in self.classes
            ],
            "normal": self.classes[0].name,
            "stride": self.stride,
            "test_crop": self.test_crop,
            "clip": self.clip,
        }

    @classmethod
    def from_json(
        cls,
        value: Any,
        source: str,
        *,
        labels: Iterable[str] = (),
        defaults: Mapping[str, Any] | None = None,
    ) -> "Card":
        """Reads the content of a `card.json`; `source` names it in errors.

        `prompts`, `stride`, `test_crop` and `clip` may be left out. The class that
        `normal` names (default "Normal") becomes class 0; the others keep their order.
        Without `classes` they are `labels`, where these are given; `defaults` are the
        values of other keys that the file doesn't have.

        Raises:
          InputError: a key or value is missing or is not what it should be.
        """
        if not isinstance(value, Mapping):
            raise InputError(f"{source}: a card is a JSON object, not {_kind(value)}")
        if unknown := sorted(set(value) - set(KEYS)):
            raise InputError(
                f"{source}: a card has no key {unknown[0]!r}; its keys are "
                f"{', '.join(KEYS)}"
            )
        value = {**(defaults or {}), **value}
        normal = value.get("normal", "Normal")
        normal = spelt(normal) if isinstance(normal, str) else normal
        if labels and "classes" not in value:
            _text(normal, "normal", source)
            classes = list(infer(labels, normal, source).classes)
            normal = classes[0].name
        else:
            classes = _classes(value.get("classes"), source)
        if normal not in [c.name for c in classes]:
            hint = near(str(normal), [c.name for c in classes])
            raise InputError(
                f"{source}: the normal class {normal!r} is not among the classes "
                f"({', '.join(c.name for c in classes)}){hint}; name it with the key "
                '"normal"'
            )
        classes.sort(key=lambda c: c.name != normal)  # stable
        return cls(
            name=_text(value.get("name"), "name", source),
            classes=tuple(classes),
            stride=_integer(value, "stride", FRAMES_PER_SNIPPET, 1, source),
            test_crop=_integer(value, "test_crop", 0, 0, source),
            clip=_text(value.get("clip", ""), "clip", source, empty=True),
        )


def prompt_of(name: str) -> str:
    """Returns the words in a class name: "RoadAccidents" gives "road accidents"."""
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    words = re.sub(r"([A-Z])([A-Z][a-z])", r"\1 \2", words)
    return " ".join(re.sub(r"[\W_]+", " ", words).lower().split()) or name


def folded(name: str) -> str:
    """Returns a class name without what readers overlook: capitals, blanks, width."""
    text = unicodedata.normalize("NFKC", name)
    seen = (c for c in text if unicodedata.category(c) not in ("Cf", "Cc"))
    return "".join("".join(seen).casefold().split())


def near(name: str, known: Sequence[str]) -> str:
    """Returns a hint at the class that may be meant, or ""."""
    alike = [c for c in known if folded(c) == folded(name)]
    alike = alike or difflib.get_close_matches(name, known, 1)
    return f" (did you mean {alike[0]!r}?)" if alike else ""


def infer(labels: Iterable[str], normal: str = "Normal", name: str = "own") -> Card:
    """Makes a card from the labels that occur: normal first, the others by name.

    Where no label is `normal`, one that is but for capitals takes its place.

    Raises:
      InputError: no label is `normal`, there is no other, or two labels are one but
        for capitals, blanks or the width of letters.
    """
    found = sorted(set(labels))
    written: dict[str, str] = {}
    for label in found:
        if (other := written.setdefault(folded(label), label)) != label:
            raise InputError(
                f"{name}: the training list has the labels {other!r} and {label!r}, one "
                "class written in two ways or two classes; write it in one way, or name "
                "both classes in a card.json"
            )
    if normal not in found:
        normal = next((c for c in found if c.lower() == normal.lower()), normal)
    others = [c for c in found if c != normal]
    if not others or normal not in found:
        raise InputError(
            f"{name}: expected videos labelled {normal!r} and at least one other class, "
            f"found {', '.join(found) or 'no label'}; a card.json can give the normal "
            "class another name"
        )
    classes = tuple(ClassCard(c, (prompt_of(c),)) for c in (normal, *others))
    return Card(name, classes)


def _classes(value: Any, source: str) -> list[ClassCard]:
    if not isinstance(value, list) or len(value) < 2:
        raise InputError(
            f'{source}: "classes" must list at least two classes, normal and another, '
            'each as {"name": ..., "prompts": [...]}'
        )
    classes = []
    for item in value:
        if not isinstance(item, Mapping) or set(item) - {"name", "prompts"}:
            raise InputError(
                f'{source}: a class is {{"name": ..., "prompts": [...]}}, '
                f"found {item!r}"
            )
        name = item.get("name")
        name = _text(
            spelt(name) if isinstance(name, str) else name, "a class's name", source
        )
        if set(name) & set("+,\n"):
            raise InputError(
                f"{source}: the class name {name!r} holds '+', ',' or a line break, "
                "which separate labels; choose another"
            )
        prompts = item.get("prompts", [prompt_of(name)])
        good = isinstance(prompts, list) and prompts
        if not good or not all(isinstance(p, str) and p.strip() for p in prompts):
            raise InputError(
                f'{source}: "prompts" of class {name!r} must be a list of at least one '
                f"text, found {prompts!r}"
            )
        classes.append(ClassCard(name, tuple(prompts)))
    name, count = Counter(c.name for c in classes).most_common(1)[0]
    if count > 1:
        raise InputError(f"{source}: class {name!r} is there {count} times; keep one")
    return classes


def _text(value: Any, key: str, source: str, empty: bool = False) -> str:
    if not isinstance(value, str) or not (empty or value.strip()):
        raise InputError(f"{source}: {key} must be a text, found {_kind(value)}")
    return value


def _integer(value: Mapping, key: str, default: int, least: int, source: str) -> int:
    found = value.get(key, default)
    if not isinstance(found, int) or isinstance(found, bool) or found < least:
        raise InputError(
            f'{source}: "{key}" must be a whole number of at least {least}, '
            f"found {found!r}"
        )
    return found


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"{value!r:.60}"


def _card(name: str, test_crop: int, classes: Mapping[str, str]) -> Card:
    cards = tuple(ClassCard(c, (prompt,)) for c, prompt in classes.items())
    return Card(name, cards, test_crop=test_crop)


# The prompts are the released code's own words.
UCF = _card(
    "ucf",
    5,
    {
        "Normal": "normal",
        "Abuse": "abuse",
        "Arrest": "arrest",
        "Arson": "arson",
        "Assault": "assault",
        "Burglary": "burglary",
        "Explosion": "explosion",
        "Fighting": "fighting",
        "RoadAccidents": "roadaccidents",
        "Robbery": "robbery",
        "Shooting": "shooting",
        "Shoplifting": "shoplifting",
        "Stealing": "stealing",
        "Vandalism": "vandalism",
    },
)
XD = _card(
    "xd",
    0,
    {
        "A": "normal",
        "B1": "fighting",
        "B2": "shooting",
        "B4": "riot",
        "B5": "abuse",
        "B6": "car accident",
        "G": "explosion",
    },
)
SHANGHAITECH = _card("shanghaitech", 0, {"Normal": "normal", "Anomaly": "anomaly"})
