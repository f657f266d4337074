"""Disputes of known scores: ranks within folds, probabilities, classes."""

import numpy as np
import pytest

from wsvad_jax.audit import cross_validation, disputes
from wsvad_jax.audit.moments import highest_moments
from wsvad_jax.models.scores import SnippetScores
from wsvad_jax.utils.errors import InputError

# Fold 1's model scores all videos lower than that of fold 0.
LABELS = [(0,)] * 4 + [(1,)] * 4 + [(0,)] * 4 + [(1,)] * 4
FOLD = np.repeat([0, 1], 8)
SCORES = np.array([0.1, 0.2, 0.3, 0.9, 0.6, 0.7, 0.8, 0.85] * 2)
SCORES[8:] /= 10


def test_the_video_on_the_wrong_side_is_first_in_both_folds():
    found = disputes.kind_disputes(LABELS, FOLD, SCORES)
    assert {found[0].video, found[1].video} == {3, 11}
    first = found[0]
    assert first.is_disputed and not first.abnormal
    assert (first.beyond_other, first.other) == (8, 8)
    assert (first.beyond_same, first.same) == (6, 7)  # the other one ranks as high
    assert found[2].dispute < found[1].dispute
    assert sorted(d.video for d in found) == list(range(16))


def test_scores_of_other_folds_are_not_compared():
    found = {d.video: d.dispute for d in disputes.kind_disputes(LABELS, FOLD, SCORES)}
    for v in range(8):
        assert found[v] == pytest.approx(found[v + 8])


def test_a_model_that_knows_nothing_disputes_nothing():
    upside_down = disputes.kind_disputes(LABELS, FOLD, -SCORES)
    assert all(d.dispute == pytest.approx(0.5) for d in upside_down)
    equal = disputes.kind_disputes(LABELS, FOLD, np.ones(16))
    assert all(d.dispute == pytest.approx(0.5, abs=1e-3) for d in equal)


def test_separable_labels_have_finite_probabilities():
    x, abnormal = np.array([-2.0, -1, 1, 2]), np.array([False, False, True, True])
    p = disputes.LogisticCurve.fit(x, abnormal)(x)
    assert (np.diff(p) > 0).all() and 0 < p[0] < 0.5 < p[-1] < 1
    assert p.mean() == pytest.approx(0.5, abs=1e-3)


def scored(*classes: float) -> SnippetScores:
    """A video of 8 snippets with the same class probabilities."""
    return SnippetScores(np.full(8, 0.5), np.tile(classes, (8, 1)))


def test_another_class_is_disputed_with_its_agreement():
    labels = [(0,), (1,), (2,), (1,), (2,), (1,), (2,)]
    fire, fight = scored(0.1, 0.8, 0.1), scored(0.1, 0.2, 0.7)
    scores = [fire, fire, fight, fight, fight, fire, fight]
    fold = np.array([0, 0, 0, 1, 1, 0, 1])
    (found,) = disputes.class_disputes(labels, fold, scores)
    assert (found.video, found.suggested) == (3, 2)
    assert found.probability == pytest.approx(7 / 9)
    assert found.label_probability == pytest.approx(2 / 9)
    # Of the four videos that get class 2 as clearly, three are labelled so.
    assert (found.as_clear, found.agreeing) == (4, 3)


def test_a_class_of_one_fold_is_not_disputed():
    labels, fold = [(0,), (1,), (2,), (2,)], np.array([0, 0, 0, 1])
    scores = [scored(0.1, 0.1, 0.8)] * 4
    assert disputes.class_disputes(labels, fold, scores) == []
    assert disputes.unseen_classes(labels, fold) == {1: [1]}


def test_moments_are_the_peaks():
    values = np.full(20, 0.1)
    values[[4, 5, 6, 15]] = 0.5, 0.9, 0.6, 0.7
    first, second = highest_moments(values, np.arange(21.0))
    assert (first.start, first.end, first.peak, first.score) == (5, 7, 5.5, 0.9)
    assert (second.start, second.end) == (15, 16)


def test_a_flat_curve_has_one_moment():
    (found,) = highest_moments(np.full(6, 0.3), np.arange(7.0))
    assert 0 <= found.start < found.end <= 6


@pytest.mark.parametrize("kept", [0, 10, 200])
def test_a_cut_file_of_scores_is_named(tmp_path, kept):
    path = tmp_path / cross_validation.SCORES
    scores = [SnippetScores(np.linspace(0, 1, 30, dtype=np.float32), None)] * 3
    cross_validation.write_scores(path, scores)
    assert len(cross_validation.read_scores(tmp_path)) == 3

    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match="scores.npz: not readable .*remove it"):
        cross_validation.read_scores(tmp_path)
