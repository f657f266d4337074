"""Summarises the event-level metrics of several seeds: mean, deviation, intervals.

Resamples are those of `seeds`: whole test videos, the same ones for every seed. They
need the events that each run found, which scores.npz holds.
"""

import pathlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from wsvad_jax.results.event_table import FRACTIONS, amount, event_values
from wsvad_jax.results.runs import Run
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.text import aligned, mean_and_std, percent

if TYPE_CHECKING:
    from wsvad_jax.data.dataset import Dataset
    from wsvad_jax.metrics.event_level import VideoEvents
    from wsvad_jax.metrics.frame_level import EvalVideo

KEY = "events"  # VIDEO/events in scores.npz: rows (start, end, score), in frames
Interval = Callable[[np.ndarray], "list[float] | None"]
AGAIN = "score again with evaluate --workdir"


def summarise_events(
    runs: Sequence[Run],
    dataset: "Dataset",
    videos: "Sequence[Sequence[EvalVideo]]",
    weights: np.ndarray,
    interval: Interval,
) -> dict[str, Any] | None:
    """Returns the event-level metrics over seeds; None if no run has any.

    Args:
      runs: runs that differ by seed alone.
      dataset: their dataset.
      videos: scored test set of each run.
      weights: counts [R, V] of each video per resample, the same for every run.
      interval: function that returns [low, high] of the values of all resamples.

    Returns:
      `metrics` as in a summary of seeds, `rules`, and `remark`: why there are no means
      or no intervals, "" where there are.

    Raises:
      InputError: a scores.npz has events of another shape than `evaluate` writes.
    """
    known = [run.results.get("events") for run in runs]
    if not any(known):
        return None

    # A mean needs every run, by the same rules.
    missing = [
        run.source for run, events in zip(runs, known, strict=True) if not events
    ]
    if missing:
        return {
            "metrics": {},
            "remark": f"{missing[0]} has no metrics of events; {AGAIN}",
        }

    used = [(e["rules"], e.get("fps")) for e in known if e]
    for run, own in zip(runs, used, strict=True):
        if own != used[0]:
            return {
                "metrics": {},
                "remark": f"{run.source} has other event rules than {runs[0].source}, so "
                "their metrics of events have no mean",
            }

    metrics: dict[str, dict[str, Any]] = {}
    values = [run.event_values() for run in runs]
    for key in values[0]:
        each = [of_run.get(key) for of_run in values]
        mean, std = mean_and_std(each)
        metrics[key] = {"mean": mean, "std": std, "seeds": each}

    # Older runs have metrics of events, but not the events themselves.
    remark = ""
    found = [
        stored_events(run, dataset, of_run)
        for run, of_run in zip(runs, videos, strict=True)
    ]
    if all(of_run is not None for of_run in found):
        _add_intervals(metrics, found, _columns(weights, videos[0]), interval)
    else:
        remark = f"no intervals: a run's scores.npz has no events; {AGAIN}"
    return {"metrics": metrics, "rules": used[0][0], "remark": remark}


def _columns(weights: np.ndarray, videos: "Sequence[EvalVideo]") -> np.ndarray:
    """Returns the counts of the videos whose truth is known, as events need it."""
    return weights[:, [video.known for video in videos]]


def _add_intervals(
    metrics: dict, found: Sequence[Any], weights: np.ndarray, interval: Interval
) -> None:
    from wsvad_jax.metrics.event_bootstrap import resampled_events

    runs = [event_values(resampled_events(videos, weights)) for videos in found]
    for key, metric in metrics.items():
        means = np.mean(np.array([of_run[key] for of_run in runs]), axis=0)
        found_interval = interval(means)
        if found_interval and metric["mean"] is not None:
            metric["interval"] = found_interval


def stored_events(
    run: Run, dataset: "Dataset", videos: "Sequence[EvalVideo]"
) -> "list[VideoEvents] | None":
    """Returns the events of a run's test videos; None if scores.npz holds none.

    Args:
      run: finished run.
      dataset: its dataset, with frame rates.
      videos: its scored test set; those of unknown truth are left out.

    Raises:
      InputError: events of another shape than `evaluate` writes.
    """
    from wsvad_jax.datasets.registry import frame_rate
    from wsvad_jax.metrics.event_level import VideoEvents

    path = pathlib.Path(run.source) / "scores.npz"
    entries = {entry.video: entry for entry in dataset.split("test").entries}
    assumed = (run.results.get("events") or {}).get("fps")

    made = []
    with np.load(path, allow_pickle=False) as arrays:
        for video in (video for video in videos if video.known):
            name = f"{video.video}/{KEY}"
            if name not in arrays:
                return None

            rows = arrays[name]
            if rows.ndim != 2 or rows.shape[1] != 3 or not np.isfinite(rows).all():
                raise InputError(
                    f"{path}: {name} has type {rows.dtype} and shape {rows.shape}; "
                    f"expected rows (start, end, score); {AGAIN}"
                )

            # Class 0 is the normal class; its segments are no events.
            truth = [(start, end) for start, end, c in video.segments if c > 0]
            made.append(
                VideoEvents(
                    found=rows[:, :2].astype(np.int64),
                    score=rows[:, 2].astype(np.float64),
                    truth=np.array(truth, np.int64).reshape(-1, 2),
                    num_frames=video.num_frames,
                    fps=frame_rate(entries[video.video], dataset.card) or assumed,
                    abnormal=video.abnormal,
                )
            )
    return made


def events_summary_table(summary: dict[str, Any], seeds: Sequence[int]) -> list[str]:
    """Formats the events of a summary as lines of text.

    Args:
      summary: result of `summarise_events`.
      seeds: seeds, in the order of the values.
    """
    rows = [["events", "mean ± std", "95 % interval", *(f"seed {s}" for s in seeds)]]
    for name, m in summary["metrics"].items():
        if m["mean"] is None:
            continue

        # Fractions are in %, as in the table of one run; rates and seconds are not.
        name = name.removeprefix("event_")
        fraction = name.split("@")[0] in FRACTIONS
        show = percent if fraction else amount
        interval = " to ".join(show(x) for x in m.get("interval") or ()) or "-"
        each = ["-" if v is None else show(v) for v in m["seeds"]]
        unit = " (%)" if fraction else " (s)" if name.startswith("delay") else ""
        rows.append([name + unit, show(m["mean"], m["std"]), interval, *each])

    lines = aligned(rows) if len(rows) > 1 else []
    if remark := summary["remark"]:
        lines.append(f"remark: {remark}")
    return lines
