"""Metrics of base and novel classes: those seen in training, and those that were not.

The definitions are those of open-vocabulary detection (Wu et al., CVPR 2024,
https://arxiv.org/abs/2311.07042, Sec. 4.1). They report frame AUC, average precision and
the top-1 accuracy of abnormal videos, over three groups of test videos:

  all     all videos
  base    normal videos, and abnormal ones of a base class
  novel   normal videos, and abnormal ones of a novel class

A video of several anomaly classes is in no group: the paper leaves such videos out.

  auc, ap   over the frames of a group's videos; with _align, of the alignment branch
  top1      fraction of a group's abnormal videos whose likeliest anomaly class is theirs
  map       mean over a group's classes of `class_bootstrap.class_average_precision`

A video's score for a class is the mean of the class's K largest probabilities, with
K = ⌊T / 16⌋ + 1. That is the pooling which VadCLIP and DSANet train with
(https://arxiv.org/abs/2308.11681, Sec. 3.5). The paper's own model pools features by
attention instead, so its top-1 accuracies are those of another pooling.

Letters: V videos, T snippets of a video, C classes, R resamples.
"""

from collections.abc import Collection, Iterable, Sequence

import numpy as np
from jaxtyping import Float

from wsvad_jax.metrics.bootstrap import resampled
from wsvad_jax.metrics.class_bootstrap import (
    class_average_precision,
    mean_over_classes,
)
from wsvad_jax.metrics.frame_level import STRIDE, EvalVideo

GROUPS = ("all", "base", "novel")
SNIPPETS_PER_TOP = 16  # K grows by one with each 16 snippets


def anomaly_classes(
    label: Iterable[int], segments: Iterable[tuple[int, int, int]]
) -> set[int]:
    """Returns the anomaly classes of a video's labels and true events."""
    return {*label, *(category for *_, category in segments)} - {0}


def group_rows(
    videos: Sequence[EvalVideo], base: Collection[int]
) -> dict[str, list[int]]:
    """Returns the indices of each group's videos.

    Args:
      videos: test videos.
      base: indices of the base classes.
    """
    rows: dict[str, list[int]] = {group: [] for group in GROUPS}
    for i, video in enumerate(videos):
        shown = anomaly_classes(video.label, video.segments)
        if len(shown) > 1:
            continue
        rows["all"].append(i)
        if not shown or shown <= set(base):
            rows["base"].append(i)
        if not shown & set(base):
            rows["novel"].append(i)
    return rows


def likeliest_class(probabilities: Float[np.ndarray, "T C"]) -> int:
    """Returns the anomaly class of the highest score, see the module."""
    k = len(probabilities) // SNIPPETS_PER_TOP + 1
    top = -np.partition(-probabilities[:, 1:], k - 1, axis=0)[:k]
    return 1 + int(top.astype(np.float64).mean(0).argmax())


def top1(
    videos: Sequence[EvalVideo], weights: Float[np.ndarray, "R V"]
) -> Float[np.ndarray, "R"]:
    """Returns the fraction of abnormal videos that are named rightly.

    It is NaN without an abnormal video.

    Args:
      videos: scored videos with class probabilities, each of one class at most.
      weights: number of copies of each video.
    """
    right, total = np.zeros((2, len(videos)))
    for i, video in enumerate(videos):
        shown = anomaly_classes(video.label, video.segments)
        if shown and video.classes is not None:
            total[i] = 1
            right[i] = likeliest_class(video.classes) in shown

    drawn = weights @ total
    out = np.full(len(weights), np.nan)
    return np.divide(weights @ right, drawn, out=out, where=drawn > 0)


def group_values(
    videos: Sequence[EvalVideo],
    weights: Float[np.ndarray, "R V"],
    base: Collection[int],
    *,
    stride: int = STRIDE,
) -> dict[str, Float[np.ndarray, "R"]]:
    """Returns the metrics by METRIC/GROUP, as auc/novel; NaN where undefined.

    Args:
      videos: scored test set.
      weights: number of copies of each video by resample.
      base: indices of the base classes.
      stride: frames per snippet.
    """
    rows = group_rows(videos, base)
    curves = ["", *(f"_{name}" for name in videos[0].extra)] if videos else [""]

    values = {}
    for group, chosen in rows.items():
        own, drawn = [videos[i] for i in chosen], weights[:, chosen]
        for name in ("auc", "ap"):
            for curve in curves:
                key = f"{name}{curve}"
                # A group may be empty, or have normal videos alone.
                values[f"{key}/{group}"] = (
                    resampled(own, key, drawn, stride=stride)
                    if own
                    else np.full(len(weights), np.nan)
                )

    return values | _class_values(videos, weights, base, rows, stride)


def _class_values(
    videos: Sequence[EvalVideo],
    weights: Float[np.ndarray, "R V"],
    base: Collection[int],
    rows: dict[str, list[int]],
    stride: int,
) -> dict[str, Float[np.ndarray, "R"]]:
    """Returns top1 and map of each group, {} for a model that names no classes."""
    kept = rows["all"]
    if not kept or any(video.classes is None for video in videos):
        return {}

    # One matching for all groups: detections compete with those in all videos.
    whole = [videos[i] for i in kept]
    ap = class_average_precision(whole, weights[:, kept], stride=stride)
    classes = {
        "all": list(range(1, ap.shape[1])),
        "base": sorted(base),
        "novel": [c for c in range(1, ap.shape[1]) if c not in base],
    }

    values = {}
    for group, chosen in rows.items():
        own = [videos[i] for i in chosen]
        values[f"top1/{group}"] = top1(own, weights[:, chosen])
        values[f"map/{group}"] = mean_over_classes(ap[:, classes[group]])
    return values
