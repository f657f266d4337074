"""Formats times, counts, percentages, tables and nested settings as plain text."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns a nested dict as {'a.b': value}, tuples as lists."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat


def mean_and_std(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Returns mean and sample standard deviation (n − 1), None where undefined."""
    numbers = [v for v in values if v is not None]
    if not numbers or len(numbers) < len(values):
        return None, None
    deviation = statistics.stdev(numbers) if len(numbers) > 1 else None
    return statistics.fmean(numbers), deviation


def percent(mean: float | None, std: float | None = None) -> str:
    """Returns '72.29 ± 0.07' of fractions, '' where undefined."""
    if mean is None:
        return ""
    return f"{100 * mean:.2f}" + (f" ± {100 * std:.2f}" if std is not None else "")


def aligned(rows: list[list[str]]) -> list[str]:
    """Formats rows as lines with aligned columns: names left, numbers right.

    The first row is the header, followed by a rule.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = ["-" * width for width in widths]
    lines = []
    for name, *cells in [rows[0], rule, *rows[1:]]:
        numbers = [c.rjust(w) for c, w in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), *numbers]).rstrip())
    return lines


def clock(seconds: float, *, tenths: bool = False) -> str:
    """Formats a time as 0:07, 12:30 or 1:02:30; with `tenths` as 0:07.5."""
    # Rounded before it is split, so 59.96 s becomes 1:00.0 rather than 0:60.0.
    whole = math.floor(seconds * 10 + 0.5) if tenths else math.floor(seconds + 0.5)
    rest = f".{whole % 10}" if tenths else ""
    whole = whole // 10 if tenths else whole
    minutes, s = divmod(max(whole, 0), 60)
    hours, minutes = divmod(minutes, 60)
    front = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{front}:{s:02d}{rest}"


def count(n: int, noun: str) -> str:
    """Formats a count with its noun: "1 event", "3 events", "12 000 events"."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}".replace(",", " ")
