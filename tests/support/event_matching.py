"""Pairs found events with true ones, for tests that count hits."""

from collections.abc import Sequence

from wsvad_jax.evaluation.events import Event


def overlap(a: Event, b: Event) -> float:
    """Returns the intersection of two events over their union, 0 to 1."""
    common = max(min(a.end, b.end) - max(a.start, b.start), 0.0)
    union = (a.end - a.start) + (b.end - b.start) - common
    return common / union if union > 0 else 0.0


def matches(
    events: Sequence[Event], truth: Sequence[Event], least: float = 0.3
) -> list[tuple[Event, Event]]:
    """Pairs (events, true) that overlap by at least `least`, each event in one at most.

    The pairs that overlap most are taken first.
    """
    pairs = sorted(
        (
            (overlap(f, t), i, j)
            for i, f in enumerate(events)
            for j, t in enumerate(truth)
        ),
        reverse=True,
    )
    chosen: dict[int, int] = {}
    for value, i, j in pairs:
        if value >= least and i not in chosen and j not in chosen.values():
            chosen[i] = j
    return [(events[i], truth[j]) for i, j in sorted(chosen.items())]
