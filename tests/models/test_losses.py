"""The shared objectives against plain loops, and at their edges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsvad_jax.models import losses

MAX = 40
top_k_mean = jax.jit(losses.top_k_mean, static_argnums=2)
mil = jax.jit(jax.value_and_grad(losses.mil_top_k))
align = jax.jit(jax.value_and_grad(losses.mil_align))


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 2**31),
    lengths=st.lists(st.integers(1, MAX), min_size=3, max_size=3),
)
def test_top_k_mean_equals_a_loop(seed, lengths):
    x = np.random.RandomState(seed).standard_normal((3, MAX)).astype(np.float32)
    n = np.array(lengths, np.int32)
    k = n // 16 + 1
    where = np.arange(MAX) < n[:, None]
    found = top_k_mean(
        jnp.asarray(x), jnp.asarray(k), MAX // 16 + 1, where=jnp.asarray(where)
    )
    wanted = [
        np.sort(row[:m])[::-1][:j].mean() for row, m, j in zip(x, n, k, strict=True)
    ]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_top_k_mean_ranks_classes_independently():
    x = np.random.RandomState(0).standard_normal((2, MAX, 3)).astype(np.float32)
    k, where = jnp.array([2, 3], jnp.int32), jnp.ones((2, MAX), bool)
    whole = losses.top_k_mean(jnp.asarray(x), k, 3, where=where)
    for c in range(3):
        one = losses.top_k_mean(jnp.asarray(x[..., c]), k, 3, where=where)
        np.testing.assert_allclose(whole[:, c], one, rtol=1e-6)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**31), scale=st.sampled_from([0.0, 1.0, 1e2, 1e4]))
def test_mil_terms_are_finite_and_ignore_padding(seed, scale):
    r = np.random.RandomState(seed)
    a = (scale * r.standard_normal((4, MAX))).astype(np.float32)
    M = (scale * r.standard_normal((4, MAX, 3))).astype(np.float32)
    n = jnp.asarray(r.randint(1, MAX + 1, 4), jnp.int32)
    label = jnp.asarray(np.eye(3, dtype=np.float32)[[0, 0, 1, 2]])
    padded = np.arange(MAX) >= np.asarray(n)[:, None]
    for function, x in ((mil, a), (align, M)):
        value, grad = function(jnp.asarray(x), label, n)
        assert np.isfinite(value)
        assert bool(jnp.isfinite(grad).all())
        assert not np.asarray(grad)[padded].any()
        other = np.where(padded.reshape(padded.shape + (1,) * (x.ndim - 2)), 7.0, x)
        again, _ = function(jnp.asarray(other, jnp.float32), label, n)
        assert float(again) == float(value)


@pytest.mark.parametrize("p", [0.0, 1.0])
@pytest.mark.parametrize("y", [0.0, 1.0])
def test_cross_entropy_is_clamped_as_pytorch_clamps_it(p, y):
    value, grad = jax.value_and_grad(losses.binary_cross_entropy)(
        jnp.array([p]), jnp.array([y])
    )
    assert float(value) == (0.0 if p == y else 100.0)
    assert bool(jnp.isfinite(grad).all())


def test_a_saturated_score_still_learns():
    """Where a score rounds to 1, one minus it is 0: the gradient must not be."""
    n, label = jnp.array([20, 20]), jnp.array([[1.0, 0.0], [0.0, 1.0]])
    for x in (30.0, 300.0):
        wrong = jnp.array([[x] * MAX, [-x] * MAX])  # a normal and an abnormal bag
        value, grad = mil(wrong, label, n)
        np.testing.assert_allclose(value, x, rtol=1e-5)
        np.testing.assert_allclose(grad.sum(1), [0.5, -0.5], rtol=1e-5)


def test_mil_is_the_cross_entropy_of_the_mean_score():
    x = np.random.RandomState(0).standard_normal((2, MAX)).astype(np.float32) * 3
    n, label = np.array([33, 7]), jnp.array([[1.0, 0.0], [0.0, 1.0]])
    top = [np.sort(row[:m])[::-1][: m // 16 + 1] for row, m in zip(x, n, strict=True)]
    p = np.array([np.mean(1 / (1 + np.exp(-t.astype(np.float64)))) for t in top])
    wanted = -np.mean([np.log(1 - p[0]), np.log(p[1])])
    value, _ = mil(jnp.asarray(x), label, jnp.asarray(n))
    np.testing.assert_allclose(value, wanted, rtol=1e-5)


def test_soft_cross_entropy_takes_several_classes():
    logits = jnp.array([[2.0, 0.0, -1.0]])
    target = losses.normalise_label(jnp.array([[0.0, 1.0, 1.0]]))
    log_p = jax.nn.log_softmax(logits)[0]
    wanted = -(log_p[1] + log_p[2]) / 2
    np.testing.assert_allclose(
        losses.soft_cross_entropy(logits, target), wanted, rtol=1e-6
    )


def test_smoothing_keeps_a_distribution():
    y = jnp.eye(4)[:2]
    smooth = losses.smooth_target(y, 0.1)
    np.testing.assert_allclose(smooth.sum(-1), 1, rtol=1e-6)
    np.testing.assert_allclose(smooth[0], [0.925, 0.025, 0.025, 0.025], rtol=1e-6)


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1.0, 1e15])
def test_normalise_at_any_size(scale):
    x = scale * jnp.array([[3.0, 4.0]])
    value, grad = jax.value_and_grad(lambda x: losses.normalise(x)[0, 0])(x)
    assert np.isfinite(value) and bool(jnp.isfinite(grad).all())
    if scale == 1.0:
        np.testing.assert_allclose(losses.normalise(x), [[0.6, 0.8]], rtol=1e-6)


def test_text_contrast_is_zero_where_normal_is_orthogonal():
    assert float(losses.text_contrast(jnp.eye(4))) == 0
    assert float(losses.text_contrast(jnp.ones((3, 4)))) == pytest.approx(1)
