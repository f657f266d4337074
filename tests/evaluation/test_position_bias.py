"""Scores without what comes from a snippet's place in the window."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from wsvad_jax.evaluation.position_bias import remove_position_bias, static_feature

SCORES = npst.arrays(np.float32, 9, elements=st.floats(0, 1, width=32))


def test_what_the_place_adds_is_subtracted():
    place = np.repeat([0.4, 0.1, 0.4], [3, 10, 3]).astype(np.float32)
    score = place.copy()
    score[5:9] = 0.5
    judged = remove_position_bias(score, place)
    assert judged.shape == score.shape and judged.dtype == np.float32
    np.testing.assert_allclose(judged[5:9], 0.5, atol=1e-6)
    np.testing.assert_allclose(np.delete(judged, range(5, 9)), 0.1, atol=1e-6)


@given(score=SCORES, calm=SCORES)
def test_scores_stay_scores_and_never_rise(score, calm):
    judged = remove_position_bias(score, calm)
    assert np.isfinite(judged).all() and (judged >= 0).all() and (judged <= 1).all()
    assert (judged <= score + 2e-4).all()


@given(score=SCORES, level=st.floats(0, 1, width=32))
def test_a_level_that_is_the_same_everywhere_changes_nothing(score, level):
    same = remove_position_bias(score, np.full_like(score, level))
    np.testing.assert_allclose(same, score, atol=2e-4)


def test_calm_moments_are_the_lowest_quarter():
    features = np.arange(16, dtype=np.float16).reshape(1, 8, 2)
    score = np.array([9, 0, 8, 7, 6, 5, 1, 4], np.float32)
    np.testing.assert_array_equal(static_feature(features, score), [[[7, 8]]])
