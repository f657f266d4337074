"""Activations by the names that configurations of CLIP give them.

Of each only the input is kept for the backward pass, which computes the rest again: what
such functions cost is memory, not arithmetic.
"""

from collections.abc import Callable

import jax
from jaxtyping import Array, Float


@jax.checkpoint
def quick_gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """x · σ(1.702 x), the activation of OpenAI's models."""
    return x * jax.nn.sigmoid(1.702 * x)


@jax.checkpoint
def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """x · Φ(x), by the complementary error function, which is exact at both ends."""
    return jax.nn.gelu(x, approximate=False)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "quick_gelu": quick_gelu,
    "gelu": gelu,
}
