"""DSANet: Yin et al., AAAI 2026, https://arxiv.org/abs/2511.10334.

Decoupled semantics: VadCLIP's encoder and two heads (layers.py) with
  text adapter (adapter=True)       -> TextAdapter
  DCSA, decoupled contrastive       -> decoupled_logits, and the terms `event` and
  semantic alignment (dcsa=True)       `background` of loss_fn
  SG-NM, self-guided normality      -> Normality, and the terms `consistency` and
  modelling (sgnm=True)                `gather` of loss_fn
  inference                         -> scores
Each switch gives a row of the paper's ablation. With adapter=False the prompts are
learned as in VadCLIP. SG-NM exists in training only.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Bool, Float, Int, Num

from wsvad_jax import losses
from wsvad_jax.clip.activations import gelu
from wsvad_jax.clip.prompts import TextInputs
from wsvad_jax.clip.towers import CLIPText, end_token
from wsvad_jax.models import layers
from wsvad_jax.models.layers import layer_norm

SHARPNESS = 10.0  # of DCSA's event and background weights
SATURATED = 30.0  # DCSA tells logits beyond these apart no more
LABEL_SMOOTHING = 0.1
EPSILON = 1e-8  # of SG-NM's layer norms
BACKGROUND_SHARE = 0.01  # of each anomaly class in the background's target
# SG-NM's dense layers: truncated normal of deviation 0.01, cut at 0.03, bias 0.
SMALL = {
    "kernel_init": nn.initializers.truncated_normal(0.01, lower=-3.0, upper=3.0),
    "bias_init": nn.initializers.zeros,
}


@struct.dataclass
class Outputs:
    """What the losses and the scores need; parts that are switched off are None."""

    anomaly_logits: Float[Array, "B T"]
    align_logits: Float[Array, "B T C"]
    text: Float[Array, "C D"]
    visual: Float[Array, "B T D"]
    event_logits: Float[Array, "B C"] | None = None
    background_logits: Float[Array, "B C"] | None = None
    reconstructed: Float[Array, "B T D"] | None = None
    gather_distance: Float[Array, ""] | None = None
    temperature: float = struct.field(pytree_node=False, default=1.0)


class Model(nn.Module):
    """Encoder, two heads, text adapter, DCSA and SG-NM.

    `text_adapt_until` blocks of the text tower are adapted with weight
    `text_adapt_weight` (ω); `normality_ratio` of the snippets, the least anomalous,
    are gathered into `prototypes` prototypes; `temperature` is τ of the scores.
    """

    visual_layers: int = 2
    visual_heads: int = 1
    attn_window: int = 8
    text_adapt_until: int = 3
    text_adapt_weight: float = 0.1
    prototypes: int = 16
    normality_ratio: float = 0.8
    decoder_layers: int = 8
    decoder_heads: int = 8
    temperature: float = 5.0
    adapter: bool = True
    dcsa: bool = True
    sgnm: bool = True
    mask_padding: bool = False
    dtype: Any = "float32"
    remat: bool = False

    @nn.compact
    def __call__(
        self,
        features: Num[Array, "B 1 T D"],
        length: Int[Array, "B"],
        text: TextInputs | Float[Array, "C D"],
        *,
        train: bool,
    ) -> Outputs:
        """Scores the snippets of B videos.

        Args:
          features: one crop of snippet features a video, zero past `length`.
          length: valid snippets.
          text: the class prompts with the frozen text tower, or the class features
            that `encode_text` made of them.
          train: adds what only the objective needs.
        """
        T = features.shape[2]
        dtype = jnp.dtype(self.dtype)
        where = layers.participants(length, T, self.mask_padding)
        x = features[:, 0].astype(dtype)
        v = layers.Encoder(
            self.visual_layers,
            self.attn_window,
            self.visual_heads,
            dtype=dtype,
            remat=self.remat,
            name="encoder",
        )(x, length, where)
        a = layers.ClassifierBranch(dtype, name="classifier_branch")(v)
        encoder = self._text_encoder(v.shape[-1], name="clip_adapter")
        classes = encoder(text) if isinstance(text, TextInputs) else text
        m = layers.AlignBranch(dtype, name="align_branch")(v, a, classes, where)
        event = background = v_hat = gather = None
        if train and self.dcsa:
            event, background = decoupled_logits(v, a, classes, where)
        if train and self.sgnm:
            normality = Normality(
                self.prototypes,
                self.normality_ratio,
                self.decoder_layers,
                self.decoder_heads,
                dtype,
                self.remat,
                name="video_anomaly_refiner",
            )
            v_hat, gather = normality(v, jax.nn.sigmoid(a), where)
        return Outputs(
            a, m, classes, v, event, background, v_hat, gather, self.temperature
        )

    def encode_text(
        self, params: Mapping[str, Any], text: TextInputs
    ) -> Float[Array, "C D"]:
        """Class features, which don't depend on the videos: once a step or scoring."""
        D = params["encoder"]["frame_position_embeddings"].shape[-1]
        encoder = self._text_encoder(D, parent=None)
        return encoder.apply({"params": params["clip_adapter"]}, text)

    def _text_encoder(self, D: int, **kwargs) -> Any:
        if self.adapter:
            adapted = self.text_adapt_until, self.text_adapt_weight
            return TextAdapter(D, *adapted, self.dtype, **kwargs)
        return layers.PromptLearner(True, self.dtype, **kwargs)


