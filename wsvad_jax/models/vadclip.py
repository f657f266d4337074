"""VadCLIP: Wu et al., AAAI 2024, https://arxiv.org/abs/2308.11681.

Temporal encoder over CLIP features, with a classification and an alignment branch.
The equations are in lgt_adapter.py (Eq. 1 to 7) and losses.py (Eq. 8 to 12):
  LGT adapter (Sec. 3.2, Eq. 1 to 4)              -> lgt_adapter.LGTAdapter
    graphs (Eq. 2, Eq. 3), convolution (Eq. 4)    -> lgt_adapter.similarity_graph,
                                                     .distance_graph, .GraphConv
  C-branch (Sec. 3.3, Eq. 5)                      -> lgt_adapter.ClassifierBranch
  A-branch with learnable and visual prompts      -> lgt_adapter.PromptLearner,
    (Sec. 3.4, Eq. 6 and 7)                          lgt_adapter.AlignBranch
    alignment map M                               -> lgt_adapter.cosine_logits
  objective (Sec. 3.5, Eq. 8 to 12)               -> loss_fn
    MIL-Align (Eq. 8 to 10)                       -> losses.mil_align
    MIL (Eq. 11), text contrast (Eq. 12)          -> losses.mil_top_k,
                                                     losses.text_contrast
  inference                                       -> scores
The paper's ablations are switches: `use_local`, `use_graph` (temporal modules),
`classify`, `align` (branches), `learn_prompt`, `visual_prompt`.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Float, Int, Num

from wsvad_jax.clip import towers
from wsvad_jax.clip.prompts import TextInputs
from wsvad_jax.models import cross_pseudo, lgt_adapter, losses, released
from wsvad_jax.models.losses import LabelledBatch
from wsvad_jax.models.scores import SnippetScores
from wsvad_jax.models.spec import ModelSpec

FIELD_RANGES = lgt_adapter.FIELD_RANGES
TERMS = ("mil", "align", "text", cross_pseudo.TERM)


@struct.dataclass
class Outputs:
    """Logits of both branches and the class features; None where switched off."""

    anomaly_logits: Float[Array, "B T"] | None
    align_logits: Float[Array, "B T C"] | None
    text: Float[Array, "C D"]


class Model(nn.Module):
    """LGT adapter, C-branch (classification) and A-branch (alignment).

    Args:
      visual_layers: number of transformer blocks of the encoder.
      visual_heads: number of attention heads of the encoder.
      attn_window: snippets W per window of local attention.
      use_local: False drops local attention.
      use_graph: False drops the graph convolutions.
      classify: False drops the C-branch.
      align: False drops the A-branch.
      learn_prompt: False uses the plain class prompts.
      visual_prompt: False drops the visual prompt.
      classifier_init_scale: factor of the C-branch's initial kernel; the released
        code has 1.
      mask_padding: True hides padding from attention, distance graph and pooling.
      positions: False drops the learned positions.
      distance_graph: released, or row_normalised: its rows sum to 1.
      dtype: type of the activations.
      remat: True recomputes the blocks' activations in the backward pass.
    """

    visual_layers: int = 2
    visual_heads: int = 1
    attn_window: int = 8
    use_local: bool = True
    use_graph: bool = True
    classify: bool = True
    align: bool = True
    learn_prompt: bool = True
    visual_prompt: bool = True
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
          text: class prompts with the frozen text tower, or the class features that
            `encode_text` returned for them.
          train: not used; every model takes it.
        """
        T = features.shape[2]
        dtype = jnp.dtype(self.dtype)
        where = lgt_adapter.attention_mask(length, T, self.mask_padding)

        encoder = lgt_adapter.LGTAdapter(
            self.visual_layers,
            self.attn_window,
            self.visual_heads,
            self.use_local,
            self.use_graph,
            dtype,
            self.remat,
            self.positions,
            self.distance_graph,
            name="encoder",
        )
        v = encoder(features[:, 0].astype(dtype), length, where)

        # Each branch can be switched off. The visual prompt of the A-branch is weighted
        # by the C-branch's logits, so it is zero without them.
        a = M = None
        if self.classify:
            a = lgt_adapter.ClassifierBranch(
                dtype, self.classifier_init_scale, name="classifier_branch"
            )(v)

        # `text` may hold class features already; see `encode_text`.
        if isinstance(text, TextInputs):
            classes = self._class_features(text, name="prompt_learner")
        else:
            classes = text

        if self.align:
            weight = jnp.zeros_like(v[..., 0])
            if self.visual_prompt and a is not None:
                weight = a
            branch = lgt_adapter.AlignBranch(dtype, name="align_branch")
            M = branch(v, weight, classes, where)

        return Outputs(anomaly_logits=a, align_logits=M, text=classes)

    def encode_text(
        self, params: Mapping[str, Any], text: TextInputs
    ) -> Float[Array, "C D"]:
        """Returns the class features; they don't depend on the videos."""
        # Called outside `apply`, so the parameters are passed explicitly.
        if not self.learn_prompt:
            return self._class_features(text)
        learner = lgt_adapter.PromptLearner(dtype=self.dtype, parent=None)
        features: Any = learner.apply({"params": params["prompt_learner"]}, text)
        return features

    def _class_features(self, text: TextInputs, **kwargs) -> Float[Array, "C D"]:
        if self.learn_prompt:
            return lgt_adapter.PromptLearner(dtype=self.dtype, **kwargs)(text)

        # The ablation without a learned prompt: class names as they are.
        plain = towers.encode_text(
            text.params, text.config, text.tokens, text.eos, dtype=self.dtype
        )
        return jnp.asarray(text.class_from_prompt) @ plain


