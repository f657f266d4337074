"""Activations by the names that configurations of CLIP give them.

Of each only the input is kept for the backward pass, which computes the rest again: what
such functions cost is memory, not arithmetic.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@jax.checkpoint
def quick_gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """x · σ(1.702 x), the activation of OpenAI's models."""
    return x * jax.nn.sigmoid(1.702 * x)


@jax.checkpoint
def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """x · Φ(x), by the error function: the complementary one takes twice as long."""
    # 1 + erf cancels where x is negative, which half precision would not survive.
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return (wide * (0.5 + 0.5 * jax.lax.erf(wide * 0.5**0.5))).astype(x.dtype)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "quick_gelu": quick_gelu,
    "gelu": gelu,
}
