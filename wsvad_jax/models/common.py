"""Layers that several models share: dense layers, products of them, convolution.

Initial weights follow PyTorch's default, as in the released implementations.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float

from wsvad_jax.clip.activations import quick_gelu
from wsvad_jax.clip.half_products import Dense, einsum_f32, product
from wsvad_jax.models.losses import normalise
from wsvad_jax.utils.errors import InputError


def uniform(fan_in: int, scale: float = 1.0) -> nn.initializers.Initializer:
    """U(±scale/√fan_in); 1 is PyTorch's default of dense and convolution layers."""
    bound = scale * fan_in**-0.5

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def linear(fan_in: int, features: int, name: str, dtype: Any, **kwargs) -> nn.Dense:
    """A dense layer initialised as PyTorch's default."""
    init = uniform(fan_in)
    kwargs = {"kernel_init": init, "bias_init": init, **kwargs}
    return Dense(features, name=name, dtype=dtype, **kwargs)


class DenseParams(nn.Module):
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
        return (
            jnp.asarray(self.param("kernel", *kernel)),
            jnp.asarray(self.param("bias", *bias)),
        )


def affine(
    x: Float[Array, "*B D"], kernel: Float[Array, "D E"], bias: Float[Array, "E"]
) -> Float[Array, "*B E"]:
    """x · kernel + bias, in the dtype of `x`."""
    bias = jnp.expand_dims(bias, range(x.ndim - 1))
    return product(x, kernel.astype(x.dtype)) + bias.astype(x.dtype)


def fold_single_head_qkv(
    qkv_kernel: Float[Array, "D D3"],
    qkv_bias: Float[Array, "D3"],
    out_kernel: Float[Array, "D D"],
    out_bias: Float[Array, "D"],
) -> tuple[Float[Array, "D D2"], Float[Array, "D2"]]:
    """Folds the four projections of single-head attention into two.

    Then only the queries and the values are projected; the keys are the inputs y. With
    q_i = W_q y_i + b_q and so on,
      q_i · k_j = (W_kᵀ q_i) · y_j + q_i · b_k.
    The last term is the same for all keys, so the softmax ignores it. The attention
    weights w_j sum to 1, therefore
      W_o Σ w_j v_j + b_o = Σ w_j (W_o W_v y_j + W_o b_v + b_o).

    Args:
      qkv_kernel: kernel of the packed query, key and value projections.
      qkv_bias: bias of the packed projections.
      out_kernel: kernel of the output projection W_o.
      out_bias: bias b_o of the output projection.
    """
    q, k, v = jnp.split(qkv_kernel, 3, axis=1)
    b_q, _, b_v = jnp.split(qkv_bias, 3)
    # The queries' kernel absorbs that of the keys, the values' that of the output.
    kernel = jnp.concatenate([q @ k.T, v @ out_kernel], axis=1)
    return kernel, jnp.concatenate([b_q @ k.T, b_v @ out_kernel + out_bias])


def layer_norm(name: str, epsilon: float = 1e-5) -> nn.LayerNorm:
    """Layer normalisation, always computed in float32."""
    # Exact variance rather than E[x²] − E[x]², which cancels in float32.
    return nn.LayerNorm(
        epsilon=epsilon, name=name, dtype=jnp.float32, use_fast_variance=False
    )


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
        self,
        x: Float[Array, "*B D"],
        output_projection: Float[Array, "D E"] | None = None,
    ) -> Float[Array, "*B E"]:
        """Returns the output, or its product with `output_projection` in float32."""
        D = x.shape[-1]
        x = linear(D, 4 * D, self.names[0], self.dtype, **self.initial)(x)
        x = self.activation(x)

        if output_projection is None:
            return linear(4 * D, D, self.names[1], self.dtype, **self.initial)(x)

        # The second layer and `output_projection` are folded into one small product.
        kernel, bias = DenseParams(D, **self.initial, name=self.names[1])(4 * D)
        y = einsum_f32("...d,de->...e", x, (kernel @ output_projection).astype(x.dtype))
        return y + jnp.expand_dims(bias @ output_projection, range(y.ndim - 1))


class CrossAttention(nn.Module):
    """Cross-attention of DSANet's SG-NM.

    The weights of the keys are a softmax, or, if `linear`, ReLU of scaled cosines.
    """

    heads: int
    linear: bool
    dtype: Any
    initial: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @nn.compact
    def __call__(
        self,
        queries: Float[Array, "#B Q D"],
        keys: Float[Array, "B K D"],
        where: Bool[Array, "B K"] | None = None,
    ) -> Float[Array, "B Q D"]:
        D, H, K = queries.shape[-1], self.heads, keys.shape[1]
        check_heads(H, D, "decoder_heads")
        project = functools.partial(Dense, dtype=self.dtype, **self.initial)
        q = project(D, name="q")(queries)
        kv = project(2 * D, name="kv")(keys)

        # Heads stay an axis of the matrix products, so no array is transposed.
        q = q.reshape(*q.shape[:2], H, D // H)
        k, v = jnp.split(kv.reshape(*kv.shape[:2], 2 * H, D // H), 2, axis=2)

        # The decoder weighs the prototypes by cosines: no softmax, so all weights may
        # be 0.
        if self.linear:
            scale = self.param("learn_scale", nn.initializers.ones, (H, 1, 1))
            q, k = normalise(q), normalise(k)
            logits = jnp.einsum("bqhd,bkhd->bhqk", q, k)
            weights = nn.relu(logits * scale[None].astype(self.dtype))
        # The prototypes read the snippets by ordinary softmax attention.
        else:
            q = jnp.broadcast_to(q, (len(k), *q.shape[1:]))
            logits = einsum_f32("bqhd,bkhd->bhqk", q, k) * (D // H) ** -0.5
            if where is not None:
                logits = jnp.where(where[:, None, None], logits, -1e9)
            weights = jax.nn.softmax(logits).astype(self.dtype)

        kernel, bias = DenseParams(D, **self.initial, name="proj")(D)
        if not self.projects_values_first(q.shape[1], K, D):
            x = jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(*q.shape[:2], D)
            return affine(x, kernel, bias)

        v = jnp.einsum("bkhd,hde->bhke", v, kernel.astype(v.dtype).reshape(H, -1, D))
        x = jnp.einsum("bhqk,bhke->bqe", weights, v)
        return x + bias.astype(x.dtype)[None, None]

    def projects_values_first(self, Q: int, K: int, D: int) -> bool:
        """Returns whether the output projection comes before the sum over the keys.

        With few keys and many queries, that takes fewer multiplications. It also
        transposes arrays, so it has to halve their number.
        """
        after, before = Q * D * (K + D), K * D * (D + Q * self.heads)
        return 2 * before < after


class TemporalConv(nn.Module):
    """Convolution over time, computed as matrix products.

    It spans `size` (odd) snippets, `dilation` apart, and is zero beyond the ends.

    XLA optimises convolutions for a CPU only in a program's outermost computation.
    Inside a loop over steps or microbatches, their gradients take a hundred times as
    long. Matrix products are equally fast in both places.

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
        kernels = jnp.moveaxis(kernel, 0, 1).reshape(D, -1)
        taps = product(x, kernels.astype(self.dtype))
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
