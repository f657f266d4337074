"""Compares the architecture of a released state dict with a recipe.

`check_sizes` words the differences that the tensors reveal. `expected_variables`
returns the shape of every variable of the recipe's model.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from wsvad_jax.utils.errors import InputError
from wsvad_jax.weights import torch_mapping

# (name, field of the model, pattern of the counted tensors, count minus field)
COUNTED = (
    ("temporal blocks", "visual_layers", r"temporal\.resblocks\.\d+\.ln_1\.weight", 0),
    # The last adapter replaces the tower's projection.
    ("text adapters", "text_adapt_until", r".*\.text_adapter\.\d+\.fc\.0\.weight", 1),
    ("decoder blocks", "decoder_layers", r".*\.decoder\.\d+\.norm1\.weight", 0),
)
# (name, field of the model, tensor with that size as its first axis)
REFINER = "video_anomaly_refiner."
MEASURED = (
    ("prototypes", "prototypes", REFINER + "video_prototypes"),
    ("decoder heads", "decoder_heads", REFINER + "decoder.0.attn.learn_scale"),
)
# (name, switch of the model, prefix of the tensors that exist if it is on)
SWITCHED = (
    ("attention in windows", "use_local", "temporal."),
    ("graph convolution", "use_graph", "gc1."),
    ("C-branch", "classify", "classifier."),
    ("A-branch", "align", "mlp1."),
    ("learned prompt", "learn_prompt", "text_prompt_embeddings."),
    ("text adapter", "adapter", "clip_adapter.text_adapter."),
    ("SG-NM", "sgnm", REFINER),
    ("temporal attention", "attention", "hard_attention."),
)
# The number of temporal blocks identifies the public checkpoints of VadCLIP and DSANet.
PUBLIC = {2: ("ucf", "UCF-Crime"), 1: ("xd", "XD-Violence")}


def check_sizes(config: Any, state: Mapping[str, np.ndarray], source: str) -> None:
    """Compares the sizes in a state dict with those of a recipe.

    Attention window and classes are not part of the weights, which work with any
    classes and with any window that divides the snippets.

    Raises:
      InputError: sizes differ; every difference is named.
    """
    from wsvad_jax.experiment.build import build_model

    fields = vars(build_model(config))

    # Parts that are switched on or off explain missing and additional tensors.
    found = [
        f"its {what} is {'missing' if fields[field] else 'there'}, but "
        f"config.model.{field} is {fields[field]}"
        for what, field, mark in SWITCHED
        if field in fields and fields[field] != any(n.startswith(mark) for n in state)
    ]

    # Numbers of blocks and widths; 0 means that the part is missing, named above.
    sizes = {
        (what, field): _count(state, pattern) - beyond
        for what, field, pattern, beyond in COUNTED
    }
    sizes |= {(what, field): _size(state, name) for what, field, name in MEASURED}
    found += [
        f"it has {size} {what}, but config.model.{field} is {fields[field]}"
        for (what, field), size in sizes.items()
        if field in fields and size > 0 and size != fields[field]
    ]

    # The position table has the window length of the training.
    T = _size(state, "frame_position_embeddings.weight")
    length, window = config.data.length, fields.get("attn_window", 1)
    if T > 0 and length and T != length:
        found.append(
            f"its windows are {T} snippets, but config.data.length is {length}"
        )
    elif T > 0 and T % window:
        found.append(
            f"its windows are {T} snippets, which config.model.attn_window {window} "
            "doesn't divide"
        )

    if found:
        raise InputError(
            f"{source} doesn't fit the recipe: {'; '.join(found)}"
            f"{_public(config, state)}"
        )


def _public(config: Any, state: Mapping[str, np.ndarray]) -> str:
    """Names the public dataset whose checkpoint has these sizes, or returns ""."""
    known = PUBLIC.get(_count(state, COUNTED[0][2]))
    if known is None or known[0] == config.data.name:
        return ""
    return (
        f"; these are the sizes of the checkpoint for {known[1]}: pass "
        f"--config {config.model_name}:{known[0]}"
    )


def _count(state: Mapping[str, np.ndarray], pattern: str) -> int:
    return sum(re.fullmatch(pattern, name) is not None for name in state)


def _size(state: Mapping[str, np.ndarray], name: str, axis: int = 0) -> int:
    """Length of an axis of a tensor, 0 if it doesn't exist."""
    array = state.get(name)
    return array.shape[axis] if array is not None and array.ndim > axis else 0


def expected_variables(config: Any, state: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns the shapes of the recipe's variables, with the state dict's T and D."""
    import jax
    import jax.numpy as jnp

    from wsvad_jax.experiment.build import build_model

    model, own = build_model(config), config.model_name
    T, D = lengths(config, state)

    # Traced for shapes alone, with an input as small as the model allows.
    def init():
        rngs = {name: jax.random.key(0) for name in ("params", "dropout", "noise")}
        text = _stand_in_text(state, D) if own in torch_mapping.CLIP_PREFIXES else None
        features, length = jnp.zeros((2, 1, T, D)), jnp.full(2, T)
        return model.init(rngs, features, length, text, train=True)

    return jax.eval_shape(init)


def lengths(config: Any, state: Mapping[str, np.ndarray]) -> tuple[int, int]:
    """Returns the snippets per window and the feature width of a state dict.

    Defaults replace sizes that its tensors don't contain.
    """
    T = _size(state, "frame_position_embeddings.weight") or config.data.length
    T = T or config.model.get("attn_window", 32)
    entry = {"mil_ranking": "fc1.weight", "clip_tsa": "mlp.fc1.weight"}
    position = "frame_position_embeddings.weight"
    return T, _size(state, entry.get(config.model_name, position), 1) or 512


def _stand_in_text(state: Mapping[str, np.ndarray], D: int) -> Any:
    """Returns prompts and a text tower of the width and depth in the state dict."""
    import jax
    import jax.numpy as jnp

    from wsvad_jax.clip.prompts import TextInputs
    from wsvad_jax.clip.towers import CLIPText, TextConfig

    positions = _size(state, "text_prompt_embeddings.weight") or 77
    width = _size(state, "text_prompt_embeddings.weight", 1)
    width = width or _size(state, "clip_adapter.text_adapter.0.fc.0.weight", 1) or D
    layers = max(_count(state, COUNTED[1][2]), 1)

    # As small as shapes allow: two tokens, one head.
    config = TextConfig(2, width, width, layers, 1, positions, D, eos_token_id=1)
    tokens = jnp.zeros((2, 2), jnp.int32)
    params = dict(CLIPText(config).init(jax.random.key(0), tokens))
    params = {
        "text_model": params["params"],
        "text_projection": {"kernel": jnp.zeros((width, D))},
    }

    return TextInputs(tokens, jnp.ones(2, jnp.int32), jnp.eye(2), params, config)
