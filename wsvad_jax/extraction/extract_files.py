"""Extracts many videos into a folder, where each video's features are complete or absent.

  OUTPUT/VIDEO.npy                  [N, T, D] float16 (`layout="one"`), or
  OUTPUT/VIDEO__0.npy, ...          [T, D], one file per crop (`layout="crops"`)
  OUTPUT/VIDEO.json                 its sidecar (`data.sidecar`), written last
  OUTPUT/protocol.json              the features' common protocol, written first

VIDEO is the file's path relative to the searched folder, without its suffix.
"""

import dataclasses
import os
import pathlib
import time
from collections.abc import Mapping

from wsvad_jax.extraction.extractor import Extractor
from wsvad_jax.extraction.feature_folder import (
    LAYOUTS,
    PROTOCOL,
    FeatureFolder,
    make_folder,
)
from wsvad_jax.extraction.frame_progress import FrameProgress
from wsvad_jax.extraction.video_files import SUFFIXES, Paths, find_videos, name_videos
from wsvad_jax.utils.errors import InputError

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
    """Outcome and speed of an extraction."""

    done: list[str] = dataclasses.field(default_factory=list)  # names
    skipped: list[str] = dataclasses.field(default_factory=list)  # extracted earlier
    damaged: dict[str, str] = dataclasses.field(
        default_factory=dict
    )  # extracted all the same
    remarks: dict[str, str] = dataclasses.field(
        default_factory=dict
    )  # of extracted videos
    failed: list[InputError] = dataclasses.field(default_factory=list)
    comparisons: dict[str, str] = dataclasses.field(default_factory=dict)
    unread: str = ""  # skipped files in words, see `SkippedFiles`
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

        # Without a decoded frame there is no speed to report.
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
    """Extracts videos into a folder and skips those with complete features.

    Args:
      videos: files, see `find_videos`.
      output: folder, created if missing.
      extractor: extractor of the features.
      layout: `one` file per video, or one file for each of its `crops`.
      shard: (i, n) for every n-th video, starting at index i.
      root: folder or folders that names are relative to; None uses file names.
      clip: name or folder of the CLIP model, stored in protocol.json.

    Returns:
      Summary, whose `failed` has the errors of unreadable videos.

    Raises:
      InputError: two videos have one name, the shard is invalid, the folder has
        features of another or an unknown protocol, or it can't be written.
    """
    start = time.monotonic()
    roots = (
        [] if root is None else [root] if isinstance(root, str | os.PathLike) else root
    )
    folder, summary = FeatureFolder(output, extractor, layout, clip), Summary()

    # All videos are named before the shard is chosen, so machines agree on the names.
    named = folder.writable_videos(name_videos(videos, roots), summary.failed)
    folder.claim(named)
    selected = select_shard(named, shard)
    missing = folder.missing(selected)
    summary.skipped += [name for name in selected if name not in missing]

    if missing:
        with FrameProgress("extracting", list(missing.values())) as progress:
            extract_missing(missing, folder, extractor, summary, progress)

    summary.wall = time.monotonic() - start
    return summary


def select_shard(
    named: Mapping[str, pathlib.Path], shard: tuple[int, int]
) -> dict[str, pathlib.Path]:
    """Returns shard i of n: every n-th video.

    Raises:
      InputError: the shard index is not in 0 … n - 1.
    """
    i, n = shard
    if not 0 <= i < n:
        raise InputError(f"invalid shard {i}/{n}; expected i/n with i from 0 to n - 1")
    return dict(list(named.items())[i::n])


def extract_missing(
    missing: Mapping[str, pathlib.Path],
    folder: FeatureFolder,
    extractor: Extractor,
    summary: Summary,
    progress: FrameProgress | None = None,
) -> None:
    """Extracts videos without features and adds the outcome to `summary`.

    Args:
      missing: videos by name, see `FeatureFolder.missing`.
      folder: folder after `FeatureFolder.claim`.
      extractor: extractor of the features.
      summary: summary that is updated.
      progress: progress that counts frames and videos.
    """

    def count(frames: int) -> None:
        summary.frames += frames
        if progress is not None:
            progress.frames(frames, unreadable=len(summary.failed))

    # A killed run may have left temporary files of the same videos.
    folder.remove_leftovers(missing)

    names = {video: name for name, video in missing.items()}
    for extracted in extractor.stream(names, errors=summary.failed, tick=count):
        name = names[extracted.path]
        try:
            folder.write(name, extracted)
        except InputError as e:
            summary.failed.append(e)
            continue

        summary.done.append(name)
        summary.seconds_of_video += extracted.duration
        if extracted.damage:
            summary.damaged[name] = extracted.damage
        if extracted.remark:
            summary.remarks[name] = extracted.remark
        if progress is not None:
            progress.done(unreadable=len(summary.failed))
