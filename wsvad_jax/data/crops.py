"""Groups feature files by video: VIDEO.npy, or crops VIDEO__0.npy, VIDEO__1.npy …

Crops are numbered from 0, without gaps or leading zeros. Other numbers belong to the
video's name: cam__01, or cam__1 and cam__2 without a cam__0. The following files are
videos of their own, too: a file in a split list, a file with its own sidecar
(cam__0.json), and every file of a folder whose protocol.json has `"layout": "one"`.
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
    """Feature files of a folder, by name and by video and crop."""

    def __init__(self, root: pathlib.Path, listed: Iterable[str] = ()):
        """Creates an empty index.

        Args:
          root: folder of the features.
          listed: names of all videos in the split lists, which are never crops.
        """
        super().__init__()
        self.listed = frozenset(listed)

        # The layout decides whether files of one crop are possible at all.
        path = root / "protocol.json"
        value = files.read_json(path) if path.is_file() else {}
        self.layout = value.get("layout") if isinstance(value, dict) else None

        self.crops: dict[str, dict[int, pathlib.Path]] = {}
        self.twins: dict[str, pathlib.Path] = {}  # second files of a name

    def add(self, name: str, path: pathlib.Path) -> None:
        """Adds a file."""
        if self.setdefault(name, path) != path:
            self.twins[name] = path
        elif match := split_crop_name(name):
            video, crop = match
            self.crops.setdefault(video, {})[crop] = path

    def crops_of(self, video: str) -> dict[int, pathlib.Path]:
        """Returns the files that may be crops of a video, by number."""
        return {
            n: path
            for n, path in sorted(self.crops.get(video, {}).items())
            if f"{video}__{n}" not in self.listed and not self._is_whole(path)
        }

    def _is_whole(self, path: pathlib.Path) -> bool:
        """Returns whether a file named VIDEO__N is a separate video."""
        if self.layout in ("one", "crops"):
            return self.layout == "one"
        return os.path.isfile(path.with_suffix(".json"))


def split_crop_name(name: str) -> tuple[str, int] | None:
    """Splits a possible crop name: "a__1" gives ("a", 1); None for other names."""
    match = re.fullmatch(r"(.+)__(0|[1-9][0-9]*)", name, re.DOTALL)
    return (match[1], int(match[2])) if match else None


def crop_files(
    video: str, index: FeatureIndex, root: pathlib.Path
) -> tuple[pathlib.Path, ...]:
    """Returns a video's feature file, or the files of its crops.

    Args:
      video: name of the video.
      index: feature files of the folder.
      root: path of the folder, for errors.

    Raises:
      MissingFeatures: the video has no file.
      InputError: a crop is missing, or two files are features of the same video.
    """
    crops = index.crops_of(video)
    has_crops = 0 in crops

    # Two sources for one video are an error, whatever they hold.
    for name in (video, *(f"{video}__{n}" for n in crops if has_crops)):
        if name in index.twins:
            raise _duplicate(video, index[name], index.twins[name])
    if video in index and has_crops:
        raise _duplicate(video, index[video], crops[0])

    if video in index:
        return (index[video],)
    if has_crops:
        return _complete_crops(video, crops)

    # A hint at the likely cause: wrong crop numbers, or another file format.
    hint = "extract the video or take it off the list"
    if others := index.crops.get(video):
        first = others[min(others)].name
        hint = (
            f"{first} is there, but it is no crop of {video} (counted from 0); {hint}"
        )
    hint = other_format(root, video) or hint
    raise MissingFeatures(f"{root / video}.npy: the feature file is missing; {hint}")


def other_format(root: pathlib.Path, video: str) -> str:
    """Returns a hint at features in an unsupported format, "" without such a file."""
    for ending in FORMATS:
        # os.path, since a name may be too long for the file system.
        if os.path.isfile(path := f"{root / video}{ending}"):
            return f"{os.path.basename(path)} is there; write its array with np.save"
    return ""


def group_by_video(index: FeatureIndex) -> dict[str, tuple[pathlib.Path, ...]]:
    """Groups all files of a folder by video, in their order.

    Raises:
      InputError: a video has a file and crops, or a crop is missing.
    """
    grouped: dict[str, tuple[pathlib.Path, ...]] = {}
    for name, path in index.items():
        video = video_of(name, path, index)

        # Crops are grouped once, when their first file comes.
        if video == name:
            grouped[name] = (path,)
        elif video in index:
            raise _duplicate(video, index[video], path)
        elif video not in grouped:
            grouped[video] = _complete_crops(video, index.crops_of(video))
    return grouped


def video_of(name: str, path: pathlib.Path, index: FeatureIndex) -> str:
    """Returns the video that a file belongs to: the file's name, without its crop."""
    video, _ = split_crop_name(name) or (name, 0)
    crops = index.crops_of(video)
    return video if 0 in crops and path in crops.values() else name


def _complete_crops(
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


def _duplicate(video: str, first: pathlib.Path, second: pathlib.Path) -> InputError:
    return InputError(
        f"{first}: there is {second.name} as well, and both are features of video {video}; "
        "keep one of the two, or rename one"
    )
