"""Dataset cards: classes and conventions that released code hard-codes, as data.

A card holds the classes (normal first), their prompts for the text tower, the crop that
tests score and the frames per snippet. A dataset of your own needs a card
(`card.json`), and no code.
"""

import dataclasses
import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from wsvad_jax.data.records import FRAMES_PER_SNIPPET
from wsvad_jax.data.video_names import normalize_label
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.json_shapes import (
    Count,
    Number,
    PositiveCount,
    Shape,
    Text,
    check_shape,
    expected,
)

FORM = (
    'a card is {"name": ..., "classes": [{"name": ..., "prompts": [...]}, ...], '
    '"normal": ..., "stride": ..., "test_crop": ..., "clip": ..., "fps": ...} with at '
    "least two classes, one of them normal"
)


@dataclasses.dataclass(frozen=True)
class ClassCard:
    """A class with its prompts, whose text features are averaged."""

    name: str
    prompts: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Card:
    """Classes of a dataset, and the conventions of its features."""

    name: str
    classes: tuple[ClassCard, ...]  # normal first
    stride: int = FRAMES_PER_SNIPPET  # frames per snippet
    test_crop: int = 0  # index of the crop that tests score
    clip: str = ""  # hub name or folder of the features' CLIP snapshot; "" unknown
    fps: float | None = None  # frames per second of all videos; None unknown

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
                f"label {name!r} that no class has"
                f"{suggest_class(name, self.class_names)}; the classes of {self.name} "
                f"are {', '.join(self.class_names)}; correct the label or add a class "
                "to the card"
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
            # Older versions refuse the key, so it is written only where it is known.
            **({"fps": self.fps} if self.fps else {}),
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
        """Reads the content of a `card.json`.

        `prompts`, `stride`, `test_crop`, `clip` and `fps` are optional. The class that
        `normal` names (default "Normal") becomes class 0; the others keep their order.

        Args:
          value: JSON value of the file.
          source: name of the file in errors.
          labels: classes, if the file has no key `classes`.
          defaults: values of other keys that the file may lack.

        Raises:
          InputError: a key is missing, unknown or has an invalid value.
        """
        merged = {**(defaults or {}), **value} if isinstance(value, Mapping) else value
        shape = check_shape(_CardShape, merged, source, FORM)

        # The file's classes take precedence over those of the training list.
        normal = shape.normal
        if shape.classes:
            classes = [_class_card(c) for c in shape.classes]
            _check_duplicates(classes, source)
        elif labels:
            classes = list(infer_card(labels, normal, source).classes)
            normal = classes[0].name
        else:
            raise InputError(f"{source}: the key classes is missing; {FORM}")

        if normal not in [c.name for c in classes]:
            hint = suggest_class(normal, [c.name for c in classes])
            raise InputError(
                f"{source}: the normal class {normal!r} is not among the classes "
                f"({', '.join(c.name for c in classes)}){hint}; name it with the key "
                '"normal"'
            )

        # Stable: only the normal class moves.
        classes.sort(key=lambda c: c.name != normal)
        return cls(
            name=shape.name,
            classes=tuple(classes),
            stride=shape.stride,
            test_crop=shape.test_crop,
            clip=shape.clip,
            fps=shape.fps,
        )


def words_of_class(name: str) -> str:
    """Returns the words in a class name: "RoadAccidents" gives "road accidents"."""
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    words = re.sub(r"([A-Z])([A-Z][a-z])", r"\1 \2", words)
    return " ".join(re.sub(r"[\W_]+", " ", words).lower().split()) or name


def fold_class_name(name: str) -> str:
    """Returns a class name without case, blanks and letter width, for comparisons."""
    # NFKC: full-width letters become plain ones. Cf and Cc are invisible characters.
    text = unicodedata.normalize("NFKC", name)
    seen = (c for c in text if unicodedata.category(c) not in ("Cf", "Cc"))
    return "".join("".join(seen).casefold().split())


