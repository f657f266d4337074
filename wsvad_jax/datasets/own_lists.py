"""The lists of a custom folder: written by the user, or made and kept in split/.

  train.csv and test.csv    the user's, as they are
  train.csv                 its videos are split
  neither                   labels are the folders' names (class_folders.py), then split

A split is written once, with how it was made, and read from then on:

  FOLDER/split/train.csv, test.csv    video,label
  FOLDER/split/split.json             seed, share, and which videos were kept together

Later videos are in neither list until the user adds them: no video changes sides.
"""

import contextlib
import os
import pathlib
from collections.abc import Sequence

from wsvad_jax.data.crops import crop_files, video_of
from wsvad_jax.data.feature_files import ErrorCollector
from wsvad_jax.datasets import custom, random_split, split_folder
from wsvad_jax.datasets.alike import alike_videos, groups
from wsvad_jax.datasets.class_folders import NORMAL, read_class_folders, same_name
from wsvad_jax.datasets.custom_ground_truth import find_ground_truth, read_ground_truth
from wsvad_jax.datasets.custom_videos import video_files
from wsvad_jax.datasets.list_options import SEED, TEST_SHARE, ListOptions
from wsvad_jax.datasets.missing_files import VIDEOS, misplaced_videos
from wsvad_jax.datasets.split_lists import (
    SPLITS,
    ListEntry,
    OwnLists,
    drop_duplicates,
    read_list,
    read_lists,
)
from wsvad_jax.datasets.validation.duplicates import identical_files
from wsvad_jax.utils import files
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.text import count


def resolve(folder: pathlib.Path, root: pathlib.Path, options: ListOptions) -> OwnLists:
    """Returns the lists of a folder; makes a split where there is none, in memory.

    Args:
      folder: custom folder.
      root: folder of its features, which need not exist.
      options: what the user asked for.

    Raises:
      InputError: lists or folders that can't be used, or options that contradict them.
    """
    options.check()
    train, test = (folder / f"{split}.csv" for split in SPLITS)
    columns = options.video_column, options.label_column
    if train.exists() and test.exists():
        _refuse(
            options, split_folder.FLAGS, f"{train.name} and {test.name} in {folder}"
        )
        lists = read_lists(folder, columns)
        return OwnLists(lists, remarks=split_folder.unused(folder, lists))
    if test.exists():
        raise InputError(
            f"{test}: there is no train.csv beside it; write one, or move test.csv away "
            "for labels from folder names and a random split"
        )

    # The list, or the class folders, name every video with its label.
    if train.exists():
        _refuse(options, ("normal_folder",), f"{train}, which has the labels")
        entries = read_list(train, columns)
    else:
        _refuse(options, ("video_column", "label_column"), f"no train.csv in {folder}")
        entries = _from_folders(folder, root, options)
    drop_duplicates({"train": entries}, ErrorCollector())

    if (folder / split_folder.FOLDER).exists():
        return split_folder.read(folder, entries, options)
    return _make_split(folder, root, entries, options)


def _refuse(options: ListOptions, names: Sequence[str], reason: str) -> None:
    unused = [options.flags[name] for name in names if name in options.flags]
    if unused:
        raise InputError(
            f"{', '.join(unused)}: no effect, since there is {reason}; leave "
            f"{'it' if len(unused) == 1 else 'them'} out"
        )


