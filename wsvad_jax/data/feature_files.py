"""Reads and checks `.npy` feature files, and turns them into records.

The headers of all files are checked before anything is written (`check_headers`), and
values when a file is read (`Records`). Each bad file gives one `InputError` with its
name.
"""

import dataclasses
import math
import pathlib
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Float16

from wsvad_jax.data import axes
from wsvad_jax.data.records import Record
from wsvad_jax.data.video_names import FEATURES
from wsvad_jax.utils.errors import InputError, raise_if_unreadable
from wsvad_jax.utils.file_search import SkippedFiles, find_files
from wsvad_jax.utils.progress import Progress

# Axes of one file: snippets T, width D, and crops N before or after the snippets.
LAYOUTS = ("TD", "NTD", "TND")
UNKNOWN_LAYOUT = "TD, NTD or TND"  # distinguished by `data.axes`
MAX_FLOAT16_ERROR = 0.01  # relative change of an array that float16 may cause
HEADER_BYTES = 24  # first bytes of a file, which identify its format
FORMATS = (
    (b"PK\x03\x04", "a zip archive, as np.savez and torch.save write it; use np.save"),
    (b"version https://git-lfs", "a pointer of Git LFS; run git lfs pull"),
    (b"\x89HDF", "an HDF5 file; write its array with np.save"),
    (b"MATLAB", "a MATLAB file; write its array with np.save"),
    (b"\x1f\x8b", "packed with gzip; unpack it"),
    (b"\x80", "a Python pickle; write its array with np.save"),
    (b"<", "a web page or XML; get the file again"),
    (b"{", "a JSON text; write its array with np.save"),
)
COMPANION_SUFFIXES = (".json", ".jsonl")  # of files beside extracted features


@dataclasses.dataclass(frozen=True)
class FeatureFiles:
    """Feature files of one video, with its label and sizes."""

    video: str
    label: tuple[int, ...]
    paths: tuple[pathlib.Path, ...]  # one per crop, or one for all crops
    layout: str = "TD"
    num_snippets: int = 0
    num_crops: int = 1
    width: int = 0
    num_frames: int = 0  # 0: unknown; num_snippets · stride is assumed
    segments: tuple[tuple[int, int, int], ...] = ()
    fps: float = 0.0  # mean frames per second, 0 unknown


def find_npy_files(
    root: pathlib.Path, skipped: SkippedFiles | None = None, *, every_name: bool = False
) -> list[pathlib.Path]:
    """Returns all `.npy` files below a folder, see `find_files`."""
    return find_files(
        root, (FEATURES,), skipped, companions=COMPANION_SUFFIXES, every_name=every_name
    )


def read_shape(path: pathlib.Path, kinds: str = "f") -> tuple[int, ...]:
    """Checks a feature file's header, size and dtype, and returns the array's shape.

    Args:
      path: feature file.
      kinds: allowed kinds of NumPy dtypes, floats by default.

    Raises:
      InputError: the file is missing, empty, truncated or no `.npy`, has another dtype,
        or holds more than one array.
    """
    try:
        # Common other formats get an error that names them.
        size = path.stat().st_size
        with open(path, "rb") as f:
            if not size:
                raise InputError(f"{path}: the file is empty; extract the video again")
            if kind := _other_format(f.read(HEADER_BYTES)):
                raise InputError(f"{path}: expected a .npy file, but it is {kind}")

            # Only the header is read: a data set may have many gigabytes.
            f.seek(0)
            version = np.lib.format.read_magic(f)
            read_header = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            with _quiet():
                shape, _, dtype = read_header(f)
            num_bytes = size - f.tell()
    except FileNotFoundError:
        raise InputError(
            f"{path}: the feature file is missing; extract the video or take it off "
            "the list"
        ) from None
    except InputError:
        raise
    except Exception as e:  # noqa: BLE001 a damaged header can raise anything
        raise_if_unreadable(path, e)
        raise InputError(
            f"{path}: damaged or not a .npy file ({' '.join(str(e).split()):.80}); extract "
            "the video again"
        ) from None

    if dtype.kind not in kinds or dtype.itemsize > 8:
        wanted = (
            "float16, float32 or float64" if kinds == "f" else "one 0 or 1 per frame"
        )
        name = "bfloat16 (or other raw)" if dtype.kind == "V" else dtype.name
        raise InputError(f"{path}: holds {name} values; expected {wanted}")

    # The size must be exact: too few bytes are damage, more may be a second array.
    expected = math.prod(shape) * dtype.itemsize
    if any(n < 0 for n in shape) or num_bytes < expected:
        raise InputError(
            f"{path}: the file is truncated ({num_bytes} bytes of {expected}); extract or "
            "copy the video's features again"
        )
    if num_bytes > expected:
        raise InputError(
            f"{path}: {num_bytes - expected} bytes follow the array of shape "
            f"{list(shape)}, so it may hold several arrays; save one array per file"
        )
    return shape


