"""Formats times, counts, percentages, file names, tables and settings as plain text."""

import math
import re
import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import Any


def flatten(tree: Mapping[str, Any], separator: str = ".") -> dict[str, Any]:
    """Returns a nested dict as {'a.b': value}, with tuples as lists.

    Args:
      tree: dicts of dicts; empty ones have no entry in the result.
      separator: text between the keys of a path.
    """
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            inner = flatten(value, separator)
            flat |= {f"{key}{separator}{path}": leaf for path, leaf in inner.items()}
        else:
            # JSON has no tuples, so settings that were saved have lists.
            flat[key] = list(value) if isinstance(value, tuple) else value
    return flat


def mean_and_std(
    values: Sequence[float | None],
) -> tuple[float | None, float | None]:
    """Returns mean and sample standard deviation (n − 1), None where undefined."""
    numbers = [v for v in values if v is not None]
    if not numbers or len(numbers) < len(values):
        return None, None
    deviation = statistics.stdev(numbers) if len(numbers) > 1 else None
    return statistics.fmean(numbers), deviation


def percent(
    mean: float | None, std: float | None = None, *, undefined: str = ""
) -> str:
    """Formats fractions as '72.29' or '72.29 ± 0.07'; None as `undefined`."""
    if mean is None:
        return undefined
    return f"{100 * mean:.2f}" + (f" ± {100 * std:.2f}" if std is not None else "")


def change_in_points(
    mean: float | None,
    interval: Sequence[float] | None,
    *,
    digits: int = 2,
    bold: bool = False,
) -> str:
    """Formats a difference of fractions as '-4.00 [-9.10, +0.52]', in points.

    Args:
      mean: difference.
      interval: its lower and upper end; without one the text is '-'.
      digits: behind the decimal point.
      bold: whether an interval that leaves out 0 makes the text bold, as in Markdown.
        The ends count as they are printed, so "+0.00" never leaves out 0.
    """
    if mean is None or interval is None:
        return "-"
    # Adding 0.0 makes -0.0 positive.
    points = [round(100 * x, digits) + 0.0 for x in (mean, *interval)]
    middle, low, high = (f"{x:+.{digits}f}" for x in points)
    text = f"{middle} [{low}, {high}]"
    return f"**{text}**" if bold and not points[1] <= 0 <= points[2] else text


def markdown_table(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Returns a table in Markdown; the first row has the heads.

    Args:
      rows: cells of each row; | and < of names from files are escaped.
      left: columns of text at the left; the others are flush right.
    """
    rule = ["---"] * left + ["---:"] * (len(rows[0]) - left)
    escaped = [
        [cell.replace("|", "\\|").replace("<", "&lt;") for cell in line]
        for line in (rows[0], rule, *rows[1:])
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in escaped)


def clock(seconds: float, *, tenths: bool = False) -> str:
    """Formats a time as 0:07, 12:30 or 1:02:30; with `tenths` as 0:07.5.

    Times are cut off, as players do: 0:07 lasts until 0:08 begins.
    """
    # Sums of times may miss a whole number by their rounding.
    whole = math.floor((seconds * 10 if tenths else seconds) + 1e-6)
    rest = f".{whole % 10}" if tenths else ""
    whole = whole // 10 if tenths else whole
    minutes, s = divmod(max(whole, 0), 60)
    hours, minutes = divmod(minutes, 60)
    front = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{front}:{s:02d}{rest}"


def hours_or_seconds(hours: float) -> str:
    """Formats a length as "2.25 h"; below 0.1 h as "33 s", which "0.01 h" would hide."""
    return f"{hours:.2f} h" if hours >= 0.1 else f"{hours * 3600:.0f} s"


def count(n: int, noun: str) -> str:
    """Formats a count with its noun: "1 event", "3 events", "12 000 events"."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}".replace(",", " ")


def first_names(names: Sequence[str], most: int = 6) -> str:
    """Lists names as "a, b, c"; of many, only the first ones and how many more.

    Args:
      names: names in the order in which they are shown.
      most: number of names that are shown.
    """
    hidden = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + hidden


def file_stem(name: str, most: int = 80) -> str:
    """Returns a text as part of a file name, safe in any file system; "" if none is left.

    Args:
      name: any text, such as a video's name with its folders.
      most: largest number of characters; bytes are at most 2.5 times as many.
    """
    stem = re.sub(r"[^\w.-]+", "-", name).strip("-.")[:most]
    return stem.encode()[: most * 5 // 2].decode(errors="ignore")


def aligned(
    rows: Sequence[Sequence[str]], *, left: Collection[int] = (0,)
) -> list[str]:
    """Formats rows as lines with aligned columns; a rule follows the header.

    Args:
      rows: cells of the header and of each line.
      left: indices of columns with left-aligned text; others are right-aligned.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = ["-" * width for width in widths]

    lines = []
    for row in [rows[0], rule, *rows[1:]]:
        cells = [
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
