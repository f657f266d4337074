"""Opens a prepared dataset: its card, and records that are read on request.

`data.tfds_builder` writes it. TFDS's files are accompanied by `index.json`, which has
all of a record except its features.
"""

import dataclasses
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, overload

from wsvad_jax.data.cards import Card
from wsvad_jax.data.records import FeatureProtocol, Record
from wsvad_jax.utils import files
from wsvad_jax.utils.errors import InputError, one_line, raise_if_unreadable

VERSION = "1.0.0"  # version of the layout, in TFDS too
METADATA = "metadata.json"  # name given by TFDS
INDEX = "index.json"


@dataclasses.dataclass(frozen=True)
class Entry:
    """A record without its features."""

    video: str
    label: tuple[int, ...]
    num_crops: int
    num_snippets: int
    num_frames: int
    segments: tuple[tuple[int, int, int], ...]  # (start, end, class), frames
    fps: float = 0.0  # frames per second of the video itself, 0 unknown


class Split(Sequence):
    """Records of one split, read on request; picklable, but not safe to fork.

    `rows` are the positions of the entries in the split's files; None for all of them.
    """

    def __init__(
        self,
        path: pathlib.Path,
        name: str,
        entries: tuple[Entry, ...],
        rows: tuple[int, ...] | None = None,
    ):
        self.path, self.name, self.entries, self.rows = path, name, entries, rows
        self._source: Any = None  # its threads don't survive a fork: use spawn

    def __len__(self) -> int:
        return len(self.entries)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]

        index = range(len(self))[index]  # negative indices, and IndexError past the end
        entry = self.entries[index]
        row = index if self.rows is None else self.rows[index]

        try:
            features = self._open()[row]["features"]
        except Exception as e:  # noqa: BLE001 the reader has no error type of its own
            raise_if_unreadable(self.path, e)
            self._check_files(e)
            raise InputError(
                f"{self.path}: record {row} of {self.name} ({entry.video}) cannot be "
                f"read, since its bytes are damaged ({one_line(e)}); prepare the "
                "dataset again"
            ) from None

        return Record(
            entry.video, features, entry.label, entry.num_frames, entry.segments
        )

    def _check_files(self, error: Exception) -> None:
        """Checks the split's files, since the reader's errors don't name the cause.

        Raises:
          InputError: a file is missing or can't be read now, so `error` proves no
            damage.
        """
        # A read of all bytes shows whether the file system is the cause.
        paths = sorted(self.path.glob(f"*-{self.name}.array_record*"))
        for path in paths:
            try:
                with open(path, "rb") as f:
                    while f.read(1 << 24):
                        pass
            except OSError as e:
                raise_if_unreadable(path, e)

        if not paths or isinstance(error, ImportError | AttributeError):
            raise InputError(
                f"{self.path}: its {self.name} split can't be opened ({one_line(error)})"
            ) from None

    def _open(self) -> Any:
        if self._source is None:
            import tensorflow_datasets as tfds

            builder = tfds.builder_from_directory(self.path)
            open_split = builder.as_data_source  # a decorator hides its signature
            self._source = open_split(split=self.name)  # pyright: ignore
        return self._source

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_source": None}


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A prepared dataset on disk."""

    path: pathlib.Path  # the version folder
    card: Card
    protocol: FeatureProtocol
    content: str  # sha256 over all records in order
    width: int  # D
    splits: Mapping[str, Split]

    def split(self, name: str) -> Split:
        """Returns the records of split `name`.

        Raises:
          InputError: the dataset has no such split.
        """
        if name not in self.splits:
            raise InputError(
                f"{self.path}: no split {name!r}, only {', '.join(self.splits)}"
            )
        return self.splits[name]


def open_dataset(path: str | os.PathLike) -> Dataset:
    """Opens the version folder of a prepared dataset.

    Raises:
      InputError: the folder holds no prepared dataset, or it is damaged or can't be
        read now.
    """
    path = pathlib.Path(path).absolute()
    if not (path / INDEX).is_file():
        raise InputError(
            f"{path}: not a prepared dataset (it has no {INDEX}); make one with "
            "python -m wsvad_jax.prepare"
        )

    metadata = files.read_json(path / METADATA)
    index = files.read_json(path / INDEX)

    try:
        # Sizes find truncated copies, before a training has begun.
        for name, size in index["files"].items():
            actual = (path / name).stat().st_size if (path / name).exists() else None
            if actual != size:
                state = "is missing" if actual is None else f"has {actual} bytes"
                raise InputError(
                    f"{path / name} {state}, expected {size} bytes; prepare the "
                    "dataset again"
                )

        rates = index.get("fps", {})  # older versions wrote none
        splits = {
            name: Split(path, name, tuple(_entry(row, rates) for row in rows))
            for name, rows in index["splits"].items()
        }
        return Dataset(
            path,
            Card.from_json(metadata["card"], str(path / METADATA)),
            FeatureProtocol(**metadata["protocol"]),
            metadata["content"],
            metadata["width"],
            splits,
        )

    # Metadata of another version lacks keys, or has other types.
    except (KeyError, TypeError, AttributeError, ValueError, OSError) as e:
        if isinstance(e, InputError):
            raise
        raise_if_unreadable(path, e)
        raise InputError(
            f"{path}: unknown metadata ({e!r}), not written by this version; prepare "
            "the dataset again"
        ) from None


def _entry(row: list, rates: Mapping[str, float]) -> Entry:
    video, label, N, T, num_frames, segments = row
    segments = tuple((s, e, c) for s, e, c in segments)
    numbers = (*label, N, T, num_frames, *(n for s in segments for n in s))
    if not all(type(n) is int and 0 <= n < 2**53 for n in numbers) or not N * T:
        raise ValueError(f"video {video!r:.60} has {row[1:]!r:.200}")

    fps = rates.get(video, 0.0)
    if not (isinstance(fps, int | float) and 0 <= fps < math.inf):
        raise ValueError(f"video {video!r:.60} has {fps!r:.60} frames per second")
    return Entry(str(video), tuple(label), N, T, num_frames, segments, float(fps))
