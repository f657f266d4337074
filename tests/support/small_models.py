"""Settings that make the models with text small, and weights without initialising."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

TEXT_MODELS = {
    "vadclip": {"visual_layers": 1},
    "dsanet": {
        "visual_layers": 1,
        "decoder_layers": 1,
        "decoder_heads": 2,
        "text_adapt_until": 1,
        "prototypes": 4,
    },
}


def drawn(model: Any, features: Any, length: Any, text: Any = None) -> dict[str, Any]:
    """Random variables of the right shapes.

    To compile the initialisation would take longer than to compile a step.
    """
    random = np.random.RandomState(0)

    def init(features, length, text):
        rngs = {k: jax.random.key(0) for k in ("params", "dropout", "noise")}
        return model.init(rngs, features, length, text, train=True)

    def value(path, x):
        around = path[-1].key in ("scale", "var", "learn_scale")
        noise = random.standard_normal(x.shape) / max(x.shape, default=1) ** 0.5
        return jnp.asarray(around + 0.3 * abs(noise) if around else noise, x.dtype)

    shapes = jax.eval_shape(init, features, length, text)
    return jax.tree.map_with_path(value, shapes)
