"""Which videos are meant by files and folders, and what they are called."""

import os
import pathlib
from collections.abc import Sequence

from wsvad_jax.data.video_names import EXTENSIONS
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.file_search import SkippedFiles, find_files

# Files of other kinds are taken too when they are named themselves.
SUFFIXES = tuple(sorted(EXTENSIONS))
Paths = Sequence[str | os.PathLike]


def find_videos(paths: Paths, passed: SkippedFiles | None = None) -> list[pathlib.Path]:
    """Returns the videos: files as they are, folders searched through and through.

    Hidden files are left out, and so are doubles.

    Args:
      paths: files and folders.
      passed: takes what is passed over in folders; without it the first error about
        what can't be read is raised.

    Raises:
      InputError: a path that is not there, or no video at all.
    """
    noted = passed or SkippedFiles()
    found: dict[str, pathlib.Path] = {}
    for path in map(pathlib.Path, paths):
        if path.is_dir():
            inside = find_files(path, EXTENSIONS, noted)
        else:
            inside = existing_file(path, "videos", noted)
        for video in inside:
            found.setdefault(os.path.realpath(video), video)
    if not found and not any(map(os.path.isdir, paths)) and noted.errors:
        raise noted.errors[0]
    if not found:
        where = ", ".join(map(str, paths)) or "no path"
        why = "".join(f" ({e})" for e in (noted, *noted.errors) if str(e))
        raise InputError(
            f"{where}: holds no video files ({' '.join(SUFFIXES)}); name the files "
            f"themselves if they have other endings{why}"
        )
    if passed is None and noted.errors:
        raise noted.errors[0]
    return list(found.values())


def existing_file(
    path: pathlib.Path, expected: str, passed: SkippedFiles
) -> list[pathlib.Path]:
    """Returns a path that is a file, or nothing; then `passed` takes the reason.

    Raises:
      InputError: there is nothing of that name.
    """
    if not os.path.lexists(path):
        raise InputError(f"{path}: no such file or folder; expected {expected}")
    if path.is_file():
        return [path]
    kind = "is a pipe, a socket or a device"
    if not os.path.exists(path):
        kind = "links to something that is not there"
    passed.errors.append(
        InputError(f"{path}: expected a file or a folder, but it {kind}")
    )
    return []


def name_videos(videos: Paths, roots: Paths = ()) -> dict[str, pathlib.Path]:
    """Returns the videos by the names of their features.

    Args:
      videos: files.
      roots: folders; a video in one is named by its path below it, others by their
        file names, all without suffix. A suffix of digits stays.

    Raises:
      InputError: two videos of one name.
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
