"""Extracts the features of a video archive with Apache Beam, on many workers.

  list → shards of videos → decode and encode → OUTPUT/VIDEO.npy and VIDEO.json
                                              → OUTPUT/manifest.jsonl, failed.jsonl

  OUTPUT/videos.jsonl     inputs: one line per shard, [[name, path], ...]
  OUTPUT/manifest.jsonl   results: one line per video, written at the end of a run
  OUTPUT/failed.jsonl     dead letters: one line per unreadable video, with the error

A worker process loads the model once and processes a shard like `extract_files` a
folder, with the same bytes as result. Complete videos are skipped, so a shard that a
runner repeats is not extracted twice. OUTPUT and the videos must have the same paths on
every worker.

Counters (namespace wsvad_jax): videos, already_there, failures, frames, milliseconds of
video and of work. Distribution: percent of real time per shard.
"""

# pyright: reportMissingImports=false

import dataclasses
import itertools
import json
import os
import pathlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.utils.shared import Shared

from wsvad_jax.data import sidecar
from wsvad_jax.extraction import extract_files
from wsvad_jax.extraction.extract_files import FeatureFolder, Summary
from wsvad_jax.utils import files
from wsvad_jax.utils.beam import run_pipeline
from wsvad_jax.utils.errors import InputError

VIDEOS, MANIFEST, FAILED = "videos.jsonl", "manifest.jsonl", "failed.jsonl"
SHARD = 16  # videos per shard, which share the tower's batches
NAMESPACE = "wsvad_jax"


@dataclasses.dataclass(frozen=True)
class Job:
    """Settings of an extraction, which every worker receives."""

    output: str  # folder
    clip: str  # hub name or folder of the CLIP snapshot
    layout: str
    choices: dict[str, Any]  # arguments of the `Extractor`


def extract_archive(
    named: Mapping[str, pathlib.Path],
    job: Job,
    runner: str,
    options: Sequence[str] = (),
) -> Summary:
    """Runs the pipeline to its end and returns its summary.

    Args:
      named: videos by the names of their features, see `extract_files.name_videos`.
      job: settings; the output folder has been claimed (`Target.claim`).
      runner: name of the Beam runner: DirectRunner, DataflowRunner, FlinkRunner ...
      options: flags for Beam.

    Raises:
      InputError: Beam has no such runner, or the pipeline did not finish.
    """
    start = time.monotonic()
    output = pathlib.Path(job.output)
    files.write_text(output / VIDEOS, "".join(_shards(named)))
    # Files of an earlier run must not be read as this run's.
    for name in (MANIFEST, FAILED):
        (output / name).unlink(missing_ok=True)

    with run_pipeline(runner, options) as pipeline:
        _build(pipeline, job)

    summary = read_summary(output)
    summary.wall = time.monotonic() - start
    return summary


def _shards(named: Mapping[str, pathlib.Path]) -> Iterator[str]:
    # Absolute paths, since workers run in other folders.
    pairs = [(name, os.path.abspath(video)) for name, video in named.items()]
    for i in range(0, len(pairs), SHARD):
        yield json.dumps(pairs[i : i + SHARD]) + "\n"


def _build(pipeline: beam.Pipeline, job: Job) -> None:
    # Reshuffle spreads the shards over the workers; without it Beam fuses the steps and
    # one worker reads them all.
    extracted = (
        pipeline
        | "list" >> beam.io.ReadFromText(f"{job.output}/{VIDEOS}")
        | "read" >> beam.Map(json.loads)
        | "shard" >> beam.Reshuffle()
        | "extract" >> beam.ParDo(Extract(job)).with_outputs("failed", main="made")
    )

    # One file each, written when all shards are done.
    for lines, name in ((extracted.made, MANIFEST), (extracted.failed, FAILED)):
        stem, suffix = os.path.splitext(name)
        sink = beam.io.WriteToText(
            f"{job.output}/{stem}", suffix, num_shards=1, shard_name_template=""
        )
        _ = lines | f"write {stem}" >> sink


class Extract(beam.DoFn):
    """Extracts a shard of videos and yields one JSON line per video."""

    def __init__(self, job: Job):
        super().__init__()
        self.job, self.shared = job, Shared()
        self.percent = Metrics.distribution(NAMESPACE, "percent_of_real_time")

    def setup(self) -> None:
        """Acquires the process's model, which the first thread loads."""
        job = self.job
        self.extractor = self.shared.acquire(self._load)
        self.target = FeatureFolder(job.output, self.extractor, job.layout, job.clip)
        self.target.claim(())

    def _load(self) -> Any:
        from wsvad_jax.clip.snapshot import load_snapshot
        from wsvad_jax.extraction.extractor import Extractor

        return Extractor(load_snapshot(self.job.clip), **self.job.choices)

    def process(self, shard: list[list[str]]) -> Iterator[Any]:
        """Extracts the videos of [name, path] pairs that have no features yet."""
        start = time.monotonic()
        named = {name: pathlib.Path(path) for name, path in shard}

        left = self.target.missing(named)
        summary = Summary(skipped=[name for name in named if name not in left])
        extract_files.extract_missing(left, self.target, self.extractor, summary)
        summary.wall = time.monotonic() - start

        self._count(summary)

        for name in (*summary.skipped, *summary.done):
            yield json.dumps(self._line(name, made=name in left))

        videos = left.values()
        for error in summary.failed:
            # An error's text begins with the file name in printable form.
            begins = (str(error).startswith(str(InputError(f"{v}: "))) for v in videos)
            video = next(itertools.compress(videos, begins))
            line = json.dumps({"video": str(video), "error": str(error)})
            yield beam.pvalue.TaggedOutput("failed", line)

    def _line(self, name: str, *, made: bool) -> dict[str, Any]:
        side = sidecar.read(self.target.folder / f"{name}.json")
        return {
            "name": name,
            "made": made,  # extracted in this run
            "snippets": len(side.seconds),
            "frames": side.num_frames,
            "duration": side.duration,
            "damage": side.damage,
            "remark": side.remark,
        }

    def _count(self, summary: Summary) -> None:
        for name, value in (
            ("videos", len(summary.done)),
            ("already_there", len(summary.skipped)),
            ("failures", len(summary.failed)),
            ("frames", summary.frames),
            ("milliseconds_of_video", 1000 * summary.seconds_of_video),
            ("milliseconds_of_work", 1000 * summary.wall),
        ):
            Metrics.counter(NAMESPACE, name).inc(round(value))
        if summary.done:
            self.percent.update(round(100 * summary.seconds_of_video / summary.wall))


def read_summary(output: pathlib.Path) -> Summary:
    """Summarises a run from its manifest and dead letters; `wall` stays 0."""
    summary = Summary()
    # Read from files, which every runner writes.
    for line in _lines(output / MANIFEST):
        if not line["made"]:
            summary.skipped.append(line["name"])
            continue

        summary.done.append(line["name"])
        summary.frames += line["frames"]
        summary.seconds_of_video += line["duration"]
        if line["damage"]:
            summary.damaged[line["name"]] = line["damage"]
        if line.get("remark"):
            summary.remarks[line["name"]] = line["remark"]

    summary.failed = [InputError(line["error"]) for line in _lines(output / FAILED)]
    return summary


def _lines(path: pathlib.Path) -> Iterator[Any]:
    with open(path) as file:
        yield from map(json.loads, file)
