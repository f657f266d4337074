"""Reads the files that a benchmark wrote, two folders deep."""

import pathlib
from typing import TypeVar

from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json
from wsvad_jax.utils.json_shapes import Shape, check_shape

S = TypeVar("S", bound=Shape)


def read_results(
    folder: pathlib.Path,
    shape: type[S],
    command: str,
    names: str = "DATASET/MODEL.json",
) -> list[S]:
    """Reads all results in a folder, in the order of their names.

    Args:
      folder: folder of --output.
      shape: what each file holds.
      command: command of the program `benchmark`, for messages.
      names: how files are named in the folder, for messages.

    Raises:
      InputError: there is none, or a file has another shape.
    """
    paths = sorted(folder.glob("*/*.json"))
    if not paths:
        raise InputError(f"{folder}: no results of benchmark {command} here ({names})")
    return [check_shape(shape, read_json(p), p, "measure it again") for p in paths]
