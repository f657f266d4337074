"""Metrics of events: matches, rates and delays that were computed by hand."""

import numpy as np
import pytest

from wsvad_jax.metrics.event_level import (
    VideoEvents,
    event_metrics,
    merge_overlapping,
)

FPS = 10.0


def video(found=(), truth=(), *, frames=3600, fps: float | None = FPS):
    """A video of 6 minutes; found events are (start, end, score) in frames."""
    rows = np.array(found, np.float64).reshape(-1, 3)
    return VideoEvents(
        rows[:, :2].astype(np.int64),
        rows[:, 2],
        np.array(truth, np.int64).reshape(-1, 2),
        frames,
        fps,
        abnormal=bool(truth),
    )


def test_matches_rates_and_delays():
    # IoU 0.6, 50 frames late; IoU 0.2, 100 frames early; nothing true in the last.
    late = video([(50, 130, 0.9)], [(0, 130)])
    early = video([(0, 150, 0.8), (1000, 1100, 0.6)], [(100, 150), (3000, 3100)])
    normal = video([(10, 60, 0.7)])
    results = event_metrics([late, early, normal])
    assert (results["found"], results["true"]) == (4, 3)
    assert results["hours"] == pytest.approx(0.3)
    assert results["normal_hours"] == pytest.approx(0.1)
    assert results["false_alarms_per_hour_normal"] == pytest.approx(1 / 0.1)

    # 80 / 130 = 0.62 reaches all thresholds, 50 / 150 = 0.33 the first two.
    for iou, matched, delays in (
        ("0.1", 2, [5.0, 0.0]),
        ("0.3", 2, [5.0, 0.0]),
        ("0.5", 1, [5.0]),
    ):
        assert results["iou"][iou] == pytest.approx(
            {
                "precision": matched / 4,
                "recall": matched / 3,
                "f1": 2 * matched / 7,
                "false_alarms_per_hour": (4 - matched) / 0.3,
                "delay_mean": np.mean(delays),
                "delay_median": np.median(delays),
            }
        )


def test_a_threshold_includes_its_value():
    for start, end, iou in ((90, 100, "0.1"), (70, 100, "0.3"), (50, 100, "0.5")):
        results = event_metrics([video([(start, end, 0.9)], [(0, 100)])])
        assert results["iou"][iou]["recall"] == 1
        assert results["iou"][iou]["delay_mean"] == start / FPS
        results = event_metrics([video([(start + 1, end, 0.9)], [(0, 100)])])
        assert results["iou"][iou]["recall"] == 0


def test_the_higher_score_takes_a_true_event():
    # Both overlap it, by 0.4 and 0.6; the first has the higher score.
    found = [(0, 40, 0.9), (40, 100, 0.5)]
    results = event_metrics([video(found, [(0, 100)])])["iou"]
    for iou, delay in (("0.1", 0.0), ("0.3", 0.0), ("0.5", 4.0)):
        assert results[iou]["delay_mean"] == delay
        assert results[iou]["precision"] == 0.5 and results[iou]["recall"] == 1

    # Two true events in one found event: one of them is missed.
    results = event_metrics([video([(0, 100, 0.9)], [(0, 40), (40, 100)])])["iou"]
    assert results["0.3"]["recall"] == 0.5 and results["0.3"]["precision"] == 1
    assert results["0.3"]["delay_mean"] == 0  # the larger overlap, 4 s after the start


def test_events_match_within_their_video_only():
    results = event_metrics([video([(0, 100, 0.9)]), video((), [(0, 100)])])["iou"]
    assert results["0.1"]["precision"] == results["0.1"]["recall"] == 0
    assert results["0.1"]["delay_mean"] is results["0.1"]["delay_median"] is None


def test_what_is_undefined_is_none():
    # No true event: nothing could match, and every found event is a false alarm.
    quiet = event_metrics([video([(0, 50, 0.9)])])
    first = quiet["iou"]["0.1"]
    assert first["precision"] is first["recall"] is first["f1"] is None
    assert first["false_alarms_per_hour"] == pytest.approx(10)

    # No found event: a recall of 0, but no precision; no normal video, no rate of it.
    missed = event_metrics([video((), [(0, 50)])])
    first = missed["iou"]["0.1"]
    assert (first["precision"], first["recall"], first["f1"]) == (None, 0, 0)
    assert first["false_alarms_per_hour"] == 0
    assert missed["false_alarms_per_hour_normal"] is None

    # Not even a video.
    nothing = event_metrics([])
    assert nothing["hours"] is None and nothing["found"] == nothing["true"] == 0
    assert set(nothing["iou"]["0.5"].values()) == {None}


def test_times_need_the_frame_rate_of_every_video():
    hit = video([(10, 100, 0.9)], [(0, 100)])
    results = event_metrics([hit, video([(0, 50, 0.8)], fps=None)])
    first = results["iou"]["0.5"]
    assert (first["precision"], first["recall"]) == (0.5, 1)
    for key in ("false_alarms_per_hour", "delay_mean", "delay_median"):
        assert first[key] is None
    for key in ("hours", "normal_hours", "false_alarms_per_hour_normal"):
        assert results[key] is None


def test_rates_may_differ_between_videos():
    slow = video([(10, 100, 0.9)], [(0, 100)], frames=1800, fps=5.0)
    results = event_metrics([slow, video([(10, 100, 0.8)], [(0, 100)])])
    assert results["hours"] == pytest.approx(0.2)
    assert results["iou"]["0.5"]["delay_mean"] == pytest.approx((2 + 1) / 2)


def test_overlapping_true_events_are_one():
    assert merge_overlapping([(50, 90), (0, 60), (90, 100)]) == [(0, 90), (90, 100)]
    results = event_metrics([video([(0, 90, 0.9)], [(50, 90), (0, 60)])])
    assert results["true"] == 1 and results["iou"]["0.5"]["f1"] == 1