def read_array(path: pathlib.Path, kinds: str = "f") -> np.ndarray:
    """Returns a file's array in its stored dtype, see `read_shape`."""
    read_shape(path, kinds)
    try:
        with _quiet():
            return np.load(path, allow_pickle=False)
    except (OSError, MemoryError) as e:
        raise_if_unreadable(path, e)
        raise


def _quiet() -> warnings.catch_warnings:
    """Silences NumPy's warnings about headers of Python 2, which are read correctly."""
    return warnings.catch_warnings(action="ignore", category=UserWarning)


def _other_format(head: bytes) -> str:
    """Returns the format that the first bytes show, "" if it may be .npy."""
    return next((kind for mark, kind in FORMATS if head.startswith(mark)), "")


def read_features(
    path: pathlib.Path, remarks: list[str] | None = None
) -> Float16[np.ndarray, "..."]:
    """Reads a feature file as float16.

    Args:
      path: feature file.
      remarks: list for a sentence about lost small values that hardly matter.

    Raises:
      InputError: see `read_shape`; or a value is NaN, infinite or past float16, or all
        values are too small for float16.
    """
    stored = read_array(path)
    with np.errstate(over="ignore"):
        features = np.ascontiguousarray(stored, np.float16)

    # A fast check: a finite sum implies finite values.
    with np.errstate(invalid="ignore"):
        total = features.sum(dtype=np.float32)
    if not np.isfinite(total):
        bad = ~np.isfinite(features)
        if bad.any():
            where = tuple(int(i) for i in np.argwhere(bad)[0])
            value = stored[where]
            kind = "past float16's 65504" if np.isfinite(value) else "not finite"
            raise InputError(
                f"{path}: {int(bad.sum())} values cannot be used, the first at "
                f"{list(where)} is {value} ({kind}); extract the video again"
            )

    if stored.dtype != np.float16:
        _check_small(path, stored, features, remarks)
    return features


def _check_small(
    path: pathlib.Path,
    stored: np.ndarray,
    features: Float16[np.ndarray, "..."],
    remarks: list[str] | None,
) -> None:
    """Checks for values that are too small for float16.

    Raises:
      InputError: float16 would change the array by more than `MAX_FLOAT16_ERROR`.
    """
    largest = float(np.abs(stored).max(initial=0))
    # Below float16's normal numbers, values are multiples of 2**-24, so each error is
    # at most 2**-25 and the norm of all errors at most sqrt(size) * 2**-25.
    if 0 < largest < math.sqrt(stored.size) * 2.0**-25 / MAX_FLOAT16_ERROR:
        exact = stored.astype(np.float64) / largest
        change = np.linalg.norm(exact - features / np.float64(largest))
        if change > MAX_FLOAT16_ERROR * np.linalg.norm(exact):
            raise InputError(
                f"{path}: its largest value is {largest:.3g}, too small for float16, in "
                "which features are stored; scale them to values near 1"
            )

    # Zeros in place of tiny values are no error, but worth a remark if they are many.
    if remarks is None:
        return

    before, after = np.count_nonzero(stored), np.count_nonzero(features)
    if after < before / 2:
        remarks.append(
            f"{path}: {before - after} of {before} values become 0 in float16, in which "
            f"features are stored; the largest value is {largest:.3g}"
        )


class ErrorCollector:
    """Collects errors of single videos, or raises the first if `skip` is False."""

    def __init__(self, skip: bool = False):
        self.skip = skip
        self.errors: list[InputError] = []

    def __call__(self, error: InputError) -> None:
        if not self.skip:
            raise error from None
        self.errors.append(error)


def check_headers(
    videos: Sequence[FeatureFiles],
    collector: ErrorCollector,
    *,
    width: int | None = None,
) -> list[FeatureFiles]:
    """Checks the headers of all files and returns the videos with their sizes.

    Args:
      videos: videos of all splits, which must have one width.
      collector: collector of the errors; with `skip`, bad videos are left out.
      width: required width; None is the most frequent one.
    """
    headers: list[tuple[FeatureFiles, tuple[int, ...]]] = []
    with Progress("checking features", len(videos), unit="video") as progress:
        for video in videos:
            try:
                headers.append((video, _common_shape(video)))
            except InputError as e:
                collector(e)
            progress.update()

    # All files of the dataset together decide which axis holds the crops.
    ambiguous = [i for i, (v, shape) in enumerate(headers) if _is_ambiguous(v, shape)]
    choices = axes.choose_layouts(
        [(headers[i][0].paths[0], headers[i][1]) for i in ambiguous]
    )
    layouts = dict(zip(ambiguous, choices, strict=True))

    sized = []
    for i, (video, shape) in enumerate(headers):
        try:
            sized.append(_with_sizes(video, shape, layouts.get(i, "TD")))
        except InputError as e:
            collector(e)

    # Only all files together show that axes are transposed.
    axes.check_transposed([(v.paths[0], v.num_snippets, v.width) for v in sized])
    return _keep_most_common(sized, "width", "features {} wide", collector, width)


