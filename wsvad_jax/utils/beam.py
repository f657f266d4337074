"""Runs an Apache Beam pipeline, with its errors in one sentence."""

# pyright: reportMissingImports=false

import contextlib
from collections.abc import Iterator, Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from wsvad_jax.utils.errors import InputError

# Beam's DirectRunner first tries Prism, a program that it downloads and that ignores
# --direct_num_workers. This is its fallback.
RUNNERS = {"DirectRunner": "FnApiRunner"}


@contextlib.contextmanager
def run_pipeline(runner: str, options: Sequence[str]) -> Iterator[beam.Pipeline]:
    """Yields an empty pipeline for the block to build, then runs it to its end.

    Raises:
      InputError: Beam has no such runner, or the pipeline did not finish.
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
