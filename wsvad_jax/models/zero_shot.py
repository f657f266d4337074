"""Zero-shot CLIP: Radford et al., ICML 2021, https://arxiv.org/abs/2103.00020.

CLIP compares each snippet with descriptions of the classes. Nothing is trained and no
label is read, so this is the floor under the trained models.
  prompt ensemble (Sec. 3.1.4)                 -> Model.encode_text
  class probabilities (Sec. 3.1.2)             -> Model.__call__
  anomaly score                                -> scores, by the field `score`
The score rules and `subtract_mean` are ours.
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
from wsvad_jax.models.losses import normalise
from wsvad_jax.models.scores import SnippetScores
from wsvad_jax.models.spec import ModelSpec

SCORES = ("max_anomaly", "not_normal")
# Below this temperature, logits would leave float32's range of useful differences.
FIELD_RANGES = {"score": SCORES, "temperature": "[1e-4, inf)"}


@struct.dataclass
class Outputs:
    """Class probabilities, and anomaly scores by the model's rule."""

    probabilities: Float[Array, "B T C"]
    anomaly: Float[Array, "B T"]


class Model(nn.Module):
    """Softmax over the cosines of snippet features and class texts; no parameters.

    Args:
      score: `not_normal`, 1 − p(normal), or `max_anomaly`, the probability of the
        likeliest anomaly class.
      temperature: divides the cosines; None takes the CLIP model's, which is
        1/exp(logit_scale).
      subtract_mean: True compares each snippet's difference from the video's own mean
        with the class texts. It removes what all snippets share, such as the place.
    """

    score: str = "not_normal"
    temperature: float | None = None
    subtract_mean: bool = False

    @nn.compact
    def __call__(
        self,
        features: Num[Array, "B N T D"],
        length: Int[Array, "B"],
        text: TextInputs | Float[Array, "C D"],
        *,
        train: bool = False,
    ) -> Outputs:
        """Scores the snippets of B videos of N crops.

        Args:
          features: snippet features, zero past `length`.
          length: valid snippets.
          text: class prompts with the text tower, or the result of `encode_text`.
          train: not used; every model takes it.
        """
        del train
        if isinstance(text, TextInputs):
            text = self.encode_text({}, text)

        # Padding is zero, so it adds nothing to the sum.
        x = normalise(features.astype(jnp.float32))
        if self.subtract_mean:
            count = jnp.maximum(length, 1).astype(jnp.float32)
            x = x - jnp.sum(x, 2, keepdims=True) / count[:, None, None, None]

        # Crops are pictures of one moment: their probabilities are averaged.
        logits = jnp.einsum("bntd,cd->bntc", x, text, precision="highest")
        probabilities = jnp.mean(jax.nn.softmax(logits), 1)

        if self.score == "not_normal":
            anomaly = jnp.sum(probabilities[..., 1:], -1)
        else:
            anomaly = jnp.max(probabilities[..., 1:], -1)
        return Outputs(probabilities, anomaly)

    def encode_text(
        self, params: Mapping[str, Any], text: TextInputs
    ) -> Float[Array, "C D"]:
        """Returns the class features, of length 1/temperature.

        A class feature is the mean of its prompts' features, each normalised, and is
        normalised again.

        Args:
          params: not used; this model has none.
          text: class prompts with the text tower.
        """
        del params
        prompts = towers.encode_text(text.params, text.config, text.tokens, text.eos)
        mean = jnp.einsum(
            "ck,kd->cd",
            jnp.asarray(text.class_from_prompt),
            normalise(prompts),
            precision="highest",
        )
        classes = normalise(mean)
        if self.temperature is not None:
            return classes / self.temperature
        return classes * jnp.exp(jnp.asarray(text.params["logit_scale"], jnp.float32))


def scores(outputs: Outputs) -> SnippetScores:
    """Returns the anomaly scores and class probabilities of the snippets."""
    return SnippetScores(outputs.anomaly, outputs.probabilities)


SPEC = ModelSpec(
    name="zero_shot",
    title="zero-shot CLIP",
    citation="Radford et al., ICML 2021, https://arxiv.org/abs/2103.00020",
    Model=Model,
    loss_fn=None,
    scores=scores,
    field_ranges=FIELD_RANGES,
    reads_text=True,
)
