"""Finds the input videos and feature files of detection, and reads features."""

import contextlib
import dataclasses
import os
import pathlib
import re
import shlex
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Float16, Num

from wsvad_jax.data import feature_protocols, sidecar
from wsvad_jax.data.records import FRAMES_PER_SNIPPET, FeatureProtocol
from wsvad_jax.evaluation.event_rules import DEFAULT_FPS
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.file_search import SkippedFiles

CROP = re.compile(r".+__(\d+)", re.DOTALL)  # name of one file of several


@dataclasses.dataclass(frozen=True)
class VideoInput:
    """One video: its file, or the files of its features (one, or one per crop)."""

    name: str  # path below the folder that was passed, without extension
    files: tuple[pathlib.Path, ...]

    @property
    def is_video(self) -> bool:
        return self.files[0].suffix.lower() != ".npy"


@dataclasses.dataclass(frozen=True)
class TimedFeatures:
    """TimedFeatures that were extracted before, and their time."""

    values: Float16[np.ndarray, "N T D"]
    edges: Float[np.ndarray, "T1"]  # seconds
    num_frames: int  # 0: unknown
    sidecar: sidecar.Sidecar | None
    protocol: FeatureProtocol  # as sidecar or protocol.json says


def check_features(
    features: Num[np.ndarray, "..."], width: int
) -> Float16[np.ndarray, "N T D"]:
    """Returns features in memory as [N, T, D].

    Args:
      features: [T, D], or [N, T, D] of N crops.
      width: width D of the model's features.

    Raises:
      InputError: another shape or width, no snippet, or values that are not finite.
    """
    x = np.asarray(features)
    x = x[None] if x.ndim == 2 else x
    if x.ndim != 3 or 0 in x.shape or x.shape[-1] != width:
        frames = x.ndim == 4 and x.shape[-1] == 3 and x.dtype == np.uint8
        hint = "; frames are passed as detector(frames, fps=25)" if frames else ""
        raise InputError(
            f"features are of shape {np.shape(features)}; expected [T, {width}] or "
            f"[N, T, {width}] with at least one snippet{hint}"
        )

    # A value too large for float16 becomes infinite.
    with np.errstate(over="ignore"):
        x = x.astype(np.float16)
    if not np.isfinite(x).all():
        raise InputError("features hold values that are not finite in float16")
    return x


def find_inputs(
    paths: Sequence[str | pathlib.Path], passed: SkippedFiles | None = None
) -> list[VideoInput]:
    """Finds the videos and features in files and folders, in their order.

    A folder stands for all videos below it or, if there are none, for all features.

    Args:
      paths: files and folders.
      passed: receives the files that are left out in folders; None raises the first
        error about them.

    Raises:
      InputError: no such file, nothing in a folder, or two videos of one name.
    """
    check_files(paths)

    inputs: dict[str, VideoInput] = {}
    noted = passed or SkippedFiles()
    for path in map(pathlib.Path, paths):
        look = _folder if path.is_dir() else _file
        for video in look(path, noted):
            if video.name in inputs:
                other = inputs[video.name].files[0]
                if other.resolve() == video.files[0].resolve():
                    raise InputError(f"{video.files[0]}: found twice; leave one out")
                raise InputError(
                    f"{other} and {video.files[0]} are both named {video.name}; "
                    "rename one, or pass the folder above both"
                )
            inputs[video.name] = video

    # Nothing is left to score, so the first error is the answer.
    if noted.errors and (passed is None or not inputs):
        raise noted.errors[0]
    return list(inputs.values())


def check_files(
    paths: Sequence[str | pathlib.Path],
    instead: str = "pass it as --live {}, which scores live sources",
) -> None:
    """Raises InputError for a camera, an address or a pipe among files.

    Args:
      paths: command-line arguments.
      instead: hint in the message; {} stands for the path.
    """
    for path in map(str, paths):
        # pathlib makes one slash of two.
        address = re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", path) is not None
        # A pipe that a shell's pattern matched among files is left out by name later.
        alone = pathlib.Path(path) if len(paths) == 1 else pathlib.Path()
        device = alone.is_char_device() or alone.is_fifo()
        if path == "-" or device or (address and not pathlib.Path(path).exists()):
            what = "an address" if address else "a stream"
            hint = instead.format(shlex.quote(path))
            raise InputError(f"{path}: {what}, not a file; {hint}")


