"""Which feature files are a video's: VIDEO.npy, or VIDEO__0.npy, VIDEO__1.npy ... crops.

Crops are counted from 0, without a gap and without leading zeros. A file of another
number is a video of its own: cam__1 and cam__2 where there is no cam__0, or cam__01. So
are a file that a list names, a file with its own sidecar (cam__0.json), and every file
of a folder whose protocol.json says `"layout": "one"`, as extraction writes it.
"""

import os
import pathlib
import re
from collections.abc import Iterable, Mapping

from wsvad_jax.utils import files
from wsvad_jax.utils.errors import InputError

# Endings of features that are written in another format than .npy.
FORMATS = (".npz", ".pt", ".pth", ".pkl", ".mat", ".h5", ".hdf5", ".npy.gz", ".csv")


class MissingFeatures(InputError):
    """A video has no feature file."""


class FeatureIndex(dict[str, pathlib.Path]):
    """The feature files of a folder by name, and by video and crop."""

    def __init__(self, root: pathlib.Path, listed: Iterable[str] = ()):
        """Starts empty.

        Args:
          root: the features' folder.
          listed: names of all videos, which are no crops of another.
        """
        super().__init__()
        self.listed = frozenset(listed)
        path = root / "protocol.json"
        value = files.read_json(path) if path.is_file() else {}
        self.layout = value.get("layout") if isinstance(value, dict) else None
        self.crops: dict[str, dict[int, pathlib.Path]] = {}
        self.twins: dict[str, pathlib.Path] = {}  # a second file of a name

    def add(self, name: str, path: pathlib.Path) -> None:
        """Notes a file."""
        if self.setdefault(name, path) != path:
            self.twins[name] = path
        elif parts := split_crop_name(name):
            video, crop = parts
            self.crops.setdefault(video, {})[crop] = path

    def crops_of(self, video: str) -> dict[int, pathlib.Path]:
        """Returns what may be crops of a video, by number."""
        return {
            n: path
            for n, path in sorted(self.crops.get(video, {}).items())
            if f"{video}__{n}" not in self.listed and not self._is_whole(path)
        }

    def _is_whole(self, path: pathlib.Path) -> bool:
        """Whether a file called VIDEO__N is a video of its own."""
        if self.layout in ("one", "crops"):
            return self.layout == "one"
        return os.path.isfile(path.with_suffix(".json"))


def split_crop_name(name: str) -> tuple[str, int] | None:
    """Returns the video and crop that a feature file may be of; "a__1": ("a", 1)."""
    found = re.fullmatch(r"(.+)__(0|[1-9][0-9]*)", name, re.DOTALL)
    return (found[1], int(found[2])) if found else None


def crop_files(
    video: str, index: FeatureIndex, root: pathlib.Path
) -> tuple[pathlib.Path, ...]:
    """Returns a video's file, or its crops' files, among the files by name.

    Args:
      video: its name.
      index: the files, see `folder.feature_files`.
      root: folder of the files, for errors.

    Raises:
      Missing: there is none.
      InputError: a crop is missing, or two files say that they are the same.
    """
    crops = index.crops_of(video)
    started = 0 in crops
    for name in (video, *(f"{video}__{n}" for n in crops if started)):
        if name in index.twins:
            raise _two(video, index[name], index.twins[name])
    if video in index and started:
        raise _two(video, index[video], crops[0])
    if video in index:
        return (index[video],)
    if started:
        return _whole_row(video, crops)
    hint = "extract the video or take it off the list"
    if others := index.crops.get(video):
        first = others[min(others)].name
        hint = (
            f"{first} is there, but it is no crop of {video} (counted from 0); {hint}"
        )
    hint = other_format(root, video) or hint
    raise MissingFeatures(f"{root / video}.npy: the feature file is missing; {hint}")


def other_format(root: pathlib.Path, video: str) -> str:
    """Returns what to do with a video's features in a format that isn't read, or ""."""
    for ending in FORMATS:
        # os.path, since a name may be too long for the file system.
        if os.path.isfile(path := f"{root / video}{ending}"):
            return f"{os.path.basename(path)} is there; write its array with np.save"
    return ""


def group_by_video(index: FeatureIndex) -> dict[str, tuple[pathlib.Path, ...]]:
    """Groups all files of a folder by video, in their order.

    Raises:
      InputError: a video's file beside its crops, or a gap between crops.
    """
    grouped: dict[str, tuple[pathlib.Path, ...]] = {}
    for name, path in index.items():
        video = video_of(name, path, index)
        if video == name:
            grouped[name] = (path,)
        elif video in index:
            raise _two(video, index[video], path)
        elif video not in grouped:
            grouped[video] = _whole_row(video, index.crops_of(video))
    return grouped


def video_of(name: str, path: pathlib.Path, index: FeatureIndex) -> str:
    """Returns the video that a file belongs to: its own name, or without the crop."""
    video, _ = split_crop_name(name) or (name, 0)
    crops = index.crops_of(video)
    return video if 0 in crops and path in crops.values() else name


def _whole_row(
    video: str, crops: Mapping[int, pathlib.Path]
) -> tuple[pathlib.Path, ...]:
    for i, number in enumerate(crops):
        if i != number:
            raise InputError(
                f"{crops[number]}: there is no {video}__{i}.npy, so this is crop "
                f"{number} of {video} with crop {i} missing, or a video of its own; add "
                "the missing file or rename this one"
            )
    return tuple(crops.values())


def _two(video: str, one: pathlib.Path, other: pathlib.Path) -> InputError:
    return InputError(
        f"{one}: there is {other.name} as well, and both are features of video {video}; "
        "keep one of the two, or rename one"
    )
