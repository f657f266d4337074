"""Compares the architecture of a released state dict with a recipe.

`check_sizes` words the differences that the tensors reveal. `expected_variables`
returns the shape of every variable of the recipe's model.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from wsvad_jax.utils.errors import InputError
from wsvad_jax.weights.torch_mapping import released_checkpoint

if TYPE_CHECKING:
    from wsvad_jax.models.released import ReleasedCheckpoint

# The last adapter of DSANet replaces the text tower's projection.
TEXT_ADAPTERS = r".*\.text_adapter\.\d+\.fc\.0\.weight"


def check_sizes(config: Any, state: Mapping[str, np.ndarray], source: str) -> None:
    """Compares the sizes in a state dict with those of a recipe.

    Attention window and classes are not part of the weights, which work with any
    classes and with any window that divides the snippets.

    Raises:
      InputError: sizes differ; every difference is named.
    """
    from wsvad_jax.experiment.build import build_model, get_model_spec

    spec, model = get_model_spec(config), build_model(config)
    released, fields = released_checkpoint(config.model_name), vars(model)

    # Parts that are switched on or off explain missing and additional tensors.
    differences = [
        f"its {part} is {'missing' if fields[field] else 'there'}, but "
        f"config.model.{field} is {fields[field]}"
        for part, field, mark in released.switches
        if fields[field] != any(name.startswith(mark) for name in state)
    ]

    # Numbers of blocks and widths; 0 means that the part is missing, named above.
    sizes = {
        (part, field): _count(state, pattern) - beyond
        for part, field, pattern, beyond in released.counts
    }
    sizes |= {(part, field): _size(state, name) for part, field, name in released.sizes}
    differences += [
        f"it has {size} {part}, but config.model.{field} is {fields[field]}"
        for (part, field), size in sizes.items()
        if size > 0 and size != fields[field]
    ]

    # The position table has the window length of the training.
    T = _size(state, released.length_tensor)
    length, window = config.data.length, spec.window(model)
    if T > 0 and length and T != length:
        differences.append(
            f"its windows are {T} snippets, but config.data.length is {length}"
        )
    elif T % window:
        differences.append(
            f"its windows are {T} snippets, which config.model.{spec.window_field} "
            f"{window} doesn't divide"
        )

    if differences:
        raise InputError(
            f"{source} doesn't fit the recipe: {'; '.join(differences)}"
            f"{_public(config, state, released)}"
        )


def _public(
    config: Any, state: Mapping[str, np.ndarray], released: "ReleasedCheckpoint"
) -> str:
    """Names the public dataset whose checkpoint has these sizes, or returns ""."""
    if not released.public:
        return ""
    known = released.public.get(_count(state, released.counts[0][2]))
    if known is None or known[0] == config.data.name:
        return ""
    return (
        f"; these are the sizes of the checkpoint for {known[1]}: pass "
        f"--config {config.model_name}:{known[0]}"
    )


def _count(state: Mapping[str, np.ndarray], pattern: str) -> int:
    return sum(re.fullmatch(pattern, name) is not None for name in state)


def _size(state: Mapping[str, np.ndarray], name: str | None, axis: int = 0) -> int:
    """Length of an axis of a tensor, 0 if it doesn't exist."""
    array = state.get(name or "")
    return array.shape[axis] if array is not None and array.ndim > axis else 0


def expected_variables(config: Any, state: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns the shapes of the recipe's variables, with the state dict's T and D."""
    import jax
    import jax.numpy as jnp

    from wsvad_jax.experiment.build import (
        build_model,
        get_model_spec,
        init_variables,
    )

    spec, model = get_model_spec(config), build_model(config)
    T, D = lengths(config, state)

    # Traced for shapes alone, with an input as small as the model allows.
    def init():
        text = _stand_in_text(state, D) if spec.reads_text else None
        features, length = jnp.zeros((2, 1, T, D)), jnp.full(2, T)
        return init_variables(model, features, length, text)

    return jax.eval_shape(init)


def lengths(config: Any, state: Mapping[str, np.ndarray]) -> tuple[int, int]:
    """Returns the snippets per window and the feature width of a state dict.

    Defaults replace sizes that its tensors don't contain.
    """
    released = released_checkpoint(config.model_name)
    T = _size(state, released.length_tensor) or config.data.length
    T = T or config.model.get("attn_window", 32)
    return T, _size(state, released.width_tensor, 1) or 512


def _stand_in_text(state: Mapping[str, np.ndarray], D: int) -> Any:
    """Returns prompts and a text tower of the width and depth in the state dict."""
    import jax
    import jax.numpy as jnp

    from wsvad_jax.clip.prompts import TextInputs
    from wsvad_jax.clip.towers import CLIPText, TextConfig

    positions = _size(state, "text_prompt_embeddings.weight") or 77
    width = _size(state, "text_prompt_embeddings.weight", 1)
    width = width or _size(state, "clip_adapter.text_adapter.0.fc.0.weight", 1) or D
    layers = max(_count(state, TEXT_ADAPTERS), 1)

    # As small as shapes allow: two tokens, one head.
    config = TextConfig(2, width, width, layers, 1, positions, D, eos_token_id=1)
    tokens = jnp.zeros((2, 2), jnp.int32)
    params = dict(CLIPText(config).init(jax.random.key(0), tokens))
    params = {
        "text_model": params["params"],
        "text_projection": {"kernel": jnp.zeros((width, D))},
    }

    return TextInputs(tokens, jnp.ones(2, jnp.int32), jnp.eye(2), params, config)
