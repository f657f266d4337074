"""Event-level metrics of a test set: what an operator of alarms sees.

  precision   share of the found events that match a true one
  recall      share of the true events that a found one matches
  f1          2 · matches / (found events + true events)
  false_alarms_per_hour          found events without a match, per hour of all videos
  false_alarms_per_hour_normal   found events of normal videos, per hour of these
  delay_mean, delay_median       seconds from the start of a true event to its alarm

**Matching** is one to one, and greedy as in `temporal_map.matched_events`: in order of
score, a found event takes the free true event of its video with the largest temporal
IoU, if that reaches the threshold. This is the rule of ActivityNet
(https://doi.org/10.1109/CVPR.2015.7298698) and THUMOS (https://arxiv.org/abs/1604.06182).
Precision, recall and F1 of matched events are those of sound event detection (Mesaros et
al., https://doi.org/10.3390/app6060162), with IoU in place of their tolerances. Classes
aren't compared: `map` does that.

**Truth.** Overlapping true events of a video, such as two classes at once, are one.
Abnormal videos without true events are left out, since their truth is unknown.

**Alarm.** The alarm of a true event is the start of the found event that matches it. An
alarm before the true start has delay 0: the delay is the positive part of the difference,
as in quickest detection (Lorden, https://doi.org/10.1214/aoms/1177693055). Missed events
have no delay and are left out; recall counts them.

**Undefined** values are None, never 0: precision, recall and F1 without true events,
precision without found events, delays without a match, and rates and delays where the
frame rate of a video is unknown.

Letters: V videos, N found events, G true events, I IoU thresholds.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from wsvad_jax.metrics.temporal_map import Detections, matched_events

IOUS = (0.1, 0.3, 0.5)
SECONDS_PER_HOUR = 3600


@dataclasses.dataclass(frozen=True)
class VideoEvents:
    """Found and true events of one video, as rows (start, end) in frames."""

    found: Int[np.ndarray, "N 2"]
    score: Float[np.ndarray, "N"]  # of the found events
    truth: Int[np.ndarray, "G 2"]  # in any order; overlapping ones count as one
    num_frames: int
    fps: float | None  # frames per second; None unknown
    abnormal: bool


def event_metrics(
    videos: Sequence[VideoEvents], ious: Sequence[float] = IOUS
) -> dict[str, Any]:
    """Returns the metrics of `events` in results.json, defined in this module.

    Args:
      videos: test videos whose truth is known.
      ious: thresholds of the temporal IoU.

    Returns:
      counts, hours and the rate of normal videos; under `iou`, the metrics by threshold.
    """
    found, truth, fps = pool_events(videos)
    matched = matched_events(found, truth, ious)

    # Without the rate of every video, neither hours nor delays are known.
    timed = bool(videos) and all(v.fps for v in videos)
    normal = [v for v in videos if not v.abnormal]
    hours = _hours(videos) if timed else None
    normal_hours = _hours(normal) if timed else None

    results: dict[str, Any] = {
        "true": len(truth),
        "found": len(found.video),
        "hours": hours,
        "normal_hours": normal_hours,
        "false_alarms_per_hour_normal": _ratio(
            sum(len(v.found) for v in normal), normal_hours
        ),
        "iou": {},
    }
    for iou, match in zip(ious, matched, strict=True):
        hit = match >= 0

        # Missed events have no delay. An event found before it begins has a delay of 0.
        delays = None
        if timed:
            frames = found.start[hit] - truth[match[hit], 2]
            delays = np.maximum(frames, 0) / fps[found.video[hit]]

        results["iou"][str(iou)] = {
            **_precision_recall(int(hit.sum()), len(hit), len(truth)),
            "false_alarms_per_hour": _ratio(int((~hit).sum()), hours),
            **_delays(delays),
        }
    return results


def merge_overlapping(
    segments: Iterable[Sequence[int]],
) -> list[tuple[int, int]]:
    """Returns segments (start, end) in order, with overlapping ones as one."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted((s, e) for s, e in segments):
        # Segments that only touch are two events.
        if merged and start < merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


def pool_events(
    videos: Sequence[VideoEvents],
) -> tuple[Detections, Int[np.ndarray, "G 4"], Float[np.ndarray, "V"]]:
    """Returns all found events by falling score, all true ones, and frame rates."""
    found = np.array(
        [(i, start, end) for i, v in enumerate(videos) for start, end in v.found],
        np.int64,
    ).reshape(-1, 3)
    score = np.concatenate([np.zeros(0), *(v.score for v in videos)])

    # Classes aren't compared, so all events are of one.
    truth = np.array(
        [
            (i, 0, start, end)
            for i, v in enumerate(videos)
            for start, end in merge_overlapping(v.truth.tolist())
        ],
        np.int64,
    ).reshape(-1, 4)

    # A stable order: of equal scores, the earlier event comes first.
    order = np.argsort(-score, kind="stable")
    video, start, end = found[order].T
    detections = Detections(video, np.zeros_like(video), start, end, score[order])
    return detections, truth, np.array([v.fps or np.nan for v in videos], np.float64)


def _hours(videos: Sequence[VideoEvents]) -> float:
    return sum(v.num_frames / (v.fps or np.nan) for v in videos) / SECONDS_PER_HOUR


def _ratio(count: int, amount: float | None) -> float | None:
    return count / amount if amount else None


def _precision_recall(matched: int, found: int, true: int) -> dict[str, float | None]:
    # Without true events, no found event could have matched.
    if not true:
        return {"precision": None, "recall": None, "f1": None}
    return {
        "precision": _ratio(matched, float(found)),
        "recall": matched / true,
        "f1": 2 * matched / (found + true),
    }


def _delays(seconds: np.ndarray | None) -> dict[str, float | None]:
    if seconds is None or not len(seconds):
        return {"delay_mean": None, "delay_median": None}
    return {
        "delay_mean": float(seconds.mean()),
        "delay_median": float(np.median(seconds)),
    }
