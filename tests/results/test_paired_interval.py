"""Paired differences: same videos for both, videos and seeds resampled."""

import numpy as np
import pytest

from wsvad_jax.results.paired_interval import paired_difference
from wsvad_jax.results.seeds import percentile_interval


def test_equal_conditions_differ_by_nothing():
    values = np.random.default_rng(0).uniform(size=(3, 101))
    found = paired_difference(values, values)
    assert (found.mean, found.interval, found.seeds) == (0, [0, 0], [0, 0, 0])
    assert not found.is_clear


def test_what_both_share_drops_out():
    """Pairing removes the variation of the videos, which is large here."""
    shared = np.random.default_rng(1).normal(0, 0.2, (2, 401))
    found = paired_difference(shared + 0.01, shared)
    assert found.mean == pytest.approx(0.01)
    assert found.interval == pytest.approx([0.01, 0.01]) and found.is_clear


def test_one_seed_has_the_interval_of_its_videos():
    r = np.random.default_rng(2)
    changed, base = r.uniform(size=(2, 1, 201))
    found = paired_difference(changed, base)
    wanted = percentile_interval((changed - base)[0, 1:])
    assert found.interval == pytest.approx(wanted)
    assert found.seed_intervals == [pytest.approx(wanted)]


def test_seeds_that_scatter_widen_the_interval():
    """Videos vary little; the seeds differ by -30 to 30 points."""
    base = np.zeros((3, 501))
    changed = np.array([[-0.3], [0.0], [0.3]]) + np.random.default_rng(3).normal(
        0, 0.01, (3, 501)
    )
    changed[:, 0] = -0.3, 0.0, 0.3
    found = paired_difference(changed, base)
    assert found.mean == pytest.approx(0) and found.interval is not None
    assert found.interval[0] < -0.15 and found.interval[1] > 0.15
    assert all(i is not None and i[1] - i[0] < 0.05 for i in found.seed_intervals)


def test_undefined_values():
    base, changed = np.zeros((2, 11)), np.full((2, 11), np.nan)
    changed[0] = 0.5
    found = paired_difference(changed, base)
    assert found.mean is None and found.seeds == [0.5, None]
    assert found.seed_intervals == [[0.5, 0.5], None]
