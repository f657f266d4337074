"""Unit of the times in a ground-truth file: frames or seconds.

A file, or a video in it, may state its unit. Times without a unit are frames, unless the
file as a whole looks different. Then it is an error that names both readings:

- in nine of ten videos, events end within the video's length in seconds;
- in nine of ten videos, events end within a tenth of the video or its number of
  snippets, and half of the events are shorter than a snippet;
- no event is longer than one frame.

One early or short event among others is no reason. The length in seconds comes from the
sidecar, or from 24 frames per second.
"""

import dataclasses
import math
import os
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from wsvad_jax.data import sidecar
from wsvad_jax.data.feature_files import FeatureFiles
from wsvad_jax.datasets.ground_truth import GroundTruth
from wsvad_jax.utils.errors import InputError

# A video's rate where nothing says it: low, as in movies, so that seconds are seen.
DEFAULT_FPS = 24.0
MIN_FPS = 10.0  # of cameras that are in use
MAX_OUTLIER_FRACTION = 0.1  # share of the videos whose truth may be a mistake
END_TOLERANCE = 1.0  # seconds by which an end may be rounded past a video's
SAY = 'say which: {"unit": "frames", "videos": [...]} or {"unit": "seconds", ...}'


@dataclasses.dataclass(frozen=True)
class SnippetTimes:
    """Times of a video's snippets."""

    edges: Float[
        np.ndarray, "T1"
    ]  # start of each snippet, and end of the last, in seconds
    num_frames: int


def read_snippet_times(video: FeatureFiles) -> SnippetTimes | None:
    """Returns the times in the sidecar of a video's features; None without one."""
    path = sidecar.sidecar_path(video.paths[0]) if video.paths else None
    if path is None or not os.path.isfile(path):
        return None
    side = sidecar.read(path)
    return SnippetTimes(np.array([*side.seconds, side.duration]), side.num_frames)


def checked_snippet_times(
    videos: Sequence[FeatureFiles],
    truth: Mapping[str, GroundTruth],
    stride: int,
    known: Mapping[str, SnippetTimes],
) -> dict[str, SnippetTimes]:
    """Returns the snippet times of videos with ground truth, after a check of its unit.

    Args:
      videos: test videos with known lengths.
      truth: ground truth by video.
      stride: frames per snippet.
      known: snippet times of videos without features.

    Raises:
      InputError: see `check_unit`.
    """
    # Sidecars have the times of videos with features.
    by_name, found = dict(known), []
    for video in videos:
        if (item := truth.get(video.video)) is None:
            continue
        if times := known.get(video.video) or read_snippet_times(video):
            by_name[video.video] = times

        frames = video.num_frames or video.num_snippets * stride
        found.append((item, frames, float(times.edges[-1]) if times else 0.0))
    check_unit(found, stride)
    return by_name


def in_frames(
    truth: GroundTruth, video: str, times: SnippetTimes | None, stride: int
) -> GroundTruth:
    """Returns ground truth with its events in frames.

    Args:
      truth: ground truth of one video, in frames or seconds.
      video: name of the video, for messages.
      times: snippet times; needed for seconds only.
      stride: frames per snippet.

    Raises:
      InputError: seconds without snippet times, or past the video's end.
    """
    if not truth.seconds:
        return dataclasses.replace(truth, unit="frames")
    where = f"{truth.source}: video {video}"
    if times is None:
        raise InputError(
            f"{where} has events in seconds, but its features have no sidecar that says "
            "when snippets are; give frames, or extract the features from the video"
        )

    # Piecewise linear between snippet edges; the last snippet may be shorter.
    edges = np.maximum.accumulate(np.asarray(times.edges, np.float64))
    edges[0] = 0.0
    frames = np.arange(len(edges)) * float(stride)
    frames[-1] = times.num_frames or frames[-1]

    events = []
    for start, end, name in truth.seconds:
        if end > edges[-1] + END_TOLERANCE:
            raise InputError(
                f"{where} has an event that ends at {end:g} s, past its "
                f"{edges[-1]:.1f} s; correct the segment"
            )

        # Whole frames around the event, despite the rounding of times to 1e-6 s.
        first, last = np.interp([start, end], edges, frames)
        first = math.floor(first + 1e-3)
        events.append((first, max(math.ceil(last - 1e-3), first + 1), name))
    return dataclasses.replace(truth, events=tuple(events), seconds=(), unit="frames")


def check_unit(
    found: Iterable[tuple[GroundTruth, int, float]],
    stride: int,
) -> None:
    """Checks that a file without a unit doesn't look like seconds or snippets.

    Args:
      found: ground truth, frames and seconds (0 unknown) of each video.
      stride: frames per snippet.

    Raises:
      InputError: it does; names the readings.
    """
    videos = [
        (t, F, S or F / DEFAULT_FPS) for t, F, S in found if not t.unit and t.events
    ]
    if not videos:
        return

    # Ends in seconds would be within the videos' lengths in seconds.
    lengths = sorted(end - start for t, *_ in videos for start, end, _ in t.events)
    ends = [max(end for _, end, _ in t.events) for t, *_ in videos]
    late = [end > S + END_TOLERANCE for end, (*_, S) in zip(ends, videos, strict=True)]

    # The same for other units: seconds of a slow camera, or snippets.
    part = max(1 / MIN_FPS, 1 / stride)
    later = [end > F * part + 1 for end, (_, F, _) in zip(ends, videos, strict=True)]

    sign = other = ""
    if sum(late) <= len(late) * MAX_OUTLIER_FRACTION:
        sign, other = "ends after its video's length in seconds", "seconds"
    elif (
        sum(later) <= len(later) * MAX_OUTLIER_FRACTION
        and lengths[len(lengths) // 2] < stride
    ):
        sign = (
            "ends after a small part of its video, and half are shorter than a snippet"
        )
        other = "seconds or snippets"
    elif lengths[-1] <= 1:
        sign, other = "is longer than one frame", "seconds or snippets"

    if sign:
        few = "hardly an" if sum(late) and other == "seconds" else "no"
        raise InputError(
            f"{videos[0][0].source}: times can be read as frames or as {other}, since "
            f'{few} event {sign}; add "unit": "frames" or "unit": '
            '"seconds" to each video, or write {"unit": "seconds", "videos": [...]} '
            f"(of snippets, times {stride} are frames)"
        )


def remarks(truth: Iterable[GroundTruth]) -> list[str]:
    """Returns a remark about the unit, if the file states seconds."""
    count = sum(t.unit == "seconds" for t in truth)
    videos = f"{count} video{'s' * (count != 1)}"
    return [f"true times of {videos} are taken as seconds"] if count else []


def unit_names(truth: Sequence[GroundTruth]) -> str:
    """Returns the units of a file: "frames", "seconds", or both."""
    units = sorted({t.unit or "frames" for t in truth if t.events or t.seconds})
    return " and ".join(units) or "frames"