def loss_fn(
    outputs: Outputs,
    batch: LabelledBatch,
    weights: Mapping[str, float],
    term_weights: Mapping[str, Any] | None = None,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """The objective, Σ weight · term, and its terms.

    Args:
      outputs: outputs of a forward pass.
      batch: `label` [B, C] multi-hot and `length` [B].
      weights: weights of `mil` (Eq. 11), `align` (Eq. 10), `text` (Eq. 12) and
        `cross_pseudo` (module cross_pseudo).
      term_weights: weight of this microbatch in each term's full-batch mean; None for
        a full batch.
    """
    # A disabled branch has no loss terms.
    terms = {}
    if outputs.anomaly_logits is not None:
        terms["mil"] = losses.mil_top_k(
            outputs.anomaly_logits, batch.label, batch.length
        )
    if outputs.align_logits is not None:
        terms["align"] = losses.mil_align(
            outputs.align_logits, batch.label, batch.length
        )
        terms["text"] = losses.text_contrast(outputs.text)

    terms |= cross_pseudo.terms(outputs, batch, weights)
    return losses.weighted(terms, weights, term_weights)


def microbatch_term_weights(
    model: Model, microbatch: LabelledBatch, batch: LabelledBatch
) -> dict[str, Any]:
    """Weight of a microbatch in each term's full-batch mean: its fraction of videos."""
    del model
    fraction: Any = len(microbatch.length) / len(batch.length)
    return dict.fromkeys(TERMS, fraction)


def scores(outputs: Outputs) -> SnippetScores:
    """Returns anomaly scores σ(a), class probabilities p = softmax(M), and 1 − p_0.

    Without the C-branch, the A-branch gives the anomaly score.
    """
    classes, branches = None, {}
    if outputs.align_logits is not None:
        classes = jax.nn.softmax(outputs.align_logits)
        branches["align"] = 1 - classes[..., 0]

    if outputs.anomaly_logits is not None:
        anomaly = jax.nn.sigmoid(outputs.anomaly_logits)
    else:
        anomaly = branches["align"]
    return SnippetScores(anomaly, classes, branches)


SPEC = ModelSpec(
    name="vadclip",
    title="VadCLIP",
    citation="Wu et al., AAAI 2024, https://arxiv.org/abs/2308.11681",
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
    released=released.VADCLIP,
)
