"""MIL ranking: Sultani, Chen, Shah, CVPR 2018, https://arxiv.org/abs/1801.04264.

A video is a bag of 32 segments. The highest segment score of an abnormal bag should
exceed the highest of a normal bag. From top to bottom:
  segments (Sec. 4.1)                     -> pool_segments
  score network (Sec. 4.1)                -> Model.__call__
  ranking loss (Eq. 6), with smoothness
  and sparsity of the abnormal bag        -> loss_fn
  inference                               -> upsample_scores, scores
Paper and released code differ in the 32-unit layer (`relu_hidden`) and in the pairs of
bags in the hinge (weights["pairing"]). The defaults are the paper's.

Letters: B videos, N crops, T snippets, D feature width, I segments (instances of a bag),
n valid snippets of a video.

The optimiser applies the paper's L2 penalty (`weight_decay`, configs/mil_ranking.py).
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Float, Int, Num

from wsvad_jax.models import losses, released
from wsvad_jax.models.common import Dense
from wsvad_jax.models.losses import LabelledBatch
from wsvad_jax.models.scores import SnippetScores
from wsvad_jax.models.spec import ModelSpec
from wsvad_jax.utils.errors import InputError

FIELD_RANGES = {"segments": "[1, inf)", "dropout": "[0, 1)"}
glorot = nn.initializers.glorot_normal()


@struct.dataclass
class Outputs:
    """Scores of segments, for the objective, and of snippets, for inference."""

    segment_scores: Float[Array, "B I"]  # in [0, 1], mean over crops
    scores: Float[Array, "B T"]  # of each snippet's segment; 0 for padding


class Model(nn.Module):
    """Segment pooling and a three-layer score network, D → 512 → 32 → 1.

    Args:
      segments: number of segments per bag.
      dropout: dropout rate.
      relu_hidden: True puts a ReLU after the 32-unit layer (the paper); False leaves it
        linear (the released code).
      dtype: type of the activations.
    """

    segments: int = 32
    dropout: float = 0.6
    relu_hidden: bool = True
    dtype: Any = "float32"

    @nn.compact
    def __call__(
        self,
        features: Num[Array, "B N T D"],
        length: Int[Array, "B"],
        text: Any = None,
        *,
        train: bool,
    ) -> Outputs:
        """Scores the segments and the snippets of B videos of N crops.

        Args:
          features: snippet features. In training, T equals `segments` and pooling is
            the identity.
          length: valid snippets.
          text: not used; every model takes it.
          train: True for dropout (rng 'dropout').
        """
        del text
        length = jnp.maximum(length, 1)  # padding rows have length 0
        # Segments are averaged before they are normalised, as in the released code.
        x = pool_segments(features.astype(jnp.float32), length, self.segments)
        x = losses.normalise(x).astype(self.dtype)  # [B, N, I, D]

        drop = nn.Dropout(self.dropout, deterministic=not train)
        x = drop(nn.relu(self._dense(512, "fc1")(x)))
        x = self._dense(32, "fc2")(x)
        x = drop(nn.relu(x) if self.relu_hidden else x)
        x = self._dense(1, "fc3")(x)[..., 0].astype(jnp.float32)

        segment_scores = jnp.mean(jax.nn.sigmoid(x), 1)
        return Outputs(
            segment_scores, upsample_scores(segment_scores, length, features.shape[2])
        )

    def _dense(self, features: int, name: str) -> nn.Dense:
        return Dense(features, name=name, dtype=self.dtype, kernel_init=glorot)


def pool_segments(
    features: Float[Array, "B N T D"], length: Int[Array, "B"], segments: int
) -> Float[Array, "B N I D"]:
    """Mean feature of each of `segments` equal segments of a video's valid snippets.

    Segment i has the snippets from ⌊i n / I⌋ (inclusive) to ⌊(i + 1) n / I⌋ (exclusive).
    An empty segment takes snippet ⌊i n / I⌋.
    """
    T = features.shape[2]
    edges = jnp.arange(segments + 1)[None] * length[:, None] // segments  # [B, I + 1]
    first, end = edges[:, :-1, None], edges[:, 1:, None]
    end = jnp.maximum(end, first + 1)

    t = jnp.arange(T)[None, None]
    members = (first <= t) & (t < end)  # [B, I, T]
    weights = members / (end - first).astype(jnp.float32)
    return jnp.einsum("bit,bntd->bnid", weights, features, precision="highest")


def upsample_scores(
    segment_scores: Float[Array, "B I"], length: Int[Array, "B"], T: int
) -> Float[Array, "B T"]:
    """Snippet scores: each valid snippet gets its segment's score, the others 0."""
    segments = segment_scores.shape[1]
    t = jnp.arange(T)[None]
    # The largest i with ⌊i n / I⌋ ≤ t is the largest with i n < (t + 1) I, which is
    # ⌊((t + 1) I − 1) / n⌋.
    index = ((t + 1) * segments - 1) // length[:, None]
    index = jnp.minimum(index, segments - 1)

    scores = jnp.take_along_axis(segment_scores, index, -1)
    return jnp.where(t < length[:, None], scores, 0)


