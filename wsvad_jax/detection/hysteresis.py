"""Finds events in a live source's scores, snippet by snippet and in constant memory."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float

from wsvad_jax.detection.calibration import Calibration, fixed_low
from wsvad_jax.evaluation.categories import category
from wsvad_jax.evaluation.event_rules import DEFAULT_RULES, EventRules


@dataclasses.dataclass
class OpenSegment:
    """A segment of snippets that is or may become an event."""

    start: float
    end: float
    score: float = -1.0
    peak: float = 0.0
    classes: Any = 0.0  # sum of the class probabilities
    after: Any = 0.0  # the same sum over snippets behind its end
    opened: bool = False

    def add(self, start: float, end: float, score: float, classes: Any) -> None:
        """Adds the next snippet."""
        self.end = end
        self.classes = self.classes + (0.0 if classes is None else classes)
        if score > self.score:
            self.score, self.peak = score, (start + end) / 2

    def join(self, later: "OpenSegment") -> "OpenSegment":
        """Joins a later segment to this one, with the snippets between them."""
        best = max(self, later, key=lambda s: s.score)  # the earlier of equals
        return OpenSegment(
            self.start,
            later.end,
            best.score,
            best.peak,
            classes=self.classes + self.after + later.classes,
            opened=self.opened,
        )


class Hysteresis:
    """Finds events by fixed levels snippet by snippet, in constant memory.

    It finds those of `events.find_events`. An event begins with the first snippet of at
    least `low` of a segment that reaches `high`, and ends with the last one. It opens
    as soon as that is known.
    """

    def __init__(
        self,
        class_names: tuple[str, ...],
        rules: EventRules = DEFAULT_RULES,
        calibration: Calibration | None = None,
    ):
        """Starts without snippets.

        Args:
          class_names: names of the classes, normal first.
          rules: what counts as an event. What is relative to a video's usual level has
            no effect, since a live source's isn't known yet.
          calibration: its threshold decides which events open; None opens all.
        """
        self.class_names, self.calibration = class_names, calibration
        self.high, self.low = rules.high, fixed_low(rules)
        self.min_length, self.max_gap = rules.min_length, rules.max_gap
        self.run: OpenSegment | None = (
            None  # snippets of at least low, up to the newest
        )
        self.event: OpenSegment | None = None  # over, unless one follows within max_gap

    def add(
        self, start: float, end: float, score: float, classes: Float[Any, "C"] | None
    ) -> Iterator[dict[str, Any]]:
        """Adds a snippet; yields the lines of events that open or close with it."""
        # The snippet begins a segment or extends it.
        if score >= self.low:
            self.run = self.run or OpenSegment(start, end)
            self.run.add(start, end, score, classes)
            if self.run.score >= self.high:
                yield from self._confirmed(self.run)
            return

        # The snippet ends the segment, which is an event or falls between two.
        if self.run and self.run.score >= self.high:
            self.event = self.run
        elif self.run and self.event:
            self.event.after = self.event.after + self.run.classes
        self.run = None

        # An event is over once no later one can join it.
        if self.event:
            self.event.after = self.event.after + (0.0 if classes is None else classes)
            if not self.max_gap or end - self.event.end > self.max_gap:
                yield from self._over()

    def close(self) -> Iterator[dict[str, Any]]:
        """Ends open events, since no snippet follows."""
        if self.run and self.run.score >= self.high:
            self.event = self.run
        self.run = None
        if self.event:
            yield from self._over()

    def _confirmed(self, run: OpenSegment) -> Iterator[dict[str, Any]]:
        if self.event and run.start - self.event.end <= self.max_gap:
            run = self.run = self.event.join(run)
            self.event = None
        elif self.event:
            yield from self._over()

        if not run.opened and self._counts(run):
            run.opened = True
            line = self._event(run)
            del line["peak"], line["end"]
            yield {"type": "opened", **line, "time": round(run.end, 3)}

    def _over(self) -> Iterator[dict[str, Any]]:
        event, self.event = self.event, None
        if event and self._counts(event):
            yield {"type": "closed", **self._event(event)}

    def _counts(self, segment: OpenSegment) -> bool:
        """Whether a segment is long enough, and above the calibration's threshold."""
        if segment.end - segment.start < self.min_length:
            return False
        return self.calibration is None or self.calibration.counts(segment.score)

    def _event(self, segment: OpenSegment) -> dict[str, Any]:
        classes = None
        if np.ndim(segment.classes):
            classes = np.asarray(segment.classes)[None]
        line: dict[str, Any] = {
            "start": round(segment.start, 3),
            "end": round(segment.end, 3),
            "class": category(classes, self.class_names, 0, 1),
            "score": round(segment.score, 4),
            "peak": round(segment.peak, 3),
        }
        if self.calibration is not None:
            rate = self.calibration.blocks.rate_at(segment.score)
            line["false_alarms_per_day"] = rate.as_dict()
        return line
