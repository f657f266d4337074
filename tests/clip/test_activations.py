"""The activations are what their names say, and light on memory."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wsvad_jax.clip.activations import ACTIVATIONS, gelu, quick_gelu

X = np.linspace(-12, 12, 2001)


def test_gelu_is_the_published_function_and_slope():
    share = np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in X])
    x = jnp.asarray(X, jnp.float32)
    np.testing.assert_allclose(gelu(x), X * share, atol=1e-6)
    slope = share + X * np.exp(-0.5 * X**2) / math.sqrt(2 * math.pi)
    np.testing.assert_allclose(jax.vmap(jax.grad(gelu))(x), slope, atol=1e-6)


def test_quick_gelu_and_its_slope():
    gate = 1 / (1 + np.exp(-1.702 * X))
    x = jnp.asarray(X, jnp.float32)
    np.testing.assert_allclose(quick_gelu(x), X * gate, atol=1e-5)
    slope = gate + 1.702 * X * gate * (1 - gate)
    np.testing.assert_allclose(jax.vmap(jax.grad(quick_gelu))(x), slope, atol=1e-5)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_nothing_but_the_input_is_kept(name, dtype):
    x = jnp.asarray(X, dtype)
    y, back = jax.vjp(ACTIVATIONS[name], x)
    (kept,) = (leaf for leaf in jax.tree.leaves(back) if leaf.size == x.size)
    np.testing.assert_array_equal(kept, x)
    assert y.dtype == back(y)[0].dtype == x.dtype
