"""Finds the events of a scored test set as `detect` does, and computes their metrics.

Both use `events.find_events` with `event_rules.DEFAULT_RULES`. The metrics are defined in
`wsvad_jax.metrics.event_level`.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from wsvad_jax.datasets.registry import frame_rate
from wsvad_jax.evaluation.event_rules import DEFAULT_FPS, DEFAULT_RULES, EventRules
from wsvad_jax.evaluation.events import find_events
from wsvad_jax.metrics.event_level import VideoEvents, event_metrics

if TYPE_CHECKING:
    from wsvad_jax.data.cards import Card
    from wsvad_jax.data.dataset import Entry, Split
    from wsvad_jax.metrics.frame_level import EvalVideo


# A measured rate may differ from the stated one by a part of the last frame's time.
SAME_RATE = 0.02
MANY_HIGH_SCORES = 0.25  # share of the snippets of normal videos


def event_results(
    split: "Split",
    videos: Sequence["EvalVideo"],
    card: "Card",
    rules: EventRules = DEFAULT_RULES,
    fps: float | None = None,
    found: Mapping[str, VideoEvents] | None = None,
) -> dict[str, Any]:
    """Returns the value of `events` in results.json.

    Args:
      split: records of the videos, in their order.
      videos: scored test set, with the baselines of biased scores.
      card: card of the dataset.
      rules: what counts as an event.
      fps: frames per second of videos whose rate neither features nor card state.
      found: result of `split_events` with the same arguments, if it is there already.
    """
    if found is None:
        found = split_events(split, videos, card, rules, fps)
    metrics = event_metrics(list(found.values()))
    results = {"rules": rules.as_dict(), "videos": len(found), **metrics}
    if fps is not None:
        results["fps"] = fps

    entries = [entry for entry in split.entries if entry.video in found]
    remarks = [
        _unknown_rates(found),
        _other_rates(entries, card, fps),
        _high_scores(videos, rules.high),
    ]
    if any(remarks):
        results["remark"] = "; ".join(filter(None, remarks))
    return results


def split_events(
    split: "Split",
    videos: Sequence["EvalVideo"],
    card: "Card",
    rules: EventRules = DEFAULT_RULES,
    fps: float | None = None,
) -> dict[str, VideoEvents]:
    """Returns the events of each test video whose truth is known, by name.

    Without its true events, an abnormal video can't tell hits from false alarms.

    Args:
      split, videos, card, rules, fps: as `event_results` takes them.
    """
    return {
        video.video: video_events(video, card, frame_rate(entry, card) or fps, rules)
        for video, entry in zip(videos, split.entries, strict=True)
        if video.known
    }


def _unknown_rates(found: Mapping[str, VideoEvents]) -> str:
    untimed = [video for video, events in found.items() if events.fps is None]
    if not untimed:
        return ""
    return (
        f"the frame rate of {len(untimed)} of {len(found)} videos is unknown "
        f"({untimed[0]}), so there are no times: no delays and no false alarms per "
        f"hour; the event rules assume {DEFAULT_FPS:g} frames per second"
    )


def _high_scores(videos: Sequence["EvalVideo"], high: float) -> str:
    """Words where scores of normal videos are too high for the event rules.

    Metrics of a ranking, such as frame AUC, can be good all the same. The metric `far`
    has a threshold of its own, 0.5.
    """
    normal = [v.anomaly for v in videos if v.known and not v.abnormal]
    share = float((np.concatenate(normal) >= high).mean()) if normal else 0.0
    if share <= MANY_HIGH_SCORES:
        return ""
    return (
        f"{100 * share:.0f} % of the snippets of normal videos score {high:g} or more, "
        "the threshold of an event; calibrate chooses another one, and another seed may "
        "train a better model"
    )


def _other_rates(entries: Sequence["Entry"], card: "Card", fps: float | None) -> str:
    """Words where features, card and --fps state different frame rates."""
    remarks = []
    differing = [e for e in entries if e.fps and card.fps and _differ(e.fps, card.fps)]
    if differing:
        first = differing[0]
        remarks.append(
            f"the features of {len(differing)} of {len(entries)} videos state another "
            f"frame rate than the card ({first.video}: {first.fps:g}, card: "
            f"{card.fps:g} per second); that of the features is used"
        )
    if fps is not None and entries:
        stated = [rate for e in entries if (rate := frame_rate(e, card))]
        if len(stated) == len(entries):
            same = not any(_differ(rate, fps) for rate in stated)
            other = "" if same else f" (such as {stated[0]:g} per second)"
            remarks.append(
                f"--fps {fps:g} has no effect: features or card state the frame rate of "
                f"each video{other}"
            )
    return "; ".join(remarks)


def _differ(a: float, b: float) -> bool:
    return abs(a - b) > SAME_RATE * max(a, b)


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
      fps: its frames per second; None, unknown, takes `event_rules.DEFAULT_FPS`.
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
