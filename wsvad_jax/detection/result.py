"""Detection result of one video, found in its scores, and its JSON and CSV writers."""

import csv
import dataclasses
import io
import json
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from wsvad_jax.evaluation.bumps import Explanation, explain
from wsvad_jax.evaluation.event_rules import EventRules, with_old_names
from wsvad_jax.evaluation.events import Event, find_events
from wsvad_jax.utils.files import write_text

if TYPE_CHECKING:
    from wsvad_jax.models.scores import SnippetScores


@dataclasses.dataclass(frozen=True)
class EventClip:
    """The clip of an event."""

    path: pathlib.Path
    start: float  # seconds of the video at which the clip begins
    end: float
    event_at: float  # seconds of the clip at which the event begins
    copied: bool  # whether the pictures are the video's, not encoded again
    remark: str = ""

    def as_dict(self) -> dict[str, object]:
        """Returns the clip as events.json holds it."""
        return {
            "path": str(self.path),
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "event_at": round(self.event_at, 3),
            "copied": self.copied,
            "remark": self.remark,
        }


@dataclasses.dataclass(frozen=True)
class DetectionResult:
    """Scores and events of one video. T snippets, C classes (0 is normal)."""

    name: str  # unique among the videos of a report
    path: pathlib.Path | None  # video file; None where features were scored
    edges: Float[np.ndarray, "T1"]  # seconds; snippet t lasts from edges[t] to [t + 1]
    anomaly: Float[np.ndarray, "T"]  # in [0, 1]
    classes: Float[np.ndarray, "T C"] | None  # probabilities
    class_names: tuple[str, ...]  # classes of the card, normal first
    events: tuple[Event, ...]
    ground_truth: tuple[Event, ...] | None = None  # None: not known
    damage: str = ""  # part of the video that could not be read
    remark: str = ""  # decisions of the video reader
    # One per event, None where it couldn't be written; () if no clips were wanted.
    clips: tuple[EventClip | None, ...] = ()
    explanation: Explanation | None = None  # why other scores are no events

    @property
    def warnings(self) -> list[str]:
        """Sentences about how the video was read, for the user."""
        damage = self.damage and f"damaged, {self.damage}"
        return [text for text in (damage, self.remark) if text]


def find_result(
    name: str,
    scores: "SnippetScores",
    baseline: Float[np.ndarray, "T"] | None,
    edges: Float[np.ndarray, "T1"],
    class_names: tuple[str, ...],
    rules: EventRules,
    *,
    path: str | os.PathLike | None = None,
    ground_truth: Sequence[Event] | None = None,
    damage: str = "",
    counts: Callable[[float], bool] | None = None,
) -> DetectionResult:
    """Finds the events in the scores of a video.

    Args:
      name: name of the video, unique in a report.
      scores: scores of its snippets.
      baseline: scores of a static video, see `evaluation.position_bias`; None where
        positional bias is removed or plays no part.
      edges: snippet boundaries in seconds, from 0.
      class_names: names of the classes, normal first.
      rules: what counts as an event.
      path: path of the video file, if there is one.
      ground_truth: true events, if they are known.
      damage: part of the video that could not be read.
      counts: whether an event of a score counts, for the explanation alone.
    """
    explanation = explain(
        scores.anomaly, edges, rules, baseline=baseline, counts=counts
    )
    events = find_events(
        scores.anomaly, scores.classes, edges, class_names, rules, baseline=baseline
    )
    return DetectionResult(
        name=name,
        path=None if path is None else pathlib.Path(path),
        edges=edges,
        anomaly=scores.anomaly,
        classes=scores.classes,
        class_names=class_names,
        events=tuple(events),
        ground_truth=None if ground_truth is None else tuple(ground_truth),
        damage=damage,
        explanation=explanation,
    )


def write_events_json(
    path: pathlib.Path,
    results: Sequence[DetectionResult],
    settings: Mapping[str, object],
) -> None:
    """Writes events.json: events, and time and score of every snippet.

    Args:
      path: file to write.
      results: one result per video.
      settings: settings used, by name. Event rules are also written by their former
        names, `rise` and `share` = 1 - `rel_height`.
    """
    videos = ",\n".join(_video_json(result) for result in results)
    head = json.dumps(with_old_names(settings), ensure_ascii=False, default=str)
    write_text(path, f'{{"settings": {head},\n "videos": [\n{videos}\n]}}\n')


def _video_json(result: DetectionResult) -> str:
    truth = result.ground_truth

    # Rounded, so that a long video's file stays readable.
    value = {
        "video": result.name,
        "path": None if result.path is None else str(result.path),
        "duration": round(float(result.edges[-1]), 3),
        "damage": result.damage,
        "remark": result.remark,
        "events": events_json(result),
        "truth": None if truth is None else [_truth_json(event) for event in truth],
        "seconds": np.round(result.edges, 3).tolist(),
        "anomaly": np.round(result.anomaly.astype(np.float64), 4).tolist(),
    }

    # One line per key: a list of events, and no line per snippet.
    lines = [
        f'"{key}": {json.dumps(item, ensure_ascii=False)}'
        for key, item in value.items()
    ]
    return "  {" + ",\n   ".join(lines) + "}"


def events_json(result: DetectionResult) -> list[dict[str, object]]:
    """Returns a video's events as events.json holds them, with their clips."""
    values = [event_json(event) for event in result.events]
    for value, clip in zip(values, result.clips, strict=False):
        value["clip"] = None if clip is None else clip.as_dict()
    return values


def event_json(event: Event) -> dict[str, object]:
    """Returns an event as events.json holds it, seconds and score rounded."""
    value = _truth_json(event) | {
        "score": round(event.score, 4),
        "peak": round(event.peak, 3),
    }
    # Without a calibration, a score says nothing of how often it is wrong.
    if event.alarm_rate is not None:
        value[event.alarm_rate.key] = event.alarm_rate.as_dict()
    return value


def _truth_json(event: Event) -> dict[str, object]:
    start, end = round(event.start, 3), round(event.end, 3)
    return {"start": start, "end": end, "class": event.category}


def write_events_csv(path: pathlib.Path, results: Sequence[DetectionResult]) -> None:
    """Writes one line per event, see `events_csv`."""
    write_text(path, events_csv(results))


def events_csv(results: Sequence[DetectionResult]) -> str:
    """Returns one line per event: video, start, end (seconds), class, score, peak.

    With a calibration, three columns follow: the false alarms at this score, per day or
    per 100 videos, and the limits of their interval. With clips, two columns follow: the
    clip's path, and the second of the clip at which the event begins.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    keys = ("start", "end", "class", "score", "peak")
    events = [
        (result.name, *pair)
        for result in results
        for pair in zip(result.events, events_json(result), strict=True)
    ]
    keys_of_rates = {event.alarm_rate.key for _, event, _ in events if event.alarm_rate}
    rates = ("expected", "low", "high") if keys_of_rates else ()
    names = [f"{key}_{rate}" for key in keys_of_rates for rate in rates]
    clipped = any(result.clips for result in results)
    names += ["clip", "event_at"] if clipped else []
    writer.writerow(["video", *keys, *names])

    for video, event, row in events:
        rate = event.alarm_rate.as_dict() if event.alarm_rate else {}
        clip: Any = row.get("clip") or {"path": "", "event_at": ""}
        place = [clip["path"], clip["event_at"]] if clipped else []
        values = *(row[k] for k in keys), *(rate[k] for k in rates)
        writer.writerow([video, *values, *place])
    return text.getvalue()
