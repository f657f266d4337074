"""Words why a bump is no event, and why an event is below the dashed line.

The reasons are those of `evaluation.bumps`, which uses the rules that decide on events.
"""

from collections.abc import Mapping

from wsvad_jax.detection.result import DetectionResult
from wsvad_jax.evaluation.bumps import Bump, Explanation
from wsvad_jax.evaluation.events import Event

MOST_DIGITS = 6


def threshold_line(settings: Mapping[str, object]) -> tuple[float, str] | None:
    """Returns score and name of the dashed line; None where it isn't drawn.

    Args:
      settings: settings of the detection, from any caller; a number `threshold` (of a
        calibration), or else `high`.
    """
    for key, name in (
        ("threshold", "calibration's threshold"),
        ("high", "setting “high”"),
    ):
        value = settings.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value), name
    return None


def listed_bumps(
    result: DetectionResult, settings: Mapping[str, object]
) -> list[tuple[Bump, str]]:
    """Returns the bumps of a video with their reasons, in the order of their time.

    The fall beside a higher peak is listed only where it passes the dashed line.
    """
    explanation, line = result.explanation, threshold_line(settings)
    if explanation is None:
        return []
    return [
        (bump, why_no_event(bump, explanation, line))
        for bump in explanation.bumps
        if bump.reason != "beside" or (line is not None and bump.score >= line[0])
    ]


def why_no_event(
    bump: Bump, explanation: Explanation, line: tuple[float, str] | None
) -> str:
    """Words why a bump is no event."""
    rules = explanation.rules
    if bump.reason == "short":
        length, least = _distinct(bump.end - bump.start, rules.min_length, digits=1)
        return f"it lasts {length} s, and an event lasts {least} s or more (min_length)"

    if bump.reason == "calibration":
        assert line is not None  # settings have the threshold
        score, threshold = _distinct(bump.score, line[0])
        return f"its score of {score} isn't above the calibration's threshold of {threshold}"

    if bump.reason == "beside":
        return "it falls from a higher peak, and no valley parts the two"

    corrected, required = _distinct(bump.corrected, explanation.required)
    text = f"its score of {corrected} is below {required}"
    if f"{bump.score:.2f}" != f"{bump.corrected:.2f}":
        text = (
            f"its score of {bump.score:.2f} is {corrected} without positional bias, "
            f"below {required}"
        )
    return f"{text}, {_what_a_peak_needs(explanation)}"


def why_below_line(
    event: Event,
    explanation: Explanation | None,
    line: tuple[float, str] | None,
) -> str:
    """Words why an event is below the dashed line; "" where it doesn't."""
    if explanation is None or line is None or event.score >= line[0]:
        return ""
    score, limit = _distinct(event.score, line[0])
    return (
        f"below the dashed line ({score} < {limit}), but above {explanation.required:.2f}, "
        f"{_what_a_peak_needs(explanation)}"
    )


def _what_a_peak_needs(explanation: Explanation) -> str:
    rules, usual = explanation.rules, explanation.usual
    if usual is None or explanation.required >= rules.high:
        return "which a peak needs (high)"
    return (
        f"which a peak needs in this video: {rules.min_prominence:g} (min_prominence) "
        f"more than its usual level of {usual:.2f}"
    )


def _distinct(a: float, b: float, digits: int = 2) -> tuple[str, str]:
    """Formats two numbers with as few digits as show their difference."""
    while digits < MOST_DIGITS and a != b and f"{a:.{digits}f}" == f"{b:.{digits}f}":
        digits += 1
    return f"{a:.{digits}f}", f"{b:.{digits}f}"
