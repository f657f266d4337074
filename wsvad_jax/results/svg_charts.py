"""Draws small charts as inline SVG, for the page of results.

Colours are classes of results.css, so charts are readable on light and dark pages. The
attribute `style` is avoided, since the page's security policy forbids it.
"""

import html
from collections.abc import Mapping, Sequence

# Pixels of the viewBox; the page scales the chart.
WIDTH, HEIGHT = 360, 260
LEFT, RIGHT, TOP, BOTTOM = 54, 10, 10, 40
TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


def lines(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    label: str,
    x: str,
    y: str,
    diagonal: bool = False,
) -> str:
    """Returns a line chart of one or more series, with both axes in [0, 1].

    Args:
      series: name → (x, y), in the order of the colours; an empty series skips its
        colour.
      label: description of the chart for screen readers.
      x: title of the horizontal axis.
      y: title of the vertical axis.
      diagonal: True draws x = y, the line of chance or of perfect calibration.
    """
    # The reference line comes first, below the curves.
    parts = [_line((0.0, 1.0), (0.0, 1.0), "diagonal")] if diagonal else []
    for i, (xs, ys) in enumerate(series.values()):
        parts.append(_line(xs, ys, f"series s{i % 6}"))
    return _chart(parts, label, x, y)


def bars(series: Mapping[str, Sequence[float]], *, label: str, x: str, y: str) -> str:
    """Returns histograms over [0, 1], drawn over each other.

    The vertical axis ends at the highest share.

    Args:
      series: name → share in each of the equal bins.
      label: description of the chart for screen readers.
      x: title of the horizontal axis.
      y: title of the vertical axis.
    """
    # Shares are small if there are many bins, so the axis is scaled.
    most = max((v for values in series.values() for v in values), default=0) or 1
    parts = []
    for i, values in enumerate(series.values()):
        width = (WIDTH - LEFT - RIGHT) / len(values)
        for k, value in enumerate(values):
            height = (HEIGHT - TOP - BOTTOM) * value / most
            parts.append(
                f'<rect class="hist b{i}" x="{LEFT + k * width:.1f}" '
                f'y="{HEIGHT - BOTTOM - height:.1f}" width="{width:.1f}" '
                f'height="{height:.1f}"/>'
            )
    return _chart(parts, label, x, y, most)


def legend(names: Sequence[str], mark: str = "s") -> str:
    """Returns a legend: the names with their colours."""
    # Six colours, then they repeat.
    items = "".join(
        f'<li><span class="key {mark}{i % 6}"></span>{html.escape(name)}</li>'
        for i, name in enumerate(names)
    )
    return f'<ul class="legend">{items}</ul>'


def _line(xs: Sequence[float], ys: Sequence[float], kind: str) -> str:
    points = " ".join(f"{_x(a):.1f},{_y(b):.1f}" for a, b in zip(xs, ys, strict=True))
    return f'<polyline class="{kind}" points="{points}"/>'


def _x(value: float) -> float:
    return LEFT + value * (WIDTH - LEFT - RIGHT)


def _y(value: float) -> float:
    return HEIGHT - BOTTOM - value * (HEIGHT - TOP - BOTTOM)


def _chart(parts: Sequence[str], label: str, x: str, y: str, most: float = 1) -> str:
    # Ticks are the same on both axes, only the vertical labels are scaled by `most`.
    grid = []
    for tick in TICKS:
        left, low = _x(tick), _y(tick)
        grid.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{low:.1f}" '
            f'y2="{low:.1f}"/>'
            f'<text class="at" x="{left:.1f}" y="{HEIGHT - BOTTOM + 16}" '
            f'text-anchor="middle">{tick:g}</text>'
            f'<text class="at" x="{LEFT - 6}" y="{low + 4:.1f}" '
            f'text-anchor="end">{tick * most:.2g}</text>'
        )

    # Axis titles; the vertical one is rotated about its middle.
    middle = (TOP + HEIGHT - BOTTOM) / 2
    names = (
        f'<text class="axis" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" '
        f'text-anchor="middle">{html.escape(x)}</text>'
        f'<text class="axis" transform="translate(11 {middle}) rotate(-90)" '
        f'text-anchor="middle">{html.escape(y)}</text>'
    )

    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{html.escape(label)}">{"".join(grid)}{"".join(parts)}{names}</svg>'
    )
