"""What detection is given: videos, folders, feature files, and the truth about them."""

import dataclasses
import os
import pathlib
import re
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Float16

from wsvad_jax.data import annotations, sidecar
from wsvad_jax.data.findings import some
from wsvad_jax.data.names import plain, video_id
from wsvad_jax.data.records import FRAMES_PER_SNIPPET
from wsvad_jax.data.walk import Passed
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


def find(
    paths: Sequence[str | pathlib.Path], passed: Passed | None = None
) -> list[Source]:
    """Finds what is meant by files and folders, in the order given.

    Of a folder all videos below it are taken, or, where there are none, all features.

    Args:
      paths: files and folders.
      passed: takes what is passed over in folders; without it the first error about
        what can't be read is raised.

    Raises:
      InputError: no such file, nothing in a folder, or two videos of one name.
    """
    found: dict[str, Source] = {}
    noted = passed or Passed()
    for given in map(pathlib.Path, paths):
        look = _folder if given.is_dir() else _file
        for source in look(given, noted):
            if source.name in found:
                other = found[source.name].files[0]
                raise InputError(
                    f"{other} and {source.files[0]} are both named {source.name}; "
                    "rename one, or pass the folder above both"
                )
            found[source.name] = source
    if noted.errors and (passed is None or not found):
        raise noted.errors[0]
    return list(found.values())


def _file(path: pathlib.Path, passed: Passed) -> list[Source]:
    from wsvad_jax.data.video_files import a_file

    paths = a_file(path, "a video, a folder or a .npy", passed)
    return [Source(path.stem, (path,)) for path in paths]


def _folder(folder: pathlib.Path, passed: Passed) -> list[Source]:
    from wsvad_jax.data.features import npy_files
    from wsvad_jax.data.video_files import find_videos, name_videos

    noted, videos, features = Passed(), [], []
    try:
        videos = find_videos([folder], noted)
    except InputError:
        noted = Passed()
        if not (features := npy_files(folder, noted)):
            raise
    passed.unread += noted.unread
    passed.errors += noted.errors
    if not videos:
        return _by_video(folder, features)
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
    if not os.path.isfile(path):
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
    return os.path.isfile(sidecar.sidecar_path(source.files[0]))


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


def match(
    found: Sequence[Source], truth: Mapping[str, annotations.Truth]
) -> tuple[dict[str, annotations.Truth], list[str]]:
    """Finds the video of each entry of a truth file.

    An entry belongs to the video of its name, with or without extension; where there is
    none, to the one whose path ends with it.

    Returns:
      the truth by the sources' names, and what there is to say: entries of videos that
      are not given, and videos without an entry.

    Raises:
      InputError: an entry that fits several videos, or two that fit one.
    """
    tables = _by_names(found)
    taken: dict[str, str] = {}
    missing = []
    for entry, item in truth.items():
        name = video_id(entry)
        fitting = next((table[name] for table in tables if name in table), [])
        if not fitting:
            missing.append(entry)
            continue
        if len(fitting) > 1:
            raise InputError(
                f"{item.source}: video {entry} may be {fitting[0].files[0]} or "
                f"{fitting[1].files[0]}; name it with its folder"
            )
        other = taken.setdefault(fitting[0].name, entry)
        if other != entry:
            raise InputError(
                f"{item.source}: {other} and {entry} are both the video "
                f"{fitting[0].name}; keep one"
            )

    said = []
    if missing:
        said.append(f"in the truth, but not given: {some(missing)}")
    if without := [source.name for source in found if source.name not in taken]:
        said.append(f"given, but not in the truth: {some(without)}")
    return {name: truth[entry] for name, entry in taken.items()}, said


def _by_names(found: Sequence[Source]) -> tuple[dict[str, list[Source]], ...]:
    """Maps to sources: their names, those without extension, ends of their paths."""
    names, shorter, ends = {}, {}, {}
    for source in found:
        names.setdefault(plain(source.name), []).append(source)
        shorter.setdefault(video_id(source.name), []).append(source)
        parts = video_id(str(source.files[0].absolute())).split("/")
        if not source.is_video:
            parts[-1] = re.sub(r"__\d+$", "", parts[-1])  # the number of a crop
        for i in range(len(parts)):
            ends.setdefault("/".join(parts[i:]), []).append(source)
    return names, shorter, ends
