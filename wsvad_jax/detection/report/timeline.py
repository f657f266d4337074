"""Collects what a timeline shows: curve, events, bumps, ground truth and classes.

The template timeline.html draws it, over one time.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from wsvad_jax.detection.report import reasons, svg_timeline, text
from wsvad_jax.detection.report.svg_timeline import Bar, Shade, Tick
from wsvad_jax.detection.result import DetectionResult
from wsvad_jax.evaluation.bumps import Bump
from wsvad_jax.evaluation.events import Event
from wsvad_jax.utils.text import clock

MAX_CLASSES = 12  # classes with a row, those of the highest probability
MIN_PROBABILITY = 0.1  # highest probability that a class without event needs for a row


@dataclasses.dataclass(frozen=True)
class ClassRow:
    """Probability of one class over time."""

    name: str
    shades: list[Shade]
    description: str


@dataclasses.dataclass(frozen=True)
class TimelineKey:
    """One thing that a timeline draws."""

    kind: str  # CSS class of its key
    text: str


@dataclasses.dataclass(frozen=True)
class Timeline:
    """Rows of drawings over the same time, with descriptions for screen readers."""

    curve: str  # path of the scores
    description: str
    threshold: float | None
    events: list[Bar]
    events_text: str
    bumps: list[Bar]  # that are no events
    ground_truth: list[Bar] | None  # None: unknown
    ground_truth_text: str
    classes: list[ClassRow]
    omitted: str  # names of the classes without a row
    ticks: list[Tick]
    legend: list[TimelineKey]


def timeline(
    result: DetectionResult, settings: Mapping[str, object], bumps: Sequence[Bump]
) -> Timeline:
    """Computes the curve, the events, the ground truth and the classes over time.

    Args:
      result: scores and events of the video.
      settings: settings of the detection, with the score of the dashed line.
      bumps: bumps that are marked.
    """
    edges, truth = result.edges, result.ground_truth
    line = reasons.threshold_line(settings)
    duration = clock(float(edges[-1]) if len(edges) else 0.0)

    # Without probabilities, no class is shown or hidden.
    shown = _shown_classes(result)
    hidden = [n for c, n in enumerate(result.class_names) if c and c not in shown]
    if result.classes is None:
        hidden = []

    marked = [Event(b.start, b.end, "no event", b.score, b.peak) for b in bumps]
    made = Timeline(
        curve=svg_timeline.curve(edges, result.anomaly),
        description=f"Anomaly score over {duration}. {text.summarize(result)}.",
        threshold=line[0] if line else None,
        events=svg_timeline.bars(result.events, edges),
        events_text=text.list_events(result.events),
        bumps=svg_timeline.bars(marked, edges),
        ground_truth=None if truth is None else svg_timeline.bars(truth, edges),
        ground_truth_text=text.list_events(truth or ()),
        classes=[_class_row(result, c) for c in shown],
        omitted=", ".join(hidden),
        ticks=svg_timeline.ticks(edges),
        legend=[],
    )
    return dataclasses.replace(made, legend=_legend(made, line))


def _legend(drawn: Timeline, line: tuple[float, str] | None) -> list[TimelineKey]:
    """Returns an entry for each kind of mark that a timeline draws, and for no other."""
    shaded = any(row.shades for row in drawn.classes)
    entries = [
        (drawn.curve, "line", "anomaly score"),
        (line, "dashed", f"{line[1]}, {line[0]:.2f}" if line else ""),
        (drawn.events, "event", "detected event"),
        (drawn.bumps, "bump", "bump that is no event"),
        (drawn.ground_truth, "truth", "true event"),
        (shaded, "heat", "probability of a class"),
    ]
    return [TimelineKey(kind, words) for shown, kind, words in entries if shown]


def _shown_classes(result: DetectionResult) -> list[int]:
    """Returns the abnormal classes that have a row, in the card's order."""
    if result.classes is None or not len(result.classes):
        return []

    # Unlikely classes would only push the others apart.
    peaks = result.classes.max(axis=0)
    named = {e.category for e in result.events}
    likely = [
        c
        for c in range(1, len(result.class_names))
        if peaks[c] >= MIN_PROBABILITY or result.class_names[c] in named
    ]
    return sorted(sorted(likely, key=lambda c: -peaks[c])[:MAX_CLASSES])


def _class_row(result: DetectionResult, c: int) -> ClassRow:
    assert result.classes is not None
    name, probability = result.class_names[c], result.classes[:, c]
    highest = f"{float(probability.max()):.2f}"
    shades = svg_timeline.shades(result.edges, probability)
    return ClassRow(name, shades, f"{name}: highest probability {highest}")
