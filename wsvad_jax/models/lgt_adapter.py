"""LGT adapter and branches that VadCLIP and DSANet share.

VadCLIP: https://arxiv.org/abs/2308.11681. DSANet: https://arxiv.org/abs/2511.10334.
Sections and equations are VadCLIP's:
  LGT adapter (Sec. 3.2)                -> LGTAdapter
    local windowed attention (Eq. 1)    -> WindowBlock
    similarity graph H_sim (Eq. 2)      -> similarity_graph
    distance graph H_dis (Eq. 3)        -> distance_graph
    graph convolution (Eq. 4)           -> GraphConv
  C-branch (Sec. 3.3, Eq. 5)            -> ClassifierBranch
  A-branch (Sec. 3.4, Eq. 6 and 7)      -> PromptLearner, AlignBranch
    alignment map M                     -> cosine_logits
The objective (Eq. 8 to 12) is in losses.py.
Submodules carry the names of the released checkpoints, '.' replaced by '_'.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from wsvad_jax.clip.activations import quick_gelu
from wsvad_jax.clip.prompts import TextInputs
from wsvad_jax.clip.towers import CLIPText, text_features
from wsvad_jax.models import common
from wsvad_jax.models.common import TemporalConv
from wsvad_jax.models.losses import normalise
from wsvad_jax.utils.errors import InputError

TEMPERATURE = 0.07  # temperature of every cosine logit
SIMILARITY_THRESHOLD = 0.7
CONTEXT = 10  # learned vectors on either side of a class name
GRAPHS = ("released", "row_normalised")  # values of `distance_graph`
FIELD_RANGES = {  # valid values of the encoder's fields
    "visual_layers": "[0, inf)",
    "visual_heads": "[1, inf)",
    "attn_window": "[1, inf)",
    "classifier_init_scale": "(0, inf)",
    "distance_graph": GRAPHS,
}
xavier = nn.initializers.xavier_uniform()


def attention_mask(
    length: Int[Array, "B"], T: int, mask_padding: bool
) -> Bool[Array, "B T"]:
    """Mask of the snippets that attend, convolve and pool: all, or the valid ones."""
    if mask_padding:
        return jnp.arange(T)[None] < length[:, None]
    return jnp.ones((length.shape[0], T), bool)


class WindowBlock(nn.Module):
    """Pre-norm transformer block with attention inside non-overlapping windows."""

    window: int
    heads: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T D"], where: Bool[Array, "B T"]
    ) -> Float[Array, "B T D"]:
        B, T, D = x.shape
        W, H = self.window, self.heads
        common.check_heads(H, D, "visual_heads")

        qkv = common.DenseParams(
            3 * D, xavier, nn.initializers.zeros, name="attn_in_proj"
        )(D)
        out = common.DenseParams(
            D, bias_init=nn.initializers.zeros, name="attn_out_proj"
        )(D)

        # One head: the folded projections save half of the products.
        if H == 1:
            qkv, out = common.fold_single_head_qkv(*qkv, *out), None

        y = common.layer_norm("ln_1")(x).astype(self.dtype)
        values = common.affine(y, *qkv).reshape(B, T // W, W, -1, H, D // H)

        # T/W small attentions instead of one T×T attention under a block mask.
        q, v = values[:, :, :, 0], values[:, :, :, -1]
        k = y.reshape(q.shape) if H == 1 else values[:, :, :, 1]
        logits = common.einsum_f32("bnqhd,bnkhd->bnhqk", q, k)

        # A window of padding alone attends evenly: finite, and never read.
        mask = where.reshape(B, T // W, 1, 1, W)
        logits = jnp.where(mask, logits * (D // H) ** -0.5, -1e9)
        weights = jax.nn.softmax(logits).astype(self.dtype)
        y = jnp.einsum("bnhqk,bnkhd->bnqhd", weights, v).reshape(B, T, D)

        x = x + (y if out is None else common.affine(y, *out))
        return x + common.Mlp(self.dtype, name="mlp")(
            common.layer_norm("ln_2")(x).astype(self.dtype)
        )


def apply_blocks(
    blocks: Sequence[nn.Module], x: Array, *others: Array, remat: bool = False
) -> Array:
    """Passes `x` through blocks of one kind in sequence.

    With `remat` the backward pass stores only each block's input and recomputes the
    rest. It uses lax.scan: XLA on a CPU may otherwise hoist the recomputation of all
    blocks.
    """
    if not (remat and blocks) or blocks[0].is_initializing():
        for block in blocks:
            x = block(x, *others)
        return x

    # A scan runs one program for all blocks, on their stacked weights.
    weights = [block.variables["params"] for block in blocks]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *weights)
    kind = blocks[0].clone(parent=None, name=None)

    @jax.checkpoint
    def apply(x, weights):
        return kind.apply({"params": weights}, x, *others), None

    return jax.lax.scan(apply, x, stacked)[0]


class GraphConv(nn.Module):
    """Graph convolution gc(x, G) = G (x W) + residual (VadCLIP Eq. 4).

    The residual is x, or a convolution of x where the width changes. Beyond the ends of
    a video, the convolution sees zeros, or with `repeat_ends` its end snippets.
    """

    features: int
    dtype: Any = jnp.float32
    repeat_ends: bool = False

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T D"],
        graph: Float[Array, "#B T T"],
        where: Bool[Array, "B T"],
    ) -> Float[Array, "B T E"]:
        D = x.shape[-1]
        weight = self.param("weight", xavier, (D, self.features)).astype(self.dtype)

        # The residual keeps a snippet's features, which G would average away.
        residual = x
        if self.features != D:
            init = common.uniform(5 * D)
            conv = TemporalConv(
                self.features,
                size=5,
                dtype=self.dtype,
                kernel_init=init,
                bias_init=init,
                name="residual",
            )
            if self.repeat_ends:
                residual = conv(extend_ends(x, where, 2))[:, 2:-2]
            else:
                residual = conv(x)

        projected = common.product(x.astype(self.dtype), weight)
        return graph.astype(self.dtype) @ projected + residual


def similarity_graph(
    x: Float[Array, "B T D"], where: Bool[Array, "B T"]
) -> Float[Array, "B T T"]:
    """Similarity graph: row-softmax of the thresholded cosines of valid snippets.

    VadCLIP Eq. 2. Cosines up to 0.7 count as 0. Rows and columns of padding are zero.
    """
    x = normalise(x)
    cosine = common.einsum_f32("btd,bsd->bts", x, x)
    cosine = jnp.where(cosine > SIMILARITY_THRESHOLD, cosine, 0)

    # cos ≤ 1, so the exponential needs no running maximum.
    both = where[:, :, None] & where[:, None, :]
    weight = jnp.where(both, jnp.exp(cosine), 0)
    return weight / jnp.maximum(jnp.sum(weight, -1, keepdims=True), 1)


def extend_ends(
    x: Float[Array, "B T D"], where: Bool[Array, "B T"], by: int
) -> Float[Array, "B T2 D"]:
    """Extends videos by copies of their first and last valid snippet, `by` per end."""
    last = jnp.maximum(jnp.sum(where, -1)[:, None] - 1, 0)
    index = jnp.arange(-by, x.shape[1] + by)[None]
    return jnp.take_along_axis(x, jnp.clip(index, 0, last)[..., None], axis=1)


def distance_graph(T: int) -> Float[Array, "1 T T"]:
    """Distance graph exp(−|i − j| / e), not normalised (VadCLIP Eq. 3)."""
    t = jnp.arange(T, dtype=jnp.float32)
    return jnp.exp(-jnp.abs(t[:, None] - t[None]) / jnp.e)[None]


def row_normalised_graph(where: Bool[Array, "B T"]) -> Float[Array, "B T T"]:
    """Distance graph whose rows sum to 1 over the snippets of the mask (ours)."""
    graph = jnp.where(where[:, None], distance_graph(where.shape[1]), 0)
    return graph / jnp.maximum(jnp.sum(graph, -1, keepdims=True), 1e-6)


class LGTAdapter(nn.Module):
    """LGT adapter: positions, windowed attention, two graphs, one projection.

    Without `positions` and with `distance_graph="row_normalised"`, snippets of equal
    features have equal outputs: nothing tells a snippet's place in the window. The
    position table then stays zero; it keeps the form of released files.
    """

    layers: int
    window: int
    heads: int = 1
    use_local: bool = True
    use_graph: bool = True
    dtype: Any = jnp.float32
    remat: bool = False  # recomputes the blocks' activations in the backward pass
    positions: bool = True
    distance_graph: str = "released"

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T D"],
        length: Int[Array, "B"],
        where: Bool[Array, "B T"],
    ) -> Float[Array, "B T D"]:
        """Encodes snippets with their temporal context.

        Args:
          x: snippet features.
          length: valid snippets; the similarity graph sees no others.
          where: mask of `attention_mask`, for all other steps.
        """
        T, D = x.shape[1:]
        if T % self.window:
            raise InputError(
                f"attn_window {self.window} doesn't divide the {T} snippets of a "
                "window; choose a length that is a multiple of it"
            )

        # The position table fixes the window length T of a trained model.
        init = nn.initializers.normal(0.01) if self.positions else nn.initializers.zeros
        positions = self.param("frame_position_embeddings", init, (T, D))
        if self.positions:
            x = x + positions[None].astype(x.dtype)

        # Local context: attention inside windows.
        if self.use_local:
            window = self.window, self.heads, self.dtype
            names = [f"temporal_resblocks_{i}" for i in range(self.layers)]
            blocks = [WindowBlock(*window, name=name) for name in names]
            x = apply_blocks(blocks, x, where, remat=self.remat)

        # The released forward pass doesn't use it; released checkpoints contain it.
        self.param("disAdj_sigma", nn.initializers.ones, (1,))
        if not self.use_graph:
            return x

        # Global context: two graphs. Masked snippets are zeroed before every
        # convolution and graph, which would mix them in.
        keep = where[..., None].astype(x.dtype)
        x = x * keep
        valid = jnp.arange(T)[None] < length[:, None]
        even = self.distance_graph == "row_normalised"
        distance = row_normalised_graph(where) if even else distance_graph(T)
        graphs = similarity_graph(x, valid), distance

        Graph = nn.remat(GraphConv) if self.remat else GraphConv
        branches = []
        for i, graph in enumerate(graphs):
            y = x
            for j in (1, 2):
                conv = Graph(D // 2, self.dtype, even, name=f"gc{2 * i + j}")
                y = quick_gelu(conv(y, graph, where)) * keep
            branches.append(y)

        return common.linear(D, D, "linear", self.dtype)(jnp.concatenate(branches, -1))


class ClassifierBranch(nn.Module):
    """C-branch: anomaly logit Linear(v + mlp2(v)) of every snippet (VadCLIP Eq. 5).

    Args:
      dtype: type of the activations.
      init_scale: factor of the classifier's initial kernel. A kernel of full size
        ranks the snippets at random before anything is learnt. Top-k MIL trains only
        what ranks high, so it may never look at an event that starts low.
    """

    dtype: Any = jnp.float32
    init_scale: float = 1.0

    @nn.compact
    def __call__(self, v: Float[Array, "B T D"]) -> Float[Array, "B T"]:
        # The classifier is one column, by which v and mlp2(v) are multiplied separately.
        # So the second layer of mlp2 shrinks to a column too.
        init = common.uniform(v.shape[-1], self.init_scale)
        classifier = common.DenseParams(1, init, name="classifier")
        kernel, bias = classifier(v.shape[-1])
        logit = common.einsum_f32("btd,de->bte", v, kernel.astype(v.dtype))
        logit = logit + common.Mlp(self.dtype, name="mlp2")(v, output_projection=kernel)
        return logit[..., 0] + bias[None]


class AlignBranch(nn.Module):
    """A-branch: cosine logits of snippets and visually prompted class features."""

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
        # The sum is kept in float32: its terms have both signs, so rounding to half
        # precision would change its direction.
        prompt = normalise(jnp.einsum("bt,btd->bd", weight, v.astype(weight.dtype)))

        text = text[None] + prompt[:, None]  # [B, C, D], Eq. 6
        text = text + common.Mlp(self.dtype, name="mlp1")(text)  # Eq. 7
        return cosine_logits(v, text)


def cosine_logits(
    v: Float[Array, "B T D"], text: Float[Array, "B C D"]
) -> Float[Array, "B T C"]:
    """Logits cos(v_t, t_c) / 0.07, in float32."""
    v, text = (normalise(x.astype(jnp.float32)) for x in (v, text))
    return jnp.einsum("btd,bcd->btc", v, text) / TEMPERATURE


class PromptLearner(nn.Module):
    """Learnable prompt around the class names (VadCLIP Sec. 3.4, after CoOp).

    Positions: start token, 10 learned vectors, the name's tokens, 10 learned vectors,
    end token. All classes share one table of vectors, indexed by absolute position.
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
        # Each prompt position copies its embedding from a position of the plain name.
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

        # A class with several descriptions gets the mean of their features.
        x = text_features(text.params, hidden, eos[:, 0] + 2 * CONTEXT)
        x = jnp.asarray(text.class_from_prompt) @ x
        return normalise(x) if self.normalised else x
