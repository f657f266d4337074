"""Writes records as a TFDS dataset, without TensorFlow.

`write_dataset` streams records into array_record files through a TFDS builder and
returns the version folder. `configs/dsanet.py:PATH`, `open_dataset` and
`tfds.builder_from_directory` accept this folder.
"""

import dataclasses
import functools
import hashlib
import os
import pathlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from wsvad_jax.data import feature_protocols
from wsvad_jax.data.cards import Card
from wsvad_jax.data.dataset import INDEX, VERSION, Dataset, Entry, open_dataset
from wsvad_jax.data.records import FeatureProtocol, Record
from wsvad_jax.utils import files
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import build_folder
from wsvad_jax.utils.progress import Progress

__all__ = ["Dataset", "DatasetInfo", "Entry", "open_dataset", "write_dataset"]

SHARD_RECORDS = 128
LONGEST_NAME = 100  # letters of a dataset's name, which is part of its file names
CHUNK_BYTES = 64 << 20  # size of the chunks of records that the writer receives

Writer = Callable[[Any, Mapping[str, Any], "RecordChecker"], None]


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """Description of a dataset in TFDS's metadata."""

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
    about: DatasetInfo | None = None,
    source: str = "",
    write: "Writer | None" = None,
    fps: Mapping[str, float] | None = None,
) -> pathlib.Path:
    """Writes a dataset and returns its version folder, DATA_DIR/NAME/1.0.0.

    Records are read one by one and never held together. The complete folder replaces an
    older one at the end, so an interrupted build leaves nothing that opens.

    Args:
      name: name of the dataset.
      card: card of the dataset.
      protocol: feature protocol of the records.
      splits: records of each split; those with a length get a full progress bar.
      data_dir: folder of the datasets.
      about: description for TFDS's metadata.
      source: origin of the dataset, for the metadata.
      write: function that writes the files and fills the checker; None writes in this
        process (`tfds_beam_writer` writes with workers).
      fps: frames per second by video, as far as they are known.

    Raises:
      InputError: a record doesn't fit the others or the card, or a split is empty.
    """
    name = dataset_folder(name)
    data_dir = pathlib.Path(data_dir).expanduser().absolute()
    final = data_dir / name / VERSION
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise InputError(
            f"{data_dir}: cannot be written ({e.strerror}); choose another data_dir"
        ) from None

    with build_folder(data_dir) as temporary:
        metadata: dict[str, Any] = {"card": card.to_json(), "source": source}
        metadata["protocol"] = dataclasses.asdict(protocol)
        if note := feature_protocols.clip_note(protocol):
            metadata["clip_note"] = note
        builder = builder_class()(
            name, metadata, splits, about or DatasetInfo(), temporary
        )
        folder = pathlib.Path(builder.data_dir)
        folder.mkdir(parents=True)

        checker = RecordChecker(card)
        (write or _write)(builder, splits, checker)
        sizes = {
            p.name: p.stat().st_size for p in sorted(folder.glob("*array_record*"))
        }
        index = {"files": sizes, "splits": checker.rows, "fps": dict(fps or {})}
        files.write_json(folder / INDEX, index)

        # Readers see the old folder or the new one, never a half-written one.
        final.parent.mkdir(exist_ok=True)
        if final.exists():
            os.rename(final, temporary / "replaced")
        os.rename(temporary / name / VERSION, final)
    return final


def dataset_folder(name: str) -> str:
    """Returns `name` as a folder and TFDS name: letters, digits and underscores.

    Names with other letters end in a hash of the whole name, so they stay distinct.

    Raises:
      InputError: the name has no letter or digit, or is too long.
    """
    name = unicodedata.normalize("NFC", name)
    plain = re.sub(r"[^0-9A-Za-z]+", "_", name).strip("_").lower()
    if not any(c.isalnum() for c in name):
        raise InputError(
            f"{name!r:.60} can't name a dataset: it has no letter or digit; pass "
            "--name NAME"
        )

    # Two names in another script would otherwise both become "own".
    if not name.isascii():
        digest = hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=4)
        plain = f"{plain or 'own'}_{digest.hexdigest()}"

    if len(plain) > LONGEST_NAME:
        raise InputError(
            f"the dataset's name has {len(plain)} letters ({name:.40}…); expected "
            f"{LONGEST_NAME} at most; pass a shorter one as --name NAME"
        )
    return plain


