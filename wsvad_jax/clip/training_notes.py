"""Training notes: what a CLIP model was trained on, where that limits what it knows.

A snapshot's config.json may hold `training_note`, a fragment of a sentence such as
"trained on rendered streets only; it knows nothing of real video". It is kept with the
settings of each tower. A tower with random weights has the note `RANDOM_WEIGHTS`,
whatever its config.json says. Models of the hub have no note.

`clip_note` is the one line that programs, pages and files show. All files name it
`clip_note`.
"""

import contextlib
import contextvars
import pathlib
import re
import sys
from collections.abc import Iterator, Mapping

from wsvad_jax.clip.identity import RANDOM, TRAINING_NOTE
from wsvad_jax.utils import files
from wsvad_jax.utils.errors import printable
from wsvad_jax.utils.json_shapes import PrintableText, Shape, check_shape

RANDOM_WEIGHTS = "random weights; it knows no pictures and no words"
# Said of prompts that such a tower reads.
NO_MEANING = ", so names of classes carry no meaning"

# Towers with random weights that older versions stored without settings: the CLIP model
# of the demo dataset, and those of the package's cache.
RANDOM_HASHES = ("9a76bf077ca9",)
RANDOM_NAMES = re.compile(r"random-\d+@[0-9a-f]+")

# Lines that the running command has shown; None outside of `shown_once`.
_shown: contextvars.ContextVar[set[str] | None] = contextvars.ContextVar(
    "shown", default=None
)


class _Config(Shape):
    """The part of a snapshot's config.json that is read here."""

    training_note: PrintableText = ""


def read_training_note(folder: pathlib.Path) -> str:
    """Returns the training note in a snapshot's config.json, "" if there is none.

    Raises:
      InputError: the note is not one printable line.
    """
    path = folder / "config.json"
    config = check_shape(
        _Config, files.read_json(path), path, "write one short line, or remove it"
    )
    return config.training_note.strip().rstrip(".")


def training_note(name: str, settings: object) -> str:
    """Returns the training note of a stored tower, "" if it has none.

    Args:
      name: NAME@HASH of an image tower, or name of a text tower.
      settings: settings of the tower, see `clip.identity`; empty or None in files of
        older versions, and for encoders other than CLIP.
    """
    # Settings may come from a file of anybody.
    settings = settings if isinstance(settings, Mapping) else {}
    if settings.get(RANDOM) or name == "random":
        return RANDOM_WEIGHTS
    if settings:
        note = settings.get(TRAINING_NOTE, "")
        return note if isinstance(note, str) and note.isprintable() else ""

    # Without settings, the hash or the name alone marks a random tower.
    known = name.rpartition("@")[2].startswith(RANDOM_HASHES)
    return RANDOM_WEIGHTS if known or RANDOM_NAMES.fullmatch(name) else ""


def clip_note(
    features: tuple[str, object] | None = None,
    prompts: tuple[str, object] | None = None,
) -> str | None:
    """Returns the line about the CLIP models in use; None if none has a training note.

    Args:
      features: NAME@HASH and settings of the image tower; None without features.
      prompts: name and settings of the text tower; None without prompts or queries.
    """
    image, text = (training_note(*t) if t else "" for t in (features, prompts))
    meaning = NO_MEANING if text == RANDOM_WEIGHTS else ""
    # A folder's name may hold anything.
    name = f" ({printable(features[0])})" if features and features[0] else ""

    # One sentence if both towers have the same note, as those of one snapshot.
    if image and image == text:
        return f"CLIP model of the features and prompts{name}: {image}{meaning}"

    notes = []
    if image:
        notes.append(f"CLIP model of the features{name}: {image}")
    if text:
        notes.append(f"text tower of the prompts: {text}{meaning}")
    return "; ".join(notes) or None


def show(note: str | None, hint: str = "") -> None:
    """Prints a `clip_note` on standard error; None prints nothing.

    Args:
      note: the line.
      hint: what the user can do about it, which follows the line.
    """
    shown = _shown.get()
    if not note or (shown is not None and note in shown):
        return
    print(f"note: {note}{hint}", file=sys.stderr)
    if shown is not None:
        shown.add(note)


@contextlib.contextmanager
def shown_once() -> Iterator[None]:
    """Has `show` print each line once, where one command opens a model repeatedly."""
    token = _shown.set(set())
    try:
        yield
    finally:
        _shown.reset(token)
