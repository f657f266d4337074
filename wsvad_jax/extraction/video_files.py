"""Finds video files in files and folders, and names their features."""

import os
import pathlib
from collections.abc import Sequence

from wsvad_jax.data.video_names import EXTENSIONS
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.file_search import SkippedFiles, find_files

# Endings searched in folders; a file passed by itself may have any ending.
SUFFIXES = tuple(sorted(EXTENSIONS))
Paths = Sequence[str | os.PathLike]


def find_videos(paths: Paths, passed: SkippedFiles | None = None) -> list[pathlib.Path]:
    """Returns the videos among files and in folders with their subfolders.

    Hidden files and duplicates are left out.

    Args:
      paths: files and folders.
      passed: collector of skipped files; None raises the first read error instead.

    Raises:
      InputError: a path doesn't exist, or there is no video.
    """
    skipped = passed or SkippedFiles()
    # By real path, so a video that several links lead to counts once.
    videos: dict[str, pathlib.Path] = {}
    for path in map(pathlib.Path, paths):
        if path.is_dir():
            inside = find_files(path, EXTENSIONS, skipped)
        else:
            inside = existing_file(path, "videos", skipped)
        for video in inside:
            videos.setdefault(os.path.realpath(video), video)

    # The error of a single file says more than "no video files".
    if not videos and not any(map(os.path.isdir, paths)) and skipped.errors:
        raise skipped.errors[0]
    if not videos:
        where = ", ".join(map(str, paths)) or "no path"
        reasons = "".join(f" ({e})" for e in (skipped, *skipped.errors) if str(e))
        raise InputError(
            f"{where}: holds no video files ({' '.join(SUFFIXES)}); name the files "
            f"themselves if they have other endings{reasons}"
        )
    if passed is None and skipped.errors:
        raise skipped.errors[0]
    return list(videos.values())


def existing_file(
    path: pathlib.Path, expected: str, passed: SkippedFiles
) -> list[pathlib.Path]:
    """Returns the path if it is a file; else an empty list, and notes why in `passed`.

    Raises:
      InputError: the path doesn't exist.
    """
    if not os.path.lexists(path):
        raise InputError(f"{path}: no such file or folder; expected {expected}")
    if path.is_file():
        return [path]

    # Pipes and broken links exist, but can't be read as a file.
    kind = "is a pipe, a socket or a device"
    if not os.path.exists(path):
        kind = "links to a missing file"
    passed.errors.append(
        InputError(f"{path}: expected a file or a folder, but it {kind}")
    )
    return []


def name_videos(videos: Paths, roots: Paths = ()) -> dict[str, pathlib.Path]:
    """Returns the videos by the names of their features.

    Args:
      videos: files.
      roots: folders; a video in one is named by its path relative to it, others by
        their file names, all without suffix. A suffix of digits stays.

    Raises:
      InputError: two videos have the same name.
    """
    named: dict[str, pathlib.Path] = {}
    for video in map(pathlib.Path, videos):
        root = next((r for r in roots if video.is_relative_to(r)), video.parent)
        name, suffix = os.path.splitext(video.relative_to(root).as_posix())
        if suffix in SUFFIXES and suffix[1:].isdigit():
            name += suffix

        if name in named:
            raise InputError(
                f"{named[name]} and {video} would both be {name}.npy; rename one, or "
                "extract them into two folders"
            )
        named[name] = video
    return named
