"""What VadCLIP (arXiv 2308.11681) and DSANet (arXiv 2511.10334) share.

LGT adapter, VadCLIP Sec. 3.2, Eq. 1 to 4:
  local windowed attention -> WindowBlock     graph convolution  -> GraphConv
  H_sim                    -> similarity_graph    H_dis          -> distance_graph
  the whole encoder        -> Encoder
Both heads, Sec. 3.3 and 3.4: ClassifierBranch (C-branch), AlignBranch (A-branch).
Submodules carry the names of the released checkpoints, '.' replaced by '_'.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from wsvad_jax.clip.activations import quick_gelu
from wsvad_jax.clip.prompts import TextInputs
from wsvad_jax.clip.towers import CLIPText, text_features
from wsvad_jax.errors import InputError
from wsvad_jax.losses import normalise
from wsvad_jax.models.convolution import TemporalConv

TEMPERATURE = 0.07  # of every cosine logit
SIMILARITY_THRESHOLD = 0.7
CONTEXT = 10  # learned vectors on either side of a class name
xavier = nn.initializers.xavier_uniform()


def uniform(fan_in: int) -> nn.initializers.Initializer:
    """PyTorch's default of dense layers and convolutions: U(±1/√fan_in)."""
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

    What two layers in a row make of many snippets is what the product of their kernels
    makes of them, and that product is small.
    """

    features: int
    kernel_init: nn.initializers.Initializer | None = None
    bias_init: nn.initializers.Initializer | None = None

    @nn.compact
    def __call__(self, fan_in: int) -> tuple[Float[Array, "D E"], Float[Array, "E"]]:
        init = uniform(fan_in)
        kernel = self.kernel_init or init, (fan_in, self.features)
        bias = self.bias_init or init, (self.features,)
        # Weights of a file come as NumPy's arrays.
        found = self.param("kernel", *kernel), self.param("bias", *bias)
        return jnp.asarray(found[0]), jnp.asarray(found[1])


def layer_norm(name: str, epsilon: float = 1e-5) -> nn.LayerNorm:
    """Layer normalisation, in float32 whatever the activations' type."""
    # Exact variance rather than E[x²] − E[x]², which cancels in float32.
    return nn.LayerNorm(
        epsilon=epsilon, name=name, dtype=jnp.float32, use_fast_variance=False
    )


def exact(equation: str, *arrays: Array) -> Array:
    """An einsum that half-precision arrays enter as they are and leave in float32."""
    dtype = jnp.promote_types(arrays[0].dtype, jnp.float32)
    return jnp.einsum(equation, *arrays, preferred_element_type=dtype)


def participants(
    length: Int[Array, "B"], T: int, mask_padding: bool
) -> Bool[Array, "B T"]:
    """Snippets that attend, convolve and pool: all of them, or the valid ones."""
    if mask_padding:
        return jnp.arange(T)[None] < length[:, None]
    return jnp.ones((length.shape[0], T), bool)


class Mlp(nn.Module):
    """D → 4D QuickGELU → D; the fields other than `dtype` serve DSANet's variants."""

    dtype: Any = jnp.float32
    names: tuple[str, str] = ("c_fc", "c_proj")
    activation: Callable[[Array], Array] = quick_gelu
    initial: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @nn.compact
    def __call__(
        self, x: Float[Array, "*B D"], onto: Float[Array, "D E"] | None = None
    ) -> Float[Array, "*B E"]:
        """Returns the MLP's values, or their products with `onto` in float32."""
        D = x.shape[-1]
        x = linear(D, 4 * D, self.names[0], self.dtype, **self.initial)(x)
        x = self.activation(x)
        if onto is None:
            return linear(4 * D, D, self.names[1], self.dtype, **self.initial)(x)
        kernel, bias = Affine(D, **self.initial, name=self.names[1])(4 * D)
        y = exact("...d,de->...e", x, (kernel @ onto).astype(x.dtype))
        return y + jnp.expand_dims(bias @ onto, range(y.ndim - 1))


