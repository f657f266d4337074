"""Uncertainty of unlabelled videos, from known scores of two folds."""

import numpy as np

from wsvad_jax.audit.unlabelled import FoldJudge, entropy

LABELS = [(0,)] * 4 + [(1,)] * 4 + [(0,)] * 4 + [(1,)] * 4
FOLD = np.repeat([0, 1], 8)
SCORES = np.array([0.1, 0.2, 0.3, 0.9, 0.6, 0.7, 0.8, 0.85] * 2)
SCORES[8:] /= 10  # another model, another scale


def test_uncertainty_is_highest_between_the_kinds():
    judge = FoldJudge.of(LABELS, FOLD, SCORES)
    low, middle, high = (
        float(judge.probability([s, s / 10]).mean()) for s in (0.15, 0.45, 0.83)
    )
    assert low < middle < high
    assert entropy(middle) > max(entropy(low), entropy(high))
    # Models that disagree are less certain together than each alone.
    apart = judge.probability([0.15, 0.083])
    assert entropy(float(apart.mean())) > entropy(apart).mean()
