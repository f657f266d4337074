"""Turns a video's anomaly scores into events: their times and classes.

`find_events` judges peaks by the video's own usual level. With fixed levels,
`threshold_segments` does, as a live stream needs, which knows no later scores. It needs
numpy only.
"""

import dataclasses
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from wsvad_jax.evaluation.position_bias import BASELINE_QUANTILE, remove_position_bias
from wsvad_jax.utils.errors import InputError

LOW = 0.35  # end of an event by fixed levels, where none is set
UNNAMED = "anomaly"  # category of models without classes
LEVELS = ("high", "low", "min_prominence", "rel_height")  # in (0, 1], the rest seconds
# Names of rules before they followed scipy.signal; accepted for a release.
OLD_NAMES = {"rise": "min_prominence", "share": "rel_height"}


@dataclasses.dataclass(frozen=True)
class EventRules:
    """What counts as an event; anomaly scores are in [0, 1], times in seconds.

    `min_prominence` and `rel_height` are relative to the video's usual level, as
    `peak_segments` defines it. They have no effect where `low` is set.

    Args:
      high: score that makes a snippet an event whatever the rest of the video is like.
      low: fixed score at which events end; None ends each by its own peak.
      min_prominence: height above the usual level that a peak below `high` needs; 1
        is never.
      rel_height: part of a peak's height above the usual level at which its event ends.
      min_length: length of the shortest event.
      max_gap: longest time between events that become one.

    Raises InputError for a level outside of (0, 1], a negative time, or `low` above
    `high`.
    """

    high: float = 0.5
    low: float | None = None
    min_prominence: float = 0.12
    rel_height: float = 0.6
    min_length: float = 1.5
    max_gap: float = 0.0

    def __post_init__(self):
        _check_rules(vars(self))
        # Numbers of any kind are taken; files and messages hold plain ones.
        for name, value in vars(self).items():
            if value is not None:
                object.__setattr__(self, name, float(value))

    @classmethod
    def from_options(
        cls, options: Mapping[str, Any], *, prefix: str = ""
    ) -> "EventRules":
        """Returns rules by name; what isn't named is at its default.

        Args:
          options: values of the rules; the names `rise` and `share` of former releases
            are accepted with a warning.
          prefix: text before the names in error messages, such as `--`.

        Raises:
          InputError: an unknown name, or a value out of range.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        values: dict[str, Any] = {}
        for name, value in options.items():
            if new := OLD_NAMES.get(name):
                warnings.warn(f"{name} is now {new}", FutureWarning, stacklevel=3)
            if (new or name) not in known:
                raise InputError(
                    f"{prefix}{name}: no such event rule; expected {', '.join(known)}"
                )
            values[new or name] = value

        # Messages name the options as the user knows them.
        _check_rules({"high": cls.high, **values}, prefix)
        numbers = {k: float(v) for k, v in values.items() if v is not None}
        return cls(**numbers)  # None is the default of `low`

    @classmethod
    def choose(
        cls, rules: "EventRules | None", options: Mapping[str, Any]
    ) -> "EventRules":
        """Returns `rules`, or those that `options` name.

        Raises:
          InputError: both are passed, an unknown option, or a value out of range.
        """
        if rules is None:
            return cls.from_options(options)
        if options:
            raise InputError(
                f"{', '.join(options)}: found beside EventRules; pass event rules as "
                "EventRules or by name"
            )
        return rules

    def as_dict(self) -> dict[str, float]:
        """Returns the rules that have an effect, by name."""
        unused = ("low",) if self.low is None else tuple(OLD_NAMES.values())
        return {k: v for k, v in vars(self).items() if k not in unused}


def with_old_names(rules: Mapping[str, Any]) -> dict[str, Any]:
    """Returns rules as files hold them: `rise` and `share` beside their new names."""
    old = {old: rules[new] for old, new in OLD_NAMES.items() if new in rules}
    return {**rules, **old}


def _check_rules(rules: Mapping[str, Any], prefix: str = "") -> None:
    for name, value in rules.items():
        if name == "low" and value is None:
            continue

        number = isinstance(value, int | float | np.number)
        if name in LEVELS and not (number and 0 < value <= 1):
            raise InputError(
                f"{prefix}{name} is {value}; expected more than 0, up to 1"
            )
        if name not in LEVELS and not (number and 0 <= value < math.inf):
            raise InputError(f"{prefix}{name} is {value}; expected seconds, 0 or more")

    low, high = rules.get("low"), rules["high"]
    if low is not None and low > high:
        raise InputError(f"{prefix}low {low} is above {prefix}high {high}")


DEFAULT_RULES = EventRules()


@dataclasses.dataclass(frozen=True)
class Event:
    """An event of one video, in seconds from the video's beginning."""

    start: float
    end: float
    category: str  # a class of the card; "anomaly" without classes
    score: float  # highest anomaly score of the event; nan for ground truth
    peak: float  # middle of the snippet that has this score


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
      edges: seconds at which snippets begin, from 0, and the end; T + 1 of them.
      class_names: names of the C classes, normal first.
      rules: what counts as an event.
      baseline: scores of the static video, whose positional bias is removed first (see
        `position_bias`); it counts only where `rules.low` is None.
    """
    # Fixed levels are for the scores that evaluation reports.
    if rules.low is None:
        judged = anomaly
        if baseline is not None:
            judged = remove_position_bias(anomaly, baseline)
        segments = peak_segments(judged, rules)
    else:
        segments = threshold_segments(anomaly, high=rules.high, low=rules.low)

    # Short events may become long ones, so they are joined before length counts.
    joined: list[tuple[int, int]] = []
    for first, stop in segments:
        gap = edges[first] - edges[joined[-1][1]] if joined else math.inf
        if rules.max_gap and gap <= rules.max_gap:
            first = joined.pop()[0]
        joined.append((first, stop))

    return [
        _event(anomaly, classes, edges, class_names, first, stop)
        for first, stop in joined
        if edges[stop] - edges[first] >= rules.min_length
    ]


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

    The usual level u is the lower quartile of the scores, at most `high` −
    `min_prominence`, so that a video that is anomalous throughout is one event.
    A snippet is a peak with a score of at least u + `min_prominence` or `high`. Its
    segment lasts while the score is at least u + `rel_height` · (peak − u). Its slopes,
    as far as they fall, belong to no other peak, so that two peaks have a valley
    between them.

    Returns (first, stop) of each segment, `stop` exclusive.
    """
    if not len(score):
        return []

    usual = min(
        float(np.quantile(score, BASELINE_QUANTILE)),
        max(rules.high - rules.min_prominence, 0.0),
    )

    # The highest peak claims its snippets first.
    taken = np.zeros(len(score), bool)
    segments = []
    for k in np.argsort(-score, kind="stable").tolist():
        if score[k] < min(rules.high, usual + rules.min_prominence):
            break
        if taken[k]:
            continue

        # Rounding must not raise the end's level above the peak itself.
        least = usual + rules.rel_height * float(score[k] - usual)
        first, stop = _reach(score, taken, k, min(least, float(score[k])))
        taken[first:stop] = True
        _take_slope(score, taken, first, -1)
        _take_slope(score, taken, stop - 1, 1)
        segments.append((first, stop))
    return sorted(segments)


def _reach(score, taken, k: int, least: float) -> tuple[int, int]:
    first, stop = k, k + 1
    while first > 0 and score[first - 1] >= least and not taken[first - 1]:
        first -= 1
    while stop < len(score) and score[stop] >= least and not taken[stop]:
        stop += 1
    return first, stop


def _take_slope(score, taken, t: int, step: int) -> None:
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


def category(
    classes: Float[np.ndarray, "T C"] | None,
    class_names: Sequence[str],
    first: int,
    stop: int,
) -> str:
    """Returns the abnormal class with the highest mean probability over snippets."""
    if classes is None or len(class_names) < 2:
        return UNNAMED
    return class_names[1 + int(np.argmax(classes[first:stop, 1:].mean(0)))]
