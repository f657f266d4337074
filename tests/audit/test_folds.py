"""Folds: every class in each, copies together, and errors that say what to do."""

import numpy as np
import pytest

from wsvad_jax.audit.folds import assign_folds
from wsvad_jax.utils.errors import InputError

LABELS = [(0,)] * 20 + [(1,)] * 10 + [(2,)] * 5 + [(1, 2)]


def test_each_fold_has_its_share_of_each_class():
    fold = assign_folds(LABELS, [], 5, seed=0)
    assert sorted(np.bincount(fold[:20])) == [4] * 5
    assert sorted(np.bincount(fold[20:30])) == [2] * 5 or len(set(fold[20:30])) == 5
    assert sorted(np.bincount(fold[30:35])) == [1] * 5


def test_the_same_arguments_give_the_same_folds():
    first = assign_folds(LABELS, [], 5, seed=3)
    np.testing.assert_array_equal(first, assign_folds(LABELS, [], 5, seed=3))
    assert (first != assign_folds(LABELS, [], 5, seed=4)).any()


def test_copies_are_in_one_fold():
    groups = [(0, 1, 2, 3), (4, 20), (21, 30)]
    for seed in range(10):
        fold = assign_folds(LABELS, groups, 4, seed)
        assert all(len({int(fold[v]) for v in group}) == 1 for group in groups)


@pytest.mark.parametrize(
    ("labels", "groups", "folds", "message"),
    [
        ([(0,)] * 9, [], 3, "no training video is labelled abnormal"),
        ([(1,)] * 9, [], 3, "no training video is labelled normal"),
        ([(0,)] * 9 + [(1,)] * 2, [], 3, "but there are 2; pass --folds 2"),
        ([(0,)] * 9 + [(1,)], [], 3, "but there is 1; add videos"),
        ([(0,)] * 4 + [(1,)] * 9, [(0, 1, 2)], 3, "are 2 that differ; pass --folds 2"),
        (LABELS, [], 1, "--folds is 1; expected 2 to 50"),
        (LABELS, [], 51, "--folds is 51"),
    ],
)
def test_too_few_videos(labels, groups, folds, message):
    with pytest.raises(InputError, match=message):
        assign_folds(labels, groups, folds, seed=0)
