"""Where a run's numbers come from: code, recipe, data, time and memory.

Apart from results.json, which is the same whenever a run is repeated.
"""

import dataclasses
import hashlib
import json
import pathlib
import subprocess
from typing import TYPE_CHECKING, Any

import jax

from wsvad_jax.datasets import registry
from wsvad_jax.experiment.config import plain_recipe
from wsvad_jax.experiment.identity import KEYS_SET_PER_RUN, comparable_config
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.processes import peak_memory_bytes
from wsvad_jax.utils.text import flatten

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from wsvad_jax.experiment.build import Experiment

FILE = "run.json"


def provenance(experiment: "Experiment", seconds: dict[str, float]) -> dict[str, Any]:
    """Returns the content of run.json.

    {'git': commit and whether package or recipes differ from it, None outside a checkout;
    'overrides': keys that differ from the recipe of that name in this package;
    'dataset': hash of the records; 'features': how they were made; 'features_hash': of
    that; 'seconds': of this process's part of the run; 'memory_bytes': the most that
    process and device held}

    Args:
      experiment: that was trained.
      seconds: wall time by kind of work.
    """
    used = jax.local_devices()[0].memory_stats() or {}
    features = dataclasses.asdict(experiment.dataset.protocol)
    canonical = json.dumps(features, sort_keys=True).encode()
    return {
        "git": git_state(),
        "overrides": overrides(
            experiment.config, registry.recipe_name_of_card(experiment.dataset.card)
        ),
        "dataset": experiment.dataset.content,
        "features": features,
        "features_hash": hashlib.sha256(canonical).hexdigest(),
        "seconds": {k: round(v, 2) for k, v in seconds.items()},
        "memory_bytes": {
            "process": peak_memory_bytes(),
            "device": used.get("peak_bytes_in_use"),
        },
    }


def git_state() -> dict[str, Any] | None:
    """Returns {'commit', 'changed'} of the checkout that this package lies in."""
    folder = pathlib.Path(__file__).parent.parent

    def git(*words: str) -> str:
        command = ["git", "-C", str(folder), *words]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=20
        ).stdout.strip()

    try:
        # Installed inside somebody else's checkout, the package is not of it.
        if not git("ls-files", "--", "__init__.py"):
            return None
        places = [str(folder), str(folder.parent / "configs")]
        changed = bool(git("status", "--porcelain", "--", *places))
        return {"commit": git("rev-parse", "HEAD"), "changed": changed}
    except (OSError, subprocess.SubprocessError):
        return None


def overrides(config: "ConfigDict", dataset: str = "") -> dict[str, Any]:
    """Returns the keys that differ from this package's recipe, as {'a.b': value}.

    `dataset` is the recipe's name for the data; '' takes `config.data.name`.
    """
    try:
        own = plain_recipe(config.model_name, dataset or config.data.name)
    except InputError:  # a recipe of somebody's own
        return {}
    known, found = flatten(comparable_config(own)), flatten(comparable_config(config))
    return {
        key: value
        for key, value in found.items()
        if key not in KEYS_SET_PER_RUN and known.get(key) != value
    }
