"""Class prompts as the text tower takes them: tokens, end tokens, owners.

A class may have several descriptions, whose features are averaged (MODELS.md §4 calls
for it); `owner` is the matrix of that mean. Tokens are cut after the longest prompt's
end token, which is exact because the text tower is causal.
"""

from typing import Any

import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int

from wsvad_jax.clip.towers import TextConfig


@struct.dataclass
class TextInputs:
    """A card's prompts with the frozen text tower: an argument of the jitted step."""

    # Any, since JAX puts shardings and shapes in the places of a tree's arrays.
    tokens: Int[Array | np.ndarray, "K L"] | Any
    eos: Int[Array | np.ndarray, "K"] | Any  # index of each prompt's end token
    owner: Float[Array | np.ndarray, "C K"] | Any  # rows sum to 1
    params: dict[str, Any]  # 'text_model' and 'text_projection', float32
    config: TextConfig = struct.field(pytree_node=False)
