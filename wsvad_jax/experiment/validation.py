"""What a recipe's values may be, so that a slip ends in one sentence.

A range is an interval as one writes it, '[0, 1)' holds 0 and not 1, or a tuple of
words. Those of a model's fields stand in its module (`RANGES`), of other keys here.
"""

import fnmatch
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from wsvad_jax.metrics.frame_level import NORMAL_TRUTHS
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json

if TYPE_CHECKING:
    from ml_collections import ConfigDict

Range = str | tuple[str, ...]
PROTOCOLS = ("clean", "paper")
RANGES: dict[str, Range] = {
    "protocol": PROTOCOLS,
    "seed": "[0, inf)",
    "checkpoint_every": "[0, inf)",
    "data.length": "[0, inf)",
    "data.placement": ("host", "device"),
    "data.samples": ("crops", "videos"),
    "mesh.*": "[0, inf)",
    "loss.*": "(-inf, inf)",
    "eval.mode": ("windows", "whole"),
    "eval.normal_truth": NORMAL_TRUTHS,
    "*.batch_size": "[1, inf)",
    "*.steps": "[0, inf)",
    "*.epochs": "[0, inf)",
    "*.eval_every": "[0, inf)",
    "*.held_out": "[0, 1)",
    "*.select": ("best", "last"),
    "*.optim.*.lr": "[0, inf)",
    "*.optim.*.final": "[0, 1]",
    "*.optim.*.warmup": "[0, inf)",
    "*.optim.*.weight_decay": "[0, inf)",
}


def check(
    config: "ConfigDict",
    ranges: Mapping[str, Range] = RANGES,
    prefix: str = "config.",
) -> None:
    """Raises InputError for the first value outside its range.

    Args:
      config: a recipe, or a part of it.
      ranges: by key; `*` in a key stands for anything.
      prefix: what stands before its keys.
    """
    for key, value in _leaves(config):
        for pattern, allowed in ranges.items():
            if fnmatch.fnmatchcase(key, pattern) and not _holds(allowed, value):
                words = f"a number in {allowed}"
                if isinstance(allowed, tuple):
                    words = " or ".join(allowed)
                raise InputError(f"{prefix}{key} is {value!r}; expected {words}")


def _leaves(config: "ConfigDict", prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if hasattr(value, "items"):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _holds(allowed: Range, value: Any) -> bool:
    if isinstance(allowed, tuple):
        return value in allowed
    if isinstance(value, bool) or not isinstance(value, int | float):
        return True  # a switch or a word among numbers, such as loss.pairing
    low, high = (float(end) for end in allowed[1:-1].split(","))
    above = value > low if allowed[0] == "(" else value >= low
    return above and (value < high if allowed[-1] == ")" else value <= high)


def read_config(path: str | os.PathLike) -> dict[str, Any]:
    """Reads the config.json of a workdir.

    Raises:
      InputError: no such file, or one that training did not write.
    """
    config = read_json(path)
    check_config(config, str(path))
    return config


def check_config(config: Any, source: str) -> None:
    """Raises InputError for what is no recipe's settings; `source` names them."""
    known = config if isinstance(config, dict) else {}
    data = known.get("data")
    dataset = data.get("name") if isinstance(data, dict) else None
    named = (known.get("model_name"), known.get("protocol"), dataset)
    if not all(isinstance(name, str) for name in named) or not _plain(known):
        raise InputError(
            f"{source}: expected the settings of a training, with the keys model_name, "
            "protocol and data.name"
        )


def _plain(tree: Mapping[str, Any], depth: int = 8) -> bool:
    """Whether keys are names, `depth` below each other at most."""
    return depth > 0 and all(
        "." not in key and (not isinstance(value, dict) or _plain(value, depth - 1))
        for key, value in tree.items()
    )
