"""Events of a scored test set: those of `detect`, and metrics computed by hand."""

import dataclasses
import pathlib

import numpy as np
import pytest
from untrained import write_model

from wsvad_jax.data import cards
from wsvad_jax.data.dataset import Entry, Split
from wsvad_jax.detect import Detector
from wsvad_jax.evaluation.event_results import (
    event_results,
    snippet_frames,
    video_events,
)
from wsvad_jax.evaluation.event_rules import DEFAULT_FPS, EventRules
from wsvad_jax.evaluation.scorer import Scorer, score_split
from wsvad_jax.experiment.build import open_experiment
from wsvad_jax.metrics.frame_level import EvalVideo
from wsvad_jax.weights.model_folder import load_params

CARD = cards.infer_card(["Normal", "Fire"], name="small")


def scored(T: int, peaks: dict[int, float], segments=(), label=0) -> EvalVideo:
    """A video of T snippets that score 0.1 but at the peaks."""
    score = np.full(T, 0.1, np.float32)
    score[list(peaks)] = list(peaks.values())
    name = f"{T}{label}{len(segments)}"
    return EvalVideo(name, score, None, tuple(segments), 16 * T, (label,))


def split(videos, fps: float = 0.0) -> Split:
    entries = (
        Entry(v.video, v.label, 1, len(v.anomaly), v.num_frames, v.segments, fps)
        for v in videos
    )
    return Split(pathlib.Path("none"), "test", tuple(entries))


VIDEOS = [
    # A hit, a second late, and a false alarm; the second true event is missed.
    scored(
        40,
        {4: 0.9, 5: 0.9, 6: 0.9, 7: 0.9, 20: 0.8, 21: 0.8},
        [(48, 112, 1), (480, 560, 1)],
        1,
    ),
    # A false alarm, and a peak that is too short for an event.
    scored(20, {2: 0.7, 3: 0.7, 4: 0.7, 15: 0.9}),
    # An abnormal video whose true events are unknown: left out.
    scored(10, {2: 0.9, 3: 0.9}, (), 1),
]


def test_events_of_curves_by_hand():
    # 16 frames per snippet and per second.
    results = event_results(split(VIDEOS, 16.0), VIDEOS, CARD)
    assert (results["videos"], results["found"], results["true"]) == (2, 3, 2)
    assert results["hours"] == pytest.approx(60 / 3600)
    assert results["false_alarms_per_hour_normal"] == pytest.approx(3600 / 20)
    assert "remark" not in results

    # Frames 64 to 128 were found, 48 to 112 are true: IoU 48 / 80.
    for metrics in results["iou"].values():
        assert metrics["precision"] == pytest.approx(1 / 3)
        assert metrics["recall"] == 0.5 and metrics["f1"] == pytest.approx(2 / 5)
        assert metrics["false_alarms_per_hour"] == pytest.approx(2 * 3600 / 60)
        assert metrics["delay_mean"] == metrics["delay_median"] == 1


def test_an_unknown_frame_rate_is_said_and_no_time_is_guessed():
    results = event_results(split(VIDEOS), VIDEOS, CARD)
    assert "frame rate of 2 of 2 videos is unknown (4012)" in results["remark"]
    assert "assume 30 frames per second" in results["remark"]
    assert results["hours"] is results["false_alarms_per_hour_normal"] is None
    for metrics in results["iou"].values():
        assert metrics["recall"] == 0.5
        assert metrics["delay_mean"] is metrics["false_alarms_per_hour"] is None


def test_the_last_snippet_may_be_incomplete():
    assert snippet_frames(3, 16, 40).tolist() == [0, 16, 32, 40]
    assert snippet_frames(3, 16, 0).tolist() == [0, 16, 32, 48]

    # The event lasts to the video's end, which is no multiple of the stride.
    score = np.array([0.1] * 6 + [0.9] * 4, np.float32)
    video = EvalVideo("a", score, None, ((96, 150, 1),), 150, (1,))
    assert video_events(video, CARD, 16.0).found.tolist() == [[96, 150]]


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        ("mil_ranking", {}),  # whole videos
        ("vadclip", {"clean__remove_position_bias": False}),  # windows
    ],
)
def test_events_are_those_of_detect(tiny, tmp_path, model, changes):
    folder = write_model(tiny, model, tmp_path / "model")
    params, stats, meta = load_params(folder)
    config = tiny.config(model, **changes)
    config.model = meta["config"]["model"]  # the encoder of the weights
    experiment = open_experiment(config)
    weights = Scorer(experiment), params, stats
    videos = score_split(experiment, *weights, with_baseline=True)

    # Both assume one frame rate, since these features have no times.
    records, card = experiment.dataset.split("test"), experiment.dataset.card
    detector, count = Detector(folder), 0
    for record, video in zip(records, videos, strict=True):
        frames = snippet_frames(record.num_snippets, card.stride, record.num_frames)
        times = frames / DEFAULT_FPS
        wanted = detector.detect(record.features, times, record.video).events
        found = video_events(video, card, None)
        assert found.found.tolist() == [
            [round(e.start * DEFAULT_FPS), round(e.end * DEFAULT_FPS)] for e in wanted
        ]
        count += len(wanted)
    assert count == event_results(records, videos, card)["found"] > 0


def test_normal_videos_that_score_high_are_said():
    """A ranking may be good where the threshold is not."""
    raised = [
        dataclasses.replace(v, anomaly=np.maximum(v.anomaly, 0.5)) for v in VIDEOS
    ]
    wanted = "100 % of the snippets of normal videos score 0.5 or more"
    assert wanted in event_results(split(raised, 16.0), raised, CARD)["remark"]

    # Under rules of a higher threshold, these scores make no event.
    rules = EventRules(high=0.6, low=0.6)
    assert "remark" not in event_results(split(raised, 16.0), raised, CARD, rules)
    assert "remark" not in event_results(split(VIDEOS, 16.0), VIDEOS, CARD)


def test_a_rate_that_is_passed_is_for_videos_without_one():
    results = event_results(split(VIDEOS), VIDEOS, CARD, fps=16.0)
    assert results["fps"] == 16 and "remark" not in results
    known = event_results(split(VIDEOS, 16.0), VIDEOS, CARD)
    assert results["hours"] == known["hours"] and results["iou"] == known["iou"]

    results = event_results(split(VIDEOS, 16.0), VIDEOS, CARD, fps=30.0)
    assert results["hours"] == known["hours"]
    assert "--fps 30 has no effect" in results["remark"]
    assert "such as 16 per second" in results["remark"]


def test_features_and_card_of_other_rates_are_named():
    card = dataclasses.replace(CARD, fps=25.0)
    results = event_results(split(VIDEOS, 16.0), VIDEOS, card)
    assert (
        "the features of 2 of 2 videos state another frame rate than the card "
        "(4012: 16, card: 25 per second); that of the features is used"
    ) in results["remark"]
    card = dataclasses.replace(CARD, fps=16.1)  # a measured rate
    assert "remark" not in event_results(split(VIDEOS, 16.0), VIDEOS, card)
