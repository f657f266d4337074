"""Scores over time as inline SVG, for the page.

Every drawing is as wide as the page makes it: shapes stretch with it, text does not,
since positions along the time are percentages. Colours are classes of report.css. No
attribute `style`, which the page's policy forbids.
"""

import html
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from wsvad_jax.events import Event

WIDE = 1000  # units of the stretched drawings along the time
MOST = 1200  # columns drawn of a long video; each shows the highest score in it
LEVELS = 8  # shades of a class's probability
LETTER = 7.2  # pixels at most that a letter of a label takes
ROOMS = (("label wide", 560.0), ("label", 250.0))  # pixels of time that labels need


def columns(
    edges: Float[np.ndarray, "T1"], values: Float[np.ndarray, "T"], most: int = MOST
) -> tuple[np.ndarray, np.ndarray]:
    """Thins a step function to at most `most` steps that keep its peaks."""
    T = len(values)
    step = -(-T // most) if T else 1
    starts = np.arange(0, T, step)
    peaks = np.maximum.reduceat(values, starts) if T else values
    return np.append(edges[starts], edges[-1:]), peaks


def curve(
    edges: Float[np.ndarray, "T1"],
    anomaly: Float[np.ndarray, "T"],
    events: Sequence[Event],
    truth: Sequence[Event],
    threshold: float | None,
    label: str,
) -> str:
    """Returns the anomaly score as steps, events and truth shaded behind it.

    Args:
      edges: seconds.
      anomaly: in [0, 1].
      events: found.
      truth: true ones, if known.
      threshold: drawn as a dashed line.
      label: what the drawing says, for those who can't see it.
    """
    end = _end(edges)
    events_shade = [_shade("shade-event", e, end) for e in events]
    truth_shade = [_shade("shade-truth", e, end) for e in truth]
    lines = [_rule("grid", y) for y in (0.0, 50.0, 100.0)]
    if threshold is not None:
        lines.append(_rule("threshold", 100 - 100 * threshold))
    area, line = _paths(_steps(*columns(edges, anomaly), end))
    return _drawing("curve", label, *events_shade, area, *truth_shade, *lines, line)


def sparkline(
    edges: Float[np.ndarray, "T1"], anomaly: Float[np.ndarray, "T"], label: str
) -> str:
    """Returns the anomaly score as a small drawing for a list of videos."""
    paths = _paths(_steps(*columns(edges, anomaly, 160), _end(edges)))
    return _drawing("spark", label, _rule("grid", 100.0), *paths)


def _paths(steps: str) -> tuple[str, str]:
    """The area below a curve, and its line."""
    if not steps:
        return "", ""
    return (
        f'<path class="area" d="M0 100L{steps}V100Z"/>',
        f'<path class="line" d="M{steps}"/>',
    )


def _drawing(kind: str, label: str, *parts: str) -> str:
    return (
        f'<svg class="{kind}" viewBox="0 -3 {WIDE} 106" preserveAspectRatio="none" '
        f'role="img" aria-label="{html.escape(label)}">{"".join(parts)}</svg>'
    )


def lane(
    events: Sequence[Event], edges: Float[np.ndarray, "T1"], kind: str, label: str
) -> str:
    """Returns events as named bars; `kind` is the class that colours them."""
    end = _end(edges)
    bars = []
    for e in events:
        start, share = _place(e, end)
        room = LETTER * len(e.category) + 10
        fits = [name for name, width in ROOMS if share * width >= room]
        text = (
            f'<text class="{fits[-1]}" x="6" y="15">{html.escape(e.category)}</text>'
            if fits
            else ""
        )
        bars.append(
            f'<svg x="{_percent(start)}" width="{_percent(share)}" height="22">'
            f"<title>{html.escape(e.category)}</title>"
            f'<rect class="{kind}" width="100%" height="22" rx="3"/>{text}</svg>'
        )
    return (
        f'<svg class="lane" role="img" aria-label="{html.escape(label)}">'
        f"{''.join(bars)}</svg>"
    )


def band(
    edges: Float[np.ndarray, "T1"], probability: Float[np.ndarray, "T"], label: str
) -> str:
    """Returns one class's probability over time as a strip of shades."""
    end = _end(edges)
    bounds, peaks = columns(edges, probability)
    level = np.clip(np.rint(peaks * LEVELS), 0, LEVELS).astype(int)
    cuts = np.flatnonzero(np.diff(level)) + 1 if len(level) else np.zeros(0, int)
    paths: dict[int, list[str]] = {}
    for a, b in zip([0, *cuts.tolist()], [*cuts.tolist(), len(level)], strict=True):
        if a < b and level[a]:
            x, to = WIDE * bounds[a] / end, WIDE * bounds[b] / end
            runs = paths.setdefault(int(level[a]), [])
            runs.append(f"M{_number(x)} 0H{_number(to)}V1H{_number(x)}Z")
    shades = (
        f'<path class="heat" opacity="{_number(n / LEVELS)}" d="{"".join(runs)}"/>'
        for n, runs in sorted(paths.items())
    )
    return (
        f'<svg class="band" viewBox="0 0 {WIDE} 1" preserveAspectRatio="none" '
        f'role="img" aria-label="{html.escape(label)}">{"".join(shades)}</svg>'
    )


def axis(edges: Float[np.ndarray, "T1"]) -> str:
    """Returns the times below the lanes; every second one only where there is room."""
    end = _end(edges)
    most = 10 if end < 3600 else 6  # hours make long labels
    step = next(s for s in _rounds() if end / s <= most)
    marks = []
    for i in range(int(end / step + 1e-6) + 1):
        share = i * step / end
        anchor = "start" if i == 0 else "end" if share > 0.97 else "middle"
        few = " odd" if i % 2 else ""
        x = _percent(share)
        marks.append(f'<line class="tick{few}" x1="{x}" x2="{x}" y1="0" y2="5"/>')
        marks.append(
            f'<text class="time{few}" x="{x}" y="18" text-anchor="{anchor}">'
            f"{clock(float(i * step))}</text>"
        )
    return f'<svg class="axis" aria-hidden="true">{"".join(marks)}</svg>'


def clock(seconds: float, *, tenths: bool = False) -> str:
    """Returns 0:07, 12:30 or 1:02:30, with `tenths` 0:07.5."""
    whole = math.floor(seconds * 10 + 0.5) if tenths else math.floor(seconds + 0.5)
    rest = f".{whole % 10}" if tenths else ""
    whole = whole // 10 if tenths else whole
    minutes, s = divmod(max(whole, 0), 60)
    hours, minutes = divmod(minutes, 60)
    front = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{front}:{s:02d}{rest}"


def _steps(bounds: np.ndarray, values: np.ndarray, end: float) -> str:
    """Returns a path's points, without the M or L before the first."""
    if not len(values):
        return ""
    xs = [_number(x) for x in WIDE * bounds / end]
    ys = [_number(y) for y in 100 - 100 * values]
    parts = [f"{xs[0]} {ys[0]}H{xs[1]}"]
    parts += [f"V{y}H{x}" for y, x in zip(ys[1:], xs[2:], strict=True)]
    return "".join(parts)


def _shade(kind: str, event: Event, end: float) -> str:
    x, width = (_number(WIDE * share) for share in _place(event, end))
    return f'<rect class="{kind}" x="{x}" y="0" width="{width}" height="100"/>'


def _place(event: Event, end: float) -> tuple[float, float]:
    """Returns where an event begins and how long it is, as shares of the time.

    Truth may go on where scores end.
    """
    start, stop = (min(max(t / end, 0.0), 1.0) for t in (event.start, event.end))
    return start, max(stop - start, 0.0)


def _rule(kind: str, y: float) -> str:
    return f'<path class="{kind}" d="M0 {_number(y)}H{WIDE}"/>'


def _rounds():
    """Yields the distances between marks that people count in, in seconds."""
    yield from (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)
    n = 4
    while True:
        yield n * 3600
        n *= 2


def _end(edges: np.ndarray) -> float:
    return max(float(edges[-1]), 1e-3) if len(edges) else 1e-3


def _percent(share: float) -> str:
    return f"{_number(100 * share)}%"


def _number(x: float | np.floating) -> str:
    return f"{x:.2f}".rstrip("0").rstrip(".")
