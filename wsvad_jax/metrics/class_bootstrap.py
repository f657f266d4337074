"""Class metrics of resampled test sets: average precision and naming of each class.

A resample is a count per video, as in `bootstrap`. Detections are matched to true events
once: a match depends on its own video alone. Copies of a video count as one step of the
precision-recall curve. With counts of 1, `class_average_precision` has the values behind
`map_avg_clean`.

Letters: V videos, R resamples, C classes.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from wsvad_jax.metrics import temporal_map
from wsvad_jax.metrics.frame_level import STRIDE, EvalVideo


def class_average_precision(
    videos: Sequence[EvalVideo],
    weights: Float[np.ndarray, "R V"],
    *,
    stride: int = STRIDE,
) -> Float[np.ndarray, "R C"]:
    """Returns each class's average precision, the mean over `temporal_map.IOUS`.

    Abnormal videos with true events count, as in `map_avg_clean`. A class is NaN in
    resamples without an event of it; so is the normal class.

    Args:
      videos: scored test set, with class probabilities.
      weights: number of copies of each video.
      stride: frames per snippet.
    """
    kept = [i for i, v in enumerate(videos) if v.abnormal and v.known]
    classes = [_probabilities(videos[i]) for i in kept]
    truth = np.array(
        [
            (row, category, start, end)
            for row, i in enumerate(kept)
            for start, end, category in videos[i].segments
            if category > 0
        ],
        np.int64,
    ).reshape(-1, 4)
    ap = np.full((len(weights), _probabilities(videos[0]).shape[1]), np.nan)
    if not len(truth):
        return ap

    weights = weights[:, kept]
    detected = temporal_map.detections(classes, stride=stride)
    hits = temporal_map.match_detections(detected, truth, temporal_map.IOUS)
    for c in np.unique(truth[:, 1]):
        # Detections of a class are in the order of their scores.
        own = detected.category == c
        drawn = weights[:, detected.video[own]]
        events = weights[:, truth[truth[:, 1] == c, 0]].sum(1)
        sums = [_precision_sum(drawn, hit) for hit in hits[:, own]]
        mean = np.mean(sums, axis=0)
        np.divide(mean, events, out=ap[:, c], where=events > 0)
    return ap


def mean_over_classes(ap: Float[np.ndarray, "R C"]) -> Float[np.ndarray, "R"]:
    """Returns the mean over the classes that are defined in each resample."""
    defined = np.isfinite(ap)
    count = defined.sum(1)
    total = np.where(defined, ap, 0).sum(1)
    return np.divide(total, count, out=np.full(len(ap), np.nan), where=count > 0)


def named_frames(
    videos: Sequence[EvalVideo],
    weights: Float[np.ndarray, "R V"],
    category: int | None = None,
    *,
    stride: int = STRIDE,
) -> Float[np.ndarray, "R"]:
    """Returns the fraction of event frames that are named rightly, NaN without events.

    A frame's name is the most probable class among the anomaly classes, so the anomaly
    score plays no part.

    Args:
      videos: scored test set, with class probabilities.
      weights: number of copies of each video.
      category: class whose events count; None takes all anomaly classes.
      stride: frames per snippet.
    """
    right, total = np.zeros((2, len(videos)))
    for i, video in enumerate(videos):
        named = np.repeat(1 + _probabilities(video)[:, 1:].argmax(1), stride)
        for start, end, c in video.segments:
            if c > 0 and category in (None, c):
                frames = named[max(start, 0) : max(end, 0)]
                right[i] += np.count_nonzero(frames == c)
                total[i] += len(frames)

    drawn = weights @ total
    out = np.full(len(weights), np.nan)
    return np.divide(weights @ right, drawn, out=out, where=drawn > 0)


def _probabilities(video: EvalVideo) -> np.ndarray:
    if video.classes is None:
        raise ValueError(f"{video.video}: no class probabilities")
    return video.classes


def _precision_sum(drawn: np.ndarray, hit: np.ndarray) -> np.ndarray:
    """Sums the precision at each hit over the copies of its video."""
    count = np.cumsum(drawn, axis=1)
    true = np.cumsum(drawn * hit, axis=1)
    precision = np.divide(true, count, out=np.zeros_like(count), where=count > 0)
    return (drawn * hit * precision).sum(1)
