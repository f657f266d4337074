"""Words detections for readers without background: what happened, when, which score."""

from collections.abc import Sequence

from wsvad_jax.detection.result import DetectionResult
from wsvad_jax.evaluation.events import Event
from wsvad_jax.utils.text import clock, count

SHORT = 2.0  # seconds; times of shorter events need tenths
# Why a bump is no event, by the reason of `evaluation.bumps`.
NO_EVENT = {
    "short": "too short for an event",
    "calibration": "not above the calibration's threshold",
    "low": "too low for an event",
}
WITHOUT_BIAS = " without positional bias"


def time_span(event: Event) -> str:
    """Formats the times of an event, as 0:12–0:19."""
    return format_span(event.start, event.end)


def format_span(start: float, end: float) -> str:
    """Formats a span of time in seconds, as 0:12–0:19; a short one with tenths."""
    return "–".join(clock(t, tenths=end - start < SHORT) for t in (start, end))


def needs_tenths(event: Event) -> bool:
    """Whether the times of an event need tenths of a second."""
    return event.end - event.start < SHORT


def describe_event(event: Event) -> str:
    """Words an event as "Fighting, 0:12–0:19, score 0.87"."""
    what = f"{event.category}, {time_span(event)}"
    # True events have no score: it is NaN.
    return what if event.score != event.score else f"{what}, score {event.score:.2f}"


def list_events(events: Sequence[Event]) -> str:
    """Words all events of a video; "none" if there are none."""
    return "; ".join(map(describe_event, events)) or "none"


def strongest_event(result: DetectionResult) -> Event | None:
    """Returns the event with the highest score, or None."""
    return max(result.events, key=lambda e: e.score, default=None)


def sort_key(result: DetectionResult) -> tuple[float, float, str]:
    """Sorts videos by strongest event; those without events by highest score."""
    event = strongest_event(result)
    top = float(result.anomaly.max(initial=0.0))
    return (-event.score if event else 1.0, -top, result.name)


def summarize(result: DetectionResult) -> str:
    """Words the result of one video, with its strongest event first."""
    event = strongest_event(result)
    if event:
        more = len(result.events) - 1
        rest = f", and {count(more, 'more event')}" if more else ""
        return describe_event(event) + rest

    if not len(result.anomaly):
        return "No event; nothing could be scored"

    at = int(result.anomaly.argmax())
    top, when = float(result.anomaly[at]), clock(float(result.edges[at]))
    return f"No event; the highest score is {top:.2f}, at {when}{_why(result, at)}"


def _why(result: DetectionResult, at: int) -> str:
    """Words in brackets why the highest score is no event, "" where no rule is missed."""
    if result.explanation is None:
        return ""
    middle = float(result.edges[at] + result.edges[at + 1]) / 2
    for bump in result.explanation.bumps:
        if bump.start <= middle < bump.end and bump.reason in NO_EVENT:
            biased = bump.reason == "low" and bump.corrected < bump.score - 0.005
            return f" ({NO_EVENT[bump.reason]}{WITHOUT_BIAS if biased else ''})"
    return ""


def headline(results: Sequence[DetectionResult]) -> str:
    """Words the result of all videos together."""
    # For a single video, the sentence says more than counts.
    if len(results) == 1:
        return summarize(results[0])

    events = sum(len(r.events) for r in results)
    videos = sum(bool(r.events) for r in results)
    if not events:
        return f"No events in {count(len(results), 'video')}"
    where = f"{videos} of {len(results)}" if videos < len(results) else f"all {videos}"
    return f"{count(events, 'event')} in {where} videos"


def count_classes(results: Sequence[DetectionResult]) -> str:
    """Lists the number of events per class, the most frequent first."""
    counts: dict[str, int] = {}
    for result in results:
        for event in result.events:
            counts[event.category] = counts.get(event.category, 0) + 1
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} ({n})" for name, n in ranked)


def overlaps(event: Event, others: Sequence[Event]) -> bool:
    """Whether an event overlaps one of the others in time."""
    return any(event.start < o.end and o.start < event.end for o in others)


def compare_with_ground_truth(results: Sequence[DetectionResult]) -> str:
    """Words the agreement of events and ground truth; "" without ground truth."""
    known = [r for r in results if r.ground_truth is not None]
    if not known:
        return ""

    # A true event counts as detected if any detection overlaps it.
    hits = [overlaps(e, r.events) for r in known for e in r.ground_truth or ()]
    false = sum(not overlaps(e, r.ground_truth or ()) for r in known for e in r.events)

    if len(hits) == 1:
        detected = f"The one true event is {'detected' if hits[0] else 'missed'}"
    elif hits:
        detected = (
            f"{sum(hits)} of {len(hits)} true events are detected, at least in part"
        )
    else:
        detected = "The ground truth has no event"
    alarms = count(false, "false alarm") if false else "no false alarm"
    return f"{detected}; {alarms}."


def format_setting(value: object) -> str:
    """Formats the value of a setting for readers."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(format_setting(v) for v in value) or "none"
    return str(value)
