"""DSANet: Yin et al., AAAI 2026, https://arxiv.org/abs/2511.10334.

VadCLIP's encoder, C-branch and A-branch, plus three additions. Equation numbers are
VadCLIP's (https://arxiv.org/abs/2308.11681); DSANet's own terms go by name.
  encoder (VadCLIP Eq. 1 to 4)            -> lgt_adapter.LGTAdapter
  C-branch (VadCLIP Eq. 5)                -> lgt_adapter.ClassifierBranch
  A-branch (VadCLIP Eq. 6 and 7)          -> lgt_adapter.AlignBranch
  text adapter (adapter=True)             -> TextAdapter
  decoupled contrastive semantic          -> decoupled_logits, decoupled_targets, the
    alignment, DCSA (dcsa=True)              terms `event` and `background` of loss_fn
  self-guided normality modelling,        -> Normality, the terms `consistency` and
    SG-NM (sgnm=True)                        `gather` of loss_fn
    prototypes attend to normal snippets  -> least_anomalous, CrossBlock
    reconstruction from prototypes alone  -> CrossBlock(reconstruct=True), consistency
  term `mil` (VadCLIP Eq. 11)             -> losses.mil_top_k
  term `align` (VadCLIP Eq. 8 to 10)      -> losses.mil_align
  term `text` (VadCLIP Eq. 12)            -> losses.text_contrast
  inference                               -> scores
  optimiser of SG-NM's parameters         -> wsvad_jax.training.optim.stable_adamw
The switches reproduce the ablation (Table 5). With adapter=False the prompts are
learned as in VadCLIP. SG-NM exists in training only.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Bool, Float, Int, Num

from wsvad_jax.clip.activations import gelu
from wsvad_jax.clip.prompts import TextInputs
from wsvad_jax.clip.towers import CLIPText, end_token
from wsvad_jax.models import common, cross_pseudo, lgt_adapter, losses, released
from wsvad_jax.models.losses import LabelledBatch
from wsvad_jax.models.scores import SnippetScores
from wsvad_jax.models.spec import ModelSpec

FIELD_RANGES = lgt_adapter.FIELD_RANGES | {
    "text_adapt_until": "[0, inf)",
    "text_adapt_weight": "[0, 1]",
    "prototypes": "[1, inf)",
    "normality_ratio": "(0, 1]",
    "decoder_layers": "[1, inf)",
    "decoder_heads": "[1, inf)",
    "temperature": "(0, inf)",
}
TERMS = ("mil", "align", "text", "event", "background", "consistency", "gather")
SHARPNESS = 10.0  # factor in the exponent of DCSA's pooling weights
MAX_DCSA_LOGIT = 30.0  # bound of the anomaly logits in DCSA
LABEL_SMOOTHING = 0.1
BACKGROUND_ANOMALY_WEIGHT = 0.01  # of each anomaly class in the background target
SGNM_EPSILON = 1e-8  # ε of SG-NM's layer norms
# SG-NM's dense layers: truncated normal of deviation 0.01, cut at 0.03, bias 0.
SGNM_INIT = {
    "kernel_init": nn.initializers.truncated_normal(0.01, lower=-3.0, upper=3.0),
    "bias_init": nn.initializers.zeros,
}


@struct.dataclass
class Outputs:
    """Logits and features of all components; None where switched off."""

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

    Args:
      visual_layers: number of transformer blocks of the encoder.
      visual_heads: number of attention heads of the encoder.
      attn_window: snippets W per window of local attention.
      use_graph: False drops the graph convolutions.
      text_adapt_until: number of adapted blocks of the text tower.
      text_adapt_weight: weight ω of the adapted features.
      prototypes: number P of normality prototypes.
      normality_ratio: fraction of snippets, lowest scores first, for the prototypes.
      decoder_layers: number of decoder blocks of SG-NM.
      decoder_heads: number of attention heads of SG-NM.
      temperature: temperature τ of the scores.
      adapter: False learns prompts as in VadCLIP instead of the text adapter.
      dcsa: False drops DCSA.
      sgnm: False drops SG-NM.
      classifier_init_scale: factor of the C-branch's initial kernel; released: 1.
      mask_padding: True hides padding from attention, distance graph and pooling.
      positions: False drops the learned positions.
      distance_graph: released, or row_normalised: its rows sum to 1.
      dtype: type of the activations.
      remat: True recomputes the blocks' activations in the backward pass.
    """

    visual_layers: int = 2
    visual_heads: int = 1
    attn_window: int = 8
    use_graph: bool = True
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
    classifier_init_scale: float = 1.0
    mask_padding: bool = False
    positions: bool = True
    distance_graph: str = "released"
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
          features: snippet features, one crop per video, zero past `length`.
          length: valid snippets.
          text: class prompts with the frozen text tower, or features of `encode_text`.
          train: True adds the outputs that only the objective reads.
        """
        T, dtype = features.shape[2], jnp.dtype(self.dtype)
        where = lgt_adapter.attention_mask(length, T, self.mask_padding)

        # VadCLIP's encoder and C-branch
        x = features[:, 0].astype(dtype)
        v = lgt_adapter.LGTAdapter(
            self.visual_layers,
            self.attn_window,
            self.visual_heads,
            use_graph=self.use_graph,
            dtype=dtype,
            remat=self.remat,
            positions=self.positions,
            distance_graph=self.distance_graph,
            name="encoder",
        )(x, length, where)
        scale = self.classifier_init_scale
        a = lgt_adapter.ClassifierBranch(dtype, scale, name="classifier_branch")(v)

        # `text` may hold class features already; see `encode_text`.
        text_encoder = self._text_encoder(v.shape[-1], name="clip_adapter")
        classes = text_encoder(text) if isinstance(text, TextInputs) else text
        M = lgt_adapter.AlignBranch(dtype, name="align_branch")(v, a, classes, where)

        # Inference needs neither DCSA nor SG-NM.
        event = background = v_hat = gather = None
        if train and self.dcsa:
            event, background = decoupled_logits(v, a, classes, where)
        if train and self.sgnm:
            sizes = self.prototypes, self.normality_ratio, self.decoder_layers
            normality = Normality(
                *sizes, self.decoder_heads, dtype, self.remat,
                name="video_anomaly_refiner",
            )  # fmt: skip
            v_hat, gather = normality(v, jax.nn.sigmoid(a), where)

        return Outputs(
            a, M, classes, v, event, background, v_hat, gather, self.temperature
        )

    def encode_text(
        self, params: Mapping[str, Any], text: TextInputs
    ) -> Float[Array, "C D"]:
        """Returns the class features; they don't depend on the videos."""
        D = params["encoder"]["frame_position_embeddings"].shape[-1]
        encoder = self._text_encoder(D, parent=None)
        return encoder.apply({"params": params["clip_adapter"]}, text)

    def _text_encoder(self, D: int, **kwargs) -> Any:
        if self.adapter:
            blocks, weight = self.text_adapt_until, self.text_adapt_weight
            return TextAdapter(D, blocks, weight, self.dtype, **kwargs)
        return lgt_adapter.PromptLearner(True, self.dtype, **kwargs)


