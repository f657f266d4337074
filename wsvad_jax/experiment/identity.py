"""Which keys of a recipe identify a run, and which may differ.

Three questions have different answers: whether a run may be resumed with a recipe,
whether two runs belong in one table row, and what a run changed of its recipe.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from wsvad_jax.experiment import old_keys
from wsvad_jax.utils.text import flatten

if TYPE_CHECKING:
    from ml_collections import ConfigDict

# Sections that no run depends on: a study's list of seeds, and the devices.
NOT_OF_A_RUN = ("seeds", "mesh")
# Keys that change memory and speed, not the numbers: they may differ on resume, like
# NOT_OF_A_RUN and the section of the protocol that isn't in force.
MUTABLE_ON_RESUME = ("data.microbatches", "data.placement", "model.remat")
# Keys that don't change what the metrics mean: their runs share a table row.
KEYS_NOT_AFFECTING_METRICS = (
    *MUTABLE_ON_RESUME,
    "seed",
    "seeds",
    "checkpoint_every_steps",
    "data.name",
    "eval.batch_size",
)
# Keys that each run sets: they are no change of its recipe.
KEYS_SET_PER_RUN = ("seed", "checkpoint_every_steps", "data.name")
# A difference in one of these explains all others, so it is named first.
FIRST = ("model_name", "protocol")
CROSS_PSEUDO = "loss.cross_pseudo"  # weight of a term, and prefix of its settings


def comparable_config(config: "ConfigDict") -> dict[str, Any]:
    """Returns what a run depends on: not a study's list of seeds, nor the devices."""
    return {k: v for k, v in config.to_dict().items() if k not in NOT_OF_A_RUN}


def keys_in_force(
    config: Mapping[str, Any], ignored: Iterable[str] = ()
) -> dict[str, Any]:
    """Returns a recipe's values by dotted key, without the protocol not in force.

    Args:
      config: recipe as nested dicts, with today's keys.
      ignored: dotted keys to leave out.
    """
    # An unknown protocol hides nothing.
    protocol = str(config.get("protocol"))
    others = [p for p in old_keys.PROTOCOLS if p != protocol]
    unused = tuple(f"{p}." for p in others if len(others) < len(old_keys.PROTOCOLS))
    ignored = (*ignored, *NOT_OF_A_RUN)

    # Settings of a loss term that is off decide nothing.
    values = flatten(config)
    if not values.get(CROSS_PSEUDO):
        unused += (f"{CROSS_PSEUDO}_",)
    return {
        key: value
        for key, value in values.items()
        if not key.startswith(unused)
        and key not in ignored
        and key.partition(".")[0] not in NOT_OF_A_RUN
    }


def first_difference(
    one: Mapping[str, Any], other: Mapping[str, Any]
) -> tuple[str, Any, Any] | None:
    """Returns a key with its two values where `keys_in_force` differ, or None."""
    keys = sorted(one.keys() | other.keys(), key=lambda key: (key not in FIRST, key))
    for key in keys:
        if one.get(key) != other.get(key):
            return key, one.get(key), other.get(key)
    return None
