"""Fine-grained mAP against the released code's numbers and a frame-by-frame oracle."""

import json
import runpy
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsvad_jax.metrics import temporal_map
from wsvad_jax.metrics.frame_level import EvalVideo, evaluate

NORMAL_TRUTH = {"ucf": "unmatched", "xd": "whole_video"}


def reference_videos(shared, name, step):
    """The public truth with drawn class probabilities, and the class names."""
    case = runpy.run_path(str(shared("golden/mapcase.py")))
    rows = json.loads(shared(f"annotations/{name}_test_segments.json").read_text())
    rows, classes = rows[::step], case["CLASSES"][name]
    probs = case["predictions"](
        7,
        [row["segments"] for row in rows],
        [row["segment_labels"] for row in rows],
        len(classes),
        name,
    )
    videos = []
    for row, p in zip(rows, probs, strict=True):
        events = [
            (a, b, classes.index(c))
            for (a, b), c in zip(row["segments"], row["segment_labels"], strict=True)
            if c in classes[1:]
        ]
        # Drawn scores run past the end of their video, whose length truth needs.
        end = max(b for _, b in row["segments"])
        label = tuple(sorted({c for *_, c in events})) or (0,)
        videos.append(EvalVideo(row["video"], p[:, 1], p, tuple(events), end, label))
    return videos, classes


@pytest.mark.parametrize(("name", "step"), [("ucf", 3), ("xd", 6)])
def test_released_map_on_public_truth(shared, name, step):
    golden = np.load(shared(f"golden/map_{name}.npz"))
    videos, classes = reference_videos(shared, name, step)
    found = evaluate(videos, classes, normal_truth=NORMAL_TRUTH[name], slack=100)
    np.testing.assert_allclose(100 * np.array(found["map"]), golden["map"], atol=1e-6)
    assert found["map_avg"] == pytest.approx(golden["map"].mean() / 100, abs=1e-8)
    assert 0 < found["map_avg_clean"] < 1


@pytest.mark.parametrize("name", ["ucf", "xd"])
def test_whole_public_test_set_takes_less_than_a_second(shared, name):
    videos, _ = reference_videos(shared, name, 1)
    probs = [v.classes for v in videos]
    truth = np.array(
        [(i, c, a, b) for i, v in enumerate(videos) for a, b, c in v.segments]
    )
    start = time.process_time()
    temporal_map.released_map(probs, truth)
    assert time.process_time() - start < 1
    assert len(probs) == {"ucf": 290, "xd": 800}[name]


def oracle(classes, truth, iou):
    """AP of each class, frame by frame; None for a class without any detection."""
    result = []
    for c in range(classes[0].shape[1]):
        found = []
        for v, probs in enumerate(classes):
            s = np.repeat(probs[:, c].astype(np.float64), 16)
            above = s > s.max() - 0.6 * (s.max() - s.min())
            bonus = 0.7 * np.sort(s)[::-1][: len(s) // 16].mean()
            frame = 0
            while frame < len(s):
                stop = frame
                while stop < len(s) and above[stop]:
                    stop += 1
                if stop - frame >= 2:
                    score = s[frame:stop].max() + bonus
                    found.append((-score, v, set(range(frame, stop))))
                frame = max(stop, frame + 1)
        found.sort(key=lambda f: f[0])
        events = [(v, set(range(a, b))) for v, k, a, b in truth.tolist() if k == c]
        count, hits, total = len(events), 0, 0.0
        for n, (_, v, run) in enumerate(found, 1):
            overlaps = [
                (len(run & event) / len(run | event), -i)
                for i, (w, event) in enumerate(events)
                if w == v
            ]
            best, i = max(overlaps, default=(0.0, 0))
            if overlaps and best >= iou:
                events.pop(-i)
                hits += 1
                total += hits / n
        result.append(total / max(count, 1) if found else None)
    return result


def draw_case(seed, levels):
    rng = np.random.default_rng(seed)
    classes, truth = [], []
    for v in range(int(rng.integers(1, 6))):
        T = int(rng.integers(1, 30))
        raw = rng.integers(0, levels, (T, 3)).cumsum(axis=0) % levels
        classes.append((raw / levels).astype(np.float32))
        for _ in range(int(rng.integers(0, 4))):
            a, b = np.sort(rng.integers(0, T * 16 + 8, 2))
            truth.append((v, int(rng.integers(0, 3)), int(a), int(b) + 1))
    return classes, np.array(truth, np.int64).reshape(-1, 4)


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 2**31), st.sampled_from([4, 50, 10**6]))
def test_equals_frame_by_frame_oracle(seed, levels):
    classes, truth = draw_case(seed, levels)
    found = temporal_map.detections(classes)
    table = temporal_map.average_precision(found, truth, 3)
    for row, iou in zip(table, temporal_map.IOUS, strict=True):
        expected = oracle(classes, truth, iou)
        np.testing.assert_allclose(row, [e or 0 for e in expected], atol=1e-12)
    paper = temporal_map.released_map(classes, truth)
    whole = oracle(classes, truth, 0.1)
    assert paper[0] == pytest.approx(0 if None in whole else np.mean(whole), abs=1e-12)


def test_a_class_without_detection_zeroes_the_paper_mean_only():
    ramp = np.linspace(0, 1, 20, dtype=np.float32)
    probs = np.stack([1 - ramp, ramp, np.full(20, 0.5, np.float32)], axis=1)
    truth = np.array([(0, 1, 8 * 16, 320)])
    assert not temporal_map.released_map([probs], truth).any()
    assert temporal_map.anomaly_map([probs], truth)[0] == 1.0


def test_clean_leaves_out_classes_without_truth_and_normal_videos():
    ramp = np.linspace(0, 1, 20, dtype=np.float32)
    probs = np.stack([1 - ramp, ramp, ramp], axis=1)
    event, quiet = (
        EvalVideo("e", ramp, probs, ((128, 320, 1),), 320, (1,)),
        EvalVideo("n", ramp, probs, (), 320, (0,)),
    )
    found = evaluate([event, quiet], ("Normal", "Fighting", "Arson"))
    assert found["map_avg_clean"] == 1.0
    assert found["map_avg"] == pytest.approx(1 / 3)  # normal and Arson count 0
    found = evaluate(
        [event, quiet], ("Normal", "Fighting", "Arson"), normal_truth="whole_video"
    )
    assert found["map"][0] > 1 / 3  # part of the quiet video is found as normal
    assert np.isnan(temporal_map.anomaly_map([probs], np.zeros((0, 4), int))).all()


def test_runs_end_with_their_video():
    high = np.array([[0.0], [1.0]], np.float32)
    found = temporal_map.detections([high, high[::-1]])
    assert found.video.tolist() == [0, 1]
    assert found.start.tolist() == [16, 0] and found.stop.tolist() == [32, 16]
    # 2 of 32 frames: both lie in the snippet that scores 1.
    np.testing.assert_allclose(found.score, 1.7)