class TextAdapter(nn.Module):
    """Trainable adapter of the frozen text tower, in place of its text projection.

    After each of the first blocks, h = LeakyReLU(W x) is scaled to the norm of x, and x
    becomes ω h + (1 − ω) x.

    Args:
      features: width of the class features.
      num_adapted_blocks: number of adapted blocks.
      weight: weight ω of the adapted features.
      dtype: type of the activations.
    """

    features: int
    num_adapted_blocks: int
    weight: float
    dtype: Any

    @nn.compact
    def __call__(self, text: TextInputs) -> Float[Array, "C D"]:
        width = text.config.hidden_size

        def dense(i, size):
            name = f"text_adapter_{i}_fc_0"
            kwargs = {"dtype": self.dtype, "kernel_init": lgt_adapter.xavier}
            return common.Dense(size, use_bias=False, name=name, **kwargs)

        blocks = [dense(i, width) for i in range(self.num_adapted_blocks)]
        projection = dense(self.num_adapted_blocks, self.features)

        def adapt(i: int, x: Array) -> Array:
            if i >= self.num_adapted_blocks:
                return x
            # With equal norms, ω alone sets the adapter's influence.
            h = nn.leaky_relu(blocks[i](x), 0.01)
            h = h * losses.norm(x) / (losses.norm(h) + 1e-6)
            return (self.weight * h + (1 - self.weight) * x).astype(x.dtype)

        tower = CLIPText(text.config, self.dtype, parent=None)
        hidden: Any = tower.apply(
            {"params": text.params["text_model"]}, text.tokens, adapt=adapt
        )

        x = nn.leaky_relu(projection(end_token(hidden, text.eos)), 0.01)
        # A class with several descriptions gets the mean of their features.
        return losses.normalise(jnp.asarray(text.class_from_prompt) @ x)


