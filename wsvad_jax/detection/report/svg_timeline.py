"""Computes the shapes of a timeline: scores, events and class probabilities over time.

The template timeline.html draws them as inline SVG. Drawings stretch to the width of
the page. Text does not stretch, since positions in time are percentages.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float

from wsvad_jax.evaluation.events import Event
from wsvad_jax.utils.text import clock

WIDTH = 1000  # width of the stretched drawings, in their units
MAX_STEPS = 1200  # most steps of a long video's curve; each shows its highest score
LEVELS = 8  # shades of a class's probability
LETTER = 7.2  # widest letter of a label in pixels
ROOMS = (("label wide", 560.0), ("label", 250.0))  # CSS class, narrowest drawing


@dataclasses.dataclass(frozen=True)
class Bar:
    """An event on the timeline; positions are percentages of its width."""

    x: str
    width: str
    name: str
    label: str  # CSS class of the drawn name; "" if the bar has no room for it


@dataclasses.dataclass(frozen=True)
class Shade:
    """All stretches of a strip that have one shade."""

    opacity: str
    path: str


@dataclasses.dataclass(frozen=True)
class Tick:
    """A mark on the time axis."""

    x: str
    text: str
    anchor: str  # text-anchor of the label
    odd: bool  # narrow pages hide every second mark


def reduce_steps(
    edges: Float[np.ndarray, "T1"],
    values: Float[np.ndarray, "T"],
    max_steps: int = MAX_STEPS,
) -> tuple[np.ndarray, np.ndarray]:
    """Reduces a step function to at most `max_steps` steps and keeps its peaks."""
    # Peaks are kept, not means: a short event must stay visible.
    T = len(values)
    step = -(-T // max_steps) if T else 1
    starts = np.arange(0, T, step)
    peaks = np.maximum.reduceat(values, starts) if T else values
    return np.append(edges[starts], edges[-1:]), peaks


def curve(
    edges: Float[np.ndarray, "T1"],
    anomaly: Float[np.ndarray, "T"],
    max_steps: int = MAX_STEPS,
) -> str:
    """Returns scores as an SVG path without its first letter; "" without scores.

    Args:
      edges: bounds of the snippets, in seconds.
      anomaly: scores of the snippets, in [0, 1].
      max_steps: largest number of steps of the path.
    """
    bounds, peaks = reduce_steps(edges, anomaly, max_steps)
    if not len(peaks):
        return ""

    # y grows downwards, so the highest score is 0.
    xs = [_number(x) for x in WIDTH * bounds / _end(edges)]
    ys = [_number(y) for y in 100 - 100 * peaks]
    steps = [f"{xs[0]} {ys[0]}H{xs[1]}"]
    steps += [f"V{y}H{x}" for y, x in zip(ys[1:], xs[2:], strict=True)]
    return "".join(steps)


def bars(events: Sequence[Event], edges: Float[np.ndarray, "T1"]) -> list[Bar]:
    """Returns events as bars, in the given order.

    Args:
      events: events of the video; true events may continue after the last score.
      edges: bounds of the snippets, in seconds.
    """
    end = _end(edges)
    drawn = []
    for event in events:
        start, stop = (min(max(t / end, 0.0), 1.0) for t in (event.start, event.end))
        length = max(stop - start, 0.0)

        # A name is drawn only where its bar has room for it, on wide or on all pages.
        room = LETTER * len(event.category) + 10
        labels = [label for label, width in ROOMS if length * width >= room]

        label = labels[-1] if labels else ""
        drawn.append(Bar(_percent(start), _percent(length), event.category, label))
    return drawn


def shades(
    edges: Float[np.ndarray, "T1"], probability: Float[np.ndarray, "T"]
) -> list[Shade]:
    """Returns a class's probability over time as a strip of shades."""
    end = _end(edges)
    bounds, peaks = reduce_steps(edges, probability)
    level = np.clip(np.rint(peaks * LEVELS), 0, LEVELS).astype(int)

    # Runs of equal shade become one rectangle, and all runs of a shade one path.
    cuts = np.flatnonzero(np.diff(level)) + 1 if len(level) else np.zeros(0, int)
    paths: dict[int, list[str]] = {}
    for a, b in zip([0, *cuts.tolist()], [*cuts.tolist(), len(level)], strict=True):
        if a < b and level[a]:
            left, right = (_number(WIDTH * bounds[k] / end) for k in (a, b))
            runs = paths.setdefault(int(level[a]), [])
            runs.append(f"M{left} 0H{right}V1H{left}Z")

    return [Shade(_number(n / LEVELS), "".join(p)) for n, p in sorted(paths.items())]


def ticks(edges: Float[np.ndarray, "T1"]) -> list[Tick]:
    """Returns at most ten marks of the time axis, at round times."""
    end = _end(edges)
    step = tick_step(end)

    marks = []
    for i in range(int(end / step + 1e-6) + 1):
        fraction = i * step / end
        # The first and last labels would be cut off if they were centred.
        anchor = "start" if i == 0 else "end" if fraction > 0.97 else "middle"
        marks.append(
            Tick(_percent(fraction), clock(float(i * step)), anchor, i % 2 == 1)
        )
    return marks


def tick_step(end: float) -> int:
    """Returns the distance between at most ten marks, in seconds.

    Args:
      end: length of the time axis, in seconds.
    """
    most = 10 if end < 3600 else 6  # hours make long labels
    return next(s for s in _round_steps() if end / s <= most)


def _round_steps() -> Iterator[int]:
    """Yields round distances between marks, in seconds: 1, 2, 5, … minutes, hours."""
    yield from (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)
    hours = 4
    while True:
        yield hours * 3600
        hours *= 2


def _end(edges: np.ndarray) -> float:
    # Never 0: positions are divided by it.
    return max(float(edges[-1]), 1e-3) if len(edges) else 1e-3


def _percent(fraction: float) -> str:
    return f"{_number(100 * fraction)}%"


def _number(x: float | np.floating) -> str:
    # Short numbers keep a page with many curves small.
    return f"{x:.2f}".rstrip("0").rstrip(".")