def loss_fn(
    outputs: Outputs, batch: LabelledBatch, weights: Mapping[str, Any]
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """The ranking objective (Eq. 6) and its terms: hinge + λ1 smooth + λ2 sparse.

    For the segment scores g of a normal and a of an abnormal video,
      hinge = max(0, 1 − max_i a_i + max_i g_i),
      smooth = Σ_i (a_i − a_{i+1})²,  sparse = Σ_i a_i.

    Args:
      outputs: outputs of a training forward pass; first B/2 normal videos, then B/2
        abnormal.
      batch: not read; the order of the videos determines their labels.
      weights: `hinge` (1 if missing), `smooth` (λ1), `sparse` (λ2) and `pairing`.
        'pairs' (the paper) compares abnormal video i with normal video i; every term is
        a mean over pairs. 'all' (the released code) compares every abnormal video with
        every normal one; every term is a mean over normal videos and a sum over
        abnormal ones.
    """
    del batch
    normal, abnormal = jnp.split(outputs.segment_scores, 2)  # [B/2, I]
    top_normal, top_abnormal = jnp.max(normal, -1), jnp.max(abnormal, -1)

    # Smoothness and sparsity use the hinge's reduction, which keeps their proportion.
    if weights["pairing"] == "pairs":
        reduce, hinge = jnp.mean, nn.relu(1 - top_abnormal + top_normal)
    elif weights["pairing"] == "all":
        margins = 1 - top_abnormal[:, None] + top_normal[None]
        reduce, hinge = jnp.sum, jnp.mean(nn.relu(margins), -1)
    else:
        raise InputError(
            f"config.loss.pairing is {weights['pairing']!r}; use 'pairs' (the paper) or "
            "'all' (the released code)."
        )

    terms = {
        "hinge": reduce(hinge),
        "smooth": reduce(jnp.sum(jnp.square(abnormal[:, 1:] - abnormal[:, :-1]), -1)),
        "sparse": reduce(jnp.sum(abnormal, -1)),
    }

    weights = {"hinge": 1.0, **weights}
    return losses.weighted(terms, weights)


def scores(outputs: Outputs) -> SnippetScores:
    """Returns the anomaly score of each snippet in [0, 1], 0 past a video's length."""
    return SnippetScores(anomaly=outputs.scores)


SPEC = ModelSpec(
    name="mil_ranking",
    title="MIL ranking",
    citation="Sultani, Chen, Shah, CVPR 2018, https://arxiv.org/abs/1801.04264",
    Model=Model,
    loss_fn=loss_fn,
    scores=scores,
    field_ranges=FIELD_RANGES,
    width_axis=("fc1/kernel", 0),
    released=released.MIL_RANKING,
)