def _file(path: pathlib.Path, passed: SkippedFiles) -> list[VideoInput]:
    from wsvad_jax.extraction.video_files import existing_file

    paths = existing_file(path, "a video, a folder or a .npy", passed)
    return [VideoInput(path.stem, (path,)) for path in paths]


def _folder(folder: pathlib.Path, passed: SkippedFiles) -> list[VideoInput]:
    from wsvad_jax.data.feature_files import find_npy_files
    from wsvad_jax.extraction.video_files import find_videos, name_videos

    # Features count only in folders without videos.
    noted, videos, features = SkippedFiles(), [], []
    try:
        videos = find_videos([folder], noted)
    except InputError:
        noted = SkippedFiles()
        if not (features := find_npy_files(folder, noted)):
            raise
    passed.unread += noted.unread
    passed.errors += noted.errors

    if not videos:
        return _by_video(folder, features)
    named = name_videos(videos, [folder])
    return [VideoInput(name, (path,)) for name, path in named.items()]


def _by_video(folder: pathlib.Path, files: Sequence[pathlib.Path]) -> list[VideoInput]:
    """Joins VIDEO__0.npy, VIDEO__1.npy … of one video, see `data.crops`."""
    from wsvad_jax.data import crops

    index = crops.FeatureIndex(folder)
    for path in files:
        index.add(path.relative_to(folder).as_posix().removesuffix(".npy"), path)
    return [
        VideoInput(name, parts) for name, parts in crops.group_by_video(index).items()
    ]


def axes_of(
    found: Sequence[VideoInput], crops: int = 0
) -> dict[str, "str | InputError"]:
    """Decides how the axes of all feature files are ordered; see `data.axes`.

    Args:
      found: videos and features.
      crops: number of crops of the model's features; 0 is unknown.

    Returns:
      axes by name for the files with three axes, or the reason why they are unknown.
    """
    from wsvad_jax.data import axes, feature_files

    shapes: dict[str, tuple[pathlib.Path, tuple[int, ...]]] = {}
    for source in found:
        if source.is_video or len(source.files) != 1:
            continue
        (path,) = source.files
        with contextlib.suppress(InputError):  # `read` reports it
            shape = feature_files.read_shape(path)
            if len(shape) == 3 and all(shape):
                shapes[source.name] = path, shape

    # One file may be ambiguous; together they rarely are.
    layouts = axes.choose_layouts(list(shapes.values()), (crops,) if crops else ())
    return dict(zip(shapes, layouts, strict=True))


def read_features(
    source: VideoInput,
    fps: float,
    stride: int = FRAMES_PER_SNIPPET,
    axes: "str | InputError | None" = None,
) -> TimedFeatures:
    """Reads features, and their times from the sidecar.

    Args:
      source: features of one video.
      fps: frames per second, where there is no sidecar.
      stride: frames per snippet, where neither it nor a protocol.json says.
      axes: result of `axes_of` for them; None decides by this file alone.

    Raises:
      InputError: a damaged file, crops of different shapes, or another video's sidecar.
    """
    values = _values(source, axes)
    N, T = values.shape[:2]
    return TimedFeatures(values, *read_times(source, T, N, fps, stride))


def read_times(
    source: VideoInput, T: int, crops: int, fps: float, stride: int
) -> tuple[Float[np.ndarray, "T1"], int, sidecar.Sidecar | None, FeatureProtocol]:
    """Reads the times and the protocol of features; the last fields of `TimedFeatures`.

    Args:
      source, fps, stride: as for `read_features`.
      T, crops: numbers of snippets and of crops in the files.

    Raises:
      InputError: a damaged file, or another video's sidecar.
    """
    first = source.files[0]

    # Without a sidecar, time follows from the rates.
    path = sidecar.sidecar_path(first)
    if not os.path.isfile(path):
        protocol = stated_of(source, crops)
        return frame_edges(T, protocol.stride or stride, fps), 0, None, protocol

    side = sidecar.read(path)
    if len(side.seconds) != T:
        raise InputError(
            f"{path}: of {len(side.seconds)} snippets, but {first} has {T}; extract "
            "the video again"
        )
    edges = snippet_edges(np.array(side.seconds), side.duration)
    return edges, side.num_frames, side, side.protocol


