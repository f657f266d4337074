"""Writes model folders with random weights, in the layout that training uses."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from small_models import TEXT_MODELS

from wsvad_jax.experiment import build, identity
from wsvad_jax.weights.model_folder import save_params


def write_model(
    tiny: Any, model: str, folder: pathlib.Path, **protocol: Any
) -> pathlib.Path:
    """Writes a model of the tiny dataset, whose scores differ from snippet to snippet.

    Args:
      tiny: the fixture of that name.
      model: a name of `wsvad_jax.models.MODELS`.
      folder: the model folder, which is returned.
      **protocol: of the features that it is to have been trained on.
    """
    config = tiny.config(model)
    # The released encoder: scores of snippets that look alike differ by their place.
    if model in TEXT_MODELS:
        config.model.update(
            positions=True, distance_graph="released", mask_padding=False
        )
        config.clean.remove_position_bias = True
    opened = build.open_experiment(config)

    def init(text):
        rngs = {k: jax.random.key(0) for k in ("params", "dropout", "noise")}
        x, n = jnp.zeros((2, 1, opened.T, opened.width)), jnp.ones(2, int)
        return opened.model.init(rngs, x, n, text, train=True)

    random = np.random.RandomState(0)

    def value(path, x) -> np.ndarray:
        around = 1.0 if path[-1].key in ("scale", "var") else 0.0
        noise = random.standard_normal(x.shape) * (x.shape or (1,))[-1] ** -0.5
        return (around + 0.5 * abs(noise) if around else noise).astype(np.float32)

    # Not the initial values: zeros and ones would hide what doesn't arrive.
    shapes = jax.eval_shape(init, opened.text)
    variables = jax.tree_util.tree_map_with_path(value, shapes)
    made = {"encoder": "unknown", "stride": 16, "crops": 1, "frame": "first"}
    meta = {
        "model": model,
        "config": identity.comparable_config(config),
        "card": opened.dataset.card.to_json(),
        "features": {**made, "resize": "stretch", **protocol},
        "step": 0,
        "length": opened.T,
        "width": opened.width,
        "tower": opened.text_tower_id,
    }
    stats = variables.get("batch_stats", {})
    save_params(folder, variables["params"], stats, meta)
    return folder
