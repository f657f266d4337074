"""A tower that reads some tokens alone computes what the whole tower does for them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wsvad_jax.benchmarks.step_time import product_flops
from wsvad_jax.clip.towers import Encoder, VisionConfig

CONFIG = VisionConfig(32, 8, 64, 96, 2, 2, 48)


@functools.cache
def whole_tower(masked):
    """A tower's function of (x, num_read), its input, and the whole output."""
    encoder = Encoder(CONFIG, jnp.float32)
    x = jnp.asarray(np.random.RandomState(0).standard_normal((3, 17, 64)), "f4")
    mask = jnp.tril(jnp.ones((17, 17), bool)) if masked else None
    params = jax.jit(encoder.init)(jax.random.key(0), x, mask)

    @functools.partial(jax.jit, static_argnums=1)
    def encode(x, n=None):
        return encoder.apply(params, x, mask, num_read=n)

    return encode, x, encode(x)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("num_read", [1, 5, 17])
def test_first_tokens_are_those_of_the_whole_tower(num_read, masked):
    encode, x, whole = whole_tower(masked)
    # The parameters are the same, and the rest of the last block isn't computed.
    read = encode(x, num_read)
    assert read.shape == (3, num_read, 64)
    np.testing.assert_allclose(read, whole[:, :num_read], atol=2e-6)
    flops = [
        product_flops(jax.make_jaxpr(lambda x, n=n: encode(x, n))(x))
        for n in (num_read, None)
    ]
    assert flops[0] == flops[1] if num_read == 17 else flops[0] < flops[1]
