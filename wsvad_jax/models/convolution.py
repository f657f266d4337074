"""Convolution over time, computed as matrix products.

XLA optimises convolutions for a CPU only in a program's outermost computation. Inside a
loop over steps or microbatches, their gradients take a hundred times as long. Matrix
products are equally fast in both places.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float


class TemporalConv(nn.Module):
    """Convolution of `size` (odd) snippets, `dilation` apart, zero beyond the ends.

    The parameters are those of flax's Conv. A gate p makes it the convolution of p · x,
    computed as p · (x W) for each tap. Input features need no gradient, so the gradient
    of p then takes no further product.
    """

    features: int
    size: int = 1
    dilation: int = 1
    use_bias: bool = True
    dtype: Any = jnp.float32
    kernel_init: nn.initializers.Initializer = nn.initializers.xavier_uniform()
    bias_init: nn.initializers.Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T D"], gate: Float[Array, "B T"] | None = None
    ) -> Float[Array, "B T E"]:
        D, E = x.shape[-1], self.features
        kernel = self.param("kernel", self.kernel_init, (self.size, D, E))

        # One product with the kernels of all taps at once.
        x = x.astype(self.dtype)
        taps = x @ jnp.moveaxis(kernel, 0, 1).reshape(D, -1).astype(self.dtype)
        if gate is not None:
            taps = gate.astype(self.dtype)[..., None] * taps

        # Each tap's product is shifted to the snippet that it contributes to. A
        # negative pad cuts the snippets that move beyond the ends.
        zero = jnp.zeros((), self.dtype)
        y = jnp.zeros((*x.shape[:2], E), self.dtype)
        for i, tap in enumerate(jnp.split(taps, self.size, axis=-1)):
            later = (self.size // 2 - i) * self.dilation
            y = y + jax.lax.pad(tap, zero, ((0, 0, 0), (later, -later, 0), (0, 0, 0)))

        if not self.use_bias:
            return y
        bias = self.param("bias", self.bias_init, (E,))
        return y + bias.astype(self.dtype)[None, None]
