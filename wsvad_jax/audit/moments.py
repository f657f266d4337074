"""Finds the moments of a video that its scores rest on."""

import dataclasses

import numpy as np
from jaxtyping import Float

MAX_MOMENTS = 3
SHARE = 0.5  # of the height of a peak, at which its moment ends
MIN_SHARE = 0.6  # of the highest peak's height, that a further moment must have


@dataclasses.dataclass(frozen=True)
class ScoredMoment:
    """A span of snippets around a peak; times are in seconds."""

    start: float
    end: float
    peak: float  # middle of the highest snippet
    score: float


def highest_moments(
    values: Float[np.ndarray, "T"], edges: Float[np.ndarray, "T1"]
) -> list[ScoredMoment]:
    """Returns up to three moments of a curve, the highest first.

    Args:
      values: scores of the snippets.
      edges: bounds of the snippets, in seconds.
    """
    values = np.asarray(values, np.float64)
    base = float(np.median(values))
    height = float(values.max()) - base
    free = np.ones(len(values), bool)

    moments: list[ScoredMoment] = []
    while free.any() and len(moments) < MAX_MOMENTS:
        at = int(np.where(free, values, -np.inf).argmax())
        peak = float(values[at])
        if moments and peak - base < MIN_SHARE * height:
            break

        # From the peak to both sides, while the score stays high.
        level = base + SHARE * max(peak - base, 0)
        first, last = at, at
        while first > 0 and free[first - 1] and values[first - 1] > level:
            first -= 1
        while last + 1 < len(values) and free[last + 1] and values[last + 1] > level:
            last += 1

        middle = float(edges[at] + edges[at + 1]) / 2
        start, end = float(edges[first]), float(edges[last + 1])
        moments.append(ScoredMoment(start, end, middle, peak))
        # Neighbours are left out, too: they are the slopes of this peak.
        free[max(first - 1, 0) : last + 2] = False
        if height <= 0:  # a flat curve has no second moment
            break
    return moments
