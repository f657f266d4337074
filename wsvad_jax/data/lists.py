"""Lists of a folder of one's own: `video,label` lines, several labels joined by '+'.

A video is named by its path below videos/ or features/, with or without its extension,
with `/` or `\\` between folders (`data.names`).
"""

import csv
import dataclasses
import pathlib
import re
from collections.abc import Mapping, Sequence

from wsvad_jax.data import annotations
from wsvad_jax.data.cards import Card
from wsvad_jax.data.features import Problems
from wsvad_jax.data.names import EXTENSIONS, plain, spelt, video_id
from wsvad_jax.errors import InputError

__all__ = ["EXTENSIONS", "Row", "label_of", "read_list", "read_lists", "video_id"]

SPLITS = ("train", "test")


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of a list."""

    where: str
    video: str
    labels: tuple[str, ...]


def read_lists(folder: pathlib.Path) -> dict[str, list[Row]]:
    """Reads train.csv and test.csv of a folder; see `read_list`."""
    return {split: read_list(folder / f"{split}.csv") for split in SPLITS}


def read_list(path: pathlib.Path) -> list[Row]:
    """Reads `video,label` lines; a ';' may stand for each ',', as spreadsheets save it.

    Raises:
      InputError: no such file, no header, or a line of another form.
    """
    text = annotations.files_text(path).splitlines()
    first = text[0] if text else ""
    delimiter = ";" if ";" in first and "," not in first else ","
    try:
        lines = list(csv.reader(text, delimiter=delimiter))
    except csv.Error as e:
        raise InputError(f"{path}: cannot be read as CSV ({e})") from None
    header = [word.strip() for word in lines[0]] if lines else []
    if header != ["video", "label"]:
        found = f"it begins with {','.join(header)!r:.60}" if header else "it is empty"
        raise InputError(
            f"{path}: expected the header video,label in line 1, but {found}"
        )
    rows = []
    for i, words in enumerate(lines[1:], 2):
        words = [word.strip() for word in words]
        if any(words):
            rows.append(_row(f"{path}:{i}", words))
    if not rows:
        raise InputError(f"{path}: the list names no video")
    return rows


def _row(where: str, words: Sequence[str]) -> Row:
    if len(words) != 2 or not all(words):
        raise InputError(
            f"{where}: expected video,label, found {','.join(words)!r:.80}"
        )
    video, label = plain(words[0]), words[1]
    out = ".." in pathlib.PurePosixPath(video).parts or video.startswith("/")
    if out or re.match("[A-Za-z]:/", video):
        raise InputError(
            f"{where}: {words[0]!r} is a path out of the folder; expected the path below "
            "videos/ or features/"
        )
    labels = tuple(dict.fromkeys(spelt(part) for part in label.split("+")))
    if not all(labels):
        raise InputError(
            f"{where}: the label {label!r} has nothing on one side of a '+'; expected "
            "class names joined by '+'"
        )
    return Row(where, video_id(video), labels)


def without_doubles(
    lists: Mapping[str, Sequence[Row]], problems: Problems
) -> dict[str, list[Row]]:
    """Reports videos that are named twice, in one list or in both; the first stays."""
    seen: dict[str, str] = {}
    kept: dict[str, list[Row]] = {split: [] for split in lists}
    for split, rows in lists.items():
        for row in rows:
            if row.video not in seen:
                seen[row.video] = row.where
                kept[split].append(row)
                continue
            problems(
                InputError(
                    f"{row.where}: video {row.video} is already in {seen[row.video]}; "
                    "keep it in one place"
                )
            )
    return kept


def label_of(row: Row, card: Card) -> tuple[int, ...]:
    """Returns a row's classes.

    Raises:
      InputError: a label that no class has, or normal beside another.
    """
    try:
        label = tuple(sorted(card.index(name) for name in row.labels))
    except InputError as e:
        raise InputError(f"{row.where}: video {row.video} has the {e}") from None
    if 0 in label and len(label) > 1:
        raise InputError(
            f"{row.where}: video {row.video} is labelled {'+'.join(row.labels)}, normal "
            "and not; keep one"
        )
    return label
