"""Metrics over base and novel classes, on videos whose values are known by hand."""

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from wsvad_jax.metrics import base_novel
from wsvad_jax.metrics.frame_level import EvalVideo, frame_truth

NORMAL, FIRE, FIGHT, RIOT = range(4)


def video(name: str, *shown: int, T: int = 20, seed: int = 0, named: int = 0):
    r = np.random.RandomState(seed)
    classes = r.uniform(0, 0.1, (T, 4)).astype(np.float32)
    if named:
        classes[3:6, named] = 0.9
    return EvalVideo(
        video=name,
        anomaly=r.uniform(size=T).astype(np.float32),
        classes=classes,
        segments=tuple((48, 96, c) for c in shown),
        num_frames=16 * T,
        label=shown or (NORMAL,),
        extra={"align": r.uniform(size=T).astype(np.float32)},
    )


VIDEOS = [
    video("n0", seed=1),
    video("n1", seed=2, T=33),
    video("fire", FIRE, seed=3, named=FIRE),
    video("fire2", FIRE, seed=4, named=FIGHT),
    video("fight", FIGHT, seed=5, named=FIGHT),
    video("riot", RIOT, seed=6, named=FIRE),
    video("both", FIRE, RIOT, seed=7, named=FIRE),
]
ONES = np.ones((1, len(VIDEOS)))


def test_groups_hold_normal_videos_and_those_of_one_kind():
    rows = base_novel.group_rows(VIDEOS, [FIRE])
    assert rows == {
        "all": [0, 1, 2, 3, 4, 5],
        "base": [0, 1, 2, 3],
        "novel": [0, 1, 4, 5],
    }
    # A second class that only the true events show counts, too.
    hidden = dataclasses.replace(VIDEOS[2], segments=((0, 16, FIRE), (16, 32, RIOT)))
    assert base_novel.group_rows([hidden], [FIRE])["all"] == []


def test_frame_metrics_are_those_of_the_groups_videos():
    values = base_novel.group_values(VIDEOS, ONES, [FIRE])
    for group, rows in base_novel.group_rows(VIDEOS, [FIRE]).items():
        chosen = [VIDEOS[i] for i in rows]
        truth = np.concatenate(
            [frame_truth(v.segments, len(v.anomaly)) for v in chosen]
        )
        score = np.repeat(np.concatenate([v.anomaly for v in chosen]), 16)
        assert values[f"auc/{group}"][0] == pytest.approx(roc_auc_score(truth, score))
        expected = average_precision_score(truth, score)
        assert values[f"ap/{group}"][0] == pytest.approx(expected)

        align = np.repeat(np.concatenate([v.extra["align"] for v in chosen]), 16)
        expected = roc_auc_score(truth, align)
        assert values[f"auc_align/{group}"][0] == pytest.approx(expected)


def test_top1_counts_abnormal_videos_that_are_named_rightly():
    values = base_novel.group_values(VIDEOS, ONES, [FIRE])
    assert values["top1/all"][0] == 2 / 4
    assert values["top1/base"][0] == 1 / 2
    assert values["top1/novel"][0] == 1 / 2

    # Copies of a video count as often as they are drawn.
    weights = np.array([[1.0, 1, 3, 0, 1, 2, 5]])
    values = base_novel.group_values(VIDEOS, weights, [FIRE])
    assert values["top1/all"][0] == 4 / 6
    assert values["top1/base"][0] == 1


def test_the_likeliest_class_has_the_highest_mean_of_its_largest_probabilities():
    probabilities = np.zeros((17, 3), np.float32)
    probabilities[0] = 0, 0.9, 0  # one snippet
    probabilities[1:3] = 0.9, 0, 0.6  # two snippets, of K = ⌊17 / 16⌋ + 1
    assert base_novel.likeliest_class(probabilities) == 2
    assert base_novel.likeliest_class(probabilities[:15]) == 1  # K = 1


def test_map_is_the_mean_over_the_groups_classes():
    values = base_novel.group_values(VIDEOS, ONES, [FIRE])
    base, novel, both = (values[f"map/{g}"][0] for g in ("base", "novel", "all"))
    assert both == pytest.approx((base + 2 * novel) / 3)


def test_what_no_video_shows_is_undefined():
    known = [VIDEOS[0], VIDEOS[2]]
    values = base_novel.group_values(known, np.ones((1, 2)), [FIRE])
    for key in ("auc/novel", "ap/novel", "top1/novel", "map/novel"):
        assert np.isnan(values[key][0]), key
    assert values["top1/base"][0] == 1

    several = base_novel.group_values([VIDEOS[-1]], np.ones((1, 1)), [FIRE])
    assert np.isnan(several["auc/all"][0]) and "top1/all" not in several

    # A model without classes has frame metrics alone.
    binary = [dataclasses.replace(v, classes=None) for v in VIDEOS]
    values = base_novel.group_values(binary, ONES, [FIRE])
    assert "auc/novel" in values and "top1/novel" not in values
