"""Features of many videos to files: each is whole or absent, and made only once.

  OUTPUT/VIDEO.npy                  [N, T, D] float16 (`layout="one"`), or
  OUTPUT/VIDEO__0.npy, ...          [T, D], one file a crop (`layout="crops"`)
  OUTPUT/VIDEO.json                 its sidecar (`data.sidecar`), written last
  OUTPUT/protocol.json              how all of them were made, written first

VIDEO is the file's path below the folder that it was found in, without its suffix.
"""

import dataclasses
import os
import pathlib
import time
from collections.abc import Callable, Mapping

from wsvad_jax.extraction.extractor import Extractor
from wsvad_jax.extraction.feature_folder import (
    LAYOUTS,
    PROTOCOL,
    FeatureFolder,
    make_folder,
)
from wsvad_jax.extraction.video_files import SUFFIXES, Paths, find_videos, name_videos
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.progress import Progress

__all__ = [
    "LAYOUTS",
    "PROTOCOL",
    "SUFFIXES",
    "FeatureFolder",
    "extract_files",
    "find_videos",
    "make_folder",
    "name_videos",
]


@dataclasses.dataclass
class Summary:
    """What became of the videos, and how fast."""

    done: list[str] = dataclasses.field(default_factory=list)  # names
    skipped: list[str] = dataclasses.field(default_factory=list)  # were there already
    damaged: dict[str, str] = dataclasses.field(default_factory=dict)  # of the done
    remarks: dict[str, str] = dataclasses.field(default_factory=dict)  # of the done
    failed: list[InputError] = dataclasses.field(default_factory=list)
    unread: str = ""  # files that were passed over, see `SkippedFiles`
    frames: int = 0  # decoded
    seconds_of_video: float = 0.0
    wall: float = 0.0  # seconds

    def __str__(self) -> str:
        counts = f"{len(self.done)} extracted"
        if self.damaged:
            counts += f" ({len(self.damaged)} of them damaged)"
        counts += f", {len(self.skipped)} already there"
        if self.failed:
            counts += f", {len(self.failed)} unreadable"
        if not self.frames:
            return f"videos: {counts}"
        return (
            f"videos: {counts}; {self.frames} frames in {self.wall:.1f} s: "
            f"{self.frames / self.wall:.1f} frames/s, "
            f"{self.seconds_of_video / self.wall:.2f} x real time"
        )


def extract_files(
    videos: Paths,
    output: str | os.PathLike,
    extractor: Extractor,
    *,
    layout: str = "one",
    shard: tuple[int, int] = (0, 1),
    root: str | os.PathLike | Paths | None = None,
    clip: str = "",
) -> Summary:
    """Extracts videos into a folder; what is there and whole is left as it is.

    Args:
      videos: files, see `find_videos`.
      output: made if missing.
      extractor: what makes the features.
      layout: `one` file a video, or one of each of its `crops`.
      shard: (i, n): only every n-th video, beginning with number i, counted from 0.
      root: the folder or folders that videos are named relative to; None: file names.
      clip: where the CLIP model is, for protocol.json.

    Returns:
      what was done; videos that can't be read are in its `failed`.

    Raises:
      InputError: two videos of one name, a shard that there is not, features in the
        folder that were made in another way or are of unknown origin, no folder.
    """
    start = time.monotonic()
    roots = (
        [] if root is None else [root] if isinstance(root, str | os.PathLike) else root
    )
    target, summary = FeatureFolder(output, extractor, layout, clip), Summary()
    named = target.writable_videos(name_videos(videos, roots), summary.failed)
    target.claim(named)
    part = select_shard(named, shard)
    left = target.missing(part)
    summary.skipped += [name for name in part if name not in left]
    if left:
        with Progress("extracting", len(left), unit="video") as progress:

            def tick(videos: int) -> None:
                progress.update(
                    videos, frames=summary.frames, unreadable=len(summary.failed)
                )

            extract_missing(left, target, extractor, summary, tick)
    summary.wall = time.monotonic() - start
    return summary


def select_shard(
    named: Mapping[str, pathlib.Path], shard: tuple[int, int]
) -> dict[str, pathlib.Path]:
    """Returns shard i of n: every n-th video.

    Raises:
      InputError: a shard that there is not.
    """
    i, n = shard
    if not 0 <= i < n:
        raise InputError(f"shard {i}/{n}: expected i/n with i from 0 to n - 1")
    return dict(list(named.items())[i::n])


def extract_missing(
    left: Mapping[str, pathlib.Path],
    target: "FeatureFolder",
    extractor: Extractor,
    summary: Summary,
    tick: Callable[[int], None] = lambda videos: None,
) -> None:
    """Extracts videos that are not there yet and notes in `summary` what became of it.

    Args:
      left: videos by name, of `Target.missing`.
      target: the folder, claimed.
      extractor: what makes the features.
      summary: is added to.
      tick: called now and then with the number of videos finished since.
    """

    def count(frames: int) -> None:
        summary.frames += frames
        tick(0)

    target.clean(left)
    names = {video: name for name, video in left.items()}
    for found in extractor.stream(names, errors=summary.failed, tick=count):
        name = names[found.path]
        try:
            target.write(name, found)
        except InputError as e:
            summary.failed.append(e)
            continue
        summary.done.append(name)
        summary.seconds_of_video += found.duration
        if found.damage:
            summary.damaged[name] = found.damage
        if found.remark:
            summary.remarks[name] = found.remark
        tick(1)
