"""Fine-grained mean average precision of anomaly classes and their times.

The procedure behind the numbers of VadCLIP (Wu et al.,
https://arxiv.org/abs/2308.11681) and DSANet, on snippet-level class probabilities:

  detections           runs of a class's curve above max - 0.6 (max - min)
  _scores              a run's score, max(run) + 0.7 x mean of the curve's top 1/16
  matched_events       greedy matching to truth of the best IoU
  average_precision    AP of every class at every IoU threshold
  released_map         mean over all classes, normal included
  anomaly_map          mean over the anomaly classes that have truth

The published procedure also suppresses overlapping detections of a class in a video.
Such detections are runs of one curve above one threshold, hence disjoint. The step
never removes one, so it is left out here.

Letters: V videos, S snippets of all videos together, T snippets of one, C classes,
N detections, G true events, I IoU thresholds.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

# Constants of the published procedure.
IOUS = (0.1, 0.2, 0.3, 0.4, 0.5)
DEPTH = 0.6  # threshold of a run: max - DEPTH (max - min) of its curve
TOP_WEIGHT, TOP_SHARE = 0.7, 16  # weight of the mean over the ⌊frames / 16⌋ largest
MIN_FRAMES = 2  # length of the shortest detection


@dataclasses.dataclass(frozen=True)
class Detections:
    """Detections as parallel arrays, by class and then by falling score."""

    video: Int[np.ndarray, "N"]
    category: Int[np.ndarray, "N"]  # class index
    start: Int[np.ndarray, "N"]  # frames
    stop: Int[np.ndarray, "N"]
    score: Float[np.ndarray, "N"]


def detections(
    classes: Sequence[Float[np.ndarray, "_ C"]], *, stride: int = 16
) -> Detections:
    """Cuts every class curve of every video into runs above the curve's threshold.

    Args:
      classes: class probabilities [T, C] of each video, one row per snippet.
      stride: frames per snippet.
    """
    lengths = np.array([len(p) for p in classes])
    # All videos are concatenated, so no loop over videos is needed.
    probs = np.concatenate(classes).T.astype(np.float64)  # [C, S]
    first = np.concatenate([[0], np.cumsum(lengths)[:-1]])

    # The threshold belongs to a curve, the probabilities of one class in one video.
    high = np.maximum.reduceat(probs, first, axis=1)  # [C, V]
    low = np.minimum.reduceat(probs, first, axis=1)
    threshold = high - DEPTH * (high - low)
    above = probs > np.repeat(threshold, lengths, axis=1)

    # A run ends with its video, even if the next video's curve starts above.
    begins, ends = above.copy(), above.copy()
    begins[:, 1:] &= ~above[:, :-1]
    begins[:, first] = above[:, first]
    ends[:, :-1] &= ~above[:, 1:]
    ends[:, first + lengths - 1] = above[:, first + lengths - 1]

    category, start = np.nonzero(begins)
    stop = np.nonzero(ends)[1] + 1
    video = np.repeat(np.arange(len(lengths)), lengths)[start]

    score = _scores(probs, category, start, stop)
    score += TOP_WEIGHT * _top_means(classes, stride)[video, category]

    keep = np.flatnonzero((stop - start) * stride >= MIN_FRAMES)
    order = keep[np.lexsort((-score[keep], category[keep]))]

    return Detections(
        video[order],
        category[order],
        ((start - first[video]) * stride)[order],
        ((stop - first[video]) * stride)[order],
        score[order],
    )


def _scores(probs, category, start, stop):
    """Returns the highest probability inside each run."""
    if not len(start):
        return np.zeros(0)
    S = probs.shape[1]

    # reduceat takes [start, stop) from every second bound; the padding keeps the last
    # bound inside the array.
    flat = np.append(probs.ravel(), -np.inf)
    bounds = np.stack([category * S + start, category * S + stop], 1).ravel()
    return np.maximum.reduceat(flat, bounds)[::2]


def _top_means(classes, stride):
    """Returns [V, C]: each curve's mean over its ⌊frames / 16⌋ largest frames."""
    means = np.empty((len(classes), classes[0].shape[1]))
    # Frames of a snippet are equal, so only the last snippet may count in part.
    for row, p in zip(means, classes, strict=True):
        frames = max(len(p) * stride // TOP_SHARE, 1)
        whole, rest = divmod(frames, stride)
        taken = whole + (rest > 0)

        top = -np.partition(-p, taken - 1, axis=0)[:taken].astype(np.float64)
        weight = np.full(taken, float(stride))
        if rest:  # the smallest counts with `rest` of its frames
            top.sort(axis=0)
            weight[0] = rest
        row[:] = weight @ top / frames

    return means


def average_precision(
    detected: Detections,
    truth: Int[np.ndarray, "G 4"],
    num_classes: int,
    ious: Sequence[float] = IOUS,
) -> Float[np.ndarray, "I C"]:
    """Returns the average precision of every class; 0 for a class without truth.

    Args:
      detected: detections of all videos.
      truth: true events, as rows (video, class, start, end) in frames.
      num_classes: number of classes C.
      ious: thresholds of the overlap with a true event.
    """
    hits = match_detections(detected, truth, ious)  # [I, N]

    ap = np.zeros((len(ious), num_classes))
    for c in range(num_classes):
        hit = hits[:, detected.category == c]
        # Detections are in order of score, so AP is the mean precision at the hits.
        precision = np.cumsum(hit, axis=1) / np.arange(1, hit.shape[1] + 1)
        events = np.count_nonzero(truth[:, 1] == c)
        ap[:, c] = (precision * hit).sum(axis=1) / max(events, 1)

    return ap


def match_detections(
    found: Detections, truth: Int[np.ndarray, "G 4"], ious: Sequence[float]
) -> Bool[np.ndarray, "I N"]:
    """Returns the mask of detections that match a true event, see `matched_events`."""
    return matched_events(found, truth, ious) >= 0


def matched_events(
    found: Detections, truth: Int[np.ndarray, "G 4"], ious: Sequence[float]
) -> Int[np.ndarray, "I N"]:
    """Returns the true event of its class that each detection matches, -1 for none.

    Greedy matching: in order of score, a detection takes the free event of its video
    with the largest overlap, if that reaches the threshold.

    Args:
      found: detections of all videos.
      truth: true events, as rows (video, class, start, end) in frames.
      ious: thresholds of the overlap with a true event.
    """
    rank, event, overlap = _overlaps(found, truth)
    matched = np.full((len(ious), len(found.video)), -1)
    for match, iou in zip(matched, ious, strict=True):
        taken = np.zeros(len(truth), bool)
        near = overlap >= iou

        for n, g in zip(rank[near].tolist(), event[near].tolist(), strict=True):
            if match[n] < 0 and not taken[g]:
                match[n], taken[g] = g, True

    return matched


def _overlaps(found, truth):
    """Returns (detection, event, IoU) of every overlapping pair, in matching order.

    The order is by detection, then by falling IoU.
    """
    # Detections and events are joined by a key of class and video, by binary search.
    videos = 1 + max(found.video.max(initial=0), truth[:, 0].max(initial=0))
    keys = found.category * videos + found.video
    order = np.argsort(keys, kind="stable")
    wanted = truth[:, 1] * videos + truth[:, 0]
    low = np.searchsorted(keys[order], wanted, "left")
    count = np.searchsorted(keys[order], wanted, "right") - low

    # One row per pair: event g is repeated for each of its `count[g]` detections.
    event = np.repeat(np.arange(len(truth)), count)
    within = np.arange(len(event)) - np.repeat(np.cumsum(count) - count, count)
    rank = order[np.repeat(low, count) + within]

    start, stop = truth[event, 2], truth[event, 3]
    both = np.minimum(found.stop[rank], stop) - np.maximum(found.start[rank], start)
    both = np.maximum(both, 0)
    either = found.stop[rank] - found.start[rank] + stop - start - both
    overlap = both / either

    choice = np.lexsort((event, -overlap, rank))
    choice = choice[overlap[choice] > 0]
    return rank[choice], event[choice], overlap[choice]


def released_map(
    classes: Sequence[Float[np.ndarray, "_ C"]],
    truth: Int[np.ndarray, "G 4"],
    *,
    stride: int = 16,
    ious: Sequence[float] = IOUS,
) -> Float[np.ndarray, "I"]:
    """Returns mAP as in the released code, over all videos and all classes.

    Class normal counts like the others. A class without any detection makes the mean 0.
    """
    found = detections(classes, stride=stride)
    C = classes[0].shape[1]
    if len(np.unique(found.category)) < C:
        return np.zeros(len(ious))
    return average_precision(found, truth, C, ious).mean(axis=1)


def anomaly_map(
    classes: Sequence[Float[np.ndarray, "_ C"]],
    truth: Int[np.ndarray, "G 4"],
    *,
    stride: int = 16,
    ious: Sequence[float] = IOUS,
) -> Float[np.ndarray, "I"]:
    """Returns mAP over the anomaly classes with truth, for abnormal videos only.

    The result is NaN if no anomaly class has truth.
    """
    C = classes[0].shape[1]
    present = np.unique(truth[:, 1])
    present = present[present > 0]
    if not len(present):
        return np.full(len(ious), np.nan)
    found = detections(classes, stride=stride)
    return average_precision(found, truth, C, ious)[:, present].mean(axis=1)
