"""The golden runs' input, weights and text tower, as our models take them."""

import types

import fill
import jax.numpy as jnp
import numpy as np

from wsvad_jax.clip.prompts import TextInputs
from wsvad_jax.clip.weight_names import openai_configs, openai_to_flax
from wsvad_jax.weights.torch_mapping import import_state

T, D = 256, 512


def case(model_name: str, dataset: str):
    """Returns (golden arrays, params, features, text, batch) of one golden file."""
    name = f"{model_name}_{dataset}"
    golden = fill.golden(name)
    variables, clip = import_state(model_name, fill.state_dict(name))
    tree, (config, _) = openai_to_flax(clip), openai_configs(clip)
    tokens = golden["tokens"]
    eos = tokens.argmax(1).astype(np.int32)
    text = TextInputs(
        tokens=tokens[:, : eos.max() + 1],
        eos=eos,
        class_from_prompt=np.eye(len(tokens), dtype=np.float32),
        params={k: tree[k] for k in ("text_model", "text_projection")},
        config=config,
    )
    lengths = golden["lengths"].astype(np.int32)
    batch = types.SimpleNamespace(
        label=jnp.asarray(golden["labels"]), length=jnp.asarray(lengths)
    )
    x = jnp.asarray(features(lengths)[:, None])
    return golden, variables["params"], x, text, batch


def features(lengths: np.ndarray) -> np.ndarray:
    """The golden input: an offset a video plus noise, zero past each length."""
    r = np.random.RandomState(7)
    x = 0.4 * r.standard_normal((4, 1, D)) + 0.25 * r.standard_normal((4, T, D))
    x[np.arange(T) >= lengths[:, None]] = 0
    return x.astype(np.float32)


def relative(found, wanted) -> float:
    """Largest difference, relative to the largest golden entry."""
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())
