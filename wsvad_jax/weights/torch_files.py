"""Reads and writes PyTorch and safetensors files of named tensors.

PyTorch files are read as weights only, so none of their code runs. PyTorch is imported
only for such files.
"""

import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from wsvad_jax.utils import flags
from wsvad_jax.utils.errors import InputError, raise_if_unreadable
from wsvad_jax.utils.files import atomic_path

INSTALL_TORCH = flags.install("torch")
# Keys of the state dict in training checkpoints of the released code.
WRAPPERS = ("model_state_dict", "state_dict", "model")


def read_state(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads the tensors of a PyTorch or safetensors file by name.

    A training checkpoint is searched for its state dict. DataParallel's prefix
    `module.` is removed from the names.

    Raises:
      InputError: the file doesn't exist, is damaged, would run code or has no state
        dict; or PyTorch is missing.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise InputError(
            f"{path}: no such file; pass a checkpoint of the released code"
        )

    if path.suffix == ".safetensors":
        state: Any = _read_safetensors(path)
    else:
        # A training checkpoint wraps its state dict, sometimes twice.
        state = _read_torch(path)
        for key in WRAPPERS:
            if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
                state = state[key]
        state = {name: _to_numpy(path, name, x) for name, x in _items(path, state)}

    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): x for name, x in state.items()}
    return state


def _read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    # Imported where it is used, so other commands start faster.
    import safetensors.numpy

    try:
        # The library calls every file that it can't open a missing one.
        with open(path, "rb"):
            return safetensors.numpy.load_file(path)
    except Exception as e:  # noqa: BLE001 - damage can raise anything
        raise_if_unreadable(path, e)
        raise InputError(
            f"{path}: not a complete safetensors file ({' '.join(str(e).split())}); "
            "download it again"
        ) from None


def _read_torch(path: pathlib.Path) -> Any:
    """Loads weights only; all other content of the file is an InputError."""
    torch = import_torch(f"reading {path}")

    # Training checkpoints of the released code contain their metric as a NumPy scalar.
    # The functions below build numbers and nothing else.
    scalar = np.float64(0).__reduce__()[0]
    numbers = [
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        np.dtype,
        *(type(np.dtype(t)) for t in (np.float32, np.float64)),
    ]

    try:
        with torch.serialization.safe_globals(numbers):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:  # noqa: BLE001 - damage can raise anything
        raise_if_unreadable(path, e)
        if wanted := re.search(r"GLOBAL ([\w.]+)", str(e)):
            raise InputError(
                f"{path}: refused, since loading it would run {wanted[1]}, which a file "
                "of weights doesn't need; nothing was run; ask for the state dict "
                "alone (torch.save(model.state_dict(), FILE))"
            ) from None
        raise InputError(
            f"{path}: damaged, or not a file that PyTorch saved; nothing in it was run; "
            "compare its size with the original's and download it again"
        ) from None


def import_torch(purpose: str) -> Any:
    """Returns the torch module, or raises InputError with the command to install it."""
    try:
        import torch
    except ModuleNotFoundError:
        raise InputError(
            f"{purpose} requires PyTorch, which isn't installed: {INSTALL_TORCH} (a "
            ".safetensors file doesn't require it)"
        ) from None
    return torch


def _items(path: pathlib.Path, state: Any) -> Any:
    if not isinstance(state, Mapping) or not state:
        raise InputError(
            f"{path}: found {_kind(state)}, expected a state dict, alone or under "
            f"{', '.join(WRAPPERS)}"
        )
    return state.items()


def _to_numpy(path: pathlib.Path, name: Any, tensor: Any) -> np.ndarray:
    import ml_dtypes
    import torch

    if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
        raise InputError(
            f"{path}: {name!r} is {_kind(tensor)}, expected a tensor; the state dict "
            f"may be alone or under {', '.join(WRAPPERS)}"
        )

    # Sparse and quantised tensors have no NumPy counterpart.
    try:
        if tensor.dtype == torch.bfloat16:  # torch can't convert it to NumPy
            return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
        return tensor.detach().numpy()
    except (TypeError, RuntimeError):
        raise InputError(
            f"{path}: {name!r} is a {tensor.layout} tensor of {tensor.dtype}, expected "
            "plain numbers; save the state dict of the plain model"
        ) from None


def write_state(path: str | os.PathLike, state: Mapping[str, np.ndarray]) -> None:
    """Writes tensors for PyTorch, or as safetensors for a `path` with this suffix.

    Raises:
      InputError: PyTorch is missing.
    """
    path = pathlib.Path(path)
    # DSANet names CLIP's tensors twice; one tensor is copied and written once.
    arrays = {id(x): np.array(x, order="C") for x in state.values()}

    if path.suffix == ".safetensors":
        import safetensors.numpy

        with atomic_path(path) as temporary:
            safetensors.numpy.save_file(
                {name: arrays[id(x)] for name, x in state.items()}, temporary
            )
        return

    torch = import_torch(f"writing {path}")
    # torch.save writes shared tensors once, so names keep sharing them.
    tensors = {key: _to_torch(torch, x) for key, x in arrays.items()}
    with atomic_path(path) as temporary:
        torch.save({name: tensors[id(x)] for name, x in state.items()}, temporary)


def _to_torch(torch: Any, array: np.ndarray) -> Any:
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _kind(value: Any) -> str:
    if value is None or (isinstance(value, Mapping) and not value):
        return "nothing"
    kind = type(value).__name__
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