def suggest_class(name: str, known: Sequence[str]) -> str:
    """Returns a suggestion for a misspelled class name, or ""."""
    by_fold = {fold_class_name(c): c for c in known}
    alike = difflib.get_close_matches(fold_class_name(name), by_fold, 1)
    return f" (did you mean {by_fold[alike[0]]!r}?)" if alike else ""


def infer_card(
    labels: Iterable[str], normal: str = "Normal", name: str = "own"
) -> Card:
    """Returns a card with the labels as classes: normal first, the others sorted.

    Without a label `normal`, one that differs only in case is the normal class.

    Raises:
      InputError: no label is `normal`, no other label exists, or two labels differ only
        in case, blanks or letter width.
    """
    names = sorted(set(labels))

    # Two spellings are usually a mistake, and would train two classes silently.
    spellings: dict[str, str] = {}
    for label in names:
        if (other := spellings.setdefault(fold_class_name(label), label)) != label:
            raise InputError(
                f"{name}: the training list has the labels {other!r} and {label!r}, one "
                "class written in two ways or two classes; write it in one way, or name "
                "both classes in a card.json"
            )

    if normal not in names:
        normal = next((c for c in names if c.lower() == normal.lower()), normal)
    others = [c for c in names if c != normal]
    if not others or normal not in names:
        raise InputError(
            f"{name}: expected videos labelled {normal!r} and at least one other class, "
            f"found {', '.join(names) or 'no label'}; a card.json can give the normal "
            "class another name"
        )

    classes = tuple(ClassCard(c, (words_of_class(c),)) for c in (normal, *others))
    return Card(name, classes)


def _check_duplicates(classes: Sequence[ClassCard], source: str) -> None:
    name, count = Counter(c.name for c in classes).most_common(1)[0]
    if count > 1:
        raise InputError(
            f"{source}: duplicate class {name!r}, there {count} times; keep one"
        )


def _filled(text: str) -> str:
    if not text.strip():
        raise expected("a text")
    return text


def _class_name(text: str) -> str:
    name = _filled(normalize_label(text))
    if set(name) & set("+,\n"):
        raise expected("without '+', ',' and line breaks, which separate labels")
    return name


def _frame_rate(value: float) -> float:
    if value <= 0:
        raise expected("frames per second, more than 0")
    return value


FilledText = Annotated[Text, AfterValidator(_filled)]


class _ClassShape(Shape, extra="forbid"):
    name: Annotated[Text, AfterValidator(_class_name)]
    prompts: list[FilledText] = Field(default=[], min_length=1)


class _CardShape(Shape, extra="forbid"):
    name: FilledText
    classes: list[_ClassShape] = Field(default=[], min_length=2)  # [] if left out
    normal: Annotated[Text, AfterValidator(normalize_label)] = "Normal"
    stride: PositiveCount = FRAMES_PER_SNIPPET
    test_crop: Count = 0
    clip: Text = ""
    fps: Annotated[Number, AfterValidator(_frame_rate)] | None = None


def _class_card(shape: _ClassShape) -> ClassCard:
    return ClassCard(shape.name, tuple(shape.prompts) or (words_of_class(shape.name),))


def _card(name: str, test_crop: int, classes: Mapping[str, str]) -> Card:
    cards = tuple(ClassCard(c, (prompt,)) for c, prompt in classes.items())
    return Card(name, cards, test_crop=test_crop)


# The prompts are those of the released code.
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
MSAD = _card(
    "msad",
    0,
    {
        "Normal": "normal",
        "Assault": "assault",
        "Explosion": "explosion",
        "Fighting": "fighting",
        "Fire": "fire",
        "Object_falling": "object falling",
        "People_falling": "people falling",
        "Robbery": "robbery",
        "Shooting": "shooting",
        "Traffic_accident": "traffic accident",
        "Vandalism": "vandalism",
        "Water_incident": "water incident",
    },
)
UBNORMAL = _card("ubnormal", 0, {"Normal": "normal", "Anomaly": "anomaly"})
