"""Metrics against scikit-learn on repeated scores, and their limits."""

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from wsvad_jax.metrics.bootstrap import (
    METRICS,
    resample_weights,
    resampled,
)
from wsvad_jax.metrics.frame_level import EvalVideo, evaluate, frame_truth
from wsvad_jax.results.seeds import bootstrap_means, percentile_interval
from wsvad_jax.utils.errors import InputError

NAMES = ("Normal", "Fighting", "Arson")
CURVE_METRICS = ("auc", "ano_auc", "ap", "ap_trapezoid", "far", "video_auc")


def draw_videos(seed: int, count: int = 8, levels: int = 7, most: int = 9):
    """Videos with scores on a coarse grid, so that most of them are tied."""
    rng = np.random.default_rng(seed)
    videos = []
    for i in range(count):
        T = int(rng.integers(1, most))
        label = int(rng.integers(0, 3)) if i > 1 else i  # both kinds occur
        ends = np.sort(rng.integers(0, T * 16 + 20, 2))
        segments = ((int(ends[0]), int(ends[1]) + 1, label),) if label else ()
        grid = rng.integers(0, levels, (3, T)).astype(np.float32) / levels
        classes = rng.dirichlet(np.ones(3), T).astype(np.float32)
        videos.append(
            EvalVideo(
                f"v{i}",
                grid[0],
                classes,
                segments,
                T * 16,
                (label,),
                {"align": grid[1]},
            )
        )
    return videos


def frames(videos, curve=None):
    """Truth and scores of every frame, as the released code repeats them."""
    truth = [frame_truth(v.segments, len(v.anomaly)) for v in videos]
    score = [np.repeat(v.extra[curve] if curve else v.anomaly, 16) for v in videos]
    return np.concatenate(truth), np.concatenate(score)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**31), st.integers(1, 40))
def test_equals_scikit_learn_on_repeated_scores(seed, levels):
    videos = draw_videos(seed, levels=levels)
    found = evaluate(videos, NAMES)
    for curve, suffix in ((None, ""), ("align", "_align")):
        truth, score = frames(videos, curve)
        if truth.all() or not truth.any():
            assert found[f"auc{suffix}"] is None
            continue
        fpr, tpr, _ = sk.roc_curve(truth, score, drop_intermediate=False)
        precision, recall, _ = sk.precision_recall_curve(truth, score)
        expected = {
            "auc": sk.roc_auc_score(truth, score),
            "ap": sk.average_precision_score(truth, score),
            "ap_trapezoid": sk.auc(recall, precision),
            "recall@fpr0.01": tpr[fpr <= 0.01].max(),
            "recall@fpr0.05": tpr[fpr <= 0.05].max(),
        }
        for name, value in expected.items():
            assert found[name + suffix] == pytest.approx(value, abs=1e-12), name


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31))
def test_abnormal_normal_and_video_level(seed):
    videos = draw_videos(seed, count=10)
    found = evaluate(videos, NAMES)
    truth, score = frames([v for v in videos if v.abnormal])
    if truth.any() and not truth.all():
        expected = sk.roc_auc_score(truth, score)
        assert found["ano_auc"] == pytest.approx(expected, abs=1e-12)
    _, score = frames([v for v in videos if not v.abnormal])
    assert found["far"] == pytest.approx(np.mean(score >= 0.5), abs=1e-12)
    label = [v.abnormal for v in videos]
    highest = [v.anomaly.max() for v in videos]
    expected = sk.roc_auc_score(label, highest)
    assert found["video_auc"] == pytest.approx(expected, abs=1e-12)


def test_hand_made_case():
    score = np.array([0.9, 0.1], np.float32)
    event = EvalVideo("a", score, None, ((0, 8, 1),), 32, (1,))
    quiet = EvalVideo("n", score, None, (), 32, (0,))
    found = evaluate([event, quiet], NAMES)
    # 8 anomalous frames at 0.9, beside 24 normal frames at 0.9 and 32 at 0.1.
    assert found["auc"] == pytest.approx((32 + 24 / 2) / 56)
    assert found["ap"] == pytest.approx(8 / 32)
    assert found["ap_trapezoid"] == pytest.approx((1 + 8 / 32) / 2)
    assert found["ano_auc"] == pytest.approx((16 + 8 / 2) / 24)
    assert found["far"] == 0.5
    assert found["video_auc"] == 0.5
    assert found["recall@fpr0.05"] == 0.0


