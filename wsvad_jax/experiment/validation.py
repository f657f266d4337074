"""What a recipe's values may be, so that a slip ends in one sentence.

A range is an interval as one writes it, '[0, 1)' holds 0 and not 1, or a tuple of
words; an interval among words holds whole numbers. `ListOf` is the range of a list.
Those of a model's fields stand in its module (`RANGES`), of other keys here.
"""

import dataclasses
import fnmatch
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from wsvad_jax.experiment import old_keys
from wsvad_jax.metrics.frame_level import NORMAL_TRUTHS
from wsvad_jax.utils.errors import InputError

if TYPE_CHECKING:
    from ml_collections import ConfigDict


@dataclasses.dataclass(frozen=True)
class ListOf:
    """The range of a list of different values, each within the range `items`."""

    items: str | tuple[str, ...]


Range = str | tuple[str, ...] | ListOf
PROTOCOLS = ("clean", "paper")  # of full trainings
QUICK = old_keys.QUICK
RANGES: dict[str, Range] = {
    "protocol": old_keys.PROTOCOLS,
    "seed": "[0, inf)",
    "seeds": ListOf(("[0, inf)",)),
    "checkpoint_every_steps": "[1, inf)",
    "data.length": "[1, inf)",
    "data.batch_sampling": ("balanced", "uniform"),
    "data.microbatches": ("auto", "[1, inf)"),
    "data.placement": ("host", "device"),
    "data.samples": ("crops", "videos"),
    "mesh.*": "[1, inf)",
    "loss.*": "(-inf, inf)",
    "loss.cross_pseudo*": "[0, inf)",
    "loss.cross_pseudo_votes": "(0, 1]",
    "loss.cross_pseudo_calm": "[0, 1]",
    "loss.cross_pseudo_length": "[1, inf)",
    "loss.cross_pseudo_scales": "[1, 8]",
    "loss.cross_pseudo_flat": "[0, 1]",
    "eval.mode": ("windows", "whole"),
    "eval.normal_truth": NORMAL_TRUTHS,
    "*.batch_size": "[1, inf)",
    "*.steps": "[1, inf)",
    "*.epochs": "[1, inf)",
    "*.eval_every_steps": "[1, inf)",
    "*.held_out": "[0, 1)",
    "*.select": ("best", "last"),
    "*.optim.*.lr": "[0, inf)",
    "*.optim.*.final": "[0, 1]",
    "*.optim.*.warmup": "[0, inf)",
    "*.optim.*.weight_decay": "[0, inf)",
}

# Keys that a learning-rate schedule requires, beside lr.
SCHEDULE_KEYS = {"steps_epochs": ("milestones",), "warmup_cosine": ("warmup",)}


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
        name = f"{prefix}{key}".removeprefix("config.")
        if value is None and old_keys.may_be_none(name):
            continue

        # Several patterns may match a key: all of them hold.
        for pattern, allowed in ranges.items():
            if fnmatch.fnmatchcase(key, pattern) and not _holds(allowed, value):
                raise InputError(
                    f"{prefix}{key} is {value!r}; expected {_describe(allowed)}"
                )


def check_protocol(config: "ConfigDict") -> None:
    """Raises InputError if the protocol in force lacks a key that training requires."""
    # A recipe of a user may lack a section altogether.
    name = f"config.{config.protocol}"
    plan: Any = config.get(config.protocol)
    if QUICK not in config and config.protocol == QUICK:
        raise InputError(f"config.protocol is {QUICK!r}; pass --quick instead")
    groups: Any = plan.get("optim") if hasattr(plan, "items") else None
    if not hasattr(groups, "items"):
        raise InputError(f"{name}.optim is missing; expected the protocol's optimisers")
    if plan.steps is None and plan.epochs is None:
        raise InputError(f"{name}.steps and {name}.epochs are both None; set one")

    # Each schedule has keys of its own.
    for module, group in groups.items():
        missing = [
            k for k in SCHEDULE_KEYS.get(group.get("schedule"), ()) if k not in group
        ]
        if missing:
            raise InputError(
                f"{name}.optim.{module}.schedule is {group.schedule}, which requires the "
                f"key {missing[0]}; add it to the recipe"
            )


def _leaves(config: "ConfigDict", prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if hasattr(value, "items"):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _holds(allowed: Range, value: Any) -> bool:
    if isinstance(allowed, ListOf):
        within = isinstance(value, tuple | list) and all(
            _holds(allowed.items, item) for item in value
        )
        return within and len(set(value)) == len(value)
    if isinstance(allowed, tuple):
        whole = type(value) is int
        return value in allowed or any(
            whole and _holds(part, value) for part in allowed if _is_interval(part)
        )
    if isinstance(value, bool) or not isinstance(value, int | float):
        # A switch or a word among numbers, such as loss.pairing.
        return value is not None
    low, high = (float(end) for end in allowed[1:-1].split(","))
    above = value > low if allowed[0] == "(" else value >= low
    return above and (value < high if allowed[-1] == ")" else value <= high)


def _is_interval(text: str) -> bool:
    return text[:1] in ("[", "(")


def _describe(allowed: Range) -> str:
    if isinstance(allowed, ListOf):
        return f"a list of different values, each {_describe(allowed.items)}"
    if not isinstance(allowed, tuple):
        return f"a number in {allowed}"
    *first, last = (
        f"a whole number in {part}" if _is_interval(part) else part for part in allowed
    )
    return f"{', '.join(first)} or {last}" if first else last
