"""Explains the scores of a video that are no event, by the rules that decide on events.

A bump is a stretch of scores that a reader could take for an event, and its reason says
which rule it misses. `explain` uses the segments of `events.find_events`.

  short        its peak is high enough, but it is shorter than `min_length`
  calibration  it would be an event, but its score isn't above the calibration's threshold
  low          its peak is at least half as high as a peak must be, but not high enough
  beside       it falls from a higher peak without a valley between them
"""

import dataclasses
from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from wsvad_jax.evaluation.event_rules import EventRules
from wsvad_jax.evaluation.events import (
    is_long_enough,
    joined_segments,
    levels,
    mark_slope,
)

Reason = Literal["short", "calibration", "low", "beside"]
NOTABLE = 0.5  # least height of a low bump, as part of the height that a peak needs


@dataclasses.dataclass(frozen=True)
class Bump:
    """A stretch of scores that is no event, in seconds from the video's beginning."""

    start: float
    end: float
    score: float  # highest score
    peak: float  # middle of the snippet that has this score
    corrected: float  # highest score without positional bias, which the rules use
    reason: Reason


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What the event rules ask of one video, and what misses them."""

    rules: EventRules
    required: float  # score that a peak needs in this video
    usual: float | None  # usual level of the video; None where levels are fixed
    bumps: tuple[Bump, ...] = ()  # in the order of their time


def explain(
    anomaly: Float[np.ndarray, "T"],
    edges: Float[np.ndarray, "T1"],
    rules: EventRules,
    *,
    baseline: Float[np.ndarray, "T"] | None = None,
    counts: Callable[[float], bool] | None = None,
) -> Explanation:
    """Returns what isn't an event in a video, and why.

    Each snippet whose score a peak could have is part of an event or of a bump.

    Args:
      anomaly, edges, rules, baseline: as `events.find_events` takes them.
      counts: whether an event of a score counts, of a calibration; None: all do.
    """
    if not len(anomaly):
        return Explanation(rules, rules.high, None)
    corrected, segments = joined_segments(anomaly, edges, rules, baseline)
    usual, required = None, rules.high
    if rules.low is None:
        usual, required = levels(corrected, rules)

    found: list[tuple[int, int, Reason]] = []
    free = np.ones(len(anomaly), bool)  # snippets outside of segments
    for first, stop in segments:
        free[first:stop] = False
        if not is_long_enough(edges, first, stop, rules):
            found.append((first, stop, "short"))
        elif counts is not None and not counts(float(anomaly[first:stop].max())):
            found.append((first, stop, "calibration"))

    # Slopes are no bumps, unless they are as high as peaks.
    slopes = ~free
    for first, stop in segments:
        mark_slope(corrected, slopes, first, -1)
        mark_slope(corrected, slopes, stop - 1, 1)
    notable = _notable(rules, usual, required)
    high = (anomaly >= required) | (corrected >= required)
    low = free & ~slopes & (high | (corrected >= notable))
    for first, stop in _runs(low):
        found.append((first, stop, "low"))
    for first, stop in _runs(free & high & ~low):
        found.append((first, stop, "beside"))

    bumps = [_bump(anomaly, corrected, edges, *each) for each in sorted(found)]
    return Explanation(rules, required, usual, tuple(bumps))


def _notable(rules: EventRules, usual: float | None, required: float) -> float:
    """Returns the least score of a low bump."""
    base = usual or 0.0
    half = base + NOTABLE * (required - base)
    return half if rules.low is None else min(rules.low, half)


def _runs(mask: Bool[np.ndarray, "T"]) -> list[tuple[int, int]]:
    """Returns (first, stop) of each run of true values."""
    padded = np.concatenate([[False], mask, [False]])
    bounds = np.flatnonzero(padded[1:] != padded[:-1]).tolist()
    return list(zip(bounds[::2], bounds[1::2], strict=True))


def _bump(anomaly, corrected, edges, first: int, stop: int, reason: Reason) -> Bump:
    k = first + int(np.argmax(anomaly[first:stop]))
    return Bump(
        start=float(edges[first]),
        end=float(edges[stop]),
        score=float(anomaly[k]),
        peak=float(edges[k] + edges[k + 1]) / 2,
        corrected=float(corrected[first:stop].max()),
        reason=reason,
    )
