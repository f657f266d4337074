"""Event-level metrics of resamples are those of the drawn videos."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsvad_jax.metrics.event_bootstrap import resampled_events
from wsvad_jax.metrics.event_level import VideoEvents, event_metrics

SPAN = st.tuples(st.integers(0, 90), st.integers(1, 40)).map(lambda s: (s[0], sum(s)))


@st.composite
def video(draw):
    found = sorted(draw(st.lists(SPAN, max_size=4)))
    truth = draw(st.lists(SPAN, max_size=3))
    return VideoEvents(
        np.array(found, np.int64).reshape(-1, 2),
        np.array(draw(st.permutations(range(len(found)))), np.float64) / 10,
        np.array(truth, np.int64).reshape(-1, 2),
        num_frames=draw(st.integers(100, 900)),
        fps=draw(st.sampled_from([16.0, 25.0])),
        abnormal=bool(truth),
    )


@settings(deadline=None, max_examples=100)
@given(st.lists(video(), min_size=1, max_size=4), st.data())
def test_a_resample_is_the_metrics_of_the_drawn_videos(videos, data):
    counts = data.draw(
        st.lists(st.integers(0, 2), min_size=len(videos), max_size=len(videos))
    )
    values = resampled_events(videos, np.array([counts], float))
    drawn = [v for v, n in zip(videos, counts, strict=True) for _ in range(n)]
    expected = event_metrics(drawn)

    def same(found, wanted):
        assert found.shape == (1,)
        if wanted is None:
            assert np.isnan(found[0])
        else:
            assert found[0] == pytest.approx(wanted)

    key = "false_alarms_per_hour_normal"
    same(values[key], expected[key] if drawn else None)
    for iou, metrics in expected["iou"].items():
        for name, value in metrics.items():
            if name != "delay_median":  # no sum over videos
                same(values["iou"][iou][name], value)


def test_without_a_frame_rate_there_are_no_times():
    rows = np.array([[0, 50]])
    one = VideoEvents(rows, np.array([0.9]), rows, 100, 16.0, abnormal=True)
    other = dataclasses.replace(one, fps=None)
    values = resampled_events([one, other], np.ones((2, 2)))
    first = values["iou"]["0.1"]
    assert (first["f1"] == 1).all()
    for name in ("false_alarms_per_hour", "delay_mean"):
        assert np.isnan(first[name]).all()
