"""Measures positional bias without frame labels, on the normal training videos.

A normal training video has no event, so its mean score at a position in the window is
content and positional bias. Over many videos, content averages out: what varies between
positions is bias. The measure is ours. It serves to choose recipes without a test set.
"""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from wsvad_jax.utils.errors import InputError

if TYPE_CHECKING:
    from wsvad_jax.experiment.build import Experiment

EPSILON = 1e-7  # bound of scores, since the logit of 0 or 1 is infinite


@dataclasses.dataclass(frozen=True)
class PositionVariance:
    """How much the mean logit of windows depends on the position.

    Args:
      variance: variance over positions of the mean logit over windows, in logit².
      share: `variance` as a fraction of the variance of all logits, 0 to 1.
      mean_logits: mean logit at each position that at least half of the windows have.
      windows: number of windows.
    """

    variance: float
    share: float
    mean_logits: list[float]
    windows: int


def position_variance(
    anomaly: Float[np.ndarray, "W T"], length: Int[np.ndarray, "W"]
) -> PositionVariance:
    """Returns the positional variance of windows of normal videos.

    Args:
      anomaly: raw anomaly scores, in [0, 1].
      length: valid snippets of each window.

    Raises:
      InputError: there are no windows, or none has a snippet.
    """
    W, T = anomaly.shape
    if not W or length.max() < 1:
        raise InputError(
            "there are no snippets of normal training videos to measure positional "
            "bias on; prepare a dataset with normal training videos"
        )

    valid = np.arange(T) < length[:, None]
    p = np.clip(anomaly.astype(np.float64), EPSILON, 1 - EPSILON)
    logits = np.log(p / (1 - p))

    # A mean over few windows would vary by their content.
    counts = valid.sum(0)
    common = counts >= max(W / 2, 1)
    if not common.any():
        common = counts == counts.max()
    means = np.where(valid, logits, 0).sum(0)[common] / counts[common]

    variance, total = float(means.var()), float(logits[valid].var())
    share = variance / total if total > 0 else 0.0
    return PositionVariance(variance, share, means.tolist(), W)


def measure_position_variance(
    experiment: "Experiment", params: Any, batch_stats: Any
) -> PositionVariance:
    """Scores the normal training videos, without the correction, and measures them.

    Args:
      experiment: dataset, model and recipe.
      params: parameters of the model.
      batch_stats: running statistics of the model, empty if it has none.

    Raises:
      InputError: the training split has no normal video.
    """
    from wsvad_jax.evaluation.scorer import Scorer
    from wsvad_jax.evaluation.windows import windows_of_split

    scorer = Scorer(experiment)
    weights = scorer.weights(params, batch_stats)
    entries = experiment.dataset.split("train").entries
    is_normal = np.array([0 in e.label for e in entries])

    # Groups of windows differ in length alone, so shorter ones are padded.
    scores, lengths = [], []
    for index, windows in windows_of_split(experiment, "train"):
        rows = np.flatnonzero(is_normal[index][windows.video])
        for start in range(0, len(rows), scorer.batch_size):
            part = rows[start : start + scorer.batch_size]
            features = np.concatenate([windows.features[i : i + 1] for i in part])
            length = windows.length[part]
            scores.append(scorer(weights, features, length).anomaly)
            lengths.append(length)

    longest = max((s.shape[1] for s in scores), default=0)
    padded = [np.pad(s, ((0, 0), (0, longest - s.shape[1]))) for s in scores]
    empty = np.zeros((0, longest), np.float32), np.zeros(0, np.int32)
    return position_variance(
        np.concatenate([empty[0], *padded]), np.concatenate([empty[1], *lengths])
    )
