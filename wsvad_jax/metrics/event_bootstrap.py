"""Bootstrap of event-level metrics over videos, as `bootstrap` does for frames.

Matching needs one video alone, so a resample is a weighted sum of each video's counts.

Letters: V videos, R resamples.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from wsvad_jax.metrics.event_level import (
    IOUS,
    SECONDS_PER_HOUR,
    VideoEvents,
    pool_events,
)
from wsvad_jax.metrics.temporal_map import matched_events


def resampled_events(
    videos: Sequence[VideoEvents],
    weights: Float[np.ndarray, "R V"],
    ious: Sequence[float] = IOUS,
) -> dict[str, Any]:
    """Returns the metrics of each resample, in the form of `event_level.event_metrics`.

    Each value is an array [R], NaN where it is undefined. The median delay isn't a sum
    over videos, so it is undefined.

    Args:
      videos: test videos whose truth is known.
      weights: counts of each video per resample.
      ious: thresholds of the temporal IoU.
    """
    V = len(videos)
    found, truth, fps = pool_events(videos)
    num_found = weights @ np.bincount(found.video, minlength=V)
    num_true = weights @ np.bincount(truth[:, 0], minlength=V)

    # Without the rate of every video, neither hours nor delays are known: NaN.
    timed = bool(np.isfinite(fps).all())
    seconds = np.array([v.num_frames for v in videos]) / (fps if timed else np.nan)
    normal = np.array([not v.abnormal for v in videos])
    hours = weights @ (seconds / SECONDS_PER_HOUR)
    normal_hours = weights[:, normal] @ (seconds[normal] / SECONDS_PER_HOUR)
    normal_found = np.array([len(v.found) for v in videos])[normal]

    by_iou = {}
    for iou, match in zip(ious, matched_events(found, truth, ious), strict=True):
        hit = match >= 0
        video = found.video[hit]
        hits = weights @ np.bincount(video, minlength=V)
        frames = np.maximum(found.start[hit] - truth[match[hit], 2], 0)
        delays = np.bincount(video, frames / fps[video], minlength=V)
        some = num_true > 0

        by_iou[str(iou)] = {
            "precision": _ratio(hits, np.where(some, num_found, 0)),
            "recall": _ratio(hits, num_true),
            "f1": _ratio(2 * hits, np.where(some, num_found + num_true, 0)),
            "false_alarms_per_hour": _ratio(num_found - hits, hours),
            "delay_mean": _ratio(
                weights @ (delays if timed else delays * np.nan), hits
            ),
            "delay_median": np.full(len(weights), np.nan),
        }
    return {
        "false_alarms_per_hour_normal": _ratio(
            weights[:, normal] @ normal_found, normal_hours
        ),
        "iou": by_iou,
    }


def _ratio(
    counts: Float[np.ndarray, "R"], amounts: Float[np.ndarray, "R"]
) -> Float[np.ndarray, "R"]:
    """Returns the ratios, NaN where the amount is 0 or unknown."""
    out = np.full(len(counts), np.nan)
    return np.divide(counts, amounts, out=out, where=amounts > 0)
