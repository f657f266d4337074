"""Readers of ground-truth files: the events of videos, by the videos' names.

The formats are a custom folder's `test_segments.json`, the text files of UCF-Crime,
XD-Violence, MSAD and UBnormal, and masks with one value per frame.
"""

import csv
import dataclasses
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from wsvad_jax.data.feature_files import read_array
from wsvad_jax.data.video_names import video_id
from wsvad_jax.utils import files
from wsvad_jax.utils.errors import InputError

UNITS = ("frames", "seconds")


@dataclasses.dataclass(frozen=True)
class GroundTruth:
    """Events of one video, as a ground-truth file states them."""

    source: str  # the file, for errors
    events: tuple[tuple[int, int, str], ...] = ()  # frames; class "" is the video's own
    frames: int | None = None  # the video's length, where the file has it
    label: str | None = None
    unit: str = "frames"  # as the file states it; "" unstated, taken as frames
    seconds: tuple[tuple[float, float, str], ...] = ()  # events of the unit seconds


def video_name(path: str) -> str:
    """Returns a video's name without folders and extension; names may hold dots."""
    return video_id(path).rpartition("/")[2]


def read_json(path: str | os.PathLike) -> dict[str, GroundTruth]:
    """Reads `[{"video", "label", "segments": [[start, end] or [start, end, class]]}]`.

    `label` and `frames` (the video's length) may be left out; classes may also stand in
    a list `segment_labels` beside `segments`. Times are frames, or what a video's
    `"unit"` says, frames or seconds; the file may also be `{"unit", "videos": [...]}`.

    Raises:
      InputError: not such a file, or an event that is none; names the video.
    """
    # The file's unit is the default of its videos.
    value, unit = files.read_json(path), ""
    if isinstance(value, dict) and set(value) == {"unit", "videos"}:
        value, unit = value["videos"], _unit(value, "", str(path))
    if not isinstance(value, list):
        raise InputError(
            f"{path}: expected a list of videos, one object each, or "
            '{"unit": "seconds", "videos": [...]}'
        )

    truth: dict[str, GroundTruth] = {}
    for item in value:
        if not isinstance(item, dict) or not isinstance(item.get("video"), str):
            raise InputError(
                f'{path}: expected {{"video": ..., "segments": ...}}, found {item!r:.80}'
            )
        where = f"{path}: video {item['video']}"
        if item["video"] in truth:
            raise InputError(f"{where} is there twice; keep one")

        # Optional keys: the video's length and label.
        frames, label = item.get("frames"), item.get("label")
        if frames is not None and not (_is_whole(frames) and frames > 0):
            raise InputError(
                f"{where}: frames must be a whole number, found {frames!r}"
            )
        frames = None if frames is None else int(frames)
        if label is not None and not isinstance(label, str):
            raise InputError(f"{where}: label must be a text, found {label!r:.60}")

        item_unit = _unit(item, unit, where)
        events = _events(item, where, item_unit)
        in_seconds = item_unit == "seconds"
        truth[item["video"]] = GroundTruth(
            str(path),
            events=() if in_seconds else events,
            frames=frames,
            label=label,
            unit=item_unit,
            seconds=events if in_seconds else (),
        )
    return truth


def _unit(item: Mapping[str, Any], default: str, where: str) -> str:
    if odd := [key for key in item if key != "unit" and key.lower()[:4] == "unit"]:
        raise InputError(f'{where}: has the key {odd[0]!r}; expected "unit"')
    unit = item.get("unit", default)
    if unit != default and unit not in UNITS:
        raise InputError(
            f'{where}: "unit" is {unit!r:.60}; expected "frames" or "seconds"'
        )
    return unit


def _events(
    item: Mapping[str, Any], where: str, unit: str
) -> tuple[tuple[Any, Any, str], ...]:
    seconds = unit == "seconds"
    # Floats are usually seconds. They are frames only if the file says so.
    right = {"seconds": _is_number, "frames": _is_whole}.get(unit, _is_int)

    segments = item.get("segments")
    names = item.get("segment_labels")
    if not isinstance(segments, list):
        raise InputError(
            f"{where}: expected a list of segments [start, end], found {segments!r:.60}"
        )
    if names is not None and (
        not isinstance(names, list) or len(names) != len(segments)
    ):
        raise InputError(f"{where}: expected one entry of segment_labels per segment")

    events = []
    for i, segment in enumerate(segments):
        good = isinstance(segment, list) and len(segment) in (2, 3)
        if not good or not all(right(x) for x in segment[:2]):
            hint = ""
            if good and all(_is_number(x) for x in segment[:2]):
                hint = '; if they are seconds, add "unit": "seconds"'
                if all(map(_is_whole, segment[:2])):
                    hint += ', if frames "unit": "frames"'
            raise InputError(
                f"{where}: a segment is [start, end] or [start, end, class] in "
                f"{'seconds' if seconds else 'whole frames'}, found "
                f"{segment!r:.60}{hint}"
            )

        name = segment[2] if len(segment) == 3 else (names[i] if names else "")
        if not isinstance(name, str):
            raise InputError(f"{where}: a segment's class is a text, found {name!r}")
        start, end = map(float if seconds else int, segment[:2])
        events.append(_checked_event(start, end, name, where, seconds))
    return tuple(events)


