"""The features that a trained model makes of snippets, for pictures of them.

No model has an output for this alone. The input or output of one of its submodules is
read while the model runs, which adds nothing to the model.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, Num

from wsvad_jax.models.mil_ranking import upsample_scores
from wsvad_jax.models.spec import ModelSpec


@dataclasses.dataclass(frozen=True)
class EncodedLayer:
    """Where a model's own features of snippets are read."""

    module: str  # name of a submodule
    is_input: bool  # whether its input is read, rather than its output
    title: str
    per_segment: bool = False  # one row per segment of a bag, rather than per snippet


# Other models have no entry: pictures show their input alone.
LAYERS = {
    "vadclip": EncodedLayer("encoder", False, "after the temporal encoder"),
    "dsanet": EncodedLayer("encoder", False, "after the temporal encoder"),
    "clip_tsa": EncodedLayer("fc1", True, "after the temporal network"),
    "mil_ranking": EncodedLayer("fc3", True, "last hidden layer", per_segment=True),
}


def encoded_layer(spec: ModelSpec) -> EncodedLayer | None:
    """Returns where a model's features of snippets are read; None if unknown."""
    return LAYERS.get(spec.name)


def encoded_features(
    layer: EncodedLayer,
    model: nn.Module,
    variables: Any,
    features: Num[Array, "B N T D"],
    length: Int[Array, "B"],
    text: Any,
) -> Float[Array, "B T E"]:
    """Returns the features of snippets at a layer, averaged over crops.

    Args:
      layer: result of `encoded_layer`.
      model: linen module of the layer's model.
      variables: `params` and `batch_stats`.
      features: snippet features, zero past `length`.
      length: valid snippets.
      text: class features of `encode_text`; None for a model without prompts.
    """
    B, _, T, _ = features.shape
    seen: list[Array] = []

    def keep(call, args, kwargs, context):
        result = call(*args, **kwargs)
        if context.method_name == "__call__" and context.module.path == (layer.module,):
            seen.append(args[0] if layer.is_input else result)
        return result

    with nn.intercept_methods(keep):
        model.apply(variables, features, length, text, train=False)

    # Crops may be an axis of their own, or part of the batch.
    (x,) = seen
    x = x.astype(jnp.float32).reshape(B, -1, *x.shape[-2:])
    x = jnp.mean(x, 1)  # [B, T or I, E]
    if not layer.per_segment:
        return x

    # A snippet has the features of its segment, as it has the segment's score.
    per_unit = jax.vmap(upsample_scores, in_axes=(2, None, None), out_axes=2)
    return per_unit(x, jnp.maximum(length, 1), T)
