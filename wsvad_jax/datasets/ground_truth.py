"""Truth files to events, always keyed by the video's name.

Readers: a folder's own `test_segments.json`, UCF-Crime's and XD-Violence's text, frame
masks. `settle` then holds a video's events against its features: the truth of a video
is its feature length times the stride, and a length that disagrees is an error.
"""

import dataclasses
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from wsvad_jax.data.cards import Card, suggest_class
from wsvad_jax.data.feature_files import array_of
from wsvad_jax.data.video_names import normalize_label, video_id
from wsvad_jax.utils import files
from wsvad_jax.utils.errors import InputError

UNITS = ("frames", "seconds")


@dataclasses.dataclass(frozen=True)
class GroundTruth:
    """What a truth file says of one video."""

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
        frames, label = item.get("frames"), item.get("label")
        if frames is not None and not (_is_whole(frames) and frames > 0):
            raise InputError(
                f"{where}: frames must be a whole number, found {frames!r}"
            )
        frames = None if frames is None else int(frames)
        if label is not None and not isinstance(label, str):
            raise InputError(f"{where}: label must be a text, found {label!r:.60}")
        taken = _unit(item, unit, where)
        events = _events(item, where, taken)
        parts = ((), events) if taken == "seconds" else (events, ())
        truth[item["video"]] = GroundTruth(
            str(path), parts[0], frames, label, taken, parts[1]
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
    # Floats are seconds as a rule: they are frames only where the file says so.
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
        raise InputError(f"{where}: expected one entry of segment_labels a segment")
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

    Without classes an event takes the video's own (see `settle`).

    Raises:
      InputError: a line of another form.
    """
    truth: dict[str, GroundTruth] = {}
    for where, name, rest in _numbered_lines(path):
        form = "name, then start end or class start end for each event"
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
    """Reads frame masks FOLDER/VIDEO.npy, one 0 or 1 a frame, where there is one.

    Raises:
      InputError: a file that is no such mask.
    """
    truth = {}
    for video in videos:
        path = pathlib.Path(folder) / f"{video}.npy"
        if not path.is_file():
            continue
        mask = array_of(path, "biuf")
        if mask.ndim != 1 or not len(mask) or not np.isin(mask, (0, 1)).all():
            raise InputError(f"{path}: expected one 0 or 1 a frame, found {mask.shape}")
        padded = np.concatenate([[0], mask.astype(np.int8), [0]])
        starts, ends = (np.flatnonzero(np.diff(padded) == d) for d in (1, -1))
        events = tuple((int(s), int(e), "") for s, e in zip(starts, ends, strict=True))
        truth[video] = GroundTruth(str(path), events, len(mask))
    return truth


def align_ground_truth(
    truth: GroundTruth | None,
    video: str,
    label: Sequence[int],
    num_snippets: int,
    card: Card,
    *,
    num_frames: int = 0,
    slack: int = 0,
    strict: bool = True,
) -> tuple[tuple[tuple[int, int, int], ...], list[str]]:
    """Returns a test video's events (start, end, class), clipped, and remarks.

    The video has `num_snippets * card.stride` frames, or `num_frames` where known (not
    0). With `strict`, events keep within the snippets (or the length that the file
    gives) and have the video's labels, as a file made for these features should.
    Without, as for public files made for videos, an event may end in the snippet that
    features cut off, and a class that the labels lack, or that the file does not tell,
    is remarked. `slack` snippets more may be missing, which is remarked.

    Raises InputError, naming the video, where lengths, classes or labels disagree.
    """
    frames = num_frames or num_snippets * card.stride
    if truth is None:
        if any(label):
            raise InputError(
                f"video {video} is labelled {_label_text(label, card)}, but no truth file "
                "has it; add its segments"
            )
        return (), []
    where, T, events = f"{truth.source}: video {video}", num_snippets, []
    remarks = _check_length(truth, where, T, card.stride, slack, strict)
    for event in truth.events:
        c, remark = _event_class(event, label, where, frames, card, strict)
        remarks += remark
        if c and event[0] < frames:
            events.append((event[0], min(event[1], frames), c))
        if frames < event[1] <= T * card.stride:
            remarks.append(f"{where} has an event past its {frames} frames; clipped")
    if any(label) and not events:
        raise InputError(
            f"{where} is labelled {_label_text(label, card)}, but has no event within its "
            f"{frames} frames; add its segments"
        )
    untold = not all(name for *_, name in truth.events)
    if not strict and untold and sum(map(bool, label)) > 1:
        remarks.append(
            f"{where} has several labels and events without class, which take the first"
        )
    return tuple(events), remarks


def _event_class(
    event: tuple[int, int, str],
    label: Sequence[int],
    where: str,
    frames: int,
    card: Card,
    strict: bool,
) -> tuple[int, list[str]]:
    """Returns an event's class, held against the video's labels, and remarks."""
    start, end, name = event[0], event[1], normalize_label(event[2])
    c = _class_index(name, label, where, card, strict)
    # Released files give a normal video one segment, the whole of it.
    whole = start == 0 and end > frames - card.stride
    if not (c or any(label) or name or whole):
        raise InputError(
            f"{where} is labelled {card.class_names[0]}, but has the event "
            f"[{start}, {end}]; correct its label or take the event out"
        )
    if not c or c in label:
        return c, []
    text = f"{where} is labelled {_label_text(label, card)}, but has an event of class "
    text += card.class_names[c]
    if strict or not any(label):
        raise InputError(f"{text}; correct one of them")
    return c, [text]


def _check_length(
    truth: GroundTruth,
    where: str,
    num_snippets: int,
    stride: int,
    slack: int,
    strict: bool,
) -> list[str]:
    frames = num_snippets * stride
    last = max((end for _, end, _ in truth.events), default=0)
    if truth.frames is not None:
        if last > truth.frames:
            raise InputError(
                f"{where} has an event that ends at frame {last}, past its "
                f"{truth.frames} frames; correct one of them"
            )
        least, most = truth.frames // stride, -(-truth.frames // stride)
        off = max(least - num_snippets, num_snippets - most, 0)
        known = f"is {truth.frames} frames long"
    else:
        spare = 0 if strict else stride - 1
        off = max(-(-(last - spare - frames) // stride), 0)
        known = f"has an event that ends at frame {last}"
    if not off:
        return []
    text = f"{where} {known}, but its features are {frames} frames long "
    text += f"({num_snippets} snippets of {stride})"
    if off > slack:
        raise InputError(
            f"{text}; correct the segment or the features"
            + ("" if off > 1 else ", or allow one snippet of slack with --slack 1")
        )
    return [f"{text}; clipped"]


def _class_index(
    name: str, label: Sequence[int], where: str, card: Card, strict: bool
) -> int:
    if name:
        if name not in card.class_names:
            raise InputError(
                f"{where} has an event of class {name!r} that no class has"
                f"{suggest_class(name, card.class_names)}; the classes are "
                f"{', '.join(card.class_names)}"
            )
        return card.index(name)
    abnormal = [c for c in label if c]
    if len(abnormal) > 1 and strict:
        raise InputError(
            f"{where} has the labels {_label_text(label, card)}, so each of its segments "
            "needs its class: [start, end, class]"
        )
    return abnormal[0] if abnormal else 0


def _label_text(label: Sequence[int], card: Card) -> str:
    return "+".join(card.class_names[c] for c in label)


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
