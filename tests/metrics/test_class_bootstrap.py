"""Class metrics of resampled test sets: by hand, and equal to those of results.json."""

import dataclasses

import numpy as np
import pytest
from finished import CARD, scored

from wsvad_jax.metrics import frame_level
from wsvad_jax.metrics.class_bootstrap import (
    class_average_precision,
    mean_over_classes,
    named_frames,
)


def test_the_test_set_itself_has_the_values_of_results():
    videos = scored(0)
    ap = class_average_precision(videos, np.ones((1, len(videos))))
    wanted = frame_level.evaluate(videos, CARD.class_names)["map_avg_clean"]
    assert mean_over_classes(ap)[0] == pytest.approx(wanted, abs=1e-12)
    assert np.isnan(ap[0, 0])


def test_a_video_that_is_left_out_plays_no_part():
    videos = scored(1)
    weights = np.ones((1, len(videos)))
    weights[0, [1, 4]] = 0  # an abnormal and a normal one
    kept = [v for i, v in enumerate(videos) if i not in (1, 4)]
    ones = np.ones((1, len(kept)))
    for metric in (class_average_precision, named_frames):
        np.testing.assert_allclose(metric(videos, weights), metric(kept, ones))


def test_copies_of_all_videos_change_nothing():
    videos = scored(2)
    ones = np.ones((1, len(videos)))
    for metric in (class_average_precision, named_frames):
        np.testing.assert_allclose(metric(videos, 3 * ones), metric(videos, ones))


def test_a_class_without_events_in_a_resample_is_undefined():
    videos = scored(0)
    fights = np.array([2 in v.label for v in videos])
    weights = np.stack([np.ones(len(videos)), np.where(fights, 0.0, 1.0)])
    ap = class_average_precision(videos, weights)
    assert np.isfinite(ap[0, 2]) and np.isnan(ap[1, 2])
    assert mean_over_classes(ap)[1] == ap[1, 1]
    assert np.isnan(named_frames(videos, weights, 2)[1])


def test_naming_by_hand():
    """Two snippets of an event of class 1, one of them named so; class 0 is ignored."""
    (video,) = scored(0)[1:2]
    T = len(video.anomaly)
    classes = np.tile(np.float32([0.8, 0.15, 0.05]), (T, 1))
    classes[1] = 0.7, 0.1, 0.2
    video = dataclasses.replace(video, classes=classes, segments=((0, 32, 1),))
    one = np.ones((1, 1))
    assert named_frames([video], one)[0] == 0.5
    assert named_frames([video], one, 1)[0] == 0.5
    assert np.isnan(named_frames([video], one, 2)[0])
