"""Merges the scores of snippets into moments: the best parts of videos, ranked.

A moment grows from its best snippet while the scores stay near it, over dips of a few
snippets. Its part of the video is taken then: weaker moments that touch it are no
moments of their own. So near-identical snippets of one video are one result.
"""

import collections
import dataclasses
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float32, Int64

REL_HEIGHT = 0.4  # part of a peak's height above the usual score that a moment may lose
NEAR = 0.02  # loss of cosine that is allowed anyway: still scenes vary so much
MAX_DIP = 2  # weaker snippets in a row that a moment contains
CANDIDATES = 1024  # best snippets that are looked at first


@dataclasses.dataclass(frozen=True)
class SnippetRange:
    """Consecutive snippets of one video that match a query."""

    video: int  # index of the video
    first: int  # index of its first snippet in the video
    last: int  # index of its last snippet, included
    peak: int  # index of its best snippet
    score: float  # cosine of the best snippet


def find_moments(
    scores: Float32[np.ndarray, "S"],
    offsets: Int64[np.ndarray, "V1"],
    top: int,
    per_video: int | None = None,
) -> list[SnippetRange]:
    """Returns the best moments, the best first.

    Args:
      scores: cosine of each snippet, video after video.
      offsets: snippets of video v are those from offsets[v] to offsets[v + 1].
      top: most moments.
      per_video: most moments of one video; None is no limit.
    """
    usual = float(np.median(scores))
    taken = np.zeros(len(scores), bool)
    found: list[SnippetRange] = []
    counts: collections.Counter[int] = collections.Counter()

    for i in _best_first(scores):
        if len(found) == top:
            break
        if taken[i]:
            continue

        v = int(np.searchsorted(offsets, i, side="right")) - 1
        part = slice(int(offsets[v]), int(offsets[v + 1]))
        least = float(scores[i]) - max(REL_HEIGHT * (float(scores[i]) - usual), NEAR)
        peak = i - part.start
        first, last, touches = _grow(scores[part] >= least, taken[part], peak)
        taken[part.start + first : part.start + last + 1] = True

        # The shoulder of a stronger moment is part of that one.
        if touches:
            continue
        found.append(SnippetRange(v, first, last, peak, float(scores[i])))
        counts[v] += 1
        if counts[v] == per_video:
            taken[part] = True
    return found


def _best_first(scores: Float32[np.ndarray, "S"]) -> Iterator[int]:
    """Yields indices by descending score, equal ones in their order.

    Some come again: the candidates grow step by step, since few are ever needed.
    """
    size = min(CANDIDATES, len(scores))
    while True:
        # All equals of the last one are taken, so that their order is that of the videos.
        least = np.partition(scores, len(scores) - size)[len(scores) - size]
        best = np.flatnonzero(scores >= least)
        yield from best[np.lexsort((best, -scores[best]))].tolist()
        if len(best) == len(scores):
            return
        size = min(8 * size, len(scores))


def _grow(high: np.ndarray, taken: np.ndarray, peak: int) -> tuple[int, int, bool]:
    """Returns the first and last snippet of a moment, and whether it touches another.

    Args:
      high: whether each snippet's score is near the peak's.
      taken: whether each snippet belongs to a stronger moment.
      peak: index of the best snippet.
    """
    # Runs of high snippets end where more than MAX_DIP lower ones follow.
    inside = np.flatnonzero(high | taken)
    at = int(np.searchsorted(inside, peak))
    wide = np.flatnonzero(np.diff(inside) > MAX_DIP + 1)
    before, after = wide[wide < at], wide[wide >= at]
    first = int(inside[before[-1] + 1]) if len(before) else int(inside[0])
    last = int(inside[after[0]]) if len(after) else int(inside[-1])
    return first, last, bool(taken[first : last + 1].any())
