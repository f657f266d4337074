"""Reads and writes a tree of arrays as one safetensors file, `model.safetensors`.

Names of tensors are paths in the tree, such as params/encoder/kernel. The file holds
plain tensors alone, so reading it runs no code of others.
"""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from wsvad_jax.utils import files
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.text import flatten

TENSOR_FILE = "model.safetensors"


def write_tensors(path: str | os.PathLike, tree: Mapping[str, Any]) -> None:
    """Writes the arrays of a nested dict; replaces an older file.

    Raises:
      InputError: a key has a slash, so that its path would be another one.
    """
    import ml_dtypes  # noqa: F401 so that NumPy knows bfloat16
    import safetensors.numpy

    flat = flatten(tree, "/")
    if any("/" in key for key in _keys(tree)):
        raise InputError(f"{path}: a parameter's name has a slash; rename it")

    # safetensors writes the buffer as it is: a transposed view would be wrong.
    state = {name: np.array(flat[name], order="C") for name in sorted(flat)}
    with files.atomic_path(path) as temporary:
        safetensors.numpy.save_file(state, temporary, {"format": "flax"})


def read_tensors(path: str | os.PathLike) -> dict[str, Any]:
    """Returns the nested dict of arrays.

    Raises:
      Exception: the file can't be read, or is no whole safetensors file.
    """
    import ml_dtypes  # noqa: F401 so that NumPy knows bfloat16
    import safetensors.numpy

    tree: dict[str, Any] = {}
    for name, array in safetensors.numpy.load_file(pathlib.Path(path)).items():
        *parents, last = name.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = array
    return tree


def _keys(tree: Mapping[str, Any]) -> list[str]:
    inner = [_keys(x) for x in tree.values() if isinstance(x, Mapping)]
    return [*map(str, tree), *(key for keys in inner for key in keys)]
