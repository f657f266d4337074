"""Finds the events of a scored test set as `detect` does, and computes their metrics.

Both use `events.find_events` with `events.DEFAULT_RULES`. The metrics are defined in
`wsvad_jax.metrics.event_level`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from wsvad_jax.datasets.registry import frame_rate
from wsvad_jax.evaluation.events import (
    DEFAULT_FPS,
    DEFAULT_RULES,
    EventRules,
    find_events,
)
from wsvad_jax.metrics.event_level import VideoEvents, event_metrics

if TYPE_CHECKING:
    from wsvad_jax.data.cards import Card
    from wsvad_jax.data.dataset import Split
    from wsvad_jax.metrics.frame_level import EvalVideo


def event_results(
    split: "Split",
    videos: Sequence["EvalVideo"],
    card: "Card",
    rules: EventRules = DEFAULT_RULES,
) -> dict[str, Any]:
    """Returns the value of `events` in results.json.

    Args:
      split: records of the videos, in their order.
      videos: scored test set, with the baselines of biased scores.
      card: card of the dataset.
      rules: what counts as an event.
    """
    # Without its true events, an abnormal video can't tell hits from false alarms.
    known = [
        (video, frame_rate(entry, card))
        for video, entry in zip(videos, split.entries, strict=True)
        if video.known
    ]
    found = [video_events(video, card, fps, rules) for video, fps in known]
    results = {"rules": rules.as_dict(), "videos": len(known), **event_metrics(found)}

    untimed = [video.video for video, fps in known if fps is None]
    if untimed:
        results["remark"] = (
            f"the frame rate of {len(untimed)} of {len(known)} videos is unknown "
            f"({untimed[0]}), so there are no times: no delays and no false alarms per "
            f"hour; the event rules assume {DEFAULT_FPS:g} frames per second"
        )
    return results


def video_events(
    video: "EvalVideo",
    card: "Card",
    fps: float | None,
    rules: EventRules = DEFAULT_RULES,
) -> VideoEvents:
    """Returns the found and true events of a video, in frames.

    Args:
      video: scored video, with the baseline of biased scores.
      card: card of its dataset.
      fps: its frames per second; None, unknown, takes `events.DEFAULT_FPS`.
      rules: what counts as an event.
    """
    frames = snippet_frames(len(video.anomaly), card.stride, video.num_frames)
    edges = frames / (fps or DEFAULT_FPS)
    events = find_events(
        video.anomaly,
        video.classes,
        edges,
        card.class_names,
        rules,
        baseline=video.baseline,
    )

    # Events begin and end at edges, so frames are exact.
    times = np.array([(e.start, e.end) for e in events]).reshape(-1, 2)
    truth = [(start, end) for start, end, category in video.segments if category > 0]
    return VideoEvents(
        found=frames[np.searchsorted(edges, times)],
        score=np.array([e.score for e in events], np.float64),
        truth=np.array(truth, np.int64).reshape(-1, 2),
        num_frames=video.num_frames,
        fps=fps,
        abnormal=video.abnormal,
    )


def snippet_frames(T: int, stride: int, num_frames: int) -> Int[np.ndarray, "T1"]:
    """Returns the first frame of each snippet, and the video's end.

    Args:
      T: number of snippets.
      stride: frames per snippet.
      num_frames: frames of the video, 0 unknown; a last snippet may have fewer.
    """
    frames = np.arange(T + 1) * stride
    if num_frames > frames[-2]:
        frames[-1] = num_frames
    return frames
