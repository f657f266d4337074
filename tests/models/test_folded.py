"""Products taken in another order than the papers write them give the same numbers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from wsvad_jax.clip.activations import gelu
from wsvad_jax.models import common, lgt_adapter
from wsvad_jax.models.common import TemporalConv

B, T, D, W = 3, 16, 12, 8
RANDOM = np.random.RandomState(0)


def filled(module, *args):
    """Parameters of `module`, all random: zero biases would hide what they enter."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), *args)["params"]
    return jax.tree.map(
        lambda x: jnp.asarray(RANDOM.standard_normal(x.shape), jnp.float32) * 0.3,
        shapes,
    )


def array(*shape):
    return jnp.asarray(RANDOM.standard_normal(shape), jnp.float32)


def written_out(params, x, where, heads):
    """A block's attention from its four projections, window by window."""
    y = common.layer_norm("ln_1").apply({"params": params["ln_1"]}, x)
    into, out = params["attn_in_proj"], params["attn_out_proj"]
    qkv = np.asarray(y) @ into["kernel"] + np.asarray(into["bias"])[None, None]
    found = np.zeros((B, T, D), np.float32)
    for b, start, h in np.ndindex(B, T // W, heads):
        rows = slice(start * W, start * W + W)
        part = [
            slice(i * D + h * D // heads, i * D + (h + 1) * D // heads)
            for i in range(3)
        ]
        q, k, v = (qkv[b, rows, columns] for columns in part)
        logits = np.where(where[b, rows][None], q @ k.T / np.sqrt(D // heads), -1e9)
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        found[b, rows, part[0]] = weights / weights.sum(-1, keepdims=True) @ v
    return found @ out["kernel"] + np.asarray(out["bias"])[None, None]


@pytest.mark.parametrize("heads", [1, 2])
def test_a_block_attends_as_its_four_projections_do(heads):
    block = lgt_adapter.WindowBlock(W, heads)
    x, where = array(B, T, D), jnp.arange(T)[None] < jnp.array([[16], [11], [3]])
    params = filled(block, x, where)
    attended = x + written_out(params, x, where, heads)
    norm = common.layer_norm("ln_2").apply({"params": params["ln_2"]}, attended)
    wanted = attended + common.Mlp().apply({"params": params["mlp"]}, norm)
    found = block.apply({"params": params}, x, where)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_mlp_onto_a_vector(dtype):
    mlp, x, projection = (
        common.Mlp(jnp.dtype(dtype)),
        array(B, T, D).astype(dtype),
        array(D, 1),
    )
    params = filled(mlp, x)
    found = mlp.apply({"params": params}, x, projection)
    wanted = mlp.apply({"params": params}, x).astype(jnp.float32) @ projection
    assert found.dtype == jnp.float32
    tolerance = 1e-4 if dtype == "float32" else 0.1
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)
    made = mlp.init(jax.random.key(1), x, projection)
    jax.tree.map(np.testing.assert_array_equal, made, mlp.init(jax.random.key(1), x))


@pytest.mark.parametrize("keys, folds", [(1, True), (8, False)])
@pytest.mark.parametrize("linear", [False, True])
def test_values_of_few_keys_are_projected_first(keys, folds, linear):
    H = 3
    attention = common.CrossAttention(H, linear, jnp.float32)
    assert attention.projects_values_first(T, keys, D) == folds
    queries, kept = array(B, T, D), array(B, keys, D)
    params = filled(attention, queries, kept)
    part = (B, -1, H, D // H)

    def dense(name, x):
        return x @ params[name]["kernel"] + params[name]["bias"][None, None]

    q = dense("q", queries).reshape(part)
    k, v = (x.reshape(part) for x in jnp.split(dense("kv", kept), 2, -1))
    if linear:
        q, k = (x / jnp.linalg.norm(x, axis=-1, keepdims=True) for x in (q, k))
        logits = jnp.einsum("bqhd,bkhd->bhqk", q, k)
        weights = jax.nn.relu(logits * params["learn_scale"][None])
    else:
        weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k) * (D // H) ** -0.5)
    x = jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(B, T, D)
    found = attention.apply({"params": params}, queries, kept)
    np.testing.assert_allclose(found, dense("proj", x), rtol=1e-4, atol=1e-5)


def test_half_precision_keeps_gelu_of_negative_values():
    x = jnp.linspace(-4, 4, 401)
    wanted = gelu(x)
    found = gelu(x.astype(jnp.bfloat16)).astype(jnp.float32)
    np.testing.assert_allclose(found, wanted, rtol=0.03, atol=2e-3)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("size, dilation", [(1, 1), (3, 1), (3, 4), (5, 1), (3, 20)])
def test_taps_are_a_convolution(size, dilation, gated):
    """Of flax, with its parameters and its initial values."""
    E, x, p = 7, array(B, T, D), array(B, T) if gated else None
    ours = TemporalConv(E, size, dilation)
    theirs = nn.Conv(
        E,
        (size,),
        kernel_dilation=dilation,
        kernel_init=nn.initializers.xavier_uniform(),
    )
    key = jax.random.key(0)
    jax.tree.map(np.testing.assert_array_equal, ours.init(key, x), theirs.init(key, x))
    params = filled(ours, x)
    gate = jnp.ones((B, T)) if p is None else p

    def wanted(params, gate):
        return theirs.apply({"params": params}, gate[..., None] * x)

    def found(params, gate):
        return ours.apply({"params": params}, x, None if p is None else gate)

    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)

    @functools.partial(jax.jit, static_argnums=0)
    def value_and_gradients(f, *inputs):
        gradients = jax.grad(lambda *x: jnp.sum(jnp.sin(f(*x))), (0, 1))(*inputs)
        return f(*inputs), gradients

    value, first = value_and_gradients(found, params, gate)
    wanted_value, second = value_and_gradients(wanted, params, gate)
    close(value, wanted_value)
    jax.tree.map(close, first[0], second[0])
    if gated:
        close(first[1], second[1])
