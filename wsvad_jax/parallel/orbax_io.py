"""What training checkpoints and model folders share of orbax: errors and metadata."""

import contextlib
import errno
import logging
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from wsvad_jax.utils.errors import error_chain, full_disk_path


@contextlib.contextmanager
def errors_name_folder(folder: pathlib.Path) -> Iterator[None]:
    """Lets an error for a full disk name `folder` where orbax names no file."""
    silence_logs()
    try:
        yield
    except Exception as e:
        if {full_disk_path(part) for part in error_chain(e)} == {None, ""}:
            why = os.strerror(errno.ENOSPC)
            raise OSError(errno.ENOSPC, why, os.fspath(folder)) from e
        if isinstance(e, OSError) and full_disk_path(e) == "":
            e.filename = os.fspath(folder)
        raise


def silence_logs() -> None:
    """Keeps orbax from logging errors that it raises as well, in any thread."""
    for name in ("absl", "asyncio"):
        logger = logging.getLogger(name)
        if _is_wanted not in logger.filters:
            logger.addFilter(_is_wanted)


def _is_wanted(record: logging.LogRecord) -> bool:
    # asyncio logs the remaining failed tasks when they are collected, at any time.
    parts = pathlib.PurePath(record.pathname).parts
    return "orbax" not in parts and "asyncio" not in parts


def read_tree_metadata(folder: pathlib.Path) -> Any:
    """Returns the tree of arrays in a folder written by orbax, as shapes and dtypes."""
    import orbax.checkpoint as ocp

    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        return checkpointer.metadata(folder).item_metadata.tree


def describe_arrays(tree: Any) -> dict[str, str]:
    """Returns dtype and shape of a tree's arrays by name, as 'float32 [2, 3]'."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): (
            f"{np.dtype(leaf.dtype).name} {list(leaf.shape)}"
        )
        for path, leaf in leaves
        if hasattr(leaf, "shape") and hasattr(leaf, "dtype")
    }
