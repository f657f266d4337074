"""Reads the config.json of a run, which may come from somebody else."""

import os
from collections.abc import Mapping
from typing import Any

from wsvad_jax.experiment import old_keys
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json

MAX_DEPTH = 8  # of sections within sections
ADVICE = "expected the config.json of a training run, which says model_name, protocol and data.name"


def read_config(path: str | os.PathLike) -> dict[str, Any]:
    """Returns the config.json of a workdir.

    Raises:
      InputError: the file is missing, or training did not write it.
    """
    return check_config(read_json(path), str(path))


def check_config(config: Any, source: str) -> dict[str, Any]:
    """Returns a run's config with today's keys, whatever version wrote it.

    Args:
      config: content of the file.
      source: name of the file, for the message.

    Raises:
      InputError: the content has another shape.
    """
    from wsvad_jax.utils.json_shapes import Shape, Text, check_shape

    class DataSection(Shape):
        name: Text

    class SavedConfig(Shape):
        model_name: Text
        protocol: Text
        data: DataSection

    # Sections beyond these differ by model and version, and aren't checked here.
    check_shape(SavedConfig, config, source, ADVICE)
    if not _has_plain_keys(config, MAX_DEPTH):
        raise InputError(
            f"{source}: keys must have no dot and at most {MAX_DEPTH} levels; {ADVICE}"
        )

    old_keys.upgrade(config)
    return config


def _has_plain_keys(tree: Mapping[str, Any], depth: int) -> bool:
    return depth > 0 and all(
        "." not in key
        and (not isinstance(value, dict) or _has_plain_keys(value, depth - 1))
        for key, value in tree.items()
    )
