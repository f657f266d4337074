"""Mean ranks of several runs: their order is that of the scores, their scale is shared."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from wsvad_jax.metrics.rank_mean import cdf_ranks, mean_ranks, smooth
from wsvad_jax.utils.errors import InputError

LENGTHS = (4, 1, 7)


def curves(seed: int) -> list[np.ndarray]:
    r = np.random.RandomState(seed)
    return [r.random_sample(n).astype(np.float32) for n in LENGTHS]


def test_ranks_are_the_mid_ranks_of_all_snippets():
    found = cdf_ranks([np.array([0.2, 0.9]), np.array([0.2, 0.5])])
    # Below and half of the equal ones, of 4: two share the lowest rank.
    np.testing.assert_allclose(found[0], [0.25, 0.875])
    np.testing.assert_allclose(found[1], [0.25, 0.625])
    assert [len(c) for c in found] == [2, 2]


def test_all_equal_scores_have_rank_one_half():
    for curve in cdf_ranks([np.full(n, 0.3) for n in LENGTHS]):
        np.testing.assert_allclose(curve, 0.5)


def test_a_run_with_itself_orders_snippets_as_before():
    run = curves(0)
    truth = np.random.RandomState(1).random_sample(sum(LENGTHS)) < 0.4
    ranks = np.concatenate(mean_ranks([run, run]))
    assert roc_auc_score(truth, ranks) == roc_auc_score(truth, np.concatenate(run))
    assert 0 < ranks.min() < ranks.max() < 1


def test_the_scale_of_a_run_does_not_matter():
    """Not even that of one whose scores all lie near 1."""
    one, other = curves(0), curves(1)
    found = mean_ranks([one, [np.exp(9 * c) for c in other]])
    for a, b in zip(found, mean_ranks([other, one]), strict=True):
        np.testing.assert_allclose(a, b)


def test_smoothing_keeps_a_constant_and_averages_neighbours():
    np.testing.assert_allclose(smooth(np.full(5, 0.7), 3), 0.7)
    np.testing.assert_allclose(
        smooth(np.array([0.0, 3, 0, 0, 0, 9]), 3), [1.5, 1, 1, 0, 3, 4.5]
    )
    # A window that is longer than the video holds all of it.
    np.testing.assert_allclose(smooth(np.array([1.0, 2.0]), 9), 1.5)
    np.testing.assert_allclose(smooth(np.array([4.0]), 3), 4)


@pytest.mark.parametrize("width", [0, -3, 2])
def test_a_width_without_a_middle(width):
    with pytest.raises(InputError, match="pass an odd number"):
        smooth(np.ones(3), width)


def test_runs_of_other_lengths():
    with pytest.raises(InputError, match="other videos or snippets"):
        mean_ranks([curves(0), curves(1)[:2]])
