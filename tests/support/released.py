"""State dicts with the released code's tensor names, of small random models."""

import jax
import numpy as np
from ml_collections import ConfigDict

from wsvad_jax.clip import snapshot as load
from wsvad_jax.clip.random_snapshot import (
    EOS_TOKEN_ID,
    VOCAB_SIZE,
    write_random_snapshot,
)
from wsvad_jax.clip.towers import TextConfig, VisionConfig
from wsvad_jax.weights import torch_mapping
from wsvad_jax.weights.torch_architecture import expected_variables

D, T = 64, 16
SMALL = {
    "dsanet": {
        "visual_layers": 2, "text_adapt_until": 1, "prototypes": 4, "decoder_layers": 2, "adapter": True,
        "sgnm": True,
    },
    "vadclip": {"visual_layers": 2, "attn_window": 8},
    "clip_tsa": {},
    "mil_ranking": {},
}  # fmt: skip


def write_clip(folder):
    """A small CLIP with heads of OpenAI's width."""
    text = TextConfig(
        VOCAB_SIZE, 64, 256, 2, 1, 77, projection_dim=D, eos_token_id=EOS_TOKEN_ID
    )
    vision = VisionConfig(32, 16, 64, 256, 1, 1, projection_dim=D)
    return write_random_snapshot(folder, text=text, vision=vision, seed=0)


def states(snapshot):
    """State dicts of the small recipes, as the released code would save them."""
    made = {}

    def get(name):
        if name not in made:
            config = ConfigDict(
                {"model_name": name, "model": SMALL[name], "data": {"length": T}}
            )
            width = {"fc1.weight": np.zeros((512, D))}
            if name in ("vadclip", "dsanet"):
                width = {
                    "frame_position_embeddings.weight": np.zeros((T, D)),
                    "text_prompt_embeddings.weight": np.zeros((77, 64)),
                }
                width |= {
                    f"clip_adapter.text_adapter.{i}.fc.0.weight": np.zeros((64, 64))
                    for i in range(2)
                }
            want = expected_variables(config, width)
            r = np.random.RandomState(0)
            variables = jax.tree.map(
                lambda x: r.standard_normal(x.shape).astype(np.float32), want
            )
            clip = load.flax_to_openai(load.load_snapshot(snapshot).params)
            made[name] = torch_mapping.export_state(name, variables, clip)
        return dict(made[name])

    return get


def save(path, state):
    import torch

    torch.save({k: torch.from_numpy(np.array(x)) for k, x in state.items()}, path)
    return str(path)


def equal(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype, name
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)
