"""Computes the shapes of small charts: curves and histograms.

The template charts.html draws them as inline SVG. Colours are classes of results.css,
so charts are readable on light and dark pages. matplotlib's SVG would have neither: it
styles elements by the attribute `style`, which the page's security policy forbids.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)  # as shares of an axis
TOPS = (0.01, 0.02, 0.04, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)  # ends of a scaled axis
COLORS = 6  # colours of results.css; further series have broken lines


@dataclasses.dataclass(frozen=True)
class Polyline:
    """A line through points; positions are in pixels of the chart."""

    kind: str  # CSS classes
    points: str


@dataclasses.dataclass(frozen=True)
class HistogramBar:
    """A bar of a histogram; positions are in pixels of the chart."""

    kind: str  # CSS class
    x: str
    y: str
    width: str
    height: str


@dataclasses.dataclass(frozen=True)
class AxisTick:
    """A position on both axes with its labels."""

    x: str
    y: str
    x_label: str
    y_label: str


@dataclasses.dataclass(frozen=True)
class Chart:
    """A chart of curves or bars; the page scales it."""

    label: str  # description for screen readers
    x: str  # title of the horizontal axis
    y: str  # title of the vertical axis
    ticks: list[AxisTick]
    curves: list[Polyline] = dataclasses.field(default_factory=list)
    bars: list[HistogramBar] = dataclasses.field(default_factory=list)

    # Pixels of the chart, and of the margins around its axes.
    WIDTH: ClassVar[int] = 360
    HEIGHT: ClassVar[int] = 260
    LEFT: ClassVar[int] = 54
    RIGHT: ClassVar[int] = 10
    TOP: ClassVar[int] = 10
    BOTTOM: ClassVar[int] = 40


@dataclasses.dataclass(frozen=True)
class LegendEntry:
    """A name with its colour."""

    color: str  # CSS class
    name: str


def line_chart(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    label: str,
    x: str,
    y: str,
    diagonal: bool = False,
) -> Chart:
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
    curves = [Polyline("diagonal", _points((0.0, 1.0), (0.0, 1.0)))] if diagonal else []
    for i, (xs, ys) in enumerate(series.values()):
        curves.append(Polyline(f"series {_style(i)}", _points(xs, ys)))

    return Chart(label, x, y, _ticks(), curves=curves)


def histogram(
    series: Mapping[str, Sequence[float]], *, label: str, x: str, y: str
) -> Chart:
    """Returns histograms over [0, 1], drawn over each other.

    The vertical axis ends at the first round number above all values.

    Args:
      series: name → fraction in each of the equal bins.
      label: description of the chart for screen readers.
      x: title of the horizontal axis.
      y: title of the vertical axis.
    """
    # Fractions are small if there are many bins, so the axis is scaled.
    highest = max((v for values in series.values() for v in values), default=0.0)
    top = next((top for top in TOPS if top >= highest), 1.0)

    bars = []
    for i, values in enumerate(series.values()):
        for k, value in enumerate(values):
            left, right = _x(k / len(values)), _x((k + 1) / len(values))
            upper = _y(value / top)
            size = f"{right - left:.1f}", f"{_y(0.0) - upper:.1f}"
            bars.append(HistogramBar(f"b{i}", f"{left:.1f}", f"{upper:.1f}", *size))

    return Chart(label, x, y, _ticks(top), bars=bars)


def legend(names: Sequence[str], prefix: str = "s") -> list[LegendEntry]:
    """Returns names with the colours of their series; `prefix` is "b" for bars."""
    return [LegendEntry(_style(i, prefix), n) for i, n in enumerate(names)]


def _style(i: int, prefix: str = "s") -> str:
    """Returns the CSS classes of a series; two series of a chart have different ones."""
    return f"{prefix}{i % COLORS}" + (" broken" if i // COLORS % 2 else "")


def _ticks(top: float = 1.0) -> list[AxisTick]:
    # Both axes have ticks at the same shares; only vertical labels are scaled.
    return [
        AxisTick(f"{_x(t):.1f}", f"{_y(t):.1f}", f"{t:g}", f"{t * top:.3g}")
        for t in TICKS
    ]


def _points(xs: Sequence[float], ys: Sequence[float]) -> str:
    return " ".join(f"{_x(a):.1f},{_y(b):.1f}" for a, b in zip(xs, ys, strict=True))


def _x(value: float) -> float:
    return Chart.LEFT + value * (Chart.WIDTH - Chart.LEFT - Chart.RIGHT)


def _y(value: float) -> float:
    height = Chart.HEIGHT - Chart.TOP - Chart.BOTTOM
    return Chart.HEIGHT - Chart.BOTTOM - value * height
