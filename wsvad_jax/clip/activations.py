"""Activation functions, by their names in CLIP's configurations.

They store only their input for the backward pass, which recomputes the rest. Their cost
is memory, not arithmetic.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@jax.checkpoint
def quick_gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """QuickGELU x · σ(1.702 x), the activation of OpenAI's models."""
    return x * jax.nn.sigmoid(1.702 * x)


@jax.checkpoint
def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Exact GELU x · Φ(x)."""
    # erfc takes twice as long as erf. 1 + erf cancels where x is negative, so it is
    # computed in float32 at least.
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return (wide * (0.5 + 0.5 * jax.lax.erf(wide * 0.5**0.5))).astype(x.dtype)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "quick_gelu": quick_gelu,
    "gelu": gelu,
}