def _from_folders(
    folder: pathlib.Path, root: pathlib.Path, options: ListOptions
) -> list[ListEntry]:
    """Returns all videos, or else all features, with the labels of their folders."""
    videos = folder / VIDEOS
    if videos.is_dir():
        paths = {p for same in video_files(videos).values() for p in same}
        top, names = videos, [p.relative_to(videos).as_posix() for p in paths]
    elif root.is_dir():
        # A file may have several names, of which the shortest stands for it.
        index, shortest = custom.index_feature_files(root), {}
        for name, path in index.items():
            video, real = video_of(name, path, index), os.path.realpath(path)
            known = shortest.setdefault(real, video)
            shortest[real] = min(known, video, key=lambda n: (len(n), n))
        top, names = root, list(dict.fromkeys(shortest.values()))
    else:
        reason = misplaced_videos(folder, root) or f"{videos}: no such folder"
        raise InputError(
            f"{folder / 'train.csv'}: no such file, and no folder names to read labels "
            f"from: {reason}"
        )
    if not names:
        raise InputError(f"{folder / 'train.csv'}: no such file, and no video in {top}")
    return read_class_folders(top, names, options.normal_folder, _normal_class(folder))


def _normal_class(folder: pathlib.Path) -> str:
    """Returns the normal class on the folder's card, "" where it names none."""
    path = folder / "card.json"
    value = files.read_json(path) if path.exists() else {}
    normal = value.get("normal", "") if isinstance(value, dict) else ""
    return normal if isinstance(normal, str) else ""


def _make_split(
    folder: pathlib.Path,
    root: pathlib.Path,
    entries: Sequence[ListEntry],
    options: ListOptions,
) -> OwnLists:
    seed = SEED if options.split_seed is None else options.split_seed
    share = TEST_SHARE if options.test_share is None else options.test_share
    normal = _normal_class(folder) or NORMAL

    def split(together: Sequence[Sequence[str]]) -> dict[str, list[ListEntry]]:
        return random_split.split(
            entries,
            together,
            seed=seed,
            share=share,
            first=_with_truth(folder),
            is_normal=lambda labels: len(labels) == 1 and same_name(labels[0], normal),
        )

    # The numbers are checked before the videos are compared, which takes longer.
    split(())
    identical, alike = _groups(folder, root, entries)
    together, remarks = groups([*identical, *alike]), []
    try:
        lists = split(together)
    except InputError:
        lists, together = split(identical), identical
        remarks.append(
            f"{count(sum(map(len, alike)), 'video')} look alike, too many to keep each "
            "group on one side, so only equal files are kept together and test metrics "
            "may be too high"
        )

    # What was done is printed now, and kept beside the lists for later runs.
    counts = " and ".join(
        f"{len(lists[s])} in {split_folder.FOLDER}/{s}.csv" for s in SPLITS
    )
    remarks.insert(
        0, f"split by video with seed {seed}, test share {share:g}: {counts}"
    )
    remarks += [
        f"on one side, since they share content: {', '.join(group)}"
        for group in together
    ]

    record = {
        "labels": "train.csv" if (folder / "train.csv").exists() else "folders",
        "normal": normal,
        "normal_folder": options.normal_folder,
        "split_seed": seed,
        "test_share": share,
        "together": [list(group) for group in together],
    }
    return OwnLists(lists, True, [*remarks, *random_split.remarks(lists)], record)


def _with_truth(folder: pathlib.Path) -> set[str]:
    """Returns the videos whose events are known; an invalid file is reported later."""
    with contextlib.suppress(InputError):
        path = find_ground_truth(folder)
        truth = read_ground_truth(path) if path else {}
        return {name for name, item in truth.items() if item.events or item.seconds}
    return set()


def _groups(
    folder: pathlib.Path, root: pathlib.Path, entries: Sequence[ListEntry]
) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    """Returns the videos with equal files, and those that share content."""
    by_name = video_files(folder / VIDEOS)
    index = custom.index_feature_files(root, [e.video for e in entries])
    paths: dict[str, tuple[pathlib.Path, ...]] = {}
    for entry in entries:
        if found := by_name.get(entry.video):
            paths[entry.video] = (found[0],)
            continue
        with contextlib.suppress(InputError):  # which is reported later
            paths[entry.video] = tuple(crop_files(entry.video, index, root))

    identical = groups(identical_files(paths))
    videos = {name: by_name[name][0] for name in paths if name in by_name}
    return identical, alike_videos(videos)
