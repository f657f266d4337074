"""Sends the events that `detect` finds in files."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from wsvad_jax.alarms import event_ids
from wsvad_jax.alarms.alarms import Alarms
from wsvad_jax.detection.calibration import model_identity
from wsvad_jax.detection.result import DetectionResult, events_json

if TYPE_CHECKING:
    from wsvad_jax.detection.inputs import VideoInput
    from wsvad_jax.detection.video_scorer import VideoScorer


def sender(
    alarms: Alarms, scorer: "VideoScorer", videos: Sequence["VideoInput"]
) -> Callable[[DetectionResult], None]:
    """Returns a function that sends the events of a result.

    Args:
      alarms: open alarms.
      scorer: model, whose identity is part of the ids.
      videos: inputs; the content of their files is part of the ids.
    """
    paths = {video.name: video.files[0] for video in videos}
    model = event_ids.mark_of(model_identity(scorer)) if alarms.sinks else ""

    def send(result: DetectionResult) -> None:
        if not alarms.sinks or not result.events:
            return
        path = paths[result.name]
        origin = event_ids.origin_of(result.name, str(path))
        for event, value in zip(result.events, events_json(result), strict=True):
            event_id = origin.event_id(model, event.start)
            message = {"id": event_id, **value, "path": str(path)}
            alarms.event(message, result.name)

    return send
