"""What a model says about one video, and the files that say it on."""

import csv
import dataclasses
import io
import json
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from wsvad_jax.detection.events import Event, with_old_names
from wsvad_jax.utils.files import write_text


@dataclasses.dataclass(frozen=True)
class DetectionResult:
    """Scores and events of one video. T snippets, C classes (0 is normal)."""

    name: str  # unique among the videos of a report
    path: pathlib.Path | None  # the video file; None where only features were given
    edges: Float[np.ndarray, "T1"]  # seconds; snippet t lasts from edges[t] to [t + 1]
    anomaly: Float[np.ndarray, "T"]  # in [0, 1]
    classes: Float[np.ndarray, "T C"] | None  # probabilities
    class_names: tuple[str, ...]  # of the card, normal first
    events: tuple[Event, ...]
    ground_truth: tuple[Event, ...] | None = None  # None: not known
    damage: str = ""  # what of the video could not be read
    remark: str = ""  # what the reader of the video decided

    @property
    def warnings(self) -> list[str]:
        """What is to be said about how the video was read."""
        damage = self.damage and f"damaged, {self.damage}"
        return [said for said in (damage, self.remark) if said]


def write_events_json(
    path: pathlib.Path,
    answers: Sequence[DetectionResult],
    settings: Mapping[str, object],
) -> None:
    """Writes all that was found: events and, of every snippet, time and score.

    Args:
      path: of the file.
      answers: one a video.
      settings: name → value, as they were used.
    """
    videos = ",\n".join(_video_json(answer) for answer in answers)
    head = json.dumps(with_old_names(settings), ensure_ascii=False, default=str)
    write_text(path, f'{{"settings": {head},\n "videos": [\n{videos}\n]}}\n')


def _video_json(answer: DetectionResult) -> str:
    truth = answer.ground_truth
    value = {
        "video": answer.name,
        "path": None if answer.path is None else str(answer.path),
        "duration": round(float(answer.edges[-1]), 3),
        "damage": answer.damage,
        "remark": answer.remark,
        "events": [event_json(event) for event in answer.events],
        "truth": None if truth is None else [_truth_json(event) for event in truth],
        "seconds": np.round(answer.edges, 3).tolist(),
        "anomaly": np.round(answer.anomaly.astype(np.float64), 4).tolist(),
    }
    lines = [
        f'"{key}": {json.dumps(part, ensure_ascii=False)}'
        for key, part in value.items()
    ]
    return "  {" + ",\n   ".join(lines) + "}"


def event_json(event: Event) -> dict[str, object]:
    """Returns an event as it stands in events.json: seconds and score rounded."""
    found = _truth_json(event)
    return found | {"score": round(event.score, 4), "peak": round(event.peak, 3)}


def _truth_json(event: Event) -> dict[str, object]:
    start, end = round(event.start, 3), round(event.end, 3)
    return {"start": start, "end": end, "class": event.category}


def write_events_csv(path: pathlib.Path, answers: Sequence[DetectionResult]) -> None:
    """Writes a line an event: video, start, end (seconds), class, score, peak."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    keys = ("start", "end", "class", "score", "peak")
    writer.writerow(["video", *keys])
    for answer in answers:
        for event in map(event_json, answer.events):
            writer.writerow([answer.name, *(event[key] for key in keys)])
    write_text(path, text.getvalue())
