"""Writes metrics.jsonl and TensorBoard events.

metrics.jsonl has one object per line, {"step": 10, "loss": 0.69, "mil": 0.41, …}. Keys
are `loss`, the names of its terms, `grad_norm` and the like. Metrics of an evaluation
during training have its name as prefix, as in `heldout/video_auc`.
"""

import json
import math
import os
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wsvad_jax.results.history import FILE, read_history
from wsvad_jax.utils.files import full_disk_named, write_text

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter

EVENTS = "tensorboard"  # folder of the event files


class MetricWriter:
    """Appends metrics to a workdir; use as a context manager."""

    def __init__(
        self,
        workdir: str | os.PathLike,
        *,
        resume_step: int = 0,
        tensorboard: bool = True,
        active: bool = True,
    ):
        """Opens the files for a run that begins or resumes.

        After a resume, the files equal those of a run without interruption.

        Args:
          workdir: folder of the run, created if missing.
          resume_step: step of the restored checkpoint. Later lines of the earlier run
            are dropped; 0 drops all.
          tensorboard: True also writes event files.
          active: False writes nothing, in all processes but the first.
        """
        self.path = pathlib.Path(workdir) / FILE
        self._resume, self._tensorboard = resume_step, tensorboard
        self._events = self._file = None

        if not active:
            return

        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Lines after the checkpoint belong to steps that will be repeated.
        self._keep(resume_step)
        self._file = self.path.open("a", encoding="utf-8")

    def __enter__(self):
        return self

    def __exit__(self, *exc) -> None:
        self.close()

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Writes one line of metrics: numbers, sequences of numbers, or None.

        NaN and infinity, which JSON lacks, become null.
        """
        if self._file is None:
            return
        values = {name: _plain(value) for name, value in values.items()}

        # One write call and a flush per line: a killed process loses no line, and only
        # its last one can be incomplete.
        with full_disk_named(self.path):
            self._file.write(json.dumps({"step": int(step), **values}) + "\n")
            self._file.flush()

        numbers = {k: v for k, v in values.items() if isinstance(v, int | float)}
        if self._tensorboard and numbers:
            with full_disk_named(self.path.parent / EVENTS):
                events = self._open_events()
                for name, value in numbers.items():
                    events.add_scalar(name, value, int(step))

    def flush(self) -> None:
        """Writes all buffered data to disk."""
        if self._file is not None:
            with full_disk_named(self.path):
                self._file.flush()
                os.fsync(self._file.fileno())
        if self._events is not None:
            with full_disk_named(self.path.parent / EVENTS):
                self._events.flush()

    def close(self) -> None:
        """Flushes and closes; writing afterwards does nothing."""
        self.flush()
        with full_disk_named(self.path.parent):
            if self._file is not None:
                self._file.close()
            if self._events is not None:
                self._events.close()
        self._file = self._events = None

    def history(self) -> list[dict[str, Any]]:
        """Returns all lines so far, including those of earlier runs."""
        return read_history(self.path.parent)

    def _open_events(self):
        if self._events is None:
            # TensorBoard hides values of earlier runs from the purge step on. The
            # suffix separates runs that begin within the same second.
            self._events = _summary_writer()(
                str(self.path.parent / EVENTS),
                purge_step=self._resume + 1,
                filename_suffix=f".{self._resume}",
            )
        return self._events

    def _keep(self, last):
        rows = self.history() if last else []
        text = "".join(json.dumps(r) + "\n" for r in rows if r["step"] <= last)
        # Most resumes change nothing, and then the file is left alone.
        found = self.path.read_bytes() if self.path.exists() else b""
        if text.encode() != found:
            write_text(self.path, text)


def _summary_writer() -> "type[SummaryWriter]":
    """Imports tensorboardX without PyTorch, which it would load where it is installed.

    That takes seconds, and numbers don't need it. tensorboardX uses the import for a type
    hint alone, so a user's tensors can still be written later.
    """
    loaded = "torch" in sys.modules
    if not loaded:
        sys.modules["torch"] = None  # pyright: ignore[reportArgumentType]
    try:
        from tensorboardX import SummaryWriter
    finally:
        if not loaded:
            del sys.modules["torch"]
    return SummaryWriter


def _plain(value):
    """Converts numbers of any library to JSON's."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, Sequence):
        return [_plain(v) for v in value]
    number = float(value)
    return number if math.isfinite(number) else None
