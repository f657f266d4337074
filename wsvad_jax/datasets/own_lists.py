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
import csv
import io
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from wsvad_jax.data.crops import crop_files, video_of
from wsvad_jax.data.feature_files import ErrorCollector
from wsvad_jax.datasets import custom, random_split
from wsvad_jax.datasets.alike import alike_videos, groups
from wsvad_jax.datasets.class_folders import NORMAL, read_class_folders, same_name
from wsvad_jax.datasets.custom_ground_truth import read_ground_truth
from wsvad_jax.datasets.custom_videos import video_files
from wsvad_jax.datasets.list_options import SEED, TEST_SHARE, ListOptions
from wsvad_jax.datasets.missing_files import VIDEOS, misplaced_videos
from wsvad_jax.datasets.split_lists import (
    SPLITS,
    ListEntry,
    OwnLists,
    drop_duplicates,
    entry_video_id,
    read_list,
    read_lists,
)
from wsvad_jax.datasets.validation.duplicates import identical_files
from wsvad_jax.datasets.validation.report import first_names
from wsvad_jax.utils import files
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.text import count

FOLDER, RECORD = "split", "split.json"
SPLIT_FLAGS = ("normal_folder", "split_seed", "test_share")


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
        _refuse(options, SPLIT_FLAGS, f"{train.name} and {test.name} in {folder}")
        lists = read_lists(folder, columns)
        return OwnLists(lists, remarks=_unused_split(folder, lists))
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

    if (folder / FOLDER).exists():
        return _read_split(folder, entries, options)
    return _make_split(folder, root, entries, options)


def _refuse(options: ListOptions, names: Sequence[str], reason: str) -> None:
    unused = [options.flags[name] for name in names if name in options.flags]
    if unused:
        raise InputError(
            f"{', '.join(unused)}: no effect, since there is {reason}; leave "
            f"{'it' if len(unused) == 1 else 'them'} out"
        )


def _unused_split(
    folder: pathlib.Path, lists: Mapping[str, Sequence[ListEntry]]
) -> list[str]:
    """Returns a remark about a split that the user's own lists replace."""
    path = folder / FOLDER
    if not (path / RECORD).is_file():
        return []
    remark = f"{path} is not used, since train.csv and test.csv are there"
    tested = {e.video for e in read_list(path / "test.csv")}
    moved = sorted(tested & {e.video for e in lists["train"]})
    if moved:
        remark += (
            f"; {count(len(moved), 'video')} of its test list are in train.csv now, so "
            f"results don't compare with earlier ones: {first_names(moved)}"
        )
    return [remark]


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

    counts = " and ".join(f"{len(lists[s])} in {FOLDER}/{s}.csv" for s in SPLITS)
    remarks.insert(
        0, f"split by video with seed {seed}, test share {share:g}: {counts}"
    )
    remarks += [
        f"on one side, since they share content: {', '.join(group)}"
        for group in together
    ]
    record = {
        "labels": "train.csv" if (folder / "train.csv").exists() else "folders",
        "normal_folder": options.normal_folder,
        "split_seed": seed,
        "test_share": share,
        "together": [list(group) for group in together],
    }
    return OwnLists(lists, True, [*remarks, *random_split.remarks(lists)], record)


def _with_truth(folder: pathlib.Path) -> set[str]:
    """Returns the videos whose events are known; an invalid file is reported later."""
    with contextlib.suppress(InputError):
        path = folder / custom.GROUND_TRUTH
        truth = read_ground_truth(path) if path.exists() else {}
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


def write(folder: pathlib.Path, own: OwnLists) -> None:
    """Writes a split that was made, as a whole; lists that were read stay as they are.

    Raises:
      InputError: a name that a list can't hold.
      OSError: the folder can't be written.
    """
    if own.record is None:
        return
    with files.build_folder(folder) as building:
        made = building / FOLDER
        made.mkdir()
        for split, entries in own.lists.items():
            path = made / f"{split}.csv"
            files.write_text(path, _list_text(entries))
            if [(e.video, e.labels) for e in read_list(path)] != [
                (e.video, e.labels) for e in entries
            ]:
                raise InputError(f"{folder}: a name of a video can't be in a list")
        files.write_json(made / RECORD, own.record)
        made.rename(folder / FOLDER)
    print(f"wrote {folder / FOLDER}: {', '.join(f'{s}.csv' for s in SPLITS)}, {RECORD}")


def _list_text(entries: Sequence[ListEntry]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["video", "label"])
    for entry in entries:
        # An ending that is part of the name needs another one behind it.
        same = entry_video_id(entry.video) == entry.video
        name = entry.video if same else f"{entry.video}.mp4"
        writer.writerow([name, "+".join(entry.labels)])
    return text.getvalue()


def _read_split(
    folder: pathlib.Path, entries: Sequence[ListEntry], options: ListOptions
) -> OwnLists:
    """Reads the split that was made before, and says what has changed since."""
    path = folder / FOLDER
    record = _read_record(path / RECORD)
    for name in SPLIT_FLAGS:
        asked = getattr(options, name)
        if asked is not None and asked != record.get(name):
            raise InputError(
                f"--{name} {asked}: {path} was made with {record.get(name)}; leave the "
                "flag out, or move that folder away to split again"
            )

    lists = {split: read_list(path / f"{split}.csv") for split in SPLITS}
    known = {e.video: e for rows in lists.values() for e in rows}
    for entry in entries:
        listed = known.get(entry.video, entry)
        if sorted(listed.labels) != sorted(entry.labels):
            raise InputError(
                f"{entry.where}: video {entry.video} has the label "
                f"{'+'.join(entry.labels)}, but {listed.where} says "
                f"{'+'.join(listed.labels)}; correct one of them"
            )

    counts = " and ".join(f"{len(lists[s])} in {FOLDER}/{s}.csv" for s in SPLITS)
    remarks = [f"lists of the split that was made before: {counts}"]
    new = [e.video for e in entries if e.video not in known]
    if new:
        remarks.append(
            f"{count(len(new), 'video')} came after the split, so "
            f"{'they are' if len(new) > 1 else 'it is'} not used: {first_names(new)}; add "
            f"each to {FOLDER}/train.csv or {FOLDER}/test.csv"
        )
    return OwnLists(lists, True, remarks)


def _read_record(path: pathlib.Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(
            f"{path}: no such file, so {path.parent} is no split of prepare; move that "
            "folder away"
        )
    value = files.read_json(path)
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected an object, as prepare writes it")
    return value
