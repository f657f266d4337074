"""Turns a video's anomaly scores into events: their times and classes.

`find_events` uses thresholds relative to the video's usual level, or fixed ones.
`threshold_segments` has fixed thresholds; live streams need them, since later scores
are unknown. The module needs numpy only.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from wsvad_jax.evaluation.categories import category
from wsvad_jax.evaluation.event_rules import DEFAULT_RULES, LOW, EventRules
from wsvad_jax.evaluation.position_bias import BASELINE_QUANTILE, remove_position_bias
from wsvad_jax.metrics.alarm_rates import PER_DAY, PER_VIDEOS, AlarmRate


@dataclasses.dataclass(frozen=True)
class Event:
    """An event of one video, in seconds from the video's beginning."""

    start: float
    end: float
    category: str  # a class of the card; "anomaly" without classes
    score: float  # highest uncorrected score of the event; nan for ground truth
    peak: float  # middle of the snippet that has this score
    alarm_rate: AlarmRate | None = None  # of this score, if calibrated

    @property
    def false_alarms_per_day(self) -> AlarmRate | None:
        """Rate at this score, of a calibration on recordings of one camera."""
        return self._rate_of(PER_DAY)

    @property
    def false_alarms_per_100_videos(self) -> AlarmRate | None:
        """Rate at this score, of a calibration on separate videos."""
        return self._rate_of(PER_VIDEOS)

    def _rate_of(self, unit: str) -> AlarmRate | None:
        rate = self.alarm_rate
        return rate if rate is not None and rate.unit == unit else None


def find_events(
    anomaly: Float[np.ndarray, "T"],
    classes: Float[np.ndarray, "T C"] | None,
    edges: Float[np.ndarray, "T1"],
    class_names: Sequence[str],
    rules: EventRules = DEFAULT_RULES,
    *,
    baseline: Float[np.ndarray, "T"] | None = None,
) -> list[Event]:
    """Finds the events of one video, in the order of their time.

    Args:
      anomaly: scores of the snippets, in [0, 1].
      classes: class probabilities, class 0 normal; None without classes.
      edges: snippet boundaries in seconds, from 0; T + 1 values.
      class_names: names of the C classes, normal first.
      rules: what counts as an event.
      baseline: scores of the static video, for the removal of positional bias (see
        `position_bias`); unused where `rules.low` is set.
    """
    _, joined = joined_segments(anomaly, edges, rules, baseline)
    return [
        _event(anomaly, classes, edges, class_names, first, stop)
        for first, stop in joined
        if is_long_enough(edges, first, stop, rules)
    ]


def joined_segments(
    anomaly: Float[np.ndarray, "T"],
    edges: Float[np.ndarray, "T1"],
    rules: EventRules,
    baseline: Float[np.ndarray, "T"] | None,
) -> tuple[Float[np.ndarray, "T"], list[tuple[int, int]]]:
    """Returns the scores that count, and the segments that are events if long enough.

    Args:
      anomaly, edges, rules, baseline: as `find_events` takes them.

    Returns:
      scores without positional bias, or as they are with `rules.low`; and (first, stop)
      of each segment, `stop` exclusive.
    """
    # With `low`, scores are used as `evaluate` reports them.
    corrected = anomaly
    if rules.low is None:
        if baseline is not None:
            corrected = remove_position_bias(anomaly, baseline)
        segments = peak_segments(corrected, rules)
    else:
        segments = threshold_segments(anomaly, high=rules.high, low=rules.low)

    # Join first, then drop short events: joined ones may be long enough.
    joined: list[tuple[int, int]] = []
    for first, stop in segments:
        gap = edges[first] - edges[joined[-1][1]] if joined else math.inf
        if rules.max_gap and gap <= rules.max_gap:
            first = joined.pop()[0]
        joined.append((first, stop))
    return corrected, joined


def is_long_enough(
    edges: Float[np.ndarray, "T1"], first: int, stop: int, rules: EventRules
) -> bool:
    """Whether the segment of the snippets [first, stop) is an event by its length."""
    return bool(edges[stop] - edges[first] >= rules.min_length)


def threshold_segments(
    score: Float[np.ndarray, "T"], *, high: float = EventRules.high, low: float = LOW
) -> list[tuple[int, int]]:
    """Finds segments of snippets of at least `low`, one of them at least `high`.

    Returns (first, stop) of each segment, `stop` exclusive.
    """
    above = np.concatenate([[False], score >= low, [False]])
    bounds = np.flatnonzero(above[1:] != above[:-1]).tolist()
    return [
        (first, stop)
        for first, stop in zip(bounds[::2], bounds[1::2], strict=True)
        if score[first:stop].max() >= high
    ]


def peak_segments(
    score: Float[np.ndarray, "T"], rules: EventRules = DEFAULT_RULES
) -> list[tuple[int, int]]:
    """Finds segments of snippets around peaks, the highest peaks first.

    The usual level u is the lower quartile of the scores. It is capped at `high` −
    `min_prominence`, so that a video that is anomalous throughout is one event.
    A snippet is a peak if its score is at least u + `min_prominence` or `high`. Its
    segment lasts while the score is at least peak − `rel_height` · (peak − u).
    Beyond the segment, the slopes that fall from it are excluded from further peaks:
    two peaks have a valley between them.

    Returns (first, stop) of each segment, `stop` exclusive.
    """
    if not len(score):
        return []

    usual, required = levels(score, rules)

    # Peaks in descending order; earlier segments take precedence.
    taken = np.zeros(len(score), bool)
    segments = []
    for k in np.argsort(-score, kind="stable").tolist():
        if score[k] < required:
            break
        if taken[k]:
            continue

        # Rounding must not raise the end's level above the peak itself.
        end_level = usual + (1 - rules.rel_height) * float(score[k] - usual)
        first, stop = _expand(score, taken, k, min(end_level, float(score[k])))
        taken[first:stop] = True
        mark_slope(score, taken, first, -1)
        mark_slope(score, taken, stop - 1, 1)
        segments.append((first, stop))
    return sorted(segments)


def levels(score: Float[np.ndarray, "T"], rules: EventRules) -> tuple[float, float]:
    """Returns a video's usual level, and the score that a peak needs.

    Args:
      score: scores of the snippets, without positional bias; at least one.
      rules: what counts as an event, without `low`.
    """
    usual = min(
        float(np.quantile(score, BASELINE_QUANTILE)),
        max(rules.high - rules.min_prominence, 0.0),
    )
    return usual, min(rules.high, usual + rules.min_prominence)


def _expand(score, taken, k: int, end_level: float) -> tuple[int, int]:
    """Returns the snippets [first, stop) around peak k at or above a level."""
    first, stop = k, k + 1
    while first > 0 and score[first - 1] >= end_level and not taken[first - 1]:
        first -= 1
    while stop < len(score) and score[stop] >= end_level and not taken[stop]:
        stop += 1
    return first, stop


def mark_slope(score, taken, t: int, step: int) -> None:
    """Takes the falling slope beside an event, which is no peak of its own."""
    while 0 <= t + step < len(score) and not taken[t + step]:
        if score[t + step] > score[t]:
            return
        t += step
        taken[t] = True


def _event(anomaly, classes, edges, class_names, first: int, stop: int) -> Event:
    k = first + int(np.argmax(anomaly[first:stop]))
    return Event(
        start=float(edges[first]),
        end=float(edges[stop]),
        category=category(classes, class_names, first, stop),
        score=float(anomaly[k]),
        peak=float(edges[k] + edges[k + 1]) / 2,
    )
