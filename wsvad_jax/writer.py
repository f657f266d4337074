"""Writes metrics.jsonl and TensorBoard events, and formats the table of results.

metrics.jsonl has one object per line, {"step": 10, "loss": 0.69, "mil": 0.41, …}. Keys
are `loss`, the names of its terms, `grad_norm` and the like. Metrics of an evaluation
during training have its name as prefix, as in `heldout/video_auc`.
"""

import json
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from wsvad_jax.files import naming, write_text

FILE = "metrics.jsonl"
EVENTS = "tensorboard"  # folder of the event files


class Writer:
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
        with naming(self.path):
            self._file.write(json.dumps({"step": int(step), **values}) + "\n")
            self._file.flush()

        numbers = {k: v for k, v in values.items() if isinstance(v, int | float)}
        if self._tensorboard and numbers:
            with naming(self.path.parent / EVENTS):
                events = self._open_events()
                for name, value in numbers.items():
                    events.add_scalar(name, value, int(step))

    def flush(self) -> None:
        """Writes all buffered data to disk."""
        if self._file is not None:
            with naming(self.path):
                self._file.flush()
                os.fsync(self._file.fileno())
        if self._events is not None:
            with naming(self.path.parent / EVENTS):
                self._events.flush()

    def close(self) -> None:
        """Flushes and closes; writing afterwards does nothing."""
        self.flush()
        with naming(self.path.parent):
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
            from tensorboardX import SummaryWriter

            # TensorBoard hides values of earlier runs from the purge step on. The
            # suffix separates runs that begin within the same second.
            self._events = SummaryWriter(
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


def _plain(value):
    """Converts numbers of any library to JSON's."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, Sequence):
        return [_plain(v) for v in value]
    number = float(value)
    return number if math.isfinite(number) else None


def read_history(workdir: str | os.PathLike) -> list[dict[str, Any]]:
    """Returns the lines of a workdir's metrics.jsonl; [] if there is none.

    Incomplete lines, left by a killed process, are skipped.
    """
    path = pathlib.Path(workdir) / FILE
    if not path.exists():
        return []

    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        # A cut line may still be valid JSON, as a number.
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            rows.append(row)
    return rows


# Rows of the table, in this order: frames, videos, classes.
NAMES = {
    "auc": "frame AUC",
    "ano_auc": "frame AUC, abnormal videos",
    "ap": "AP (step-wise)",
    "ap_trapezoid": "AP (trapezoidal)",
    "far": "false alarm rate at 0.5",
    "recall@fpr0.01": "recall at 1 % false positives",
    "recall@fpr0.05": "recall at 5 % false positives",
    "video_auc": "video AUC",
    "map": "mAP at IoU",
    "map_avg": "mAP, mean",
    "map_avg_clean": "mAP, mean, anomaly classes only",
}
IOUS = ("0.1", "0.2", "0.3", "0.4", "0.5")


def results_table(results: Mapping[str, Any]) -> str:
    """Formats the content of results.json as a plain text table, in %.

    Columns are the anomaly score and each further curve (keys with a suffix, as in
    auc_align). Bootstrap intervals, KEY_interval, follow their curve.
    """
    columns = []
    for curve in _curves(results):
        columns.append((curve.removeprefix("_") or "anomaly", curve, _percent))
        if any(f"{key}{curve}_interval" in results for key in NAMES):
            columns.append(("95 % interval", f"{curve}_interval", _interval))

    rows = [["%", *(title for title, _, _ in columns)]]
    for key, name in NAMES.items():
        if not any(key + end in results for _, end, _ in columns):
            continue
        # One row per IoU threshold; further curves have no classes.
        if key == "map":
            values = results[key] or [None] * len(IOUS)
            for iou, value in zip(IOUS, values, strict=True):
                rest = [""] * (len(columns) - 1)
                rows.append([f"{name} {iou}", _percent(value), *rest])
        else:
            cells = [
                text(results[key + end]) if key + end in results else ""
                for _, end, text in columns
            ]
            rows.append([name, *cells])

    remarks = [f"remark: {text}" for text in results.get("remarks", ())]
    if without_truth(results):
        remarks.append(
            "no ground truth: the times of the test videos' events are unknown"
            if results.get("video_auc") is not None
            else "no ground truth of frames: all test videos are abnormal, and the times "
            "of their events are unknown, or all that there is"
        )
    return "\n".join([*_title(results), *aligned(rows), *remarks])


def without_truth(results: Mapping[str, Any]) -> bool:
    """Whether metrics lack what only frames of both kinds give.

    Videos of both kinds were told apart, or there are abnormal ones only (no false alarm
    rate), whose frames are of one kind or none (no AP).
    """
    if results.get("auc") is not None:
        return False
    abnormal = "far" in results and results["far"] is None
    return results.get("video_auc") is not None or (
        abnormal and results.get("ap") is None
    )


def _curves(results):
    suffixes = [k.removeprefix("auc") for k in results if k.startswith("auc_")]
    return ["", *(s for s in suffixes if not s.endswith("_interval"))]


def _title(results):
    keys = ("model", "dataset", "seed", "protocol", "step")
    parts = [f"{k} {results[k]}" for k in keys if k in results]
    # The choice of weights is part of the title: selection on the test set must show.
    parts += filter(None, [results.get("selection")])
    return [", ".join(parts)] if parts else []


def _percent(value):
    return "-" if value is None else f"{100 * value:.2f}"


def _interval(pair):
    return "-" if pair is None else f"{_percent(pair[0])} to {_percent(pair[1])}"


def aligned(rows: list[list[str]]) -> list[str]:
    """Formats rows as lines with aligned columns: names left, numbers right.

    The first row is the header, followed by a rule.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = ["-" * width for width in widths]
    lines = []
    for name, *cells in [rows[0], rule, *rows[1:]]:
        numbers = [c.rjust(w) for c, w in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), *numbers]).rstrip())
    return lines
