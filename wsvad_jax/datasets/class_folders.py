"""Labels from folder names: videos/Fight/a.mp4 has the label Fight.

The folder directly below videos/ is the class; deeper ones are part of the name. Which
folder holds the ordinary videos is never guessed: it is named Normal (in any case), or
as the card's normal class, or `--normal_folder` names it.
"""

import os
import pathlib
from collections.abc import Iterable

from wsvad_jax.data.video_names import normalize_label
from wsvad_jax.datasets.split_lists import ListEntry, parse_entry
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.text import count, first_names

NORMAL = "Normal"
# Names of splits, which no class has.
SPLIT_NAMES = frozenset(
    {"train", "training", "test", "testing", "val", "valid", "validation"}
)


def read_class_folders(
    root: pathlib.Path,
    names: Iterable[str],
    normal_folder: str | None = None,
    normal_class: str = "",
) -> list[ListEntry]:
    """Returns an entry per video, with the label that its folder names.

    Args:
      root: folder of the class folders.
      names: paths below it, with `/` between folders.
      normal_folder: name of the ordinary videos' folder; None: the one named Normal.
      normal_class: label of the normal class on the folder's card; "" without one.

    Raises:
      InputError: a file outside of the class folders, fewer than two folders, or no
        folder that is clearly the normal one.
    """
    names = sorted(names)
    loose = [name for name in names if "/" not in name]
    folders = list(dict.fromkeys(n.partition("/")[0] for n in names if "/" in n))
    if loose:
        inside = f"; its folders are {first_names(folders)}" if folders else ""
        raise InputError(
            f"{root}: there is no train.csv, and {count(len(loose), 'file')} "
            f"({first_names(loose)}) {'are' if len(loose) > 1 else 'is'} in no class folder"
            f"{inside}; move each into a folder named as its class, such as "
            f"{root.name}/{NORMAL}, or write train.csv"
        )

    _check_folders(root, folders)
    normal = _normal_folder(root, folders, normal_folder, normal_class or NORMAL)
    entries = []
    for name in names:
        folder = name.partition("/")[0]
        label = (normal_class or NORMAL) if folder == normal else folder
        entries.append(parse_entry(os.fspath(root / name), [name, label]))
    return entries


def _check_folders(root: pathlib.Path, folders: list[str]) -> None:
    if splits := [f for f in folders if f.lower() in SPLIT_NAMES]:
        raise InputError(
            f"{root}: {first_names(splits)} names a split, not a class; move the class "
            f"folders up, such as {root.name}/{NORMAL}, or write train.csv and test.csv"
        )
    if len(folders) < 2:
        raise InputError(
            f"{root}: there is no train.csv, and {count(len(folders), 'class folder')} "
            f"({first_names(folders) or 'none'}) to read labels from; expected one folder of "
            "ordinary videos and one or more of events"
        )


def _normal_folder(
    root: pathlib.Path, folders: list[str], asked: str | None, normal_class: str
) -> str:
    """Returns the folder of the ordinary videos."""
    found = f"its folders are {first_names(folders)}"
    named = [f for f in folders if same_name(f, normal_class)]
    if asked is not None:
        chosen = [f for f in folders if f == asked] or [
            f for f in folders if same_name(f, asked)
        ]
        if len(chosen) != 1:
            raise InputError(f"--normal_folder {asked}: not in {root}; {found}")
        if named and named != chosen:
            raise InputError(
                f"--normal_folder {asked}: {root} has a folder {named[0]} as well; join "
                "the two folders, or leave the flag out"
            )
        return chosen[0]

    if len(named) > 1:
        raise InputError(
            f"{root}: {first_names(named)} are one class; join the folders"
        )
    if not named:
        raise InputError(
            f"{root}: no folder is named {normal_class}, and {found}; pass "
            "--normal_folder NAME with the one that holds the ordinary videos"
        )
    return named[0]


def same_name(folder: str, other: str) -> bool:
    """Whether two names differ in capitals or Unicode form alone."""
    return normalize_label(folder).casefold() == normalize_label(other).casefold()