def read_ucf(path: str | os.PathLike) -> dict[str, GroundTruth]:
    """Reads UCF-Crime's text: name, class, start, end, start, end; -1 for none.

    Raises:
      InputError: a line of another form.
    """
    truth: dict[str, GroundTruth] = {}
    for where, name, rest in _numbered_lines(path):
        form = "name class start end start end"
        if len(rest) % 2 == 0:
            raise InputError(f"{where}: expected {form}")

        # Unused pairs of the line are -1 -1.
        numbers = _parse_ints(rest[1:], where, form)
        pairs = zip(numbers[::2], numbers[1::2], strict=True)
        events = [
            _checked_event(s, e, rest[0], where) for s, e in pairs if (s, e) != (-1, -1)
        ]
        _add_once(
            truth, name, GroundTruth(str(path), tuple(events), label=rest[0]), where
        )
    return truth


def read_xd(path: str | os.PathLike) -> dict[str, GroundTruth]:
    """Reads XD-Violence's text: name, then start, end (or class, start, end) again.

    Events without class take the label of their video.

    Raises:
      InputError: a line of another form.
    """
    truth: dict[str, GroundTruth] = {}
    for where, name, rest in _numbered_lines(path):
        form = "name, then start end or class start end for each event"

        # The multi-class file has a class before each pair of numbers.
        if rest and not rest[0].lstrip("-").isdigit():
            names, starts, ends = rest[::3], rest[1::3], rest[2::3]
            if len(rest) % 3:
                raise InputError(f"{where}: expected {form}")
        else:
            names, starts, ends = [""] * (len(rest) // 2), rest[::2], rest[1::2]

        starts, ends = _parse_ints(starts, where, form), _parse_ints(ends, where, form)
        if not len(names) == len(starts) == len(ends):
            raise InputError(f"{where}: expected {form}")
        rows = zip(starts, ends, names, strict=True)
        events = [_checked_event(s, e, c, where) for s, e, c in rows]
        _add_once(truth, name, GroundTruth(str(path), tuple(events)), where)
    return truth


def read_masks(
    folder: str | os.PathLike, videos: Iterable[str]
) -> dict[str, GroundTruth]:
    """Reads frame masks FOLDER/VIDEO.npy, with a 0 or 1 per frame.

    Videos without such a file are left out.

    Raises:
      InputError: a file that is no such mask.
    """
    truth = {}
    for video in videos:
        path = pathlib.Path(folder) / f"{video}.npy"
        if not path.is_file():
            continue
        mask = read_array(path, "biuf")
        if mask.ndim != 1 or not len(mask) or not np.isin(mask, (0, 1)).all():
            raise InputError(f"{path}: expected a 0 or 1 per frame, found {mask.shape}")

        # An event starts where the padded mask rises, and ends where it falls.
        padded = np.concatenate([[0], mask.astype(np.int8), [0]])
        starts, ends = (np.flatnonzero(np.diff(padded) == d) for d in (1, -1))
        events = tuple((int(s), int(e), "") for s, e in zip(starts, ends, strict=True))
        truth[video] = GroundTruth(str(path), events, len(mask))
    return truth


MSAD_COLUMNS = (
    "name",
    "total frames",
    "starting frame of anomaly",
    "ending frame of anomaly",
)


def read_msad(path: str | os.PathLike) -> dict[str, GroundTruth]:
    """Reads MSAD's table: one line per abnormal video, with one event each.

    Frames are counted from 1, and the last frame belongs to the event. A video's class
    is in its name, as in `Fire_2`.

    Raises:
      InputError: a missing column, or a line of another form.
    """
    lines = read_text(path).splitlines()
    separator = "\t" if lines and "\t" in lines[0] else ","
    rows = csv.DictReader(lines, delimiter=separator)
    if missing := [c for c in MSAD_COLUMNS if c not in (rows.fieldnames or ())]:
        raise InputError(
            f"{path}: no column {missing[0]!r} in line 1; expected MSAD's "
            f"{', '.join(MSAD_COLUMNS)}"
        )

    truth: dict[str, GroundTruth] = {}
    for row in rows:
        where = f"{path}:{rows.line_num}"
        name, *words = (str(row[column] or "").strip() for column in MSAD_COLUMNS)
        frames, start, end = _parse_ints(words, where, "whole frames in MSAD's columns")
        if end > frames:
            raise InputError(f"{where}: the event ends at {end} of {frames} frames")

        event = _checked_event(start - 1, end, "", where)
        _add_once(
            truth, video_name(name), GroundTruth(str(path), (event,), frames), where
        )
    return truth


def read_ubnormal_tracks(
    folder: str | os.PathLike, videos: Iterable[str]
) -> dict[str, GroundTruth]:
    """Reads UBnormal's tracks, VIDEO_tracks.txt, anywhere under a folder.

    A line is object, first frame, last frame: counted from 0, the last included. Events
    that overlap are one. Normal videos have no such file, and are left without events.

    Raises:
      InputError: an abnormal video without its file, two files of one name, or a line
        of another form.
    """
    found: dict[str, pathlib.Path] = {}
    for path in sorted(pathlib.Path(folder).rglob("*_tracks.txt")):
        video = path.name.removesuffix("_tracks.txt")
        if video in found:
            raise InputError(f"{found[video]} and {path} have one name; keep one")
        found[video] = path

    truth = {}
    for video in videos:
        if video.startswith("normal_"):
            truth[video] = GroundTruth(str(folder))
            continue
        if video not in found:
            raise InputError(
                f"{folder}: no file {video}_tracks.txt in it or below; get UBnormal's "
                "annotations of the test videos"
            )
        truth[video] = GroundTruth(str(found[video]), _tracks(found[video]))
    return truth


def _tracks(path: pathlib.Path) -> tuple[tuple[int, int, str], ...]:
    """Returns the events of a file of tracks, joined where they overlap."""
    form = "object, first frame, last frame"
    spans = []
    for i, line in enumerate(read_text(path).splitlines(), 1):
        words = line.replace(",", " ").split()
        if not words:
            continue
        if len(words) != 3:
            raise InputError(f"{path}:{i}: expected {form}")
        # The released files write whole numbers as floats.
        numbers = [word.removesuffix(".0") for word in words]
        _, first, last = _parse_ints(numbers, f"{path}:{i}", form)
        spans.append(_checked_event(first, last + 1, "", f"{path}:{i}"))
    if not spans:
        raise InputError(f"{path}: no track; expected {form} per line")

    joined: list[tuple[int, int, str]] = []
    for start, end, _ in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end), "")
        else:
            joined.append((start, end, ""))
    return tuple(joined)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    """Whether a number is whole, also where a program wrote it as a float."""
    return _is_number(value) and float(value).is_integer()


