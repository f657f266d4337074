"""Bootstrap intervals over videos for the metrics of an anomaly curve.

Frames of a video are not independent, so whole videos are drawn with replacement, in
the original numbers of normal and abnormal ones. The scores are sorted once. A resample
is a weight for every video, and its metric takes a few cumulative sums.

Letters: V videos, S snippets, R resamples, U distinct scores.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from wsvad_jax.metrics.frame_level import STRIDE, THRESHOLD, EvalVideo, Pool

CELLS = 1 << 22  # most values of snippets x resamples in memory at a time


def resample_weights(abnormal, n: int, rng: np.random.Generator):
    """Returns counts [R, V] of each video per resample, stratified by abnormality."""
    # Drawn apart, so every resample has both normal and abnormal videos.
    weights = np.zeros((n, len(abnormal)))
    for stratum in (np.flatnonzero(abnormal), np.flatnonzero(~abnormal)):
        if V := len(stratum):
            weights[:, stratum] = rng.multinomial(V, np.full(V, 1 / V), size=n)
    return weights


def resampled(
    videos: Sequence[EvalVideo],
    metric: str,
    weights: Float[np.ndarray, "R V"],
    *,
    stride: int = STRIDE,
) -> Float[np.ndarray, "R"]:
    """Returns the metric of each resample, NaN where it is undefined."""
    # The suffix of a metric names its curve.
    curves = {"": None, **{f"_{name}": name for name in videos[0].extra}}
    for suffix, curve in curves.items():
        pool_of, area = METRICS.get(metric.removesuffix(suffix), (None, None))
        if metric.endswith(suffix) and pool_of and area:
            return area(pool_of(Pool.of(videos, curve, stride)), weights)
    known = ", ".join(METRICS)
    raise ValueError(f"no bootstrap for the metric {metric!r}, expected one of {known}")


def _mean_over_anomalous(value: Callable) -> Callable:
    """Builds the metric (pool, weights) → [R], the mean of `value` over true frames.

    `value` takes five counts of frames, for each of the K distinct scores of anomalous
    frames:

      hits, before: anomalous frames at the score and above it, [K, R]
      tied, above: normal frames at the score and above it, [K, R]
      negative: all normal frames, [1, R]
    """

    def metric(pool: Pool, weights):
        order, start, stop = _steps(pool)
        # Sorted once for all resamples.
        video = pool.video[order]
        out = np.full(len(weights), np.nan)

        # A few resamples at a time bound the memory.
        rows = max(CELLS // max(len(order), 1), 1)
        for i in range(0, len(weights), rows):
            drawn = np.ascontiguousarray(weights[i : i + rows].T)[video]  # [S, R]
            true = _cumulative(drawn, pool.positive[order])
            false = _cumulative(drawn, pool.negative[order])

            before, hits = true[start], true[stop] - true[start]
            above, tied = false[start], false[stop] - false[start]
            at = value(hits, before, tied, above, false[-1:])
            # Undefined, hence NaN, without both kinds of frames.
            positive = np.where(false[-1] > 0, true[-1], 0)
            total = (hits * at).sum(axis=0)
            np.divide(total, positive, out=out[i : i + rows], where=positive > 0)
        return out

    return metric


def _steps(pool):
    """Returns the order of falling scores and the range [start, stop) of each step.

    A step is a distinct score of anomalous frames: only these move the curves.
    """
    order = np.argsort(-pool.score, kind="stable")
    start = np.flatnonzero(np.diff(pool.score[order], prepend=np.inf) != 0)
    stop = np.append(start[1:], len(order))[: len(start)]

    found = np.append(0, np.cumsum(pool.positive[order]))
    step = found[stop] > found[start]
    return order, start[step], stop[step]


def _cumulative(drawn, counts):
    """Returns the numbers [S + 1, R] of frames in the first 0, 1 ... S snippets."""
    total = np.zeros((len(drawn) + 1, drawn.shape[1]))
    np.multiply(drawn, counts[:, None], out=total[1:])
    return np.cumsum(total, axis=0, out=total)


def _roc_value(hits, before, tied, above, negative):
    """Share of the normal frames with a lower score; ties count half."""
    return 1 - (above + tied / 2) / np.maximum(negative, 1)


def _step_value(hits, before, tied, above, negative):
    """Precision at the score."""
    return _precision(before + hits, above + tied)


def _trapezoid_value(hits, before, tied, above, negative):
    """Mean of the precision at the score and just above it."""
    return (_precision(before + hits, above + tied) + _precision(before, above)) / 2


def _precision(true, false):
    """Precision; 1 where nothing is found, as the curve begins at recall 0."""
    found = true + false
    return np.divide(true, found, out=np.ones_like(found), where=found > 0)


def _false_alarms(pool, weights):
    """Share of the drawn normal frames that score THRESHOLD or more."""
    frames = (pool.positive + pool.negative).astype(np.float64)
    # Frames are counted per video once; a resample is a weighted sum of the counts.
    V = weights.shape[1]
    total = np.bincount(pool.video, frames, V)
    alarms = np.bincount(pool.video, frames * (pool.score >= THRESHOLD), V)
    drawn = weights @ total
    return np.divide(
        weights @ alarms, drawn, out=np.full(len(weights), np.nan), where=drawn > 0
    )


# Each metric needs its pool of snippets and a function of (pool, weights).
METRICS: dict[str, tuple[Callable, Callable]] = {
    "auc": (lambda pool: pool, _mean_over_anomalous(_roc_value)),
    "ano_auc": (Pool.abnormal_only, _mean_over_anomalous(_roc_value)),
    "ap": (lambda pool: pool, _mean_over_anomalous(_step_value)),
    "ap_trapezoid": (lambda pool: pool, _mean_over_anomalous(_trapezoid_value)),
    "far": (Pool.normal_only, _false_alarms),
    "video_auc": (Pool.per_video, _mean_over_anomalous(_roc_value)),
}