def test_truth_is_clipped_and_class_normal_is_no_anomaly():
    truth = frame_truth([(-5, 3, 1), (40, 99, 2), (10, 20, 0)], 3)
    assert truth.shape == (48,)
    assert np.flatnonzero(truth).tolist() == [0, 1, 2, *range(40, 48)]


def test_undefined_values_are_none():
    videos = draw_videos(3)
    keys = evaluate(videos, NAMES).keys()
    normal = [v for v in videos if not v.abnormal]
    found = evaluate(normal, NAMES)
    assert found.keys() == keys
    assert {k for k, v in found.items() if v is not None} == {"far", "far_align"}
    abnormal = [v for v in videos if v.abnormal]
    found = evaluate(abnormal, NAMES)
    assert found["far"] is None and found["video_auc"] is None
    assert found["auc"] == found["ano_auc"] is not None
    untimed = [replace(v, segments=()) for v in videos]
    found = evaluate(untimed, NAMES)
    assert found["auc"] is found["ap"] is found["map"] is found["map_avg_clean"] is None
    assert found["video_auc"] is not None
    binary = [replace(v, classes=None) for v in videos]
    found = evaluate(binary, NAMES)
    assert found["map"] is found["map_avg"] is found["map_avg_clean"] is None
    assert found["auc"] is not None


def test_order_of_videos_does_not_matter():
    videos = draw_videos(5, levels=40)
    first, second = evaluate(videos, NAMES), evaluate(videos[::-1], NAMES)
    for name, value in first.items():
        assert second[name] == pytest.approx(value, abs=1e-12), name


def test_bad_input_is_named():
    videos = draw_videos(1)
    v, T = videos[2], len(videos[2].anomaly)
    bad_score = np.full(T, np.nan, np.float32)
    no_score = np.zeros(0, np.float32)
    empty = replace(v, anomaly=no_score, classes=None, extra={})
    cases = [
        ([], "no videos"),
        ([empty], "v2: no snippet was scored"),
        ([v, v], "v2: the video is in the test set twice"),
        ([replace(v, anomaly=bad_score)], "v2: curve 'anomaly' holds NaN"),
        ([replace(v, extra={"align": bad_score})], "v2: curve 'align' holds NaN"),
        ([replace(v, anomaly=v.anomaly.astype(np.float16))], "v2: .* float32"),
        ([replace(v, num_frames=T * 16 + 160)], f"v2: {T} snippets .* {T * 16 + 160}"),
        ([replace(v, classes=v.classes[:, :2])], "v2: class probabilities"),
        ([replace(v, label=(9,))], "v2: class index 9"),
        ([replace(v, label=(0,), segments=((0, 9, 1),))], "v2: labelled normal"),
        ([videos[0], replace(v, extra={})], r"v2: found the curves \[\]"),
    ]
    for wrong, sentence in cases:
        with pytest.raises(InputError, match=sentence):
            evaluate(wrong, NAMES)
    with pytest.raises(InputError, match="'all', expected one of unmatched"):
        evaluate(videos, NAMES, normal_truth="all")


