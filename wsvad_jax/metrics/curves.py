"""Curves behind the numbers: ROC, precision-recall, calibration, scores, classes.

What `evaluate` leaves as curves.json beside results.json, on fixed grids, so that it is
small, can be averaged over seeds, and the page of results needs neither scores nor the
dataset. Frames count as in `wsvad_jax.metrics.frame_level`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from wsvad_jax.metrics.frame_level import STRIDE, EvalVideo, Pool

GRID = np.linspace(0, 1, 101)  # false positive rates, and recalls
BINS = np.linspace(0, 1, 21)  # of scores
CONFIDENCES = np.linspace(0, 1, 11)  # of the reliability diagram


def curves(
    videos: Sequence[EvalVideo], class_names: Sequence[str], stride: int = STRIDE
) -> dict[str, Any]:
    """Returns the curves of a scored test set, as JSON takes them.

    Args:
      videos: as `metrics.evaluate` takes them.
      class_names: normal first.
      stride: frames per snippet.

    Returns:
      `roc`: true positive rate at each of `GRID`'s false positive rates; `pr`: precision
      at each of its recalls; `normal` and `anomalous`: shares of these frames in each
      bin of the score; `accuracy` and `frames`: share of anomalous frames and number of
      frames in each bin of confidence; `class_ap`: step-wise AP of each class's
      probability over all frames. Parts that are undefined are null: without true
      events only the normal videos' frames are known.
    """
    pool = Pool.of(videos, None, stride)
    true, false = pool.positive.sum(), pool.negative.sum()
    found: dict[str, Any] = {"roc": None, "pr": None}
    if true and false:
        tp, fp = _counts(pool.score, pool.positive, pool.negative)
        found["roc"] = _rounded(np.interp(GRID, fp / false, tp / true))
        # The highest precision at this recall or beyond.
        best = np.maximum.accumulate(_precision(tp, fp)[::-1])[::-1]
        found["pr"] = _rounded(best[np.searchsorted(tp[:-1] / true, GRID)])
    for name, count in (("normal", pool.negative), ("anomalous", pool.positive)):
        shares, _ = np.histogram(np.clip(pool.score, 0, 1), BINS, weights=count)
        found[name] = _rounded(shares / count.sum()) if count.any() else None
    found |= _reliability(pool) if true else {"accuracy": None, "frames": None}
    found["class_ap"] = _class_ap([v for v in videos if v.known], class_names, stride)
    return found


def _reliability(pool: Pool) -> dict[str, list]:
    """Returns how often frames of each confidence are anomalous, and how many."""
    hits, _ = np.histogram(pool.score, CONFIDENCES, weights=pool.positive)
    frames, _ = np.histogram(
        pool.score, CONFIDENCES, weights=pool.positive + pool.negative
    )
    shares = np.divide(hits, frames, out=np.zeros(len(frames)), where=frames > 0)
    return {"accuracy": _rounded(shares), "frames": frames.astype(int).tolist()}


def _counts(score, positive, negative):
    """Returns anomalous and normal frames scored at least s, for each s, from none on."""
    order = np.argsort(-score, kind="stable")
    last = np.flatnonzero(np.diff(score[order], append=-np.inf))
    tp, fp = (np.cumsum(x[order])[last] for x in (positive, negative))
    return np.append(0, tp), np.append(0, fp)


def _precision(tp, fp):
    """1 where nothing is found, as the curve begins."""
    return np.divide(tp, tp + fp, out=np.ones(len(tp)), where=tp + fp > 0)


def _class_ap(videos, class_names, stride) -> dict[str, float | None] | None:
    if not videos or any(v.classes is None for v in videos):
        return None
    found = {}
    for c, name in enumerate(class_names[1:], 1):
        score = np.concatenate([v.classes[:, c] for v in videos])
        truth = np.concatenate([_frames_of(v, c, stride) for v in videos])
        tp, fp = _counts(score.astype(np.float64), truth, stride - truth)
        step = np.sum(np.diff(tp) * _precision(tp, fp)[1:]) / max(truth.sum(), 1)
        found[name] = round(float(step), 5) if truth.any() else None
    return found


def _frames_of(video: EvalVideo, category: int, stride: int):
    """Returns how many frames of each snippet are of a class."""
    truth = np.zeros(len(video.anomaly) * stride, int)
    for start, end, c in video.segments:
        if c == category:
            truth[max(start, 0) : max(end, 0)] = 1
    return truth.reshape(-1, stride).sum(1)


def _rounded(values: Float[np.ndarray, "K"]) -> list[float]:
    return np.round(values, 5).tolist()
