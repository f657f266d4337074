"""Curves behind the numbers: ROC, precision-recall, calibration, scores, classes.

What `evaluate` leaves as curves.json beside results.json, on fixed grids, so that it is
small, can be averaged over seeds, and the page of results needs neither scores nor the
dataset. Frames count as in `wsvad_jax.metrics.frame_level`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from wsvad_jax.metrics.class_curves import class_pool
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
    result: dict[str, Any] = {"roc": None, "pr": None}

    if pool.has_both_kinds:
        fpr, tpr = pool.roc_curve()
        result["roc"] = _rounded(np.interp(GRID, fpr, tpr))

        # From the highest score on, as the ROC. A recall has the best precision that
        # it or any higher recall reaches.
        precision, recall = (x[::-1] for x in pool.precision_recall_curve())
        best = np.maximum.accumulate(precision[::-1])[::-1]
        result["pr"] = _rounded(best[np.searchsorted(recall[:-1], GRID)])

    # Histograms of the score count frames, not snippets.
    for name, count in (("normal", pool.negative), ("anomalous", pool.positive)):
        frames, _ = np.histogram(np.clip(pool.score, 0, 1), BINS, weights=count)
        result[name] = _rounded(frames / count.sum()) if count.any() else None

    calibrated = pool.positive.any()
    result |= _reliability(pool) if calibrated else {"accuracy": None, "frames": None}
    result["class_ap"] = _class_ap([v for v in videos if v.known], class_names, stride)
    return result


def _reliability(pool: Pool) -> dict[str, list]:
    """Returns how often frames of each confidence are anomalous, and how many."""
    hits, _ = np.histogram(pool.score, CONFIDENCES, weights=pool.positive)
    frames, _ = np.histogram(
        pool.score, CONFIDENCES, weights=pool.positive + pool.negative
    )
    shares = np.divide(hits, frames, out=np.zeros(len(frames)), where=frames > 0)
    return {"accuracy": _rounded(shares), "frames": frames.astype(int).tolist()}


def _class_ap(
    videos: Sequence[EvalVideo], class_names: Sequence[str], stride: int
) -> dict[str, float | None] | None:
    """Returns the average precision of each anomaly class over all frames."""
    if not videos or any(v.classes is None for v in videos):
        return None

    result = {}
    for c, name in enumerate(class_names[1:], 1):
        pool = class_pool(videos, c, stride)
        known = pool.positive.any()
        result[name] = round(pool.average_precision(), 5) if known else None
    return result


def _rounded(values: Float[np.ndarray, "K"]) -> list[float]:
    return np.round(values, 5).tolist()