class WindowBlock(nn.Module):
    """Pre-norm transformer block whose attention stays inside blocks of W snippets."""

    window: int
    heads: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T D"], where: Bool[Array, "B T"]
    ) -> Float[Array, "B T D"]:
        B, T, D = x.shape
        W, H = self.window, self.heads
        into = Affine(3 * D, xavier, nn.initializers.zeros, name="attn_in_proj")(D)
        out = Affine(D, bias_init=nn.initializers.zeros, name="attn_out_proj")(D)
        if H == 1:
            into, out = fold(*into, *out), None
        y = layer_norm("ln_1")(x).astype(self.dtype)
        values = affine(y, *into).reshape(B, T // W, W, -1, H, D // H)
        # T/W small attentions instead of one T×T attention under a block mask.
        q, v = values[:, :, :, 0], values[:, :, :, -1]
        k = y.reshape(q.shape) if H == 1 else values[:, :, :, 1]
        logits = exact("bnqhd,bnkhd->bnhqk", q, k)
        # A block of nothing but padding attends evenly; finite, and never looked at.
        mask = where.reshape(B, T // W, 1, 1, W)
        logits = jnp.where(mask, logits * (D // H) ** -0.5, -1e9)
        weights = jax.nn.softmax(logits).astype(self.dtype)
        y = jnp.einsum("bnhqk,bnkhd->bnqhd", weights, v).reshape(B, T, D)
        x = x + (y if out is None else affine(y, *out))
        return x + Mlp(self.dtype, name="mlp")(layer_norm("ln_2")(x).astype(self.dtype))


def affine(
    x: Float[Array, "*B D"], kernel: Float[Array, "D E"], bias: Float[Array, "E"]
) -> Float[Array, "*B E"]:
    """x · kernel + bias in the type of `x`."""
    bias = jnp.expand_dims(bias, range(x.ndim - 1))
    return x @ kernel.astype(x.dtype) + bias.astype(x.dtype)


def fold(
    into: Float[Array, "D D3"],
    bias: Float[Array, "D3"],
    out: Float[Array, "D D"],
    out_bias: Float[Array, "D"],
) -> tuple[Float[Array, "D D2"], Float[Array, "D2"]]:
    """One head's four projections as two: query and value of keys left as they are.

    With q_i = W_q y_i + b_q and so on, q_i · k_j = (W_kᵀ q_i) · y_j + q_i · b_k, whose
    last term is the same for all keys and leaves the softmax as it is. Its weights w_j
    sum to 1, so that W_o Σ w_j v_j + b_o = Σ w_j (W_o W_v y_j + W_o b_v + b_o).
    """
    q, k, v = jnp.split(into, 3, axis=1)
    b_q, _, b_v = jnp.split(bias, 3)
    kernel = jnp.concatenate([q @ k.T, v @ out], axis=1)
    return kernel, jnp.concatenate([b_q @ k.T, b_v @ out + out_bias])


def in_turn(
    blocks: Sequence[nn.Module], x: Array, *others: Array, remat: bool = False
) -> Array:
    """Passes `x` through blocks of one kind, one after the other.

    With `remat` the backward pass keeps of each block only what goes in. They are a
    loop then: of blocks that stand one after the other, XLA on a CPU may compute all
    again before it needs the first.
    """
    if not (remat and blocks) or blocks[0].is_initializing():
        for block in blocks:
            x = block(x, *others)
        return x
    weights = [block.variables["params"] for block in blocks]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *weights)
    kind = blocks[0].clone(parent=None, name=None)

    @jax.checkpoint
    def apply(x, weights):
        return kind.apply({"params": weights}, x, *others), None

    return jax.lax.scan(apply, x, stacked)[0]


class GraphConv(nn.Module):
    """gc(x, G) = G (x W) + residual; a width change goes through a convolution."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T D"], graph: Float[Array, "#B T T"]
    ) -> Float[Array, "B T E"]:
        D = x.shape[-1]
        weight = self.param("weight", xavier, (D, self.features)).astype(self.dtype)
        residual = x
        if self.features != D:
            init = uniform(5 * D)
            residual = TemporalConv(
                self.features,
                size=5,
                dtype=self.dtype,
                kernel_init=init,
                bias_init=init,
                name="residual",
            )(x)
        return graph.astype(self.dtype) @ (x.astype(self.dtype) @ weight) + residual


def similarity_graph(
    x: Float[Array, "B T D"], where: Bool[Array, "B T"]
) -> Float[Array, "B T T"]:
    """Row-softmax over the valid snippets of cos(x_i, x_j), cut to 0 up to 0.7.

    VadCLIP Eq. 2; rows and columns of padding are zero.
    """
    x = normalise(x)
    cosine = exact("btd,bsd->bts", x, x)
    cosine = jnp.where(cosine > SIMILARITY_THRESHOLD, cosine, 0)
    # cos ≤ 1, so the exponential needs no running maximum.
    both = where[:, :, None] & where[:, None, :]
    weight = jnp.where(both, jnp.exp(cosine), 0)
    return weight / jnp.maximum(jnp.sum(weight, -1, keepdims=True), 1)


def distance_graph(T: int) -> Float[Array, "1 T T"]:
    """exp(−|i − j| / e), not normalised (VadCLIP Eq. 3)."""
    t = jnp.arange(T, dtype=jnp.float32)
    return jnp.exp(-jnp.abs(t[:, None] - t[None]) / jnp.e)[None]


class Encoder(nn.Module):
    """LGT adapter: positions, windowed attention, two graphs, one projection."""

    layers: int
    window: int
    heads: int = 1
    use_local: bool = True
    use_graph: bool = True
    dtype: Any = jnp.float32
    remat: bool = False  # computes the inside of blocks again in the backward pass

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T D"],
        length: Int[Array, "B"],
        where: Bool[Array, "B T"],
    ) -> Float[Array, "B T D"]:
        """Encodes snippets.

        Args:
          x: snippet features.
          length: valid snippets; the similarity graph sees no others.
          where: snippets that take part elsewhere (all of them, as released, or the
            valid ones).
        """
        T, D = x.shape[1:]
        if T % self.window:
            raise InputError(
                f"attn_window {self.window} doesn't divide the {T} snippets of a "
                "window; choose a length that is a multiple of it"
            )
        normal = nn.initializers.normal(0.01)
        positions = self.param("frame_position_embeddings", normal, (T, D))
        x = x + positions[None].astype(x.dtype)
        if self.use_local:
            window = self.window, self.heads, self.dtype
            names = [f"temporal_resblocks_{i}" for i in range(self.layers)]
            blocks = [WindowBlock(*window, name=name) for name in names]
            x = in_turn(blocks, x, where, remat=self.remat)
        # Unused by the released forward pass; kept so that checkpoints convert whole.
        self.param("disAdj_sigma", nn.initializers.ones, (1,))
        if not self.use_graph:
            return x
        # Masked snippets are zeroed wherever a convolution or a graph could mix them in.
        keep = where[..., None].astype(x.dtype)
        x = x * keep
        valid = jnp.arange(T)[None] < length[:, None]
        graphs = similarity_graph(x, valid), distance_graph(T)
        Graph = nn.remat(GraphConv) if self.remat else GraphConv
        branches = []
        for i, graph in enumerate(graphs):
            y = x
            for j in (1, 2):
                conv = Graph(D // 2, self.dtype, name=f"gc{2 * i + j}")
                y = quick_gelu(conv(y, graph)) * keep
            branches.append(y)
        return linear(D, D, "linear", self.dtype)(jnp.concatenate(branches, -1))


class ClassifierBranch(nn.Module):
    """C-branch: the anomaly logit of every snippet, from v + mlp2(v)."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, v: Float[Array, "B T D"]) -> Float[Array, "B T"]:
        kernel, bias = Affine(1, name="classifier")(v.shape[-1])
        own = exact("btd,de->bte", v, kernel.astype(v.dtype))
        own = own + Mlp(self.dtype, name="mlp2")(v, onto=kernel)
        return own[..., 0] + bias[None]


class AlignBranch(nn.Module):
    """A-branch: cosine logits between snippets and visually prompted class texts."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        v: Float[Array, "B T D"],
        anomaly_logits: Float[Array, "B T"],
        text: Float[Array, "C D"],
        where: Bool[Array, "B T"],
    ) -> Float[Array, "B T C"]:
        weight = jnp.where(where, anomaly_logits, 0)
        # Terms of either sign: half precision would change the sum's direction.
        prompt = normalise(jnp.einsum("bt,btd->bd", weight, v.astype(weight.dtype)))
        text = text[None] + prompt[:, None]  # [B, C, D], Eq. 6
        text = text + Mlp(self.dtype, name="mlp1")(text)
        return cosine_logits(v, text)


def cosine_logits(
    v: Float[Array, "B T D"], text: Float[Array, "B C D"]
) -> Float[Array, "B T C"]:
    """cos(v_t, t_c) / 0.07, in float32."""
    v, text = (normalise(x.astype(jnp.float32)) for x in (v, text))
    return jnp.einsum("btd,bcd->btc", v, text) / TEMPERATURE


class PromptLearner(nn.Module):
    """Learnable context around the class names (VadCLIP Sec. 3.4, CoOp's form).

    Positions: start token, 10 learned, the name's tokens, 10 learned, end token. One
    table of vectors is shared by all classes and indexed by absolute position.
    """

    normalised: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, text: TextInputs) -> Float[Array, "C D"]:
        positions, width = text.config.max_position_embeddings, text.config.hidden_size
        L = text.tokens.shape[1]
        if L + 2 * CONTEXT > positions:
            raise InputError(
                f"the longest class prompt has {L} tokens, which with {2 * CONTEXT} "
                f"learned ones is more than the text tower's {positions} positions; "
                "shorten the card's prompts"
            )
        table = self.param(
            "text_prompt_embeddings",
            nn.initializers.normal(0.01),
            (positions, width),
        )
        tokens, eos = jnp.asarray(text.tokens), jnp.asarray(text.eos)[:, None]
        p = jnp.arange(L + 2 * CONTEXT)[None]  # [1, L + 20]
        # The name follows the first context, the end token the second.
        name = (p > CONTEXT) & (p < eos + CONTEXT)
        end = p == eos + 2 * CONTEXT
        source = jnp.where(name, p - CONTEXT, jnp.where(end, eos, 0))
        learned = (p > 0) & (p < eos + 2 * CONTEXT) & ~name

        def embed(x: Array) -> Array:
            context = table[None, : x.shape[1]].astype(x.dtype)
            return jnp.where(learned[..., None], context, x)

        tower = CLIPText(text.config, self.dtype, parent=None)
        hidden: Any = tower.apply(
            {"params": text.params["text_model"]},
            jnp.take_along_axis(tokens, source, axis=1),
            embed=embed,
        )
        x = text_features(text.params, hidden, eos[:, 0] + 2 * CONTEXT)
        x = jnp.asarray(text.owner) @ x
        return normalise(x) if self.normalised else x
