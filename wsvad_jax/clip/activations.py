"""Activations by the names that configurations of CLIP give them.

Of each only the input is kept for the backward pass, which computes the rest again: what
such functions cost is memory, not arithmetic.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@jax.checkpoint
def quick_gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """x · σ(1.702 x), the activation of OpenAI's models."""
    return x * jax.nn.sigmoid(1.702 * x)


@jax.custom_vjp
def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """x · Φ(x), by the complementary error function, which is exact at both ends."""
    return jax.nn.gelu(x, approximate=False)


def _gelu_forward(x: Array) -> tuple[Array, Array]:
    return gelu(x), x


def _gelu_backward(x: Array, above: Array) -> tuple[Array]:
    # Φ(x) + x φ(x). The plain error function, half the work, does for a slope.
    z = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    share = 0.5 * (1 + jax.lax.erf(z * math.sqrt(0.5)))
    density = jnp.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    return ((above * (share + z * density)).astype(x.dtype),)


gelu.defvjp(_gelu_forward, _gelu_backward)

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "quick_gelu": quick_gelu,
    "gelu": gelu,
}