class TextAdapter(nn.Module):
    """Adapts the first blocks of the frozen text tower; replaces its projection."""

    features: int
    until: int
    weight: float
    dtype: Any

    @nn.compact
    def __call__(self, text: TextInputs) -> Float[Array, "C D"]:
        width = text.config.hidden_size

        def dense(i, features):
            name = f"text_adapter_{i}_fc_0"
            kwargs = {"dtype": self.dtype, "kernel_init": layers.xavier}
            return nn.Dense(features, use_bias=False, name=name, **kwargs)

        blocks = [dense(i, width) for i in range(self.until)]
        projection = dense(self.until, self.features)

        def adapt(i: int, x: Array) -> Array:
            if i >= self.until:
                return x
            h = nn.leaky_relu(blocks[i](x), 0.01)
            h = h * losses.norm(x) / (losses.norm(h) + 1e-6)
            return (self.weight * h + (1 - self.weight) * x).astype(x.dtype)

        tower = CLIPText(text.config, self.dtype, parent=None)
        hidden: Any = tower.apply(
            {"params": text.params["text_model"]}, text.tokens, adapt=adapt
        )
        x = nn.leaky_relu(projection(end_token(hidden, text.eos)), 0.01)
        return losses.normalise(jnp.asarray(text.owner) @ x)


def decoupled_logits(
    v: Float[Array, "B T D"],
    anomaly_logits: Float[Array, "B T"],
    text: Float[Array, "C D"],
    where: Bool[Array, "B T"],
) -> tuple[Float[Array, "B C"], Float[Array, "B C"]]:
    """DCSA: class logits of a video's event and of its background.

    Snippets are pooled by exp(10 σ) − 1 and exp(10 (1 − σ)) − 1, each L1-normalised
    over time (the released form; the paper writes softmax and 1 − softmax).
    """
    # Where all of a video's scores round to 0 or 1 the release divides 0 by 0; within
    # these bounds the sum of the weights and its gradient stay finite.
    a = jnp.clip(anomaly_logits, -SATURATED, SATURATED)

    def logits(score):
        weight = jnp.where(where, jnp.expm1(SHARPNESS * score), 0)
        weight = weight / jnp.sum(weight, -1, keepdims=True)
        pooled = jnp.einsum("bt,btd->bd", weight, v.astype(jnp.float32))
        return losses.normalise(pooled) @ losses.normalise(text).T / layers.TEMPERATURE

    return logits(jax.nn.sigmoid(a)), logits(jax.nn.sigmoid(-a))


class Normality(nn.Module):
    """SG-NM: prototypes of the video's own normality, and v rebuilt from them."""

    prototypes: int
    ratio: float
    layers: int
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
        P, D = self.prototypes, v.shape[-1]
        table = self.param("video_prototypes", nn.initializers.normal(1.0), (P, D))
        p = CrossBlock(self.heads, False, self.dtype, name="dnp_extractor_0")(
            table[None].astype(self.dtype), u, chosen
        )
        distance = 1 - jnp.max(
            layers.exact("bmd,bpd->bmp", losses.normalise(u), losses.normalise(p)), -1
        )
        distance = jnp.sum(jnp.where(chosen, distance, 0)) / jnp.sum(chosen)
        x = layers.Mlp(self.dtype, init=SMALL, name="bottleneck")(v)  # no residual
        names = [f"decoder_{i}" for i in range(self.layers)]
        decoders = [CrossBlock(self.heads, True, self.dtype, name=n) for n in names]
        x = layers.in_turn(decoders, x, p, remat=self.remat)
        return x, distance