def keep_most_common_crops(
    videos: Sequence[FeatureFiles], collector: ErrorCollector
) -> list[FeatureFiles]:
    """Keeps the videos of a split that have its most frequent number of crops."""
    return _keep_most_common(videos, "num_crops", "features of {} crops", collector)


def _common_shape(video: FeatureFiles) -> tuple[int, ...]:
    """Returns the shape of all files of a video, one per crop."""
    shapes = [read_shape(path) for path in video.paths]
    path, shape = video.paths[0], shapes[0]

    for other, other_shape in zip(video.paths, shapes, strict=True):
        if other_shape != shape:
            raise InputError(
                f"{other}: features of shape {list(other_shape)}, those of {path.name} are "
                f"{list(shape)}; extract all crops of the video again"
            )
    return shape


def _is_ambiguous(video: FeatureFiles, shape: tuple[int, ...]) -> bool:
    """Returns whether the order of a file's three axes is unknown."""
    three = len(shape) == 3 and len(video.paths) == 1 and all(shape)
    return three and video.layout == UNKNOWN_LAYOUT


def _with_sizes(
    video: FeatureFiles, shape: tuple[int, ...], choice: str | InputError
) -> FeatureFiles:
    """Returns a video with its layout and sizes; `choice` is its inferred layout."""
    path, layout = video.paths[0], video.layout
    if layout == UNKNOWN_LAYOUT:
        if isinstance(choice, InputError):
            raise choice
        layout = choice

    # Features have two or three axes, none of them empty.
    if len(shape) != len(layout) or not all(shape):
        names = {"T": "snippets", "N": "crops", "D": "width"}
        expected = f"[{', '.join(names[a] for a in layout)}]"
        if video.layout == UNKNOWN_LAYOUT:
            expected += " or, of several crops, [crops, snippets, width]"
        raise InputError(
            f"{path}: features of shape {list(shape)}; expected {expected}, none 0"
        )

    # Without an axis of crops, each file is one crop.
    N = shape[layout.index("N")] if "N" in layout else len(video.paths)
    T, D = shape[layout.index("T")], shape[layout.index("D")]
    if D == 1 and len(shape) == 3:
        raise InputError(
            f"{path}: features of shape {list(shape)} would be 1 wide; save them "
            "without the last axis"
        )

    return dataclasses.replace(
        video, layout=layout, num_snippets=T, num_crops=N, width=D
    )


def _keep_most_common(
    videos: Sequence[FeatureFiles],
    key: str,
    text: str,
    collector: ErrorCollector,
    wanted: int | None = None,
) -> list[FeatureFiles]:
    """Keeps the videos with the most common value of `key`; others are errors."""
    counts = Counter(getattr(v, key) for v in videos)
    common = wanted or max(counts, key=counts.__getitem__, default=0)

    kept = []
    for video in videos:
        value = getattr(video, key)
        if value == common:
            kept.append(video)
            continue

        reason = "" if wanted else f", as {counts[common]} of {len(videos)} videos have"
        collector(
            InputError(
                f"{video.paths[0]}: {text.format(value)}; expected {common}{reason}; "
                "extract the video again or take it off the list"
            )
        )
    return kept


class Records:
    """Records of videos, read one by one; `collector` gets the errors of bad files."""

    def __init__(
        self,
        videos: Iterable[FeatureFiles],
        stride: int,
        collector: ErrorCollector,
    ):
        self.videos, self.stride, self.collector = list(videos), stride, collector
        self.remarks: list[str] = []  # sentences about the features that were read

    def __len__(self) -> int:
        return len(self.videos)

    def __iter__(self) -> Iterator[Record]:
        for video in self.videos:
            try:
                features = _load(video, self.remarks)
            except InputError as e:
                self.collector(e)
                continue

            frames = video.num_frames or video.num_snippets * self.stride
            yield Record(video.video, features, video.label, frames, video.segments)


def _load(video: FeatureFiles, remarks: list[str]) -> Float16[np.ndarray, "N T D"]:
    if video.layout == "TD":
        return np.stack([read_features(path, remarks) for path in video.paths])
    features = read_features(video.paths[0], remarks)
    return features if video.layout == "NTD" else np.moveaxis(features, 1, 0)
