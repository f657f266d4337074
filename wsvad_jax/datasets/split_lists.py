"""Lists of a custom folder: `video,label` lines, several labels joined by '+'.

A video's name is its path below videos/ or features/, with or without its extension,
with `/` or `\\` between folders (`data.video_names`).
"""

import csv
import dataclasses
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from wsvad_jax.data.cards import Card
from wsvad_jax.data.feature_files import ErrorCollector
from wsvad_jax.data.video_names import (
    EXTENSIONS,
    normalize_label,
    normalize_name,
    video_id,
)
from wsvad_jax.datasets import ground_truth
from wsvad_jax.utils.errors import InputError

__all__ = [
    "EXTENSIONS",
    "ListEntry",
    "class_indices",
    "read_list",
    "read_lists",
    "video_id",
]

SPLITS = ("train", "test")
# Quotes and separators of other file formats, which no label has.
INVALID_IN_LABEL = frozenset('",;\t\u201c\u201d\u201e\u00ab\u00bb')


@dataclasses.dataclass(frozen=True)
class ListEntry:
    """A line of a list."""

    where: str  # file and line number, for messages
    video: str
    labels: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class OwnLists:
    """The lists of a custom folder, which the user wrote or `own_lists` made."""

    lists: dict[str, list[ListEntry]]  # by split
    is_split: bool = False  # whether the lists are those of a random split
    remarks: Sequence[str] = ()
    record: Mapping[str, Any] | None = None  # of a split that is to be written


def read_lists(
    folder: pathlib.Path, columns: Sequence[str | None] = (None, None)
) -> dict[str, list[ListEntry]]:
    """Reads train.csv and test.csv of a folder; see `read_list`."""
    return {split: read_list(folder / f"{split}.csv", columns) for split in SPLITS}


def read_list(
    path: pathlib.Path, columns: Sequence[str | None] = (None, None)
) -> list[ListEntry]:
    """Reads the lines of a list, of which two columns count.

    Fields may be in double quotes. The separator is that of the header: ',', or as some
    spreadsheets write it ';' or a tab. The header may have capitals.

    Args:
      path: list with a header.
      columns: names of the videos' and the labels' column; None is video and label.

    Raises:
      InputError: no such file, no header, no such column, or a line of another form.
    """
    lines = csv_lines(path)
    header = lines[0][1] if lines and lines[0][0] == 1 else []
    if not header:
        raise InputError(
            f"{path}: expected the header video,label in line 1, but it is empty"
        )
    places = [
        list_column(path, header, kind, name)
        for kind, name in zip(("video", "label"), columns, strict=True)
    ]

    rows = []
    for i, words in lines[1:]:
        if words == header:
            raise InputError(f"{path}:{i}: the header is repeated; remove this line")
        if len(words) != len(header):
            raise InputError(
                f"{path}:{i}: expected {','.join(header):.60}, found "
                f"{','.join(words)!r:.80}"
            )
        rows.append(parse_entry(f"{path}:{i}", [words[place] for place in places]))
    if not rows:
        raise InputError(f"{path}: the list names no video")
    return rows


def list_column(
    path: pathlib.Path, header: Sequence[str], kind: str, name: str | None
) -> int:
    """Returns the index of a list's column.

    Args:
      path: file of the header.
      header: names of the columns.
      kind: what the column holds, which is its name by default.
      name: name that the user gave; None is the default.

    Raises:
      InputError: no such column, or two of that name; names the flags.
    """
    try:
        return find_column(path, header, name or kind)
    except MissingColumn as e:
        columns = ", ".join(header)
        if name is not None:
            raise InputError(f"--{kind}_column {name}: {e}") from None
        raise InputError(
            f"{path}: expected the header video,label in line 1, but its columns are "
            f"{columns:.120}; pass --video_column and --label_column with the names of "
            "two of them, or add the header"
        ) from None


class MissingColumn(InputError):
    """A header without a column that is needed."""


