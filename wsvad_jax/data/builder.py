"""One TFDS dataset for everything: records to disk and back, without TensorFlow.

`write_dataset` streams records into array_record files through a TFDS builder; the
version folder that it returns is what `configs/dsanet.py:PATH` takes, what
`open_dataset` opens and what `tfds.builder_from_directory` reads.
"""

import contextlib
import dataclasses
import functools
import hashlib
import os
import pathlib
import re
import shutil
import socket
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from wsvad_jax import files
from wsvad_jax.data.cards import Card
from wsvad_jax.data.dataset import INDEX, VERSION, Dataset, Entry, open_dataset
from wsvad_jax.data.records import FeatureProtocol, Record
from wsvad_jax.errors import InputError
from wsvad_jax.progress import Progress

__all__ = ["About", "Dataset", "Entry", "open_dataset", "write_dataset"]

SHARD_RECORDS = 128
CHUNK_BYTES = 64 << 20  # records are handed to the writer in chunks of this size


@dataclasses.dataclass(frozen=True)
class About:
    """What TFDS's metadata says of a dataset beside its features."""

    description: str = "Snippet features of untrimmed videos with video-level labels."
    homepage: str = ""
    citation: str = ""
    license: str = "Not stated; the data's owner decides."


def write_dataset(
    name: str,
    card: Card,
    protocol: FeatureProtocol,
    splits: Mapping[str, Iterable[Record]],
    data_dir: str | os.PathLike,
    about: About | None = None,
    source: str = "",
) -> pathlib.Path:
    """Writes a dataset and returns its version folder, DATA_DIR/NAME/1.0.0.

    Records are read one by one and never held together. The folder appears when it is
    whole, in the place of an older one; a build that dies leaves nothing behind that
    opens. An iterable that has a length gets a progress bar with an end. `source` says
    in the metadata what the dataset was made from.

    Raises:
      InputError: a record that does not fit the others or the card, an empty split,
        or whatever the iterables raise.
    """
    name = dataset_folder(name)
    data_dir = pathlib.Path(data_dir).expanduser().absolute()
    final = data_dir / name / VERSION
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise InputError(
            f"{data_dir}: cannot write there ({e.strerror}); choose another data_dir"
        ) from None
    with building_dir(data_dir) as temporary:
        _write(name, card, protocol, splits, temporary, about or About(), source)
        final.parent.mkdir(exist_ok=True)
        if final.exists():
            os.rename(final, temporary / "replaced")
        os.rename(temporary / name / VERSION, final)
    return final


def dataset_folder(name: str) -> str:
    """Returns `name` as a folder and TFDS name: letters, digits and underscores."""
    return re.sub(r"[^0-9A-Za-z]+", "_", name).strip("_").lower() or "own"