@functools.cache
def builder_class() -> Any:
    """Returns the TFDS builder class, on first use: importing TFDS is slow."""
    import tensorflow_datasets as tfds

    class Info(tfds.core.DatasetInfo):
        """DatasetInfo without TFDS's search for metadata, which leaves a folder in /tmp."""

        def initialize_from_bucket(self):
            pass

    class SnippetFeatures(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        """Snippet features, one example per video."""

        VERSION = tfds.core.Version(VERSION)

        def __init__(self, name, metadata, splits, about, data_dir):
            self.name = name  # pyright: ignore[reportAttributeAccessIssue]
            self.metadata, self.splits, self.about = metadata, splits, about
            super().__init__(data_dir=data_dir, file_format="array_record")

        def _info(self):
            classes = [c["name"] for c in self.metadata["card"]["classes"]]
            return Info(
                builder=self,
                features=example_features(classes),
                disable_shuffling=True,
                metadata=tfds.core.MetadataDict(self.metadata),
                **dataclasses.asdict(self.about),
            )

        def _split_generators(self, dl_manager):
            return {k: self._generate_examples(v) for k, v in self.splits.items()}

        def _generate_examples(self, records):
            yield from enumerate(map(example_of, records))

    return SnippetFeatures


def example_features(classes: Sequence[str]) -> Any:
    """Returns the TFDS features of an example."""
    import tensorflow_datasets as tfds

    F = tfds.features
    label = F.ClassLabel(names=list(classes))
    event = {"start": np.int64, "end": np.int64, "label": label}
    features = {
        "video": F.Text(),
        # Raw bytes: TFDS's default encoding is two orders of magnitude slower.
        "features": F.Tensor(
            shape=(None, None, None), dtype=np.float16, encoding="bytes"
        ),
        "label": F.Sequence(label),
        "num_frames": F.Scalar(np.int64),
        "segments": F.Sequence(event),
    }
    return F.FeaturesDict(features)


def example_of(record: Record) -> dict[str, Any]:
    """Converts a record to a TFDS example."""
    keys = ("start", "end", "label")
    return {
        "video": record.video,
        "features": np.ascontiguousarray(record.features),
        "label": list(record.label),
        "num_frames": record.num_frames,
        "segments": [dict(zip(keys, s, strict=True)) for s in record.segments],
    }


def _write(builder: Any, splits: Mapping, checker: "RecordChecker") -> None:
    """Writes the records of all splits, one split after the other."""
    import tensorflow_datasets as tfds

    # `download_and_prepare` would hold a split in memory and require TensorFlow from a
    # gigabyte on; the sequential writer streams.
    writer = tfds.core.SequentialWriter(
        builder.info, max_examples_per_shard=SHARD_RECORDS, file_format="array_record"
    )
    writer.initialize_splits(list(splits))

    for split, records in splits.items():
        checker.begin(split)
        for chunk in _chunks(checker.check(records), f"writing {split}", records):
            writer.add_examples({split: [example_of(r) for r in chunk]})
        checker.end()

    checker.add_to_metadata(builder.info.metadata)
    writer.close_all()


def _chunks(records: Iterable[Record], label: str, sized: Any) -> Iterator[list]:
    """Yields lists of records of about `CHUNK_BYTES`."""
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


class RecordChecker:
    """Checks records against each other and the card, and hashes them in order."""

    def __init__(self, card: Card):
        self.card, self.hash, self.width = card, hashlib.sha256(), 0
        self.seen: dict[str, str] = {}
        self.rows: dict[str, list[list]] = {}  # rows of the index, by split

    def begin(self, split: str) -> None:
        self.split, self.crops, self.rows[split] = split, 0, []
        self.hash.update(f"split {split}\n".encode())

    def end(self) -> None:
        """Ends a split; raises InputError if it has no records."""
        if not self.rows[self.split]:
            raise InputError(f"{self.card.name}: the {self.split} split has no videos")

    def check(self, records: Iterable[Record]) -> Iterator[Record]:
        for record in records:
            self.add(*row_of(record))
            yield record

    def add(self, row: list, width: int, digest: str) -> None:
        """Checks and adds the result of `row_of` for the next record."""
        self._check(row, width)
        self.hash.update(digest.encode())
        self.rows[self.split].append(row)

    def add_to_metadata(self, metadata: dict[str, Any]) -> None:
        """Adds the content's hash and the width to the metadata."""
        metadata["content"] = self.hash.hexdigest()
        metadata["width"] = self.width

    def _check(self, row: list, D: int) -> None:
        video, label, N, T, num_frames, segments = row
        # The first record sets the width of the dataset and the crops of its split.
        self.width, self.crops = self.width or D, self.crops or N

        problem = None
        if video in self.seen:
            problem = f"is already in {self.seen[video]}; name each video once"
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
        elif not label or not self._classes_exist({*label, *(s[2] for s in segments)}):
            problem = f"has a class outside 0 ... {len(self.card.classes) - 1}"
        elif any(not 0 <= s < e <= num_frames for s, e, _ in segments):
            problem = f"has a segment outside its {num_frames} frames"

        if problem:
            raise InputError(f"{self.split} video {video} {problem}")
        self.seen[video] = self.split

    def _classes_exist(self, used: set[int]) -> bool:
        return used <= set(range(len(self.card.classes)))


def row_of(record: Record) -> tuple[list, int, str]:
    """Returns a record's index row, feature width and hash."""
    N, T, D = record.features.shape
    segments = [list(map(int, s)) for s in record.segments]
    label = list(map(int, record.label))
    row = [record.video, label, N, T, int(record.num_frames), segments]
    digest = hashlib.sha256(repr((row, D)).encode())
    digest.update(np.ascontiguousarray(record.features).data)
    return row, D, digest.hexdigest()
