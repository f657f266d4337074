"""Positional variance of normal training videos."""

import dataclasses
import json

import numpy as np
import pytest

from wsvad_jax import benchmark
from wsvad_jax.evaluation.position_variance import position_variance
from wsvad_jax.utils.errors import InputError

W, T = 400, 32


def probability(logits):
    return (1 / (1 + np.exp(-np.asarray(logits)))).astype(np.float32)


def test_planted_bias_is_measured():
    """The variance is that of the planted mean; content adds its variance over W."""
    r = np.random.RandomState(0)
    content = r.standard_normal((W, T))
    bias = 0.5 * (np.abs(np.arange(T) - 15.5) > 12)
    length = np.full(W, T, np.int32)

    biased = position_variance(probability(content + bias), length)
    assert biased.variance == pytest.approx(bias.var(), rel=0.2)
    assert biased.share == pytest.approx(bias.var() / (1 + bias.var()), rel=0.2)
    assert biased.windows == W and len(biased.mean_logits) == T

    even = position_variance(probability(content), length)
    assert even.variance < 2 / W < biased.variance / 5


def test_padding_is_not_read():
    scores = probability(np.zeros((8, T)))
    length = np.array([T] * 4 + [10] * 4, np.int32)
    scores[4:, 10:] = 0.9
    measured = position_variance(scores, length)
    assert measured.variance == 0 and measured.share == 0


def test_positions_of_few_windows_are_left_out():
    """One long video's event is no bias."""
    scores = probability(np.zeros((9, T)))
    length = np.array([T] + [10] * 8, np.int32)
    scores[0, 20:] = 0.99
    measured = position_variance(scores, length)
    assert measured.variance == 0 and len(measured.mean_logits) == 10


def test_saturated_scores_are_finite():
    scores = np.tile(np.array([0, 1], np.float32), (3, 4))
    measured = position_variance(scores, np.full(3, 8, np.int32))
    assert np.isfinite(dataclasses.astuple(measured)[:2]).all()
    assert measured.share == pytest.approx(1)


def test_no_windows_are_an_error():
    with pytest.raises(InputError, match="normal training videos"):
        position_variance(np.zeros((0, T), np.float32), np.zeros(0, np.int32))


def test_benchmark_position_measures_a_run(finished, tmp_path, capsys):
    file = tmp_path / "position.json"
    assert benchmark.main(["position", str(finished), "--output", str(file)]) == 0

    (row,) = json.loads(file.read_text())
    assert row["variance"] >= 0 and 0 <= row["share"] <= 1 and row["windows"] > 0
    assert f"{row['variance']:.4f}" in capsys.readouterr().out


def test_benchmark_position_refuses_other_folders(tmp_path):
    with pytest.raises(InputError, match="not a finished run"):
        benchmark.main(["position", str(tmp_path)])
