"""Dense layers of VadCLIP and DSANet, and products of their matrices.

Initial weights follow PyTorch's default, as in the released implementations.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from wsvad_jax.clip.activations import quick_gelu
from wsvad_jax.utils.errors import InputError


def uniform(fan_in: int) -> nn.initializers.Initializer:
    """PyTorch's default initialiser of dense and convolution layers: U(±1/√fan_in)."""
    bound = fan_in**-0.5

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def linear(fan_in: int, features: int, name: str, dtype: Any, **kwargs) -> nn.Dense:
    """A dense layer initialised as PyTorch's default."""
    init = uniform(fan_in)
    kwargs = {"kernel_init": init, "bias_init": init, **kwargs}
    return nn.Dense(features, name=name, dtype=dtype, **kwargs)


class Affine(nn.Module):
    """Kernel and bias of a dense layer, for products taken in another order.

    Two consecutive linear layers equal one with the product kernel, which is small.
    """

    features: int
    kernel_init: nn.initializers.Initializer | None = None
    bias_init: nn.initializers.Initializer | None = None

    @nn.compact
    def __call__(self, fan_in: int) -> tuple[Float[Array, "D E"], Float[Array, "E"]]:
        init = uniform(fan_in)
        kernel = self.kernel_init or init, (fan_in, self.features)
        bias = self.bias_init or init, (self.features,)

        # Weights read from a file are NumPy arrays.
        found = self.param("kernel", *kernel), self.param("bias", *bias)
        return jnp.asarray(found[0]), jnp.asarray(found[1])


def affine(
    x: Float[Array, "*B D"], kernel: Float[Array, "D E"], bias: Float[Array, "E"]
) -> Float[Array, "*B E"]:
    """x · kernel + bias, in the dtype of `x`."""
    bias = jnp.expand_dims(bias, range(x.ndim - 1))
    return x @ kernel.astype(x.dtype) + bias.astype(x.dtype)


def fold(
    into: Float[Array, "D D3"],
    bias: Float[Array, "D3"],
    out: Float[Array, "D D"],
    out_bias: Float[Array, "D"],
) -> tuple[Float[Array, "D D2"], Float[Array, "D2"]]:
    """Folds one head's four projections into two, for the queries and the values.

    The keys are then the unprojected inputs y. With q_i = W_q y_i + b_q and so on,
      q_i · k_j = (W_kᵀ q_i) · y_j + q_i · b_k.
    The last term is the same for all keys, so the softmax ignores it. The attention
    weights w_j sum to 1, therefore
      W_o Σ w_j v_j + b_o = Σ w_j (W_o W_v y_j + W_o b_v + b_o).

    Args:
      into: kernel of the packed query, key and value projections.
      bias: bias of the packed projections.
      out: kernel of the output projection W_o.
      out_bias: bias b_o of the output projection.
    """
    q, k, v = jnp.split(into, 3, axis=1)
    b_q, _, b_v = jnp.split(bias, 3)
    # The queries' kernel absorbs that of the keys, the values' that of the output.
    kernel = jnp.concatenate([q @ k.T, v @ out], axis=1)
    return kernel, jnp.concatenate([b_q @ k.T, b_v @ out + out_bias])


def layer_norm(name: str, epsilon: float = 1e-5) -> nn.LayerNorm:
    """Layer normalisation, always computed in float32."""
    # Exact variance rather than E[x²] − E[x]², which cancels in float32.
    return nn.LayerNorm(
        epsilon=epsilon, name=name, dtype=jnp.float32, use_fast_variance=False
    )


def exact(equation: str, *arrays: Array) -> Array:
    """Einsum of half-precision arrays that accumulates and returns float32."""
    # Half-precision products are exact in float32; only their sum needs it.
    dtype = jnp.promote_types(arrays[0].dtype, jnp.float32)
    return jnp.einsum(equation, *arrays, preferred_element_type=dtype)


def check_heads(heads: int, width: int, key: str) -> None:
    """Raises InputError unless the heads of model field `key` divide the width."""
    if width % heads:
        raise InputError(
            f"config.model.{key} is {heads}, which doesn't divide the features' width "
            f"{width}; choose a divisor of {width}"
        )


class Mlp(nn.Module):
    """Two-layer perceptron D → 4D → D, by default with QuickGELU.

    `names`, `activation` and `initial` serve DSANet's variants.
    """

    dtype: Any = jnp.float32
    names: tuple[str, str] = ("c_fc", "c_proj")
    activation: Callable[[Array], Array] = quick_gelu
    initial: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @nn.compact
    def __call__(
        self, x: Float[Array, "*B D"], onto: Float[Array, "D E"] | None = None
    ) -> Float[Array, "*B E"]:
        """Returns the output, or its product with `onto` in float32."""
        D = x.shape[-1]
        x = linear(D, 4 * D, self.names[0], self.dtype, **self.initial)(x)
        x = self.activation(x)

        if onto is None:
            return linear(4 * D, D, self.names[1], self.dtype, **self.initial)(x)

        # The second layer and `onto` are folded into one small product.
        kernel, bias = Affine(D, **self.initial, name=self.names[1])(4 * D)
        y = exact("...d,de->...e", x, (kernel @ onto).astype(x.dtype))
        return y + jnp.expand_dims(bias @ onto, range(y.ndim - 1))