def _is_number(value: Any) -> bool:
    return (_is_int(value) or isinstance(value, float)) and abs(value) < 1e15


def _checked_event(
    start: Any, end: Any, name: str, where: str, seconds: bool = False
) -> tuple[Any, Any, str]:
    if not 0 <= start < end:
        raise InputError(
            f"{where} has the segment [{start}, {end}]; expected 0 <= start < end in "
            f"{'seconds' if seconds else 'frames'}"
        )
    return start, end, name


def _numbered_lines(path: str | os.PathLike) -> list[tuple[str, str, list[str]]]:
    rows = []
    for i, line in enumerate(read_text(path).splitlines(), 1):
        if words := line.split():
            rows.append((f"{path}:{i}", video_name(words[0]), words[1:]))
    return rows


def read_text(path: str | os.PathLike) -> str:
    """Reads a text file.

    Raises:
      InputError: the file is missing or is not text.
    """
    try:
        return files.read_text(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except UnicodeDecodeError:
        raise InputError(
            f"{path}: expected a text file in UTF-8; save it as such (spreadsheets call "
            "it CSV UTF-8)"
        ) from None


def _parse_ints(words: Sequence[str], where: str, form: str) -> list[int]:
    try:
        return [int(word) for word in words]
    except ValueError:
        raise InputError(f"{where}: expected {form}") from None


def _add_once(
    truth: dict[str, GroundTruth], name: str, value: GroundTruth, where: str
) -> None:
    if name in truth:
        raise InputError(f"{where}: video {name} is there twice; keep one line")
    truth[name] = value
