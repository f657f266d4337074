"""Messages about files of a custom folder that are misplaced or unreadable."""

import pathlib
from collections.abc import Container, Mapping, Sequence

from wsvad_jax.data.feature_files import ErrorCollector
from wsvad_jax.data.video_names import EXTENSIONS
from wsvad_jax.datasets.split_lists import ListEntry
from wsvad_jax.utils.file_search import SkippedFiles, find_files
from wsvad_jax.utils.text import count

VIDEOS = "videos"  # folder of the videos


def report_skipped_files(
    skipped: SkippedFiles,
    lists: Mapping[str, Sequence[ListEntry]],
    index: Container[str],
    collector: ErrorCollector,
) -> list[str]:
    """Returns remarks about skipped files; collects errors if videos are missing.

    Args:
      skipped: files that the search in the features' folder skipped.
      lists: entries of both splits.
      index: names of the feature files.
      collector: collector of errors about paths that may hold missing features.
    """
    remarks = [str(skipped)] if skipped.unread else []
    listed = [row.video for rows in lists.values() for row in rows]

    # If every video has features, an unreadable folder does no harm.
    if all(name in index or f"{name}__0" in index for name in listed):
        return [*remarks, *map(str, skipped.errors)]
    for error in skipped.errors:
        collector(error)
    return remarks


def misplaced_videos(folder: pathlib.Path, root: pathlib.Path) -> str:
    """Returns a message about videos outside of FOLDER/videos, "" if there are none.

    Args:
      folder: custom folder.
      root: folder of the features, which is not searched.
    """
    videos = folder / VIDEOS
    if videos.is_dir():
        return ""

    paths = find_files(folder, EXTENSIONS, SkippedFiles())
    paths = [p for p in paths if root not in p.parents]
    if not paths:
        return ""

    first = paths[0].relative_to(folder).as_posix()
    where = "beside the lists" if paths[0].parent == folder else "elsewhere in it"
    return (
        f"{videos}: no such folder, but {count(len(paths), 'video')} "
        f"{'are' if len(paths) > 1 else 'is'} {where} ({first}); move the videos into "
        f"{VIDEOS}/"
    )
