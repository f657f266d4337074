"""Matches true events with the input videos, and converts them to seconds."""

import contextlib
import os
import re
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from wsvad_jax.data import sidecar
from wsvad_jax.data.records import FRAMES_PER_SNIPPET
from wsvad_jax.data.video_names import normalize_name, video_id
from wsvad_jax.datasets import ground_truth
from wsvad_jax.detection.inputs import VideoInput, stride_of, timed
from wsvad_jax.evaluation.categories import DEFAULT_CATEGORY
from wsvad_jax.evaluation.event_results import snippet_frames
from wsvad_jax.evaluation.events import Event
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.text import first_names


def events_in_seconds(
    truth: ground_truth.GroundTruth,
    edges: Float[np.ndarray, "T1"],
    stride: int = FRAMES_PER_SNIPPET,
    num_frames: int = 0,
) -> tuple[Event, ...]:
    """Converts true events to seconds, cut at the video's end.

    Args:
      truth: true events of the video, in frames or seconds.
      edges: seconds at which snippets begin, and the end.
      stride: frames per snippet.
      num_frames: number of frames; 0 counts whole snippets.
    """
    # Time is linear between the edges of a snippet.
    frames = snippet_frames(len(edges) - 1, stride, num_frames)
    if truth.unit == "seconds":
        frames, segments = edges, truth.seconds
    else:
        segments = truth.events

    events = []
    for first, stop, category in segments:
        start, end = np.interp([first, stop], frames, edges)
        if end > start:
            name = category or truth.label or DEFAULT_CATEGORY
            middle = float(start + end) / 2
            events.append(Event(float(start), float(end), name, float("nan"), middle))
    return tuple(events)


def find_ground_truth(
    name: str, truth: Mapping[str, ground_truth.GroundTruth]
) -> ground_truth.GroundTruth | None:
    """Returns the true events of a video, named there with or without its folder."""
    return truth.get(name) or truth.get(ground_truth.video_name(name))


def events_of_video(
    name: str,
    truth: Mapping[str, ground_truth.GroundTruth],
    edges: Float[np.ndarray, "T1"],
    stride: int,
    num_frames: int = 0,
) -> tuple[Event, ...] | None:
    """Returns the true events of a video in seconds; None if they aren't known.

    See `find_ground_truth` and `events_in_seconds`.
    """
    known = find_ground_truth(name, truth)
    if known is None:
        return None
    return events_in_seconds(known, edges, stride, num_frames)


def match_ground_truth(
    found: Sequence[VideoInput], truth: Mapping[str, ground_truth.GroundTruth]
) -> tuple[dict[str, ground_truth.GroundTruth], list[str]]:
    """Finds the video of each entry of a ground truth file.

    An entry belongs to the video of its name, with or without extension. If there is
    none, it belongs to the video whose path ends with it.

    Returns:
      true events by name of the video, and remarks: entries without a video, and videos
      without an entry.

    Raises:
      InputError: an entry fits several videos, or two entries fit one.
    """
    # The most exact kind of name that fits decides.
    tables = _by_names(found)
    taken: dict[str, str] = {}
    missing = []
    for entry, item in truth.items():
        name = video_id(entry)
        fitting = next((table[name] for table in tables if name in table), [])
        if not fitting:
            missing.append(entry)
            continue

        if len(fitting) > 1:
            raise InputError(
                f"{item.source}: video {entry} may be {fitting[0].files[0]} or "
                f"{fitting[1].files[0]}; name it with its folder"
            )

        other = taken.setdefault(fitting[0].name, entry)
        if other != entry:
            raise InputError(
                f"{item.source}: {other} and {entry} are both the video "
                f"{fitting[0].name}; keep one"
            )

    # Both kinds may be meant, so they are no errors.
    remarks = []
    if missing:
        remarks.append(f"ground truth without a video: {first_names(missing)}")
    if without := [source.name for source in found if source.name not in taken]:
        remarks.append(f"videos without ground truth: {first_names(without)}")
    return {name: truth[entry] for name, entry in taken.items()}, remarks


def _by_names(found: Sequence[VideoInput]) -> tuple[dict[str, list[VideoInput]], ...]:
    """Returns videos by name, by name without extension, and by ends of their paths."""
    names, shorter, ends = {}, {}, {}
    for source in found:
        names.setdefault(normalize_name(source.name), []).append(source)
        shorter.setdefault(video_id(source.name), []).append(source)

        # day/cam1/a is also cam1/a and a.
        parts = video_id(str(source.files[0].absolute())).split("/")
        if not source.is_video:
            parts[-1] = re.sub(r"__\d+$", "", parts[-1])  # the number of a crop
        for i in range(len(parts)):
            ends.setdefault("/".join(parts[i:]), []).append(source)
    return names, shorter, ends


def check_ground_truth(
    found: Sequence[VideoInput],
    truth: Mapping[str, ground_truth.GroundTruth],
    stride: int,
    fps: float | None,
) -> None:
    """Checks the unit of true events before anything is scored.

    Args:
      found: videos and features.
      truth: true events by video.
      stride: frames per snippet, where features have neither sidecar nor protocol.json.
      fps: frames per second, where there is none; None if not known.

    Raises:
      InputError: times that may be frames or seconds (see `datasets.time_units`),
        seconds for features whose times aren't known, or one entry for two videos.
    """
    from wsvad_jax.datasets import time_units

    known: list[tuple[ground_truth.GroundTruth, int, float]] = []
    taken: dict[int, VideoInput] = {}
    for source in found:
        if (item := find_ground_truth(source.name, truth)) is None:
            continue

        # Two videos of one name can't both have these events.
        if (other := taken.setdefault(id(item), source)) is not source:
            raise InputError(
                f"{item.source}: the events of {ground_truth.video_name(source.name)} "
                f"may be those of {other.name} or of {source.name}; name videos there "
                "by their paths below the folder"
            )

        # Seconds need times; frames need the stride alone.
        timeless = fps is None and not source.is_video and not timed(source)
        if timeless and item.seconds:
            raise InputError(
                f"{item.source}: video {source.name} has events in seconds, but "
                f"{source.files[0]} has no times; pass --fps, or give frames"
            )

        with contextlib.suppress(InputError):  # reported when the file is read
            known.append((item, *stated_length_of(source, stride, fps)))

    # The unit is decided for all videos at once.
    time_units.check_unit(known, stride)


def stated_length_of(
    source: VideoInput, stride: int, fps: float | None
) -> tuple[int, float]:
    """Returns a video's frames and seconds, 0 unknown, without reading all of it.

    The frames of a video file are 0 where its length is an estimate, too.

    Args:
      source: video or features.
      stride: frames per snippet, where features don't say it.
      fps: frames per second, where features don't say it; None if not known.

    Raises:
      InputError: it can't be read.
    """
    from wsvad_jax.data import feature_files

    if source.is_video:
        from wsvad_jax.datasets.validation.stated_length import stated_length

        frames, seconds, exact = stated_length(source.files[0])
        return frames if exact else 0, seconds

    path = sidecar.sidecar_path(source.files[0])
    if os.path.isfile(path):
        side = sidecar.read(path)
        return side.num_frames, side.duration

    shape = feature_files.read_shape(source.files[0])
    stride = stride_of(source, stride)
    frames = max(shape[:-1], default=0) * stride  # crops are fewer than snippets
    return frames, frames / fps if fps else 0.0
