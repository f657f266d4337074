"""Identity of a CLIP tower: its settings by name, and one hash of them.

The same tensors under another activation, number of heads or preprocessing give other
features or prompts. Each tower therefore has settings, whose names and values fit into
JSON, and a hash. With OpenAI's settings it is the hash of the weights alone, which older
versions stored. Otherwise it covers the weights and the settings that differ.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from wsvad_jax.clip.preprocessing import Preprocessing
from wsvad_jax.clip.towers import LEGACY_EOS, TextConfig, VisionConfig

HEAD_WIDTH = 64
# Image towers of OpenCLIP and MetaCLIP with wider heads, by width: H, g, bigG.
HEADS = {1280: 16, 1408: 16, 1664: 16}
UNLIKE = "unlike_openai"  # names of the settings that are not OpenAI's
RANDOM = "random"  # set where the tower was never trained
TRAINING_NOTE = "training_note"  # what it was trained on, see `training_notes`
GEOMETRY = ("size", "crop", "interpolation")
NOT_COMPARED = (UNLIKE, RANDOM, TRAINING_NOTE)
# The layer norms of the blocks, which training changes in every model.
NORMS = re.compile(r"encoder/layers/\d+/layer_norm\d/(scale|bias)")


def image_settings(
    weights: str, config: VisionConfig, preprocessing: Preprocessing
) -> dict[str, Any]:
    """Returns all settings that the image tower's features depend on."""
    S = config.image_size
    usual = _usual(config, HEADS) | Preprocessing(S, S).settings()
    return _with_unlike(weights, _numerics(config) | preprocessing.settings(), usual)


def text_settings(weights: str, config: TextConfig) -> dict[str, Any]:
    """Returns all settings that the text tower's features depend on."""
    last = config.vocab_size - 1
    end = last if config.eos_token_id == LEGACY_EOS else config.eos_token_id
    usual = _usual(config, {}) | {"end_token": last}
    return _with_unlike(weights, _numerics(config) | {"end_token": end}, usual)


def settings_for_resize(settings: Mapping[str, Any], resize: str) -> dict[str, Any]:
    """Returns the image tower's settings that matter for a conversion of frames.

    `stretch` uses the released geometry instead of the model's.
    """
    if resize != "stretch":
        return dict(settings)
    numerics = {k: v for k, v in settings.items() if k not in GEOMETRY}
    return numerics | {UNLIKE: [k for k in settings[UNLIKE] if k not in GEOMETRY]}


def settings_hash(settings: Mapping[str, Any]) -> str:
    """Returns a tower's hash, 16 hex digits; with OpenAI's settings, the weights' one."""
    if not settings[UNLIKE]:
        return settings["weights"]
    odd = [[name, settings[name]] for name in ("weights", *settings[UNLIKE])]
    return hashlib.blake2b(json.dumps(odd).encode(), digest_size=8).hexdigest()


def _numerics(config: TextConfig | VisionConfig) -> dict[str, Any]:
    return {
        "activation": config.hidden_act,
        "heads": config.num_attention_heads,
        "layer_norm_eps": float(f"{config.layer_norm_eps:.6g}"),
    }


def _usual(config: TextConfig | VisionConfig, heads: Mapping[int, int]) -> dict:
    """Returns the settings of OpenAI's tower of this width; `heads` has exceptions."""
    width = config.hidden_size
    count = heads.get(width, width // HEAD_WIDTH)

    # No published tower is narrower than a head: a toy may have any number of heads.
    if width < HEAD_WIDTH:
        count = config.num_attention_heads
    return {"activation": "quick_gelu", "heads": count, "layer_norm_eps": 1e-5}


def _with_unlike(weights: str, actual: dict[str, Any], usual: dict[str, Any]) -> dict:
    unlike = sorted(name for name in actual if actual[name] != usual[name])
    return {"weights": weights, **actual, UNLIKE: unlike}


def untrained(tower: Mapping[str, np.ndarray]) -> bool:
    """Whether a tower has random weights: the blocks' layer norms are all 1 and 0.

    This holds for the random models of this package and of transformers, wherever they
    were saved. Training changes the layer norms of every model.

    Args:
      tower: leaves by path.
    """
    norms = [(path, x) for path, x in tower.items() if NORMS.search(path)]
    return bool(norms) and all(
        np.all(np.asarray(x) == (1 if path.endswith("scale") else 0))
        for path, x in norms
    )
