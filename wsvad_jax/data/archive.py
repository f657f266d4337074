"""Features of an archive of videos on Apache Beam: many workers fill one folder.

  list → shards of videos → decode and encode → OUTPUT/VIDEO.npy and VIDEO.json
                                              → OUTPUT/manifest.jsonl, failed.jsonl

  OUTPUT/videos.jsonl     what is to be done: a line a shard, [[name, path], ...]
  OUTPUT/manifest.jsonl   what is there: a line a video; at the end of a run
  OUTPUT/failed.jsonl     the dead letters: a line a video that can't be read, and why

A worker process loads the model once and treats a shard as `extract_files` treats a
folder: the bytes are the same, a video that is there and whole is skipped, so a shard
that a runner gives out twice is not made twice. OUTPUT and the videos must have the
same paths on every worker. Counters (namespace wsvad_jax): videos, already_there,
failures, frames, milliseconds of video and of work; a distribution: percent of real
time, of each shard.
"""

# pyright: reportMissingImports=false

import contextlib
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
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.utils.shared import Shared

from wsvad_jax import files
from wsvad_jax.data import extract_files, sidecar
from wsvad_jax.data.extract_files import Summary, Target
from wsvad_jax.errors import InputError

VIDEOS, MANIFEST, FAILED = "videos.jsonl", "manifest.jsonl", "failed.jsonl"
SHARD = 16  # videos, which share the tower's batches
NAMESPACE = "wsvad_jax"
# Beam's DirectRunner begins with Prism, a program that it downloads and that has no
# use for --direct_num_workers; this is what it falls back to.
RUNNERS = {"DirectRunner": "FnApiRunner"}


@dataclasses.dataclass(frozen=True)
class Job:
    """What a worker needs to know."""

    output: str  # folder
    clip: str  # hub name or folder of the CLIP snapshot
    layout: str
    choices: dict[str, Any]  # of the `Extractor`


def extract_archive(
    named: Mapping[str, pathlib.Path],
    job: Job,
    runner: str,
    options: Sequence[str] = (),
) -> Summary:
    """Runs the pipeline to its end and returns what it did.

    Args:
      named: videos by the names of their features, as `extract_files.name_videos`.
      job: how; its folder has been claimed (`Target.claim`).
      runner: DirectRunner, DataflowRunner, FlinkRunner ..., as Beam knows them.
      options: flags for Beam.

    Raises:
      InputError: a runner that Beam doesn't have, or a pipeline that did not finish.
    """
    start = time.monotonic()
    output = pathlib.Path(job.output)
    files.write_text(output / VIDEOS, "".join(_shards(named)))
    for name in (MANIFEST, FAILED):  # of an earlier run
        (output / name).unlink(missing_ok=True)
    with run_pipeline(runner, options) as pipeline:
        _build(pipeline, job)
    summary = read_summary(output)
    summary.wall = time.monotonic() - start
    return summary


@contextlib.contextmanager
def run_pipeline(runner: str, options: Sequence[str]) -> Iterator[beam.Pipeline]:
    """Yields a pipeline to be built, then runs it to its end.

    Raises:
      InputError: a runner that Beam doesn't have, or a pipeline that did not finish.
    """
    flags = [f"--runner={RUNNERS.get(runner, runner)}", *options]
    try:
        pipeline = beam.Pipeline(options=PipelineOptions(flags))
    except ValueError as e:
        raise InputError(f"--runner {runner}: {' '.join(str(e).split())}") from None
    yield pipeline
    state = pipeline.run().wait_until_finish()
    if state not in (None, "DONE"):
        raise InputError(f"--runner {runner}: the pipeline ended as {state}")


def _shards(named: Mapping[str, pathlib.Path]) -> Iterator[str]:
    pairs = [(name, os.path.abspath(video)) for name, video in named.items()]
    for i in range(0, len(pairs), SHARD):
        yield json.dumps(pairs[i : i + SHARD]) + "\n"


def _build(pipeline: beam.Pipeline, job: Job) -> None:
    extracted = (
        pipeline
        | "list" >> beam.io.ReadFromText(f"{job.output}/{VIDEOS}")
        | "read" >> beam.Map(json.loads)
        | "shard" >> beam.Reshuffle()
        | "extract" >> beam.ParDo(Extract(job)).with_outputs("failed", main="made")
    )
    for lines, name in ((extracted.made, MANIFEST), (extracted.failed, FAILED)):
        stem, suffix = os.path.splitext(name)
        sink = beam.io.WriteToText(
            f"{job.output}/{stem}", suffix, num_shards=1, shard_name_template=""
        )
        _ = lines | f"write {stem}" >> sink


class Extract(beam.DoFn):
    """Extracts a shard of videos; yields a JSON line for each."""

    def __init__(self, job: Job):
        super().__init__()
        self.job, self.shared = job, Shared()
        self.percent = Metrics.distribution(NAMESPACE, "percent_of_real_time")

    def setup(self) -> None:
        """Takes the process's model, which its first thread loads."""
        job = self.job
        self.extractor = self.shared.acquire(self._load)
        self.target = Target(job.output, self.extractor, job.layout, job.clip)
        self.target.claim(())

    def _load(self) -> Any:
        from wsvad_jax.clip.load import load
        from wsvad_jax.data.extraction import Extractor

        return Extractor(load(self.job.clip), **self.job.choices)

    def process(self, shard: list[list[str]]) -> Iterator[Any]:
        """Extracts those of the [name, path] pairs that are not there yet."""
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
            # An error's text begins with the file that it is about, made printable.
            begins = (str(error).startswith(str(InputError(f"{v}: "))) for v in videos)
            video = next(itertools.compress(videos, begins))
            line = json.dumps({"video": str(video), "error": str(error)})
            yield beam.pvalue.TaggedOutput("failed", line)

    def _line(self, name: str, *, made: bool) -> dict[str, Any]:
        side = sidecar.read(self.target.folder / f"{name}.json")
        return {
            "name": name,
            "made": made,  # in this run
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
    """Returns what a run's manifest and dead letters say; `wall` stays 0."""
    summary = Summary()
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
