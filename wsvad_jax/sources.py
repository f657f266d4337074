"""What detection is given: videos, folders, feature files, and the truth about them."""

import dataclasses
import pathlib
import re
import shlex
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Float16

from wsvad_jax.data import annotations, sidecar
from wsvad_jax.data.records import FRAMES_PER_SNIPPET
from wsvad_jax.errors import InputError
from wsvad_jax.events import UNNAMED, Event


@dataclasses.dataclass(frozen=True)
class Source:
    """One video: its file, or the files of its features, one or one a crop."""

    name: str  # path below the folder that was given, without extension
    files: tuple[pathlib.Path, ...]

    @property
    def is_video(self) -> bool:
        return self.files[0].suffix.lower() != ".npy"


@dataclasses.dataclass(frozen=True)
class Features:
    """Features that were extracted before, and their time."""

    values: Float16[np.ndarray, "N T D"]
    edges: Float[np.ndarray, "T1"]  # seconds
    num_frames: int  # 0: not known
    sidecar: sidecar.Sidecar | None


def find(paths: Sequence[str | pathlib.Path]) -> list[Source]:
    """Finds what is meant by files and folders, in the order given.

    Of a folder all videos below it are taken, or, where there are none, all features.

    Raises:
      InputError: no such file, nothing in a folder, or two videos of one name.
    """
    check_files(paths)
    found: dict[str, Source] = {}
    for given in map(pathlib.Path, paths):
        for source in _folder(given) if given.is_dir() else [_file(given)]:
            if source.name in found:
                other = found[source.name].files[0]
                raise InputError(
                    f"{other} and {source.files[0]} are both named {source.name}; "
                    "rename one, or pass the folder above both"
                )
            found[source.name] = source
    return list(found.values())


def check_files(
    paths: Sequence[str | pathlib.Path],
    instead: str = "pass it as --live {}, which scores it as it comes",
) -> None:
    """Raises InputError for a camera, an address or a pipe among files.

    Args:
      paths: as they were passed.
      instead: what to do with one, for {}.
    """
    for path in map(str, paths):
        # pathlib makes one slash of two.
        address = re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", path) is not None
        device = pathlib.Path(path).is_char_device() or pathlib.Path(path).is_fifo()
        if path == "-" or device or (address and not pathlib.Path(path).exists()):
            what = "an address" if address else "a stream"
            hint = instead.format(shlex.quote(path))
            raise InputError(f"{path}: {what}, not a file; {hint}")


def _file(path: pathlib.Path) -> Source:
    if not path.exists():
        raise InputError(f"{path}: no such file; expected a video, a folder or a .npy")
    return Source(path.stem, (path,))


def _folder(folder: pathlib.Path) -> list[Source]:
    from wsvad_jax.data.extract_files import find_videos, name_videos
    from wsvad_jax.data.features import npy_files

    features = npy_files(folder)
    try:
        videos = find_videos([folder])
    except InputError:
        if features:
            return _by_video(folder, features)
        raise
    named = name_videos(videos, [folder])
    return [Source(name, (path,)) for name, path in named.items()]


def _by_video(folder: pathlib.Path, files: Sequence[pathlib.Path]) -> list[Source]:
    """Joins VIDEO__0.npy, VIDEO__1.npy … of one video."""
    crops: dict[str, dict[int, pathlib.Path]] = {}
    for path in files:
        name = path.relative_to(folder).as_posix().removesuffix(".npy")
        crop = re.fullmatch(r"(.+)__(\d+)", name)
        name, number = (crop[1], int(crop[2])) if crop else (name, 0)
        crops.setdefault(name, {})[number] = path
    return [
        Source(name, tuple(path for _, path in sorted(parts.items())))
        for name, parts in crops.items()
    ]


def read(source: Source, fps: float, stride: int = FRAMES_PER_SNIPPET) -> Features:
    """Reads features, and their time from the sidecar.

    Args:
      source: of features.
      fps: frames a second, where there is no sidecar.
      stride: frames a snippet, where there is none.

    Raises:
      InputError: a damaged file, crops of different shapes, or another video's sidecar.
    """
    from wsvad_jax.data import features

    parts = [features.read(path) for path in source.files]
    first = source.files[0]
    if len({part.shape for part in parts}) > 1:
        raise InputError(
            f"{first}: the crops are of different shapes "
            f"({', '.join(str(part.shape) for part in parts)}); extract the video again"
        )
    values = np.stack(parts) if len(parts) > 1 else parts[0]
    values = values[None] if values.ndim == 2 else values
    if values.ndim != 3 or 0 in values.shape:
        raise InputError(
            f"{first}: features of shape {parts[0].shape}; expected [T, D], or "
            "[N, T, D] of N crops"
        )
    T = values.shape[1]
    path = sidecar.sidecar_path(first)
    if not path.is_file():
        return Features(values, np.arange(T + 1) * stride / fps, 0, None)
    found = sidecar.read(path)
    if len(found.seconds) != T:
        raise InputError(
            f"{path}: of {len(found.seconds)} snippets, but {first} has {T}; extract "
            "the video again"
        )
    edges = snippet_edges(np.array(found.seconds), found.duration)
    return Features(values, edges, found.num_frames, found)


def timed(source: Source) -> bool:
    """Whether features have their times beside them."""
    return sidecar.sidecar_path(source.files[0]).is_file()


def snippet_edges(
    seconds: Float[np.ndarray, "T"], duration: float
) -> Float[np.ndarray, "T1"]:
    """Returns when each snippet begins, and the video's end; the first begins at 0."""
    edges = np.append(seconds, duration).astype(np.float64)
    edges[0] = 0
    return np.maximum.accumulate(edges)


def true_events(
    truth: annotations.Truth,
    edges: Float[np.ndarray, "T1"],
    stride: int = FRAMES_PER_SNIPPET,
    num_frames: int = 0,
) -> tuple[Event, ...]:
    """Turns events in frames into seconds.

    Args:
      truth: what a truth file says of the video.
      edges: seconds at which snippets begin, and the end.
      stride: frames a snippet.
      num_frames: of the video; 0 takes whole snippets.
    """
    frames = np.arange(len(edges)) * float(stride)
    if num_frames > frames[-2]:
        frames[-1] = num_frames
    found = []
    for first, stop, category in truth.events:
        start, end = np.interp([first, stop], frames, edges)
        if end > start:
            name = category or truth.label or UNNAMED
            middle = float(start + end) / 2
            found.append(Event(float(start), float(end), name, float("nan"), middle))
    return tuple(found)


def truth_of(
    name: str, truth: Mapping[str, annotations.Truth]
) -> annotations.Truth | None:
    """Returns what a truth file says of a video; its folder may be left out there."""
    return truth.get(name) or truth.get(annotations.video_name(name))
