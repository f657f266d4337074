"""What is said of files in an own folder that are elsewhere or can't be read."""

import pathlib
from collections.abc import Container, Mapping, Sequence

from wsvad_jax.data.feature_files import ErrorCollector
from wsvad_jax.data.video_names import EXTENSIONS
from wsvad_jax.datasets.split_lists import Row
from wsvad_jax.utils.walk import Passed, files_below

VIDEOS = "videos"


def passed_over(
    passed: Passed,
    lists: Mapping[str, Sequence[Row]],
    index: Container[str],
    problems: ErrorCollector,
) -> list[str]:
    """Returns remarks; what can't be read is a problem if videos are missing.

    Args:
      passed: of the walk through the features' folder.
      lists: of both splits.
      index: names that were found there.
      problems: takes what may hold the missing ones.
    """
    remarks = [str(passed)] if passed.unread else []
    named = [row.video for rows in lists.values() for row in rows]
    if all(name in index or f"{name}__0" in index for name in named):
        return [*remarks, *map(str, passed.errors)]
    for error in passed.errors:
        problems(error)
    return remarks


def beside(folder: pathlib.Path, root: pathlib.Path) -> str:
    """Says where videos are that should be in FOLDER/videos; "" if there are none."""
    videos = folder / VIDEOS
    if videos.is_dir():
        return ""
    paths = [
        p for p in files_below(folder, EXTENSIONS, Passed()) if root not in p.parents
    ]
    if not paths:
        return ""
    count = f"{len(paths)} video{'s' * (len(paths) > 1)}"
    first = paths[0].relative_to(folder).as_posix()
    where = "beside the lists" if paths[0].parent == folder else "elsewhere in there"
    return (
        f"{videos}: no such folder, but {count} {'are' if len(paths) > 1 else 'is'} "
        f"{where} ({first}); move the videos into {VIDEOS}/"
    )