def stated_of(source: VideoInput, crops: int = 0) -> FeatureProtocol:
    """Returns the protocol that protocol.json states; missing values are unknown.

    Args:
      source: features of one video.
      crops: number of crops in the files; 0 is unknown.

    Raises:
      InputError: values out of range, or other crops than in the files.
    """
    from wsvad_jax.data import axes

    first = source.files[0]
    where, value = axes.StatedAxes().file_of(first)
    # One file of several holds one crop, whatever their number.
    if crops > 1 or not CROP.fullmatch(first.stem):
        feature_protocols.check_crops(
            where, value, first, crops or value.get("crops", 0)
        )
    return feature_protocols.protocol_from_json(value)


def stride_of(source: VideoInput, stride: int) -> int:
    """Returns frames per snippet of features without a sidecar.

    Args:
      source: features of one video.
      stride: value where no readable protocol.json says.
    """
    with contextlib.suppress(InputError):  # `read` reports it
        return stated_of(source).stride or stride
    return stride


def _values(
    source: VideoInput, axes: "str | InputError | None"
) -> Float16[np.ndarray, "N T D"]:
    from wsvad_jax.data import feature_files

    crops = [feature_files.read_features(path) for path in source.files]
    first = source.files[0]
    if len({crop.shape for crop in crops}) > 1:
        raise InputError(
            f"{first}: the crops are of different shapes "
            f"({', '.join(str(crop.shape) for crop in crops)}); extract the video "
            "again, or rename the files if they are videos of their own (see "
            "docs/own_data.md)"
        )

    # Crops come first, whatever the order in the file.
    if axes is None:
        axes = axes_of([source]).get(source.name, "")
    if isinstance(axes, InputError):
        raise axes
    values = np.stack(crops) if len(crops) > 1 else crops[0]
    if axes == "TND":
        values = np.ascontiguousarray(np.moveaxis(values, 1, 0))
    values = values[None] if values.ndim == 2 else values

    if values.ndim != 3 or 0 in values.shape:
        raise InputError(
            f"{first}: features of shape {crops[0].shape}; expected [T, D], or "
            "[N, T, D] of N crops"
        )
    return values


def read_all_features(
    found: Sequence[VideoInput],
    fps: float | None,
    stride: int,
    *,
    crops: int = 0,
    width: int = 0,
    errors: list[InputError] | None = None,
) -> Iterator[tuple[VideoInput, TimedFeatures]]:
    """Yields the features among the inputs; the order of axes is decided for all.

    Args:
      found: inputs; videos among them are skipped.
      fps: frames per second of features without a sidecar; None is 30.
      stride: frames per snippet of features without a sidecar.
      crops: number of crops of the model's features; 0 is unknown.
      width: width of the model's features; 0 is unknown.
      errors: receives the errors of what can't be read; None raises the first.

    Raises:
      InputError: see `read_features`.
    """
    axes = axes_of(found, crops)

    for source in found:
        if source.is_video:
            continue
        try:
            features = read_features(
                source, fps or DEFAULT_FPS, stride, axes.get(source.name, "")
            )
            _check_width(source, features, width)
        except InputError as e:
            if errors is None:
                raise
            errors.append(e)
            continue
        yield source, features


def _check_width(source: VideoInput, features: TimedFeatures, width: int) -> None:
    _, T, D = features.values.shape
    if width and width != D:
        turned = "; are they [width, snippets]? save array.T" if T == width else ""
        raise InputError(
            f"{source.files[0]}: features of {T} snippets, {D} wide; the model takes "
            f"{width} wide ones{turned}"
        )


def timed(source: VideoInput) -> bool:
    """Whether features have their times beside them."""
    return os.path.isfile(sidecar.sidecar_path(source.files[0]))


def frame_edges(T: int, stride: int, fps: float) -> Float[np.ndarray, "T1"]:
    """Returns the snippets' edges in seconds, where only the frame rate is known."""
    return np.arange(T + 1) * stride / fps


def snippet_edges(
    seconds: Float[np.ndarray, "T"], duration: float
) -> Float[np.ndarray, "T1"]:
    """Returns the begin of each snippet and the video's end; the first begins at 0."""
    edges = np.append(seconds, duration).astype(np.float64)
    edges[0] = 0
    return np.maximum.accumulate(edges)
