"""Frames or seconds: the unit of a truth file's times.

A file or a video of it may state its unit. Times without one are frames, unless they
look like something else; then the file is refused with both readings:

- all events of the file end within their videos' lengths in seconds;
- all events end within the number of snippets, and half of them are shorter than one;
- no event is longer than one frame.

The file is judged as a whole, so one early or short event among others is no reason.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float

from wsvad_jax.data import sidecar
from wsvad_jax.data.annotations import Truth
from wsvad_jax.data.features import Video
from wsvad_jax.errors import InputError

# A video's rate where nothing says it: low, as that of films, so that seconds are seen.
SLOW = 24.0
ROUNDED = 1.0  # seconds by which an end may be rounded past a video's
SAY = 'say which: {"unit": "frames", "videos": [...]} or {"unit": "seconds", ...}'


@dataclasses.dataclass(frozen=True)
class Clock:
    """When the snippets of a video are."""

    edges: Float[np.ndarray, "T1"]  # seconds at which they begin, and the end
    num_frames: int


def clock_of(video: Video) -> Clock | None:
    """Returns the times in the sidecar of a video's features; None without one."""
    path = sidecar.sidecar_path(video.paths[0]) if video.paths else None
    if path is None or not path.is_file():
        return None
    side = sidecar.read(path)
    return Clock(np.array([*side.seconds, side.duration]), side.num_frames)


def in_frames(truth: Truth, video: str, clock: Clock | None, stride: int) -> Truth:
    """Returns truth whose events are in frames.

    Args:
      truth: of one video, in frames or seconds.
      video: its name.
      clock: its times; needed for seconds only.
      stride: frames of a snippet.

    Raises:
      InputError: seconds of a video whose times aren't known, or past its end.
    """
    if not truth.seconds:
        return dataclasses.replace(truth, unit="frames")
    where = f"{truth.source}: video {video}"
    if clock is None:
        raise InputError(
            f"{where} has events in seconds, but its features have no sidecar that says "
            "when snippets are; give frames, or extract the features from the video"
        )
    edges = np.maximum.accumulate(np.asarray(clock.edges, np.float64))
    edges[0] = 0.0
    frames = np.arange(len(edges)) * float(stride)
    frames[-1] = clock.num_frames or frames[-1]
    events = []
    for start, end, name in truth.seconds:
        if end > edges[-1] + ROUNDED:
            raise InputError(
                f"{where} has an event that ends at {end:g} s, past its "
                f"{edges[-1]:.1f} s; correct the segment"
            )
        # Whole frames that hold the event, past the rounding of times to 1e-6 s.
        first, last = np.interp([start, end], edges, frames)
        first = math.floor(first + 1e-3)
        events.append((first, max(math.ceil(last - 1e-3), first + 1), name))
    return dataclasses.replace(truth, events=tuple(events), seconds=(), unit="frames")


def check(
    found: Iterable[tuple[Truth, int, float]],
    stride: int,
) -> None:
    """Refuses a file without a unit whose times look like seconds or snippets.

    Args:
      found: each video's truth, frames, and seconds (0 unknown).
      stride: frames of a snippet.

    Raises:
      InputError: names the readings.
    """
    videos = [(t, F, S or F / SLOW) for t, F, S in found if not t.unit and t.events]
    if not videos:
        return
    events = [(start, end) for t, *_ in videos for start, end, _ in t.events]
    lengths = sorted(end - start for start, end in events)
    ends = [(max(end for _, end, _ in t.events), F, S) for t, F, S in videos]
    sign = ""
    if all(end <= S + ROUNDED for end, _, S in ends):
        sign, other = "end within the videos' lengths in seconds", "seconds"
    elif lengths[len(lengths) // 2] < stride and all(
        end <= -(-F // stride) for end, F, _ in ends
    ):
        sign, other = "end within the videos' numbers of snippets", "snippets"
    elif lengths[-1] <= 1:
        sign, other = "last one frame", "seconds or snippets"
    if sign:
        raise InputError(
            f"{videos[0][0].source}: times can be read as frames or as {other}, since "
            f'all {len(events)} events {sign}; add "unit": "frames" or "unit": '
            '"seconds" to each video, or write {"unit": "seconds", "videos": [...]} '
            f"(of snippets, times {stride} are frames)"
        )


def remarks(truth: Iterable[Truth]) -> list[str]:
    """Says what unit was taken, where a file states one."""
    count = sum(t.unit == "seconds" for t in truth)
    videos = f"{count} video{'s' * (count != 1)}"
    return [f"true times of {videos} are taken as seconds"] if count else []


def taken(truth: Sequence[Truth]) -> str:
    """Returns in which unit a file's times are taken: frames, seconds, or both."""
    units = sorted({t.unit or "frames" for t in truth if t.events or t.seconds})
    return " and ".join(units) or "frames"
