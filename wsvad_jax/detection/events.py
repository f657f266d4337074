"""Former place of `wsvad_jax.evaluation.events`, whose names can still be had here."""

from wsvad_jax.evaluation.event_rules import DEFAULT_RULES, EventRules
from wsvad_jax.evaluation.events import (
    Event,
    find_events,
    peak_segments,
    threshold_segments,
)

__all__ = [
    "DEFAULT_RULES",
    "Event",
    "EventRules",
    "find_events",
    "peak_segments",
    "threshold_segments",
]
