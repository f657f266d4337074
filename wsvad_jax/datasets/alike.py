"""Finds videos that share content: copies, other encodings, and clips that overlap.

A video's frames are reduced to 16 × 16 grey values. A few of them are looked for in every
other video. Of each pair of videos the common mean is subtracted first, so that two
videos of one fixed camera don't match by their background.
"""

import contextlib
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from wsvad_jax.extraction.video import Video
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.progress import Progress

SIZE = 16  # rows and columns of a reduced frame
MAX_FRAMES, ALL_FRAMES = 400, 400_000  # kept per video, and of all videos
PROBES = 8  # frames of a video that are looked for in the others
MATCHING = 2  # probes that must be found
# Correlation of found frames. Other encodings of a frame have 0.95 and more, frames of
# other videos of ice hockey up to 0.75.
FOUND = 0.9
CANDIDATE = 0.9  # the same with the background, which is quick to compute for all
MIN_CONTRAST = 0.5  # grey levels, below which a frame shows nothing but noise
MIN_CHANGE = 0.02  # part of a frame's contrast, below which a change is noise

# Formats whose first plane is brightness, 8 bits per pixel.
GREY_FIRST = frozenset(
    {"gray", "nv12", "yuv420p", "yuv422p", "yuv444p", "yuvj420p", "yuvj422p"}
)


def alike_videos(paths: Mapping[str, pathlib.Path]) -> list[tuple[str, ...]]:
    """Returns groups of videos that share content; unreadable videos are in none.

    Args:
      paths: video files by name.
    """
    most = min(max(ALL_FRAMES // max(len(paths), 1), 2 * PROBES), MAX_FRAMES)
    frames = {}
    with Progress("comparing videos", len(paths), unit="video") as progress:
        for name, path in paths.items():
            # The check or the extraction reports videos that can't be read.
            with contextlib.suppress(InputError):
                frames[name] = reduced_frames(path, most)
            progress.update()
    return groups(_pairs(frames))


def reduced_frames(path: pathlib.Path, most: int) -> Float[np.ndarray, "T 256"]:
    """Returns up to `most` frames of a video at equal distances, as 16 × 16 grey values.

    Raises:
      InputError: the file can't be read.
    """
    kept: list[np.ndarray] = []
    every = 1
    for i, frame in enumerate(Video(path).frames()):
        if i % every:
            continue
        kept.append(_reduced(frame))
        if len(kept) > most:  # from here on, half as many
            kept, every = kept[::2], 2 * every
    return np.stack(kept).reshape(len(kept), SIZE * SIZE)


def _reduced(frame: Any) -> np.ndarray:
    small = min(frame.height, frame.width) < SIZE
    if small or frame.format.name not in GREY_FIRST:
        grey = frame.reformat(SIZE, SIZE, "gray", interpolation="AREA")
        return grey.to_ndarray().astype(np.float32)

    # Means over the blocks of the plane, which is faster than FFmpeg's scaling.
    plane = frame.planes[0]
    pixels = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    pixels = pixels[: frame.height, : frame.width]
    return _block_means(_block_means(pixels).T).T


def _block_means(values: np.ndarray) -> np.ndarray:
    """Returns means over 16 blocks of rows, whose edges may cut a row."""
    edges = np.arange(1, SIZE) * (len(values) / SIZE)
    whole = edges.astype(int)

    # Sums up to whole rows, then a part of the row that an edge cuts.
    sums = np.add.reduceat(values, [0, *whole], axis=0, dtype=np.float32).cumsum(0)
    inside = sums[:-1] + (edges - whole)[:, None].astype(np.float32) * values[whole]
    below = np.concatenate([np.zeros_like(sums[:1]), inside, sums[-1:]])
    return np.diff(below, axis=0) * np.float32(SIZE / len(values))


def _pairs(frames: Mapping[str, np.ndarray]) -> Iterable[tuple[str, str]]:
    """Yields pairs of names whose videos share content."""
    names = list(frames)
    if len(names) < 2:
        return
    starts = np.cumsum([0, *(len(frames[name]) for name in names[:-1])])
    frames = {name: _normed(f, MIN_CONTRAST * SIZE) for name, f in frames.items()}
    every = np.concatenate(list(frames.values()))

    for i, name in enumerate(names):
        # All videos at once, then the few that look alike with their background.
        probes = _probes(frames[name])
        found = np.maximum.reduceat(probes @ every.T, starts, axis=1)
        candidates = np.flatnonzero((found >= CANDIDATE).sum(0) >= MATCHING)
        for j in candidates:
            if i != j and _shares(probes, frames[name], frames[names[j]]):
                yield name, names[j]


def _probes(frames: np.ndarray) -> np.ndarray:
    return frames[np.linspace(0, len(frames) - 1, PROBES + 2)[1:-1].round().astype(int)]


def _shares(probes: np.ndarray, own: np.ndarray, other: np.ndarray) -> bool:
    # Of overlapping clips the common mean is the scene. Of a copy with other contrast the
    # two means differ, and its own is.
    means = own.mean(0), other.mean(0)
    common = (means[0] + means[1]) / 2
    for mean, other_mean in (means, (common, common)):
        changes = _normed(probes - mean, MIN_CHANGE)
        found = (changes @ _normed(other - other_mean, MIN_CHANGE).T).max(1)
        if int((found >= FOUND).sum()) >= MATCHING:
            return True
    return False


def _normed(frames: np.ndarray, least: float) -> np.ndarray:
    """Returns frames without their brightness and contrast; `least` is noise."""
    frames = frames - frames.mean(1, keepdims=True)
    length = np.linalg.norm(frames, axis=1, keepdims=True)
    return frames / np.maximum(length, least)


def groups(pairs: Iterable[Sequence[str]]) -> list[tuple[str, ...]]:
    """Returns the sets of names that pairs, or longer tuples, connect; all are sorted."""
    group_of: dict[str, set[str]] = {}
    for names in pairs:
        joined = set(names).union(*(group_of.get(name, ()) for name in names))
        group_of.update(dict.fromkeys(joined, joined))
    return sorted({tuple(sorted(group)) for group in group_of.values()})