def decoupled_logits(
    v: Float[Array, "B T D"],
    anomaly_logits: Float[Array, "B T"],
    text: Float[Array, "C D"],
    where: Bool[Array, "B T"],
) -> tuple[Float[Array, "B C"], Float[Array, "B C"]]:
    """DCSA: class logits of a video's event and of its background.

    The event pools snippets with weights exp(10 σ) − 1, the background with
    exp(10 (1 − σ)) − 1, each L1-normalised over time. This is the released form; the
    paper writes softmax and 1 − softmax.
    """
    # The release divides 0 by 0 where all scores of a video round to 0 or 1. These
    # bounds keep the sum of the weights and its gradient finite.
    a = jnp.clip(anomaly_logits, -MAX_DCSA_LOGIT, MAX_DCSA_LOGIT)

    def logits(score):
        # expm1 is exact for scores near 0, where the weight should vanish.
        weight = jnp.where(where, jnp.expm1(SHARPNESS * score), 0)
        weight = weight / jnp.sum(weight, -1, keepdims=True)
        pooled = jnp.einsum("bt,btd->bd", weight, v.astype(jnp.float32))
        cosine = losses.normalise(pooled) @ losses.normalise(text).T
        return cosine / lgt_adapter.TEMPERATURE

    return logits(jax.nn.sigmoid(a)), logits(jax.nn.sigmoid(-a))


class Normality(nn.Module):
    """SG-NM: normality prototypes of each video, and features rebuilt from them."""

    prototypes: int
    normality_ratio: float
    decoder_layers: int
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
        u, chosen = least_anomalous(v, score, where, self.normality_ratio)

        # The prototypes query the least anomalous snippets through one block.
        P, D = self.prototypes, v.shape[-1]
        table = self.param("video_prototypes", nn.initializers.normal(1.0), (P, D))
        p = CrossBlock(self.heads, False, self.dtype, name="dnp_extractor_0")(
            table[None].astype(self.dtype), u, chosen
        )

        # A cosine distance by einsum avoids an array [B, M, P, D].
        distance = 1 - jnp.max(
            common.einsum_f32("bmd,bpd->bmp", losses.normalise(u), losses.normalise(p)),
            -1,
        )
        gather_distance = jnp.sum(jnp.where(chosen, distance, 0)) / jnp.sum(chosen)

        # Bottleneck and decoder attention have no residual connection: with one, v
        # could be copied instead of rebuilt from the prototypes.
        x = common.Mlp(self.dtype, initial=SGNM_INIT, name="bottleneck")(v)
        names = [f"decoder_{i}" for i in range(self.decoder_layers)]
        decoders = [CrossBlock(self.heads, True, self.dtype, name=n) for n in names]
        x = lgt_adapter.apply_blocks(decoders, x, p, remat=self.remat)
        return x, gather_distance


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
    counts = num_normal_snippets(jnp.sum(where, -1), ratio)
    # Scores are at most 1, so 2 sorts masked snippets last.
    _, index = jax.lax.top_k(-jnp.where(where, jax.lax.stop_gradient(score), 2.0), M)
    u = jnp.take_along_axis(v, index[..., None], axis=1)
    return jax.lax.stop_gradient(u), jnp.arange(M)[None] < counts[:, None]


def num_normal_snippets(snippets: Int[Array, "B"], ratio: float) -> Float[Array, "B"]:
    """Returns max(⌊ratio · snippets⌋, 1), each video's normal snippets, as float32."""
    # A float32 product would round 0.8 · 20 down to 15.
    return jnp.maximum(jnp.floor(ratio * snippets + 1e-4), 1)


class CrossBlock(nn.Module):
    """Cross-attention block. Queries and keys share one LayerNorm.

    Args:
      heads: number of attention heads.
      reconstruct: True for the decoder, with linear attention and no residual around it.
      dtype: type of the activations.
    """

    heads: int
    reconstruct: bool
    dtype: Any

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "#B Q D"],
        keys: Float[Array, "B K D"],
        where: Bool[Array, "B K"] | None = None,
    ) -> Float[Array, "B Q D"]:
        # Queries and keys share the norm, as in the released code.
        norm1 = common.layer_norm("norm1", SGNM_EPSILON)
        attention = common.CrossAttention(
            self.heads, self.reconstruct, self.dtype, SGNM_INIT, name="attn"
        )
        y = attention(
            norm1(x).astype(self.dtype), norm1(keys).astype(self.dtype), where
        )
        x = y if self.reconstruct else x + y

        y = common.layer_norm("norm2", SGNM_EPSILON)(x).astype(self.dtype)
        mlp = common.Mlp(self.dtype, ("fc1", "fc2"), gelu, SGNM_INIT, name="mlp")
        return x + mlp(y)


