"""The folder split/ of a custom folder: a random split, written once and read again.

split/train.csv, test.csv    video,label
split/split.json             seed, share, and which videos were kept together
split/test_normal/           links to the normal test videos, for `calibrate`
split/test_abnormal/         links to the others, for `detect`
"""

import csv
import io
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from wsvad_jax.datasets.class_folders import same_name
from wsvad_jax.datasets.custom_videos import video_files
from wsvad_jax.datasets.list_options import ListOptions
from wsvad_jax.datasets.missing_files import VIDEOS
from wsvad_jax.datasets.split_lists import (
    SPLITS,
    ListEntry,
    OwnLists,
    entry_video_id,
    read_list,
)
from wsvad_jax.utils import files
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.text import count, first_names

FOLDER, RECORD = "split", "split.json"
FLAGS = ("normal_folder", "split_seed", "test_share")  # that split.json records


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
        linked = _link_test_videos(folder, made, own)
        made.rename(folder / FOLDER)
    print(f"wrote {folder / FOLDER}: {', '.join(f'{s}.csv' for s in SPLITS)}, {RECORD}")
    if linked:
        print(f"links to the test videos: {', '.join(f'{FOLDER}/{k}' for k in linked)}")


def _link_test_videos(
    folder: pathlib.Path, made: pathlib.Path, own: OwnLists
) -> list[str]:
    """Links the test videos by kind; returns the folders that were made.

    Calibrating on training videos would promise too few false alarms.
    """
    by_name, normal = video_files(folder / VIDEOS), str((own.record or {})["normal"])
    kinds: dict[str, None] = {}
    for entry in own.lists["test"]:
        if entry.video not in by_name:
            continue
        is_normal = len(entry.labels) == 1 and same_name(entry.labels[0], normal)
        kind = "test_normal" if is_normal else "test_abnormal"
        source = by_name[entry.video][0].relative_to(folder)
        link = made / kind / source.relative_to(VIDEOS)
        # Relative, so that the folder can be moved.
        up = len(link.relative_to(made).parts)
        try:
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.join(*[".."] * up, source))
        except OSError:  # a file system without links
            return list(kinds)
        kinds[kind] = None
    return list(kinds)


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


def unused(folder: pathlib.Path, lists: Mapping[str, Sequence[ListEntry]]) -> list[str]:
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


def read(
    folder: pathlib.Path, entries: Sequence[ListEntry], options: ListOptions
) -> OwnLists:
    """Reads the split that was made before, and says what has changed since."""
    path = folder / FOLDER
    record = _read_record(path / RECORD)

    # The lists are kept as they are, so a flag that asks for others can't be followed.
    for name in FLAGS:
        asked = getattr(options, name)
        if asked is not None and asked != record.get(name):
            raise InputError(
                f"--{name} {asked}: {path} was made with {record.get(name)}; leave the "
                "flag out, or move that folder away to split again"
            )

    # The folder and its lists hold the same labels: a correction belongs in both.
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
    present = {e.video for e in entries}
    gone = [e for e in known.values() if e.video not in present]
    _check_moved(gone, new)

    if gone:
        remarks.append(
            f"{count(len(gone), 'video')} of the split {'are' if len(gone) > 1 else 'is'} "
            f"no longer in the folder: {first_names([e.video for e in gone])}; features "
            f"that are still there are used, so delete the lines in {FOLDER}/ if they "
            "should not be"
        )
    if new:
        remarks.append(
            f"{count(len(new), 'video')} came after the split, so "
            f"{'they are' if len(new) > 1 else 'it is'} not used: {first_names(new)}; add "
            f"each to {FOLDER}/train.csv or {FOLDER}/test.csv"
        )
    return OwnLists(lists, True, remarks)


def _check_moved(gone: Sequence[ListEntry], new: Sequence[str]) -> None:
    """Raises InputError if a listed video was moved, so that its label may be another.

    Its old features may still be there, and would be trained on with the old label.
    """
    by_file = {pathlib.PurePosixPath(name).name: name for name in new}
    for entry in gone:
        moved = by_file.get(pathlib.PurePosixPath(entry.video).name)
        if moved is not None:
            raise InputError(
                f"{entry.where}: video {entry.video} is no longer in the folder, but "
                f"{moved} is new there; if it was moved, write {moved} and its label into "
                "that line; if both are meant, rename the new one"
            )


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
