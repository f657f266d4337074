"""Weakly supervised video anomaly detection in JAX and Flax.

Importing the package itself loads nothing heavy; each program and submodule imports
what it uses, and so do the names below when they are first asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsvad_jax.detection.detector import Detector
    from wsvad_jax.experiment.config import load_config
    from wsvad_jax.training.run import train_and_evaluate

__version__ = "0.1.0"
__all__ = ["Detector", "load_config", "train_and_evaluate"]
PLACES = {
    "Detector": "detection.detector",
    "load_config": "experiment.config",
    "train_and_evaluate": "training.run",
}


def __getattr__(name: str) -> Any:
    if name not in PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
