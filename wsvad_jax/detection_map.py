"""Fine-grained mean average precision: when does which anomaly happen.

The procedure that Wu et al. (VadCLIP, https://arxiv.org/abs/2308.11681) and DSANet
report, on snippet-level class probabilities:

  detections           runs of a class's curve above max - 0.6 (max - min)
  _scores              a run's score, max(run) + 0.7 x mean of the curve's top 1/16
  _matches             greedy matching to truth of the best IoU
  average_precision    AP of every class at every IoU threshold
  paper_map            mean over all classes, normal included
  clean_map            mean over the anomaly classes that have truth

The published procedure also suppresses overlapping detections of a class in a video.
All detections of a class in a video are runs of one curve above one threshold, hence
disjoint, so that step never removes one and is left out here.

Letters: V videos, S snippets of all videos together, T snippets of one, C classes,
N detections, G true events, I IoU thresholds.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

IOUS = (0.1, 0.2, 0.3, 0.4, 0.5)
DEPTH = 0.6  # a run lies above max - DEPTH (max - min) of its curve
TOP_WEIGHT, TOP_SHARE = 0.7, 16  # the curve's mean over its ⌊frames / 16⌋ largest
MIN_FRAMES = 2


@dataclasses.dataclass(frozen=True)
class Detections:
    """Runs found in class curves, highest score first within a class."""

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
      classes: class probabilities [T, C] of each video, one row a snippet.
      stride: frames a snippet.
    """
    lengths = np.array([len(p) for p in classes])
    probs = np.concatenate(classes).T.astype(np.float64)  # [C, S]
    first = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    high = np.maximum.reduceat(probs, first, axis=1)  # [C, V]
    low = np.minimum.reduceat(probs, first, axis=1)
    threshold = high - DEPTH * (high - low)
    above = probs > np.repeat(threshold, lengths, axis=1)
    # A run ends with its video even where the next video's curve starts above.
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
    """Returns the largest probability inside each run."""
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
    for row, p in zip(means, classes, strict=True):
        frames = max(len(p) * stride // TOP_SHARE, 1)
        whole, rest = divmod(frames, stride)
        taken = whole + (rest > 0)
        top = -np.partition(-p, taken - 1, axis=0)[:taken].astype(np.float64)
        weight = np.full(taken, float(stride))
        if rest:  # the smallest of them lends only some of its frames
            top.sort(axis=0)
            weight[0] = rest
        row[:] = weight @ top / frames
    return means


def average_precision(
    found: Detections,
    truth: Int[np.ndarray, "G 4"],
    num_classes: int,
    ious: Sequence[float] = IOUS,
) -> Float[np.ndarray, "I C"]:
    """Returns the average precision of every class; 0 for a class without truth.

    Args:
      found: the detections.
      truth: rows (video, class, start, end) in frames.
      num_classes: C.
      ious: thresholds, at least which a detection must overlap a true event.
    """
    hits = _matches(found, truth, ious)  # [I, N]
    ap = np.zeros((len(ious), num_classes))
    for c in range(num_classes):
        hit = hits[:, found.category == c]
        precision = np.cumsum(hit, axis=1) / np.arange(1, hit.shape[1] + 1)
        events = np.count_nonzero(truth[:, 1] == c)
        ap[:, c] = (precision * hit).sum(axis=1) / max(events, 1)
    return ap


def _matches(found, truth, ious):
    """Returns bool [I, N]: which detections take a true event of their class.

    Detections choose in order of score, each the free event of its video that it
    overlaps most, if by at least the threshold.
    """
    rank, event, overlap = _overlaps(found, truth)
    hits = np.zeros((len(ious), len(found.video)), bool)
    for hit, iou in zip(hits, ious, strict=True):
        taken = np.zeros(len(truth), bool)
        near = overlap >= iou
        for n, g in zip(rank[near].tolist(), event[near].tolist(), strict=True):
            if not hit[n] and not taken[g]:
                hit[n] = taken[g] = True
    return hits


def _overlaps(found, truth):
    """Returns (detection, event, IoU) of every overlapping pair, best first.

    In the order in which they choose: by detection, then by falling IoU.
    """
    videos = 1 + max(found.video.max(initial=0), truth[:, 0].max(initial=0))
    keys = found.category * videos + found.video
    order = np.argsort(keys, kind="stable")
    wanted = truth[:, 1] * videos + truth[:, 0]
    low = np.searchsorted(keys[order], wanted, "left")
    count = np.searchsorted(keys[order], wanted, "right") - low
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


def paper_map(
    classes: Sequence[Float[np.ndarray, "_ C"]],
    truth: Int[np.ndarray, "G 4"],
    *,
    stride: int = 16,
    ious: Sequence[float] = IOUS,
) -> Float[np.ndarray, "I"]:
    """Returns mAP as the released code computes it: every video, every class.

    Class normal counts like the others, and a single class without any detection
    makes the whole mean 0.
    """
    found = detections(classes, stride=stride)
    C = classes[0].shape[1]
    if len(np.unique(found.category)) < C:
        return np.zeros(len(ious))
    return average_precision(found, truth, C, ious).mean(axis=1)


def clean_map(
    classes: Sequence[Float[np.ndarray, "_ C"]],
    truth: Int[np.ndarray, "G 4"],
    *,
    stride: int = 16,
    ious: Sequence[float] = IOUS,
) -> Float[np.ndarray, "I"]:
    """Returns mAP over the anomaly classes with truth; give abnormal videos only.

    NaN where no anomaly class has truth.
    """
    C = classes[0].shape[1]
    present = np.unique(truth[:, 1])
    present = present[present > 0]
    if not len(present):
        return np.full(len(ious), np.nan)
    found = detections(classes, stride=stride)
    return average_precision(found, truth, C, ious)[:, present].mean(axis=1)
