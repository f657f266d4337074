"""Anomaly scores of a video → events: when they begin and end, and of which class.

Needs numpy only, so that every program can use it.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Event:
    """A stretch of one video, in seconds from its beginning."""

    start: float
    end: float
    category: str  # a class of the card, or "anomaly" of a model without classes
    score: float  # the highest anomaly score in it; nan for truth
    peak: float  # the middle of the snippet that has it
