"""SG-NM, the self-guided normality modelling of DSANet.

Yin et al., AAAI 2026, https://arxiv.org/abs/2511.10334.
prototypes read the least anomalous snippets  -> least_anomalous, CrossBlock
distance of those snippets to the prototypes  -> Normality, the term `gather`
snippets rebuilt from the prototypes alone    -> CrossBlock(rebuild=True)
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from wsvad_jax.clip.activations import gelu
from wsvad_jax.models import common, lgt_adapter, losses
from wsvad_jax.models.common import layer_norm

EPSILON = 1e-8  # ε of the layer norms
# Dense layers: truncated normal of deviation 0.01, cut at 0.03, bias 0.
SMALL = {
    "kernel_init": nn.initializers.truncated_normal(0.01, lower=-3.0, upper=3.0),
    "bias_init": nn.initializers.zeros,
}


class Normality(nn.Module):
    """SG-NM: normality prototypes of each video, and v reconstructed from them."""

    prototypes: int
    ratio: float
    depth: int
    heads: int
    dtype: Any
    remat: bool

    @nn.compact
    def __call__(
        self,
        v: Float[Array, "B T D"],
        score: Float[Array, "B T"],
        where: Bool[Array, "B T"],
    ) -> tuple[Float[Array, "B T D"], Float[Array, ""]]:
        """Returns the reconstruction of `v` and the gather distance."""
        u, chosen = least_anomalous(v, score, where, self.ratio)

        # The prototypes query the least anomalous snippets through one block.
        P, D = self.prototypes, v.shape[-1]
        table = self.param("video_prototypes", nn.initializers.normal(1.0), (P, D))
        p = CrossBlock(self.heads, False, self.dtype, name="dnp_extractor_0")(
            table[None].astype(self.dtype), u, chosen
        )

        # One product of normalised vectors instead of a [B, M, P, D] broadcast.
        distance = 1 - jnp.max(
            common.exact("bmd,bpd->bmp", losses.normalise(u), losses.normalise(p)), -1
        )
        distance = jnp.sum(jnp.where(chosen, distance, 0)) / jnp.sum(chosen)

        # No residual leads around the bottleneck and the decoder's attention, so only
        # features near the prototypes can be reconstructed.
        x = common.Mlp(self.dtype, initial=SMALL, name="bottleneck")(v)
        names = [f"decoder_{i}" for i in range(self.depth)]
        decoders = [CrossBlock(self.heads, True, self.dtype, name=n) for n in names]
        x = lgt_adapter.in_turn(decoders, x, p, remat=self.remat)
        return x, distance


def least_anomalous(
    v: Float[Array, "B T D"],
    score: Float[Array, "B T"],
    where: Bool[Array, "B T"],
    ratio: float,
) -> tuple[Float[Array, "B M D"], Bool[Array, "B M"]]:
    """The ⌊ratio · snippets⌋ lowest-scored snippets of each video, without gradient.

    M = ⌊ratio · T⌋; the mask is False where a video has fewer such snippets.
    """
    M = max(int(ratio * v.shape[1]), 1)
    counts = chosen_of(jnp.sum(where, -1), ratio)
    # Scores are at most 1, so 2 sorts masked snippets last.
    _, index = jax.lax.top_k(-jnp.where(where, jax.lax.stop_gradient(score), 2.0), M)
    u = jnp.take_along_axis(v, index[..., None], axis=1)
    return jax.lax.stop_gradient(u), jnp.arange(M)[None] < counts[:, None]


def chosen_of(snippets: Int[Array, "B"], ratio: float) -> Float[Array, "B"]:
    """Number of normal snippets of each video, ⌊ratio · snippets⌋ and at least 1."""
    # A float32 product would round 0.8 · 20 down to 15.
    return jnp.maximum(jnp.floor(ratio * snippets + 1e-4), 1)


class Attention(nn.Module):
    """Cross-attention: softmax over the keys, or ReLU of scaled cosines."""

    heads: int
    linear: bool
    dtype: Any

    @nn.compact
    def __call__(
        self,
        queries: Float[Array, "#B Q D"],
        keys: Float[Array, "B K D"],
        where: Bool[Array, "B K"] | None = None,
    ) -> Float[Array, "B Q D"]:
        D, H, K = queries.shape[-1], self.heads, keys.shape[1]
        common.check_heads(H, D, "decoder_heads")
        project = functools.partial(nn.Dense, dtype=self.dtype, **SMALL)
        q = project(D, name="q")(queries)
        kv = project(2 * D, name="kv")(keys)

        # Heads stay an axis of the matrix products, so no array is transposed.
        q = q.reshape(*q.shape[:2], H, D // H)
        k, v = jnp.split(kv.reshape(*kv.shape[:2], 2 * H, D // H), 2, axis=2)

        # The decoder weighs the prototypes by cosines: no softmax, so all weights may
        # be 0.
        if self.linear:
            scale = self.param("learn_scale", nn.initializers.ones, (H, 1, 1))
            q, k = losses.normalise(q), losses.normalise(k)
            logits = jnp.einsum("bqhd,bkhd->bhqk", q, k)
            weights = nn.relu(logits * scale[None].astype(self.dtype))
        # The prototypes read the snippets by ordinary softmax attention.
        else:
            q = jnp.broadcast_to(q, (len(k), *q.shape[1:]))
            logits = common.exact("bqhd,bkhd->bhqk", q, k) * (D // H) ** -0.5
            if where is not None:
                logits = jnp.where(where[:, None, None], logits, -1e9)
            weights = jax.nn.softmax(logits).astype(self.dtype)

        kernel, bias = common.Affine(D, **SMALL, name="proj")(D)
        if H * K >= D:
            x = jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(*q.shape[:2], D)
            return common.affine(x, kernel, bias)

        # Few keys and many queries: projecting the values first takes fewer products.
        v = jnp.einsum("bkhd,hde->bhke", v, kernel.astype(v.dtype).reshape(H, -1, D))
        x = jnp.einsum("bhqk,bhke->bqe", weights, v)
        return x + bias.astype(x.dtype)[None, None]


class CrossBlock(nn.Module):
    """Cross-attention to keys under one shared LayerNorm, then an MLP.

    Args:
      heads: number of attention heads.
      rebuild: True for the decoder, with linear attention and no residual around it.
      dtype: type of the activations.
    """

    heads: int
    rebuild: bool
    dtype: Any

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "#B Q D"],
        keys: Float[Array, "B K D"],
        where: Bool[Array, "B K"] | None = None,
    ) -> Float[Array, "B Q D"]:
        norm1 = layer_norm("norm1", EPSILON)  # shared by queries and keys, as released
        attention = Attention(self.heads, self.rebuild, self.dtype, name="attn")
        y = attention(
            norm1(x).astype(self.dtype), norm1(keys).astype(self.dtype), where
        )
        x = y if self.rebuild else x + y

        y = layer_norm("norm2", EPSILON)(x).astype(self.dtype)
        mlp = common.Mlp(self.dtype, ("fc1", "fc2"), gelu, SMALL, name="mlp")
        return x + mlp(y)