def test_length_may_round_either_way_and_slack_allows_one_more():
    v = draw_videos(1)[2]
    T = len(v.anomaly)
    for num_frames in (T * 16, T * 16 - 15, T * 16 + 15):
        evaluate([replace(v, num_frames=num_frames)], NAMES)
    for num_frames in (T * 16 - 16, T * 16 + 16):
        longer = replace(v, num_frames=num_frames)
        with pytest.raises(InputError, match="one length"):
            evaluate([longer], NAMES)
        evaluate([longer], NAMES, slack=1)
    resampled_video = replace(v, num_frames=5000)
    evaluate([resampled_video], NAMES, slack=None)


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 2**31), st.integers(1, 40))
def test_bootstrap_weights_equal_repeated_videos(seed, levels):
    videos = draw_videos(seed, levels=levels)
    abnormal = np.array([v.abnormal for v in videos])
    weights = resample_weights(abnormal, 3, np.random.default_rng(seed))
    weights = np.concatenate([weights, np.ones((1, len(videos)))])
    repeated = []
    for row in weights:
        drawn = [
            replace(v, video=f"{v.video}-{i}")
            for v, n in zip(videos, row, strict=True)
            for i in range(int(n))
        ]
        repeated.append(evaluate(drawn, NAMES))
    for name in (*CURVE_METRICS, "auc_align", "ap_trapezoid_align"):
        values = resampled(videos, name, weights)
        for found, value in zip(repeated, values, strict=True):
            expected = found[name]
            assert expected is not None or np.isnan(value), name
            if expected is not None:
                assert value == pytest.approx(expected, abs=1e-9), name


def bootstrap_interval(videos, metric, *, n, seed=0, level=0.95):
    values = bootstrap_means([videos], metric, n=n, seed=seed)
    return percentile_interval(values, level)


def test_bootstrap_interval():
    videos = draw_videos(11, count=40, levels=1000, most=30)
    for name in METRICS:
        interval = bootstrap_interval(videos, name, n=300, seed=1)
        inner = bootstrap_interval(videos, name, n=300, seed=1, level=0.5)
        assert interval is not None and inner is not None
        low, high = interval
        assert low <= evaluate(videos, NAMES)[name] <= high, name
        assert interval == bootstrap_interval(videos, name, n=300, seed=1)
        assert low <= inner[0] <= inner[1] <= high
    normal = [v for v in videos if not v.abnormal]
    assert bootstrap_interval(normal, "auc", n=10) is None
    with pytest.raises(ValueError, match="map_avg"):
        bootstrap_interval(videos, "map_avg", n=10)


def test_both_kinds_are_drawn_as_often_as_they_occur():
    abnormal = np.array([True] * 3 + [False] * 5)
    weights = resample_weights(abnormal, 50, np.random.default_rng(0))
    assert (weights[:, abnormal].sum(1) == 3).all()
    assert (weights[:, ~abnormal].sum(1) == 5).all()


def test_a_public_test_set_is_fast():
    videos = draw_videos(2, count=290, levels=10**6, most=480)
    start = time.process_time()
    evaluate(videos, NAMES)
    bootstrap_interval(videos, "auc", n=100)
    assert time.process_time() - start < 5


def test_published_frame_scores(shared):
    """MemAE's scores on Ped2, one a frame, reach the AUC that their authors state."""
    data = np.load(shared("data/scores_ped2_memae.npz"))
    for method in ("memae", "memvae"):
        videos = []
        for i in range(1, 13):
            score, truth = data[f"{method}_{i:02d}"], data[f"gt_{i:02d}"] > 0
            score = (score - score.min()) / (score.max() - score.min())
            edges = np.flatnonzero(np.diff(truth, prepend=False, append=False))
            events = tuple((int(a), int(b), 1) for a, b in edges.reshape(-1, 2))
            videos.append(EvalVideo(f"{i}", score, None, events, len(score), (1,)))
        found = evaluate(videos, ("normal", "abnormal"), stride=1)
        expected = float(data[f"expected_{method}_minmax_auc"])
        assert found["auc"] == pytest.approx(expected, abs=1e-4), found["auc"]


def test_frames_of_unknown_truth_count_for_nothing():
    """An abnormal video without true events is no normal one; its label still counts."""
    videos = draw_videos(3)
    first, second = [v for v in videos if v.abnormal][:2]
    unknown = [replace(v, segments=()) if v in (first, second) else v for v in videos]
    known = [v for v in videos if v not in (first, second)]
    found, wanted, whole = (evaluate(x, NAMES) for x in (unknown, known, videos))
    for key, value in found.items():
        if key.startswith("video_auc"):
            assert value == whole[key]
        else:
            assert value == pytest.approx(wanted[key], abs=1e-12), key
