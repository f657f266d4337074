"""Words detections for readers without background: what happened, when, how surely."""

from collections.abc import Sequence

from wsvad_jax.detection.events import Event
from wsvad_jax.detection.result import DetectionResult
from wsvad_jax.utils.text import clock, count

SHORT = 2.0  # seconds; times of shorter events need tenths


def percent(share: float) -> str:
    """Formats a score as "87 %", but never as 100 %, and as 0 % only if it is 0."""
    # A score is an estimate: certainty would be a false claim.
    if share >= 0.995:
        return "over 99 %"
    if 0 < share < 0.005:
        return "under 1 %"
    return f"{100 * share:.0f} %"


def span(event: Event) -> str:
    """Formats the times of an event, as 0:12–0:19."""
    start, end = (clock(t, tenths=short(event)) for t in (event.start, event.end))
    return f"{start}–{end}"


def short(event: Event) -> bool:
    """Whether the times of an event need tenths of a second."""
    return event.end - event.start < SHORT


def describe(event: Event) -> str:
    """Words an event as "Fighting, 0:12–0:19, 87 % sure"; true events have no score."""
    what = f"{event.category}, {span(event)}"
    return (
        what if event.score != event.score else f"{what}, {percent(event.score)} sure"
    )


def strongest(answer: DetectionResult) -> Event | None:
    """Returns the event with the highest score, or None."""
    return max(answer.events, key=lambda e: e.score, default=None)


def order(answer: DetectionResult) -> tuple[float, float, str]:
    """Sort key of videos: by strongest event, then by highest score without events."""
    event = strongest(answer)
    top = float(answer.anomaly.max(initial=0.0))
    return (-event.score if event else 1.0, -top, answer.name)


def sentence(answer: DetectionResult) -> str:
    """Words the result of one video, with its strongest event first."""
    event = strongest(answer)
    if event:
        rest = len(answer.events) - 1
        return describe(event) + (f", and {count(rest, 'more event')}" if rest else "")

    if not len(answer.anomaly):
        return "Nothing could be scored"

    at = int(answer.anomaly.argmax())
    top, when = float(answer.anomaly[at]), clock(float(answer.edges[at]))
    return f"Nothing found; the score is highest at {when}, {percent(top)}"


def headline(answers: Sequence[DetectionResult]) -> str:
    """Words the result of all videos together."""
    # For a single video, the sentence says more than counts.
    if len(answers) == 1:
        return sentence(answers[0])
    events = sum(len(a.events) for a in answers)
    videos = sum(bool(a.events) for a in answers)
    if not events:
        return f"No events in {count(len(answers), 'video')}"
    where = f"{videos} of {len(answers)}" if videos < len(answers) else f"all {videos}"
    return f"{count(events, 'event')} in {where} videos"


def classes(answers: Sequence[DetectionResult]) -> str:
    """Lists the number of events per class, the most frequent first."""
    found: dict[str, int] = {}
    for answer in answers:
        for event in answer.events:
            found[event.category] = found.get(event.category, 0) + 1
    ranked = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} ({n})" for name, n in ranked)


def overlaps(event: Event, others: Sequence[Event]) -> bool:
    """Whether an event overlaps one of the others in time."""
    return any(event.start < o.end and o.start < event.end for o in others)


def compared(answers: Sequence[DetectionResult]) -> str:
    """Words the agreement of events and ground truth; "" if no truth is known."""
    known = [a for a in answers if a.ground_truth is not None]
    if not known:
        return ""

    # A true event counts as found if any detection overlaps it.
    true = [(e, a.events) for a in known for e in a.ground_truth or ()]
    false = sum(not overlaps(e, a.ground_truth or ()) for a in known for e in a.events)
    hits = sum(overlaps(e, found) for e, found in true)

    if len(true) == 1:
        first = f"The one true event is {'found' if hits else 'missed'}"
    elif true:
        first = f"{hits} of {len(true)} true events are found, at least in part"
    else:
        first = "No event is known to be true"

    wrong = (
        f"{count(false, 'event')} found where none is true" if false else "no false one"
    )
    return f"{first}; {wrong}."


def setting(value: object) -> str:
    """Formats the value of a setting for readers."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(setting(v) for v in value) or "none"
    return str(value)
