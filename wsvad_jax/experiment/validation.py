"""What a recipe's values may be, so that a slip ends in one sentence.

A range is an interval as one writes it, '[0, 1)' holds 0 and not 1, or a tuple of
words. Those of a model's fields stand in its module (`RANGES`), of other keys here.
"""

import fnmatch
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from wsvad_jax.metrics.frame_level import NORMAL_TRUTHS
from wsvad_jax.utils.errors import InputError

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
