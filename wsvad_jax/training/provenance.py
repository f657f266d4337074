"""Provenance of a run: code, recipe, data, time and memory, in run.json.

results.json holds neither time nor memory, so that they don't change it.
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


def provenance(
    experiment: "Experiment", seconds: dict[str, float], microbatches: int
) -> dict[str, Any]:
    """Returns the content of run.json.

      git: commit, and whether package or recipes differ from it; None outside a checkout
      overrides: keys that differ from this package's recipe
      dataset: hash of the records
      features: feature protocol
      features_hash: hash of the feature protocol
      microbatches: microbatches of a training step on this machine
      dtype: precision of activations and matrix products on this machine
      seconds: wall time of this process
      memory_bytes: peak memory of process and device

    Args:
      experiment: experiment that was trained.
      seconds: wall time by kind of work.
      microbatches: number that `num_microbatches` has chosen.
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
        "microbatches": microbatches,
        "dtype": experiment.model.dtype,
        "seconds": {k: round(v, 2) for k, v in seconds.items()},
        "memory_bytes": {
            "process": peak_memory_bytes(),
            "device": used.get("peak_bytes_in_use"),
        },
    }


def git_state() -> dict[str, Any] | None:
    """Returns {'commit', 'changed'} of the checkout that contains this package."""
    folder = pathlib.Path(__file__).parent.parent

    def git(*words: str) -> str:
        command = ["git", "-C", str(folder), *words]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=20
        ).stdout.strip()

    try:
        # The package may be installed inside an unrelated checkout.
        if not git("ls-files", "--", "__init__.py"):
            return None
        paths = [str(folder), str(folder.parent / "configs")]
        changed = bool(git("status", "--porcelain", "--", *paths))
        return {"commit": git("rev-parse", "HEAD"), "changed": changed}
    except (OSError, subprocess.SubprocessError):
        return None


def overrides(config: "ConfigDict", dataset: str = "") -> dict[str, Any]:
    """Returns the keys that differ from this package's recipe, as {'a.b': value}.

    `dataset` is the recipe's name for the data; '' takes `config.data.name`.
    """
    try:
        own = plain_recipe(config.model_name, dataset or config.data.name)
    except InputError:  # a recipe that isn't the package's
        return {}

    known, found = flatten(comparable_config(own)), flatten(comparable_config(config))
    return {
        key: value
        for key, value in found.items()
        if key not in KEYS_SET_PER_RUN and known.get(key) != value
    }
