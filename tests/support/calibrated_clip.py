"""Makes an image tower with random weights tell pictures apart."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

from wsvad_jax.clip.snapshot import IMAGE_MEAN, IMAGE_STD
from wsvad_jax.clip.towers import CLIPVision, VisionConfig


def calibrate_image_tower(
    params: dict, vision: VisionConfig, pictures: UInt8[np.ndarray, "B S S 3"]
) -> dict:
    """Normalises the image tower's output to mean 0 and deviation 1 on `pictures`.

    With random weights, the outputs of all pictures are almost equal; people and fire
    change them little. Trained towers don't need this.
    """
    pixels = (pictures.astype(np.float32) / 255 - IMAGE_MEAN) / IMAGE_STD
    tower: Any = CLIPVision(vision)
    model, kernel = params["vision_model"], params["visual_projection"]["kernel"]
    pooled = tower.apply({"params": model}, jnp.asarray(pixels, jnp.float32))
    pooled = np.asarray(pooled)

    # The shift goes into the last LayerNorm's bias, the scale into the projection, so
    # the tower keeps its form.
    mean = pooled.mean(0)
    deviation = ((pooled - mean) @ kernel).std(0)
    norm = model["post_layernorm"]
    norm = {**norm, "bias": norm["bias"] - mean}

    return {
        **params,
        "vision_model": {**model, "post_layernorm": norm},
        "visual_projection": {"kernel": (kernel / deviation).astype(np.float32)},
    }
