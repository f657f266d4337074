"""Chooses the snippets of a test set that a figure shows, and says what they are.

Most snippets of a test set are normal. A figure of equal chances would hardly show the
rare classes, so half of the snippets are anomalous where there are enough, and classes
share that half evenly.
"""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int

from wsvad_jax.metrics.frame_level import frame_truth

if TYPE_CHECKING:
    from wsvad_jax.data.dataset import Entry

FRAMES, VIDEOS = "frames", "videos"  # where the categories of snippets come from


@dataclasses.dataclass(frozen=True)
class SnippetSample:
    """S snippets of a split, in the order of its videos."""

    video: Int[np.ndarray, "S"]  # index of the snippet's video
    snippet: Int[np.ndarray, "S"]
    category: Int[np.ndarray, "S"]  # index of its class, 0 normal
    available: Int[np.ndarray, "C"]  # snippets of each class in the split
    truth: str  # FRAMES, or VIDEOS: a snippet has the label of its video
    left_out: int  # snippets of abnormal videos whose true events are unknown

    @property
    def shown(self) -> Int[np.ndarray, "C"]:
        """Number of chosen snippets of each class."""
        return np.bincount(self.category, minlength=len(self.available))


def sample_snippets(
    entries: Sequence["Entry"], num_classes: int, stride: int, count: int, seed: int = 0
) -> SnippetSample:
    """Chooses up to `count` snippets at random.

    A snippet is anomalous if at least half of its frames are in a true event; its class
    is the one with most of these frames. Without any true event, snippets have the label
    of their video.

    Args:
      entries: videos of a split.
      num_classes: number of classes, with the normal one.
      stride: frames per snippet.
      count: number of snippets.
      seed: seed of the choice.
    """
    known = any(c > 0 for e in entries for *_, c in e.segments)
    parts, left_out = [], 0
    for i, e in enumerate(entries):
        abnormal = [c for c in e.label if c > 0]
        if known and abnormal and not any(c > 0 for *_, c in e.segments):
            left_out += e.num_snippets
            continue
        category = np.full(e.num_snippets, min(abnormal, default=0))
        if known:
            category = snippet_categories(e, num_classes, stride)
        t = np.arange(e.num_snippets)
        parts.append(np.stack([np.full(e.num_snippets, i), t, category]))

    rows = np.concatenate(parts, 1) if parts else np.zeros((3, 0), np.int64)
    available = np.bincount(rows[2], minlength=num_classes)

    # Each class's snippets are drawn on their own, so that its number is exact.
    random = np.random.default_rng(seed)
    chosen = []
    for c, n in enumerate(class_shares(available, count)):
        own = np.flatnonzero(rows[2] == c)
        chosen.append(random.permutation(own)[:n])
    rows = rows[:, np.sort(np.concatenate(chosen))]

    truth = FRAMES if known else VIDEOS
    return SnippetSample(rows[0], rows[1], rows[2], available, truth, left_out)


def snippet_categories(
    entry: "Entry", num_classes: int, stride: int
) -> Int[np.ndarray, "T"]:
    """Returns the class of each snippet of a video with known truth, 0 normal."""
    T = entry.num_snippets
    frames = np.zeros((num_classes, T), np.int64)
    for c in {c for *_, c in entry.segments if c > 0}:
        own = [s for s in entry.segments if s[2] == c]
        frames[c] = frame_truth(own, T, stride).reshape(T, stride).sum(1)

    any_event = frame_truth(entry.segments, T, stride).reshape(T, stride).sum(1)
    return np.where(2 * any_event >= stride, frames.argmax(0), 0)


def class_shares(available: Int[np.ndarray, "C"], count: int) -> list[int]:
    """Returns the number of snippets to take of each class, normal first.

    Args:
      available: snippets of each class.
      count: number of all snippets to take.
    """
    anomalous = int(available[1:].sum())
    normal = min(int(available[0]), max(count - count // 2, count - anomalous))

    # A class with fewer than an even share leaves the rest to larger ones.
    shares, left = [normal, *(0 for _ in available[1:])], count - normal
    by_size = sorted(range(1, len(available)), key=lambda c: (available[c], c))
    for i, c in enumerate(by_size):
        shares[c] = min(int(available[c]), left // (len(by_size) - i))
        left -= shares[c]
    return shares
