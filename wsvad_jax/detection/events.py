"""Anomaly scores of a video → events: when they begin and end, and of which class.

`find_events` judges a peak by the video's own usual level, `spans` by fixed levels, as a
live stream needs, which knows no later scores. Needs numpy only.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from wsvad_jax.evaluation.position_bias import BASELINE_QUANTILE, remove_position_bias
from wsvad_jax.utils.errors import InputError

HIGH = 0.5  # a score that is an event whatever the rest of the video is like
LOW = 0.35  # fixed levels only: where an event ends
RISE = 0.12  # above the video's usual level: what is an event below HIGH, too
SHARE = 0.6  # of a peak's height above the usual level, down to which its event lasts
MIN_LENGTH = 1.5  # seconds; what is shorter is no event
MAX_GAP = 0.0  # seconds between events that become one
UNNAMED = "anomaly"  # the category where a model knows no classes


@dataclasses.dataclass(frozen=True)
class Event:
    """A stretch of one video, in seconds from its beginning."""

    start: float
    end: float
    category: str  # a class of the card, or "anomaly" of a model without classes
    score: float  # the highest anomaly score in it; nan for truth
    peak: float  # the middle of the snippet that has it


def find_events(
    anomaly: Float[np.ndarray, "T"],
    classes: Float[np.ndarray, "T C"] | None,
    edges: Float[np.ndarray, "T1"],
    class_names: Sequence[str],
    *,
    calm: Float[np.ndarray, "T"] | None = None,
    high: float = HIGH,
    low: float | None = None,
    rise: float = RISE,
    share: float = SHARE,
    min_length: float = MIN_LENGTH,
    max_gap: float = MAX_GAP,
) -> list[Event]:
    """Finds the events of one video, in the order of their time.

    Args:
      anomaly: scores of the snippets, in [0, 1].
      classes: class probabilities, class 0 normal; None of a model without classes.
      edges: where snippets begin and end, seconds, from 0; T + 1 of them.
      class_names: of the C classes, normal first.
      calm: scores that the model gives to the video's calm moments at the place of
        each snippet, see `place.still`; they count only where `low` is None.
      high: the score that a peak needs.
      low: None judges by the video's own level, see `peaks`; a number is the score at
        which every event ends, see `spans`.
      rise: how far a peak below `high` must be above the usual level; 1 is never.
      share: of a peak's height, at which its event ends.
      min_length: seconds; what is shorter is no event.
      max_gap: seconds; events that are no further apart are one.

    Raises InputError as `check_rules`.
    """
    check_rules(high=high, low=low, rise=rise, share=share)
    check_rules(min_length=min_length, max_gap=max_gap)
    if low is None:
        judged = anomaly if calm is None else remove_position_bias(anomaly, calm)
        found = peak_segments(judged, high=high, rise=rise, share=share)
    else:
        found = threshold_segments(anomaly, high=high, low=low)
    joined: list[tuple[int, int]] = []
    for first, stop in found:
        if joined and max_gap and edges[first] - edges[joined[-1][1]] <= max_gap:
            first = joined.pop()[0]
        joined.append((first, stop))
    return [
        _event(anomaly, classes, edges, class_names, first, stop)
        for first, stop in joined
        if edges[stop] - edges[first] >= min_length
    ]


def check_rules(prefix: str = "", **rules: float | None) -> None:
    """Checks the rules of `find_events`; `prefix` stands before their names.

    Raises:
      InputError: a level outside of (0, 1], a negative time, or `low` above `high`.
    """
    for name, value in rules.items():
        if name == "low" and value is None:
            continue
        number = isinstance(value, int | float | np.number)
        if name in ("high", "low", "rise", "share"):
            if not number or not 0 < value <= 1:
                raise InputError(
                    f"{prefix}{name} is {value}; expected more than 0, up to 1"
                )
        elif not number or not 0 <= value < float("inf"):
            raise InputError(f"{prefix}{name} is {value}; expected seconds, 0 or more")
    low, high = rules.get("low"), rules.get("high", HIGH)
    if low is not None and high is not None and low > high:
        raise InputError(f"{prefix}low {low} is above {prefix}high {high}")


def threshold_segments(
    score: Float[np.ndarray, "T"], *, high: float = HIGH, low: float = LOW
) -> list[tuple[int, int]]:
    """Stretches (first, stop) of snippets of at least `low`, one of at least `high`."""
    on = np.concatenate([[False], score >= low, [False]])
    bounds = np.flatnonzero(on[1:] != on[:-1]).tolist()
    return [
        (first, stop)
        for first, stop in zip(bounds[::2], bounds[1::2], strict=True)
        if score[first:stop].max() >= high
    ]


def peak_segments(
    score: Float[np.ndarray, "T"],
    *,
    high: float = HIGH,
    rise: float = RISE,
    share: float = SHARE,
) -> list[tuple[int, int]]:
    """Stretches (first, stop) of snippets around peaks, the highest taken first.

    The lower quartile of the scores is the video's usual level u, which counts as
    `high` − `rise` at most, so that a video that is anomalous throughout is one event.
    A snippet is a peak with a score of at least u + `rise` or `high`. Its stretch lasts while the
    score is at least u + `share` · (peak − u). Its slopes, as far as they fall, belong to no
    other peak, so that two peaks have a valley between them.
    """
    if not len(score):
        return []
    usual = min(float(np.quantile(score, BASELINE_QUANTILE)), max(high - rise, 0.0))
    taken = np.zeros(len(score), bool)
    found = []
    for k in np.argsort(-score, kind="stable").tolist():
        if score[k] < min(high, usual + rise):
            break
        if taken[k]:
            continue
        least = min(usual + share * float(score[k] - usual), float(score[k]))
        first, stop = _reach(score, taken, k, least)
        taken[first:stop] = True
        _take_slope(score, taken, first, -1)
        _take_slope(score, taken, stop - 1, 1)
        found.append((first, stop))
    return sorted(found)


def _reach(score, taken, k: int, least: float) -> tuple[int, int]:
    first, stop = k, k + 1
    while first > 0 and score[first - 1] >= least and not taken[first - 1]:
        first -= 1
    while stop < len(score) and score[stop] >= least and not taken[stop]:
        stop += 1
    return first, stop


def _take_slope(score, taken, t: int, way: int) -> None:
    while 0 <= t + way < len(score) and not taken[t + way]:
        if score[t + way] > score[t]:
            return
        t += way
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


def category(
    classes: Float[np.ndarray, "T C"] | None,
    class_names: Sequence[str],
    first: int,
    stop: int,
) -> str:
    """Returns the abnormal class that is the most probable over snippets."""
    if classes is None or len(class_names) < 2:
        return UNNAMED
    return class_names[1 + int(np.argmax(classes[first:stop, 1:].mean(0)))]


def overlap(a: Event, b: Event) -> float:
    """Returns the intersection of two events over their union, 0 to 1."""
    common = max(min(a.end, b.end) - max(a.start, b.start), 0.0)
    union = (a.end - a.start) + (b.end - b.start) - common
    return common / union if union > 0 else 0.0


def matches(
    found: Sequence[Event], truth: Sequence[Event], least: float = 0.3
) -> list[tuple[Event, Event]]:
    """Pairs (found, true) that overlap by at least `least`, each event in one at most.

    The pairs that overlap most are taken first.
    """
    pairs = sorted(
        (
            (overlap(f, t), i, j)
            for i, f in enumerate(found)
            for j, t in enumerate(truth)
        ),
        reverse=True,
    )
    chosen: dict[int, int] = {}
    for value, i, j in pairs:
        if value >= least and i not in chosen and j not in chosen.values():
            chosen[i] = j
    return [(found[i], truth[j]) for i, j in sorted(chosen.items())]