def least_anomalous(
    v: Float[Array, "B T D"],
    score: Float[Array, "B T"],
    where: Bool[Array, "B T"],
    ratio: float,
) -> tuple[Float[Array, "B M D"], Bool[Array, "B M"]]:
    """A video's ⌊ratio · snippets⌋ lowest-scored snippets, without gradient.

    M is sized by T; the mask says which of them a video with fewer snippets fills.
    """
    M = max(int(ratio * v.shape[1]), 1)
    # A float32 product would round 0.8 · 20 down to 15.
    counts = jnp.maximum(jnp.floor(ratio * jnp.sum(where, -1) + 1e-4), 1)
    _, index = jax.lax.top_k(-jnp.where(where, jax.lax.stop_gradient(score), 2.0), M)
    u = jnp.take_along_axis(v, index[..., None], axis=1)
    return jax.lax.stop_gradient(u), jnp.arange(M)[None] < counts[:, None]


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
        D, H = queries.shape[-1], self.heads
        dense = functools.partial(nn.Dense, dtype=self.dtype, **SMALL)
        q = dense(D, name="q")(queries)
        kv = dense(2 * D, name="kv")(keys)
        # Heads stay an axis of the matrix products; nothing is transposed in memory.
        q = q.reshape(*q.shape[:2], H, D // H)
        k, v = jnp.split(kv.reshape(*kv.shape[:2], 2 * H, D // H), 2, axis=2)
        if self.linear:
            scale = self.param("learn_scale", nn.initializers.ones, (H, 1, 1))
            q, k = losses.normalise(q), losses.normalise(k)
            logits = jnp.einsum("bqhd,bkhd->bhqk", q, k)
            weights = nn.relu(logits * scale[None].astype(self.dtype))
        else:
            q = jnp.broadcast_to(q, (len(k), *q.shape[1:]))
            logits = layers.exact("bqhd,bkhd->bhqk", q, k) * (D // H) ** -0.5
            if where is not None:
                logits = jnp.where(where[:, None, None], logits, -1e9)
            weights = jax.nn.softmax(logits).astype(self.dtype)
        x = jnp.einsum("bhqk,bkhd->bqhd", weights, v)
        return dense(D, name="proj")(x.reshape(*x.shape[:2], D))


class CrossBlock(nn.Module):
    """Attention to keys under one LayerNorm, then an MLP.

    With `rebuild`, as the decoder has it: linear attention and no residual around it,
    so that the result consists of the keys alone.
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
        norm1 = layer_norm("norm1", EPSILON)  # of queries and keys, as released
        attention = Attention(self.heads, self.rebuild, self.dtype, name="attn")
        y = attention(
            norm1(x).astype(self.dtype), norm1(keys).astype(self.dtype), where
        )
        x = y if self.rebuild else x + y
        y = layer_norm("norm2", EPSILON)(x).astype(self.dtype)
        mlp = layers.Mlp(self.dtype, ("fc1", "fc2"), gelu, SMALL, name="mlp")
        return x + mlp(y)


def loss_fn(
    outputs: Outputs, batch: losses.Bags, weights: Mapping[str, float]
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """The objective and its terms.

    Args:
      outputs: of a training forward pass.
      batch: `label` [B, C] multi-hot and `length` [B].
      weights: of the terms; λ is `align`, which the paper sets to 1 without SG-NM.
    """
    label, length = batch.label, batch.length
    terms = {
        "mil": losses.mil_top_k(outputs.anomaly_logits, label, length),
        "align": losses.mil_align(outputs.align_logits, label, length),
        "text": losses.text_contrast(outputs.text),
    }
    if outputs.event_logits is not None and outputs.background_logits is not None:
        event, background = decoupled_targets(label)
        terms["event"] = losses.soft_cross_entropy(outputs.event_logits, event)
        terms["background"] = losses.soft_cross_entropy(
            outputs.background_logits, background
        )
    weights = dict(weights)
    if outputs.reconstructed is None or outputs.gather_distance is None:
        weights["align"] = 1.0
    else:
        terms["consistency"] = consistency(outputs, outputs.reconstructed, length)
        terms["gather"] = outputs.gather_distance
    total = jnp.asarray(sum(weights[name] * term for name, term in terms.items()))
    return total, terms


def decoupled_targets(
    label: Float[Array, "B C"],
) -> tuple[Float[Array, "B C"], Float[Array, "B C"]]:
    """DCSA's smoothed targets: the label for the event, mostly normal behind it."""
    base = jnp.full_like(label, BACKGROUND_SHARE).at[:, 0].set(1.0)
    base = base / jnp.sum(base, -1, keepdims=True)
    return (
        losses.smooth_target(losses.normalise_label(label), LABEL_SMOOTHING),
        losses.smooth_target(base, LABEL_SMOOTHING),
    )


def consistency(
    outputs: Outputs, v_hat: Float[Array, "B T D"], length: Int[Array, "B"]
) -> Float[Array, ""]:
    """Mean over valid snippets of (σ(a) − (1 − cos(v, v̂)) / 2)²."""
    v, v_hat = (
        losses.normalise(x.astype(jnp.float32)) for x in (outputs.visual, v_hat)
    )
    error = (1 - jnp.sum(v * v_hat, -1)) / 2
    valid = jnp.arange(v.shape[1])[None] < length[:, None]
    square = jnp.square(jax.nn.sigmoid(outputs.anomaly_logits) - error)
    return jnp.sum(jnp.where(valid, square, 0)) / jnp.sum(valid)


def scores(outputs: Outputs) -> dict[str, Array]:
    """Anomaly scores and class probabilities of snippets, refined by τ.

    `anomaly` is σ(a / τ); `classes` is [1 − p, p · split], with p = `anomaly` and the
    split over the anomaly classes taken from softmax(M / τ); `anomaly_align` is the
    alignment branch's 1 − softmax(M)_0.
    """
    tau = outputs.temperature
    p = jax.nn.sigmoid(outputs.anomaly_logits / tau)
    split = jax.nn.softmax(outputs.align_logits / tau)[..., 1:]
    split = split / (jnp.sum(split, -1, keepdims=True) + 1e-12)
    return {
        "anomaly": p,
        "classes": jnp.concatenate([1 - p[..., None], p[..., None] * split], -1),
        "anomaly_align": 1 - jax.nn.softmax(outputs.align_logits)[..., 0],
    }
