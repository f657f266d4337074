"""What counts as an event: the rules of `events`, by name and with their checks.

Programs read them for their flags, so the module needs no array library.
"""

import dataclasses
import math
import numbers
import warnings
from collections.abc import Mapping
from typing import Any

from wsvad_jax.utils.errors import InputError

LOW = 0.35  # default of `low` for live streams
DEFAULT_FPS = 30.0  # frames per second, where features say nothing of time
SCORE_RULES = ("high", "low", "min_prominence")  # in (0, 1]; times are in seconds
RELATIVE_RULES = ("min_prominence", "rel_height")  # relative to the usual level
# Former names; accepted for a release. `share` is 1 - rel_height.
OLD_NAMES = {"rise": "min_prominence", "share": "rel_height"}


@dataclasses.dataclass(frozen=True)
class EventRules:
    """What counts as an event; anomaly scores are in [0, 1], times in seconds.

    `min_prominence` and `rel_height` are relative to the video's usual level u, as
    `peak_segments` defines it. They have no effect where `low` is set.

    Args:
      high: score at which a snippet is a peak, whatever u is.
      low: fixed score at which events end; None: the end depends on the peak, see
        `rel_height`.
      min_prominence: height above u that a peak below `high` needs; 1 disables it.
        It is measured from u. The topographic prominence of scipy is measured from
        the valleys beside the peak.
      rel_height: level at which an event ends, as part of its peak's height above u,
        measured downwards from the peak as in `scipy.signal.peak_widths`: 0.5 is half
        the height, 1 is u.
      min_length: length of the shortest event.
      max_gap: longest time between events that become one.

    Raises InputError for `rel_height` outside of [0, 1], another level outside of
    (0, 1], a negative time, or `low` above `high`.
    """

    high: float = 0.5
    low: float | None = None
    min_prominence: float = 0.12
    rel_height: float = 0.4
    min_length: float = 1.5
    max_gap: float = 3.0

    def __post_init__(self):
        _check_rules(vars(self))
        # Plain floats, so that JSON can store numbers of any kind.
        for name, value in vars(self).items():
            if value is not None:
                object.__setattr__(self, name, float(value))

    @classmethod
    def from_options(
        cls, options: Mapping[str, Any], *, prefix: str = ""
    ) -> "EventRules":
        """Returns rules by name; others have their defaults.

        Args:
          options: values of the rules. The former names are accepted with a warning:
            `rise` is `min_prominence`, `share` is 1 - `rel_height`.
          prefix: text before the names in error messages, such as `--`.

        Raises:
          InputError: an unknown name, a rule by both names, or a value out of range.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        values: dict[str, Any] = {}
        for name, value in options.items():
            new = OLD_NAMES.get(name, name)
            if new not in known:
                raise InputError(
                    f"{prefix}{name}: no such event rule; expected {', '.join(known)}"
                )
            if new in values:
                raise InputError(
                    f"{prefix}{new}: found by its former name, too; pass {prefix}{new} "
                    "alone"
                )

            if name == "share":
                value = rel_height_from_share(value, prefix)
            if name != new:
                text = old_name_warning(name, value, prefix)
                warnings.warn(text, FutureWarning, stacklevel=3)
            values[new] = value

        _check_rules({"high": cls.high, **values}, prefix)
        numbers = {k: float(v) for k, v in values.items() if v is not None}
        return cls(**numbers)  # None is the default of `low`

    @classmethod
    def from_rules_or_options(
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
        unused = ("low",) if self.low is None else RELATIVE_RULES
        return {k: v for k, v in vars(self).items() if k not in unused}


def rel_height_from_share(share: Any, prefix: str = "") -> float:
    """Returns the `rel_height` of a former `share`, which was measured upwards from u.

    Raises:
      InputError: a share outside of (0, 1].
    """
    _check_score(f"{prefix}share", share)
    return round(1 - float(share), 12)  # 0.3 for 0.7, not 0.30000000000000004


def old_name_warning(old: str, value: Any, prefix: str = "") -> str:
    """Returns the warning that a rule was passed by its former name.

    Args:
      old: former name.
      value: value of the rule by its new name.
      prefix: text before the names, such as `--`.
    """
    new = OLD_NAMES[old]
    if old != "share":
        return f"{prefix}{old} is now {prefix}{new}"
    return (
        f"{prefix}share is now {prefix}{new}, which is measured downwards from the "
        f"peak: 1 - share, here {value:g}"
    )


def with_old_names(rules: Mapping[str, Any]) -> dict[str, Any]:
    """Returns rules as files hold them, with `rise` and `share` = 1 - `rel_height`."""
    old = {}
    if "min_prominence" in rules:
        old["rise"] = rules["min_prominence"]
    if "rel_height" in rules:
        old["share"] = round(1 - rules["rel_height"], 12)
    return {**rules, **old}


def _is_number(value: Any) -> bool:
    # NumPy's numbers are registered there, so this doesn't need NumPy.
    return isinstance(value, numbers.Real)


def _check_score(name: str, value: Any) -> None:
    if not (_is_number(value) and 0 < value <= 1):
        raise InputError(f"{name} is {value}; expected more than 0, up to 1")


def _check_rules(rules: Mapping[str, Any], prefix: str = "") -> None:
    for name, value in rules.items():
        if name == "low" and value is None:
            continue

        if name in SCORE_RULES:
            _check_score(f"{prefix}{name}", value)
            continue

        number = _is_number(value)
        if name == "rel_height":
            if not (number and 0 <= value <= 1):
                raise InputError(f"{prefix}{name} is {value}; expected 0 to 1")
        elif not (number and 0 <= value < math.inf):
            raise InputError(f"{prefix}{name} is {value}; expected seconds, 0 or more")

    low, high = rules.get("low"), rules["high"]
    if low is not None and low > high:
        raise InputError(f"{prefix}low {low} is above {prefix}high {high}")


DEFAULT_RULES = EventRules()
