"""Deterministic weights: the numbers of a tensor follow from its name and shape alone.

The golden files were computed with these weights, so they need not carry any. Names
and shapes are the released PyTorch state dict's, listed in `golden/*_params.json`.
"""

import functools
import json
import math
import pathlib
import zlib

import numpy as np

GOLDEN = pathlib.Path(__file__).parent / "golden"


def value(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the float32 tensor that stands for `name` in the golden runs."""
    # DSANet stores the same CLIP twice; both copies hold the same numbers.
    return _draw(name.replace("clip_adapter.clipmodel.", "clipmodel."), shape)


@functools.cache
def _draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    leaf = name.split(".")[-1]
    draws = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    is_gain = leaf == "learn_scale" or (leaf == "weight" and len(shape) == 1)
    if leaf == "running_var":
        draws = 1 + 0.1 * np.abs(draws)
    elif is_gain:
        draws = 1 + 0.1 * draws
    elif len(shape) < 2:
        draws = 0.02 * draws
    elif leaf == "video_prototypes" or "embedding" in name:
        draws = 0.05 * draws
    else:
        draws = 0.4 * draws / np.sqrt(math.prod(shape[1:]))  # fan-in scaling
    drawn = np.asarray(draws, np.float32)
    drawn.flags.writeable = False  # all golden runs share it
    return drawn


def state_dict(name: str) -> dict[str, np.ndarray]:
    """Returns the filled state dict whose tensors `golden/NAME_params.json` lists."""
    shapes = json.loads((GOLDEN / f"{name}_params.json").read_text())
    return {key: value(key, tuple(shape)) for key, shape in shapes.items()}


def golden(name: str) -> dict[str, np.ndarray]:
    """Returns the arrays of `golden/NAME.npz`."""
    with np.load(GOLDEN / f"{name}.npz") as file:
        return dict(file)
