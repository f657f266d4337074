"""Draws scores over time as inline SVG, for the report page.

Drawings stretch to the width of the page. Text does not stretch, since positions in
time are percentages. Colours are classes of report.css. The attribute `style` is
avoided, since the page's security policy forbids it.
"""

import html
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from wsvad_jax.detection.events import Event
from wsvad_jax.utils.text import clock

WIDE = 1000  # width of the stretched drawings, in their units
MOST = 1200  # most columns of a long video; each shows its highest score
LEVELS = 8  # shades of a class's probability
LETTER = 7.2  # widest letter of a label in pixels
ROOMS = (("label wide", 560.0), ("label", 250.0))  # CSS class, narrowest drawing


def columns(
    edges: Float[np.ndarray, "T1"], values: Float[np.ndarray, "T"], most: int = MOST
) -> tuple[np.ndarray, np.ndarray]:
    """Reduces a step function to at most `most` steps and keeps its peaks."""
    # Peaks are kept, not means: a short event must stay visible.
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
    """Returns the anomaly score as steps, with events and ground truth shaded behind.

    Args:
      edges: bounds of the snippets, in seconds.
      anomaly: scores of the snippets, in [0, 1].
      events: detected events.
      truth: true events, if known.
      threshold: threshold of the events, drawn as a dashed line.
      label: description of the drawing for screen readers.
    """
    # All positions are shares of the scored time, so drawings of a video align.
    end = _end(edges)
    events_shade = [_shade("shade-event", e, end) for e in events]
    truth_shade = [_shade("shade-truth", e, end) for e in truth]
    lines = [_rule("grid", y) for y in (0.0, 50.0, 100.0)]
    if threshold is not None:
        lines.append(_rule("threshold", 100 - 100 * threshold))

    # Later parts cover earlier ones: the score's line stays on top.
    area, line = _paths(_steps(*columns(edges, anomaly), end))
    return _drawing("curve", label, *events_shade, area, *truth_shade, *lines, line)


def sparkline(
    edges: Float[np.ndarray, "T1"], anomaly: Float[np.ndarray, "T"], label: str
) -> str:
    """Returns the anomaly score as a small drawing for a list of videos."""
    paths = _paths(_steps(*columns(edges, anomaly, 160), _end(edges)))
    return _drawing("spark", label, _rule("grid", 100.0), *paths)


def _paths(steps: str) -> tuple[str, str]:
    """SVG paths of the area below a curve, and of its line."""
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
    """Returns events as bars with their names.

    Args:
      events: events in the order of time.
      edges: bounds of the snippets, in seconds.
      kind: CSS class of the bars' colour.
      label: description of the drawing for screen readers.
    """
    end = _end(edges)
    bars = []
    for e in events:
        start, share = _place(e, end)
        # A name is drawn only where its bar has room for it, on wide or on all pages.
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
    """Returns a class's probability over time as a strip of shades."""
    end = _end(edges)
    bounds, peaks = columns(edges, probability)

    # Runs of equal shade become one rectangle, and all runs of a shade one path.
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
    """Returns the time axis below the lanes, with at most ten marks.

    Narrow pages hide every second mark (class `odd`).
    """
    end = _end(edges)
    most = 10 if end < 3600 else 6  # hours make long labels
    step = next(s for s in _rounds() if end / s <= most)

    marks = []
    # The first and last labels would be cut off if they were centred.
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


def _steps(bounds: np.ndarray, values: np.ndarray, end: float) -> str:
    """Returns the points of a path, without the M or L before the first."""
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
    """Returns start and length of an event, as shares of the scored time.

    True events may continue after the last score.
    """
    start, stop = (min(max(t / end, 0.0), 1.0) for t in (event.start, event.end))
    return start, max(stop - start, 0.0)


def _rule(kind: str, y: float) -> str:
    return f'<path class="{kind}" d="M0 {_number(y)}H{WIDE}"/>'


def _rounds():
    """Yields round distances between marks, in seconds: 1, 2, 5, … minutes, hours."""
    yield from (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)
    n = 4
    while True:
        yield n * 3600
        n *= 2


def _end(edges: np.ndarray) -> float:
    # Never 0: positions are divided by it.
    return max(float(edges[-1]), 1e-3) if len(edges) else 1e-3


def _percent(share: float) -> str:
    return f"{_number(100 * share)}%"


def _number(x: float | np.floating) -> str:
    # Short numbers keep a page with many curves small.
    return f"{x:.2f}".rstrip("0").rstrip(".")
