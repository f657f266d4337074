"""Writes the shards of a TFDS dataset with Apache Beam, for data beyond one machine.

  list → shards of videos → read features → NAME-SPLIT.array_record-NNNNN, and its rows

A shard has the same records in the same order as with a single process. The features
and the dataset's folder must have the same paths on every worker.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

import dataclasses
import itertools
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam

from wsvad_jax.data import tfds_builder
from wsvad_jax.data.feature_files import ErrorCollector, FeatureFiles, Records
from wsvad_jax.utils import beam as archive_beam
from wsvad_jax.utils import files
from wsvad_jax.utils.errors import InputError

PARTS = "parts"  # temporary folder of the workers' files


@dataclasses.dataclass(frozen=True)
class Shard:
    """Videos of a split that one worker writes to one file."""

    split: str
    index: int
    videos: tuple[FeatureFiles, ...]
    stride: int

    @property
    def part(self) -> str:
        """Name of the worker's file."""
        return f"{self.split}-{self.index:05d}"


def write(
    builder: Any,
    splits: Mapping[str, Records],
    checker: tfds_builder.RecordChecker,
    runner: str,
    options: Sequence[str],
) -> None:
    """Writes the shards and the metadata of a TFDS builder, and fills `checker`.

    Args:
      builder: TFDS builder whose folder is written.
      splits: records of each split.
      checker: collector of the dataset's index and statistics.
      runner: name of the Beam runner.
      options: flags for Beam.

    Raises:
      InputError: as `builder.write_dataset`; or Beam has no such runner, or the
        pipeline did not finish.
    """
    folder = pathlib.Path(builder.data_dir)
    (folder / PARTS).mkdir()

    # The shards of a single process, so the dataset is the same.
    size = tfds_builder.SHARD_RECORDS
    shards = {
        split: [
            Shard(split, i, tuple(records.videos[at : at + size]), records.stride)
            for i, at in enumerate(range(0, len(records), size))
        ]
        for split, records in splits.items()
    }

    classes = [c["name"] for c in builder.metadata["card"]["classes"]]
    with archive_beam.run_pipeline(runner, options) as pipeline:
        _ = (
            pipeline
            | "list" >> beam.Create([*itertools.chain(*shards.values())])
            | "spread" >> beam.Reshuffle()
            | "write" >> beam.ParDo(Write(str(folder / PARTS), classes))
        )

    _gather(builder, folder, splits, shards, checker)


class Write(beam.DoFn):
    """Writes the records of a shard, and a JSON file with their index rows."""

    def __init__(self, folder: str, classes: Sequence[str]):
        super().__init__()
        self.folder, self.classes = folder, list(classes)

    def setup(self) -> None:
        self.features = tfds_builder.example_features(self.classes)

    def process(self, shard: Shard) -> Iterator[str]:
        from array_record.python import array_record_module

        problems, rows, size = ErrorCollector(skip=True), [], 0

        path = pathlib.Path(self.folder, shard.part)
        # A runner may process a shard twice; each file appears whole.
        with files.atomic_path(path) as temporary:
            # Groups of one record, as in TFDS: readers fetch records one by one.
            writer = array_record_module.ArrayRecordWriter(
                os.fspath(temporary), "group_size:1"
            )
            for record in Records(shard.videos, shard.stride, problems):
                example = self.features.serialize_example(
                    tfds_builder.example_of(record)
                )
                writer.write(example)
                rows.append(tfds_builder.row_of(record))
                size += len(example)
            writer.close()

        # Errors travel in the file: the main process reports them in the order of
        # videos.
        errors = [str(e) for e in problems.errors]
        written = {"rows": rows, "bytes": size, "errors": errors}
        files.write_json(path.with_suffix(".json"), written, indent=None)
        yield shard.part


def _gather(
    builder: Any,
    folder: pathlib.Path,
    splits: Mapping[str, Records],
    shards: Mapping[str, Sequence[Shard]],
    checker: tfds_builder.RecordChecker,
) -> None:
    """Renames the workers' files to TFDS shards and writes the metadata."""
    import tensorflow_datasets as tfds

    # TFDS numbers only shards with records, so the files get their names here.
    infos = []
    for split, records in splits.items():
        checker.begin(split)
        lengths, size = [], 0
        template = tfds.core.ShardedFileTemplate(
            dataset_name=builder.name,
            data_dir=builder.data_dir,
            split=split,
            filetype_suffix="array_record",
            template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_INDEX}",
        )

        for shard in shards[split]:
            # A shard whose videos all failed has no records, and leaves no number
            # unused.
            part = folder / PARTS / shard.part
            written = files.read_json(part.with_suffix(".json"))
            for error in written["errors"]:
                records.collector(InputError(error))
            for row in written["rows"]:
                checker.add(*row)
            if written["rows"]:
                path = template.sharded_filepath(
                    shard_index=len(lengths), num_shards=None
                )
                part.rename(path)
                lengths.append(len(written["rows"]))
                size += written["bytes"]

        checker.end()
        infos.append(
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=lengths,
                num_bytes=size,
                filename_template=template,
            )
        )

    shutil.rmtree(folder / PARTS)
    checker.add_to_metadata(builder.info.metadata)
    builder.info.set_file_format("array_record")
    builder.info.set_splits(tfds.core.splits.SplitDict(infos))
    builder.info.write_to_directory(folder)
