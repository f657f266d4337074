"""Snippets to moments: neighbours merge, and no video fills the list."""

import numpy as np
import pytest

from wsvad_jax.retrieval import moments
from wsvad_jax.retrieval.moments import find_moments


def find(*videos, top=10, per_video=None):
    """The moments as (video, first, last, peak)."""
    scores = np.concatenate(videos).astype(np.float32)
    offsets = np.cumsum([0, *map(len, videos)])
    found = find_moments(scores, offsets, top, per_video)
    assert [m.score for m in found] == sorted((m.score for m in found), reverse=True)
    return [(m.video, m.first, m.last, m.peak) for m in found]


def test_neighbours_are_one_moment_and_two_peaks_are_two():
    low = np.zeros(40)
    one, two = low.copy(), low.copy()
    one[10:14] = 0.5, 0.8, 0.9, 0.6
    two[3], two[30:33] = 0.4, 0.7
    found = find(low, one, two, top=3)
    assert found == [(1, 11, 13, 12), (2, 30, 32, 30), (2, 3, 3, 3)]


def test_short_dips_are_inside_and_long_ones_divide():
    scores = np.zeros(60)
    scores[10:16] = 0.9, 0, 0, 0.8, 0, 0.85
    scores[40:45] = 0.7, 0, 0, 0, 0.7
    assert find(scores, top=3) == [(0, 10, 15, 10), (0, 40, 40, 40), (0, 44, 44, 44)]


def test_shoulders_of_a_moment_are_no_moments():
    slope = np.concatenate([np.zeros(50), np.linspace(0, 1, 40), np.zeros(50)])
    other = np.zeros(30)
    other[5] = 0.2
    found = find(slope, other, top=2)
    assert found[0][0] == 0 and found[1] == (1, 5, 5, 5)


@pytest.mark.parametrize("noise", [0.0, 0.002])
def test_near_identical_snippets_are_one_moment(noise):
    r = np.random.RandomState(0)
    still = 0.3 + noise * r.standard_normal(5000)
    others = [0.2 + 0.01 * r.standard_normal(50) for _ in range(4)]
    found = find(still, *others, top=5)
    assert found[0][:3] == (0, 0, 4999)
    assert {video for video, *_ in found[1:]} <= {1, 2, 3, 4}


def test_limits():
    scores = np.zeros(100)
    scores[::10] = np.linspace(1, 0.5, 10)
    other = np.zeros(20)
    other[3] = 0.1
    found = find(scores, other, per_video=3, top=4)
    assert found == [(0, 0, 0, 0), (0, 10, 10, 10), (0, 20, 20, 20), (1, 3, 3, 3)]
    assert len(find(scores, other, top=1)) == 1


def test_equal_scores_keep_the_order_of_the_videos(monkeypatch):
    monkeypatch.setattr(moments, "CANDIDATES", 2)
    videos = [np.array([0.5]) for _ in range(9)]
    assert [m[0] for m in find(*videos, top=9)] == list(range(9))