@functools.cache
def builder_class() -> Any:
    """Returns the TFDS builder; made on first use, since TFDS is slow to import."""
    import tensorflow_datasets as tfds

    class SnippetFeatures(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        """Snippet features, one example a video."""

        VERSION = tfds.core.Version(VERSION)

        def __init__(self, name, metadata, splits, about, data_dir):
            self.name = name  # pyright: ignore[reportAttributeAccessIssue]
            self.metadata, self.splits, self.about = metadata, splits, about
            super().__init__(data_dir=data_dir, file_format="array_record")

        def _info(self):
            F = tfds.features
            classes = F.ClassLabel(
                names=[c["name"] for c in self.metadata["card"]["classes"]]
            )
            event = {"start": np.int64, "end": np.int64, "label": classes}
            features = {
                "video": F.Text(),
                # Raw bytes: TFDS's default encoding is two orders of magnitude slower.
                "features": F.Tensor(
                    shape=(None, None, None), dtype=np.float16, encoding="bytes"
                ),
                "label": F.Sequence(classes),
                "num_frames": F.Scalar(np.int64),
                "segments": F.Sequence(event),
            }
            return tfds.core.DatasetInfo(
                builder=self,
                features=F.FeaturesDict(features),
                disable_shuffling=True,
                metadata=tfds.core.MetadataDict(self.metadata),
                **dataclasses.asdict(self.about),
            )

        def _split_generators(self, dl_manager):
            return {k: self._generate_examples(v) for k, v in self.splits.items()}

        def _generate_examples(self, records):
            yield from enumerate(map(example_of, records))

    return SnippetFeatures


def example_of(record: Record) -> dict[str, Any]:
    """Returns the TFDS example of a record."""
    keys = ("start", "end", "label")
    return {
        "video": record.video,
        "features": np.ascontiguousarray(record.features),
        "label": list(record.label),
        "num_frames": record.num_frames,
        "segments": [dict(zip(keys, s, strict=True)) for s in record.segments],
    }


def _write(name, card, protocol, splits, root, about, source) -> None:
    import tensorflow_datasets as tfds

    own = {"card": card.to_json(), "protocol": dataclasses.asdict(protocol)}
    own["source"] = source
    builder = builder_class()(name, own, splits, about, root)
    folder = pathlib.Path(builder.data_dir)
    folder.mkdir(parents=True)
    # TFDS's own `download_and_prepare` holds a split in memory and asks for TensorFlow
    # past a gigabyte; its sequential writer streams.
    writer = tfds.core.SequentialWriter(
        builder.info, max_examples_per_shard=SHARD_RECORDS, file_format="array_record"
    )
    writer.initialize_splits(list(splits))
    checker = _Checker(card)
    rows: dict[str, list] = {}
    for split, records in splits.items():
        checker.begin(split)
        rows[split] = []
        for chunk in _chunks(checker.check(records), f"writing {split}", records):
            writer.add_examples({split: [example_of(r) for r in chunk]})
            rows[split] += [_row(r) for r in chunk]
        if not rows[split]:
            raise InputError(f"{card.name}: the {split} split has no videos")
    builder.info.metadata["content"] = checker.hash.hexdigest()
    builder.info.metadata["width"] = checker.width
    writer.close_all()
    sizes = {p.name: p.stat().st_size for p in sorted(folder.glob("*array_record*"))}
    files.write_json(folder / INDEX, {"files": sizes, "splits": rows})


def _chunks(records: Iterable[Record], label: str, sized: Any) -> Iterator[list]:
    chunk, size = [], 0
    total = len(sized) if hasattr(sized, "__len__") else 0
    with Progress(label, total, unit="video") as progress:
        for record in records:
            chunk.append(record)
            size += record.features.nbytes
            if size >= CHUNK_BYTES:
                yield chunk
                chunk, size = [], 0
            progress.update()
        if chunk:
            yield chunk


class _Checker:
    """Holds records against each other and the card, and hashes them in order."""

    def __init__(self, card: Card):
        self.card, self.hash, self.width = card, hashlib.sha256(), 0
        self.seen: dict[str, str] = {}

    def begin(self, split: str) -> None:
        self.split, self.crops = split, 0
        self.hash.update(f"split {split}\n".encode())

    def check(self, records: Iterable[Record]) -> Iterator[Record]:
        for record in records:
            self._check(record)
            self.hash.update(repr((_row(record), record.features.shape)).encode())
            self.hash.update(np.ascontiguousarray(record.features).data)
            yield record

    def _check(self, record: Record) -> None:
        N, T, D = record.features.shape
        self.width, self.crops = self.width or D, self.crops or N
        problem = None
        if record.video in self.seen:
            problem = f"is already in {self.seen[record.video]}; name each video once"
        elif not N * T * D:
            problem = (
                f"has features of shape {(N, T, D)}; expected at least one snippet"
            )
        elif D != self.width:
            problem = f"has features {D} wide, the videos before it {self.width}"
        elif N != self.crops:
            problem = f"has {N} crops, the videos before it {self.crops}"
        elif self.split == "test" and self.card.test_crop >= N:
            problem = f"has {N} crops, but the card tests crop {self.card.test_crop}"
        elif not record.label or not self._classes_exist(record):
            problem = f"has a class outside 0 ... {len(self.card.classes) - 1}"
        elif any(not 0 <= s < e <= record.num_frames for s, e, _ in record.segments):
            problem = f"has a segment outside its {record.num_frames} frames"
        if problem:
            raise InputError(f"{self.split} video {record.video} {problem}")
        self.seen[record.video] = self.split

    def _classes_exist(self, record: Record) -> bool:
        used = {*record.label, *(c for _, _, c in record.segments)}
        return used <= set(range(len(self.card.classes)))


def _row(r: Record) -> list:
    N, T, _ = r.features.shape
    segments = [list(map(int, s)) for s in r.segments]
    return [r.video, list(map(int, r.label)), N, T, int(r.num_frames), segments]


@contextlib.contextmanager
def building_dir(parent: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a fresh folder in `parent`, removed at the end; clears dead builds'.

    What is to stay is renamed out of it. Raises OSError where it cannot be made.
    """
    prefix = f".building-{socket.gethostname()}-"
    for left in parent.glob(f"{prefix}*"):
        process = left.name.removeprefix(prefix).partition("-")[0]
        if process.isdigit() and not _alive(int(process)):
            shutil.rmtree(left, ignore_errors=True)
    name = tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-", dir=parent)
    try:
        yield pathlib.Path(name)
    finally:
        shutil.rmtree(name, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is somebody else's
        return True
    return True