def loss_fn(
    outputs: Outputs,
    batch: LabelledBatch,
    weights: Mapping[str, float],
    term_weights: Mapping[str, Any] | None = None,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """The objective and its terms.

    Args:
      outputs: outputs of a training forward pass.
      batch: `label` [B, C] multi-hot and `length` [B].
      weights: weight of each term; `align` is the paper's λ, which is set to 1 if
        SG-NM is off.
      term_weights: weight of this microbatch in each term's full-batch mean; None for
        a full batch.
    """
    label, length = batch.label, batch.length
    terms = {
        "mil": losses.mil_top_k(outputs.anomaly_logits, label, length),
        "align": losses.mil_align(outputs.align_logits, label, length),
        "text": losses.text_contrast(outputs.text),
        **cross_pseudo.terms(outputs, batch, weights),
    }

    if outputs.event_logits is not None and outputs.background_logits is not None:
        event, background = decoupled_targets(label)
        terms["event"] = losses.soft_cross_entropy(outputs.event_logits, event)
        terms["background"] = losses.soft_cross_entropy(
            outputs.background_logits, background
        )

    weights = dict(weights)
    if outputs.reconstructed is None or outputs.gather_distance is None:
        # The paper's λ balances SG-NM's terms, so it is 1 without them.
        weights["align"] = 1.0
    else:
        terms["consistency"] = consistency(outputs, outputs.reconstructed, length)
        terms["gather"] = outputs.gather_distance
    return losses.weighted(terms, weights, term_weights)


def microbatch_term_weights(
    model: Model, microbatch: LabelledBatch, batch: LabelledBatch
) -> dict[str, Any]:
    """Weight of a microbatch in the full-batch mean of each term.

    Terms are means over videos, `consistency` and `gather` over (chosen) snippets.
    """

    def fraction(count: Callable[[Int[Array, "B"]], Array]) -> Float[Array, ""]:
        return jnp.sum(count(microbatch.length)) / jnp.sum(count(batch.length))

    of_videos: Any = len(microbatch.length) / len(batch.length)
    weights: dict[str, Any] = dict.fromkeys((*TERMS, cross_pseudo.TERM), of_videos)
    weights["consistency"] = fraction(lambda length: length)
    # Without `mask_padding`, all videos have the same count.
    if model.mask_padding:
        weights["gather"] = fraction(
            lambda n: num_normal_snippets(n, model.normality_ratio)
        )
    return weights


def decoupled_targets(
    label: Float[Array, "B C"],
) -> tuple[Float[Array, "B C"], Float[Array, "B C"]]:
    """DCSA's smoothed targets of the event (the label) and the background (normal)."""
    # The background is normal, with weight 0.01 for each anomaly class.
    base = jnp.full_like(label, BACKGROUND_ANOMALY_WEIGHT).at[:, 0].set(1.0)
    base = base / jnp.sum(base, -1, keepdims=True)
    return (
        losses.smooth_target(losses.normalise_label(label), LABEL_SMOOTHING),
        losses.smooth_target(base, LABEL_SMOOTHING),
    )


def consistency(
    outputs: Outputs, v_hat: Float[Array, "B T D"], length: Int[Array, "B"]
) -> Float[Array, ""]:
    """Mean over valid snippets of (σ(a) − (1 − cos(v, v̂)) / 2)²."""
    # Maps a cosine in [−1, 1] to an error in [0, 1], as a score is.
    v, v_hat = (
        losses.normalise(x.astype(jnp.float32)) for x in (outputs.visual, v_hat)
    )
    error = (1 - jnp.sum(v * v_hat, -1)) / 2
    valid = jnp.arange(v.shape[1])[None] < length[:, None]
    square = jnp.square(jax.nn.sigmoid(outputs.anomaly_logits) - error)
    return jnp.sum(jnp.where(valid, square, 0)) / jnp.sum(valid)


def scores(outputs: Outputs) -> SnippetScores:
    """Returns anomaly scores and class probabilities of snippets, with temperature τ.

    anomaly: p = σ(a / τ).
    classes: [1 − p, p · q], where q is softmax(M / τ) without class 0, renormalised.
      They sum to 1 and agree with the anomaly score.
    branches["align"]: 1 − softmax(M)_0 of the A-branch.
    """
    tau = outputs.temperature
    p = jax.nn.sigmoid(outputs.anomaly_logits / tau)
    q = jax.nn.softmax(outputs.align_logits / tau)[..., 1:]
    q = q / (jnp.sum(q, -1, keepdims=True) + 1e-12)

    return SnippetScores(
        anomaly=p,
        classes=jnp.concatenate([1 - p[..., None], p[..., None] * q], -1),
        branches={"align": 1 - jax.nn.softmax(outputs.align_logits)[..., 0]},
    )


SPEC = ModelSpec(
    name="dsanet",
    title="DSANet",
    citation="Yin et al., AAAI 2026, https://arxiv.org/abs/2511.10334",
    Model=Model,
    loss_fn=loss_fn,
    scores=scores,
    field_ranges=FIELD_RANGES,
    microbatch_term_weights=microbatch_term_weights,
    reads_text=True,
    window_field="attn_window",
    width_axis=("encoder/frame_position_embeddings", 1),
    length_axis=("encoder/frame_position_embeddings", 0),
    onnx_any_batch=True,
    released=released.DSANET,
)