def find_column(path: pathlib.Path, header: Sequence[str], name: str) -> int:
    """Returns the index of a column; capitals count only where they decide.

    Raises:
      MissingColumn: no such column.
      InputError: two columns of that name.
    """
    exact = [i for i, word in enumerate(header) if word == name.strip()]
    folded = [i for i, w in enumerate(header) if w.lower() == name.strip().lower()]
    found = exact or folded
    columns = f"{', '.join(header):.120}"
    if not found:
        raise MissingColumn(
            f"{path}: line 1 has no column {name}; its columns are {columns}"
        )
    if len(found) > 1:
        raise InputError(
            f"{path}: line 1 names the column {name} {len(found)} times ({columns}); "
            "expected it once"
        )
    return found[0]


def csv_lines(path: pathlib.Path) -> list[tuple[int, list[str]]]:
    """Returns the fields of each line that isn't blank, with its line number.

    Raises:
      InputError: an unclosed quote, a quote beside other text, or control characters.
    """
    text = ground_truth.read_text(path).split("\n")
    marks = [mark for mark in ";\t" if mark in text[0] and "," not in text[0]]

    # Line by line, so that an unclosed quote is reported where it begins.
    lines = []
    for i, line in enumerate(text, 1):
        if control := next((c for c in line if c < " " and c != "\t"), ""):
            raise InputError(
                f"{path}:{i}: holds the character {control!r}; save it as plain text"
            )
        try:
            words = next(
                csv.reader(
                    [line],
                    delimiter=marks[0] if marks else ",",
                    skipinitialspace=True,
                    strict=True,
                ),
                [],
            )
        except csv.Error as e:
            raise InputError(
                f"{path}:{i}: the quotes cannot be read ({e}), found {line!r:.80}; a "
                "field is quoted as a whole or not at all, in one line"
            ) from None

        words = [word.strip() for word in words]
        if any(words):
            lines.append((i, words))
    return lines


def parse_entry(where: str, words: Sequence[str]) -> ListEntry:
    if len(words) != 2 or not all(words):
        raise InputError(
            f"{where}: expected video,label, found {','.join(words)!r:.80}"
        )

    # Names are relative to the folder, whatever system wrote them.
    video, label = normalize_name(words[0]), words[1]
    out = ".." in pathlib.PurePosixPath(video).parts or video.startswith("/")
    if out or re.match("[A-Za-z]:/", video):
        raise InputError(
            f"{where}: {words[0]!r} is a path out of the folder; expected the path below "
            "videos/ or features/"
        )
    if video.startswith("# "):
        raise InputError(f"{where}: comments are not supported; remove this line")

    # A wrong separator or quote would otherwise become part of a class name.
    if odd := [c for c in label if c in INVALID_IN_LABEL]:
        raise InputError(
            f"{where}: the label {label!r} holds {odd[0]!r}; expected class names "
            "joined by '+', in double quotes or none"
        )
    labels = tuple(dict.fromkeys(normalize_label(part) for part in label.split("+")))

    if not all(labels):
        raise InputError(
            f"{where}: the label {label!r} has nothing on one side of a '+'; expected "
            "class names joined by '+'"
        )
    return ListEntry(where, entry_video_id(video), labels)


def entry_video_id(name: str) -> str:
    """Returns the name of the video in an entry, which may be its feature file a.npy."""
    return video_id(name[:-4] if name.lower().endswith(".npy") else name)


def drop_duplicates(
    lists: Mapping[str, Sequence[ListEntry]], problems: ErrorCollector
) -> dict[str, list[ListEntry]]:
    """Keeps the first entry of each video; later ones, in either list, are errors."""
    seen: dict[str, str] = {}
    kept: dict[str, list[ListEntry]] = {split: [] for split in lists}

    # Across both splits: a video in both would be train/test leakage.
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


def class_indices(row: ListEntry, card: Card) -> tuple[int, ...]:
    """Returns the class indices of an entry, in order.

    Raises:
      InputError: an unknown label, or normal together with another.
    """
    try:
        label = tuple(sorted(card.index(name) for name in row.labels))
    except InputError as e:
        raise InputError(f"{row.where}: video {row.video} has the {e}") from None

    # Class 0 is normal, which excludes all others.
    if 0 in label and len(label) > 1:
        raise InputError(
            f"{row.where}: video {row.video} is labelled {'+'.join(row.labels)}, normal "
            "and not; keep one"
        )
    return label
