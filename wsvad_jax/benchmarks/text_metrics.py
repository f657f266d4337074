"""Metrics of `benchmark text`, on the test set and on resamples of its videos.

Names: those of results.json, and `naming`, the fraction of true event frames whose most
probable anomaly class is the event's. `class_ap`, `class_naming` and `class_ano_auc` are
those of one class: its average precision within mAP, naming of its events, and the ROC
area over the frames of its videos.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from wsvad_jax.metrics.bootstrap import resample_weights, resampled
from wsvad_jax.metrics.class_bootstrap import (
    class_average_precision,
    mean_over_classes,
    named_frames,
)
from wsvad_jax.metrics.frame_level import EvalVideo

OVERALL = ("auc", "ano_auc", "ap", "auc_align", "map_avg_clean", "naming")
OF_NAMES = ("map_avg_clean", "naming")  # they need class probabilities
OF_CLASS = ("class_ap", "class_naming", "class_ano_auc")


def resampled_weights(
    videos: Sequence[EvalVideo], resamples: int, seed: int
) -> Float[np.ndarray, "R1 V"]:
    """Returns counts of each video: ones in row 0, then the resamples."""
    abnormal = np.array([v.abnormal for v in videos])
    drawn = resample_weights(abnormal, resamples, np.random.default_rng(seed))
    return np.concatenate([np.ones((1, len(videos))), drawn])


def overall_values(
    videos: Sequence[EvalVideo], weights: Float[np.ndarray, "R1 V"], stride: int
) -> dict[str, Float[np.ndarray, "R1"]]:
    """Returns the metrics over all classes, by name.

    A model without class probabilities has no metrics of them.

    Args:
      videos: scored test set.
      weights: counts of each video by resample.
      stride: frames per snippet.
    """
    values = {}
    for name in OVERALL:
        if name in OF_NAMES and videos[0].classes is None:
            continue
        if name == "map_avg_clean":
            ap = class_average_precision(videos, weights, stride=stride)
            values[name] = mean_over_classes(ap)
        elif name == "naming":
            values[name] = named_frames(videos, weights, stride=stride)
        # The A-branch is a curve of its own where the model has one.
        elif not name.endswith("_align") or "align" in videos[0].extra:
            values[name] = resampled(videos, name, weights, stride=stride)
    return values


def class_values(
    videos: Sequence[EvalVideo],
    weights: Float[np.ndarray, "R1 V"],
    category: int,
    stride: int,
) -> dict[str, Float[np.ndarray, "R1"]]:
    """Returns the metrics of one class, by name.

    Args:
      videos: scored test set.
      weights: counts of each video by resample.
      category: index of the class.
      stride: frames per snippet.
    """
    ap = class_average_precision(videos, weights, stride=stride)
    rows = [i for i, v in enumerate(videos) if category in v.label]
    own = [videos[i] for i in rows]
    return {
        "class_ap": ap[:, category],
        "class_naming": named_frames(videos, weights, category, stride=stride),
        "class_ano_auc": resampled(own, "ano_auc", weights[:, rows], stride=stride),
    }
