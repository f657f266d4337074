"""Shapes and digests of arrays that orbax stores."""

import contextlib
import errno
import hashlib
import logging
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from wsvad_jax.parallel import multihost
from wsvad_jax.utils.errors import causes, without_room

CHANGED = "its arrays differ from those that were saved"


@contextlib.contextmanager
def _raised_only(folder: pathlib.Path) -> Iterator[None]:
    """Keeps orbax from logging an error that it raises as well.

    Where the error is a full disk without a file, it names `folder`.
    After an error asyncio stays silent: it logs what is left of failed tasks when they
    are collected, at the end of the process.
    """
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    failed = True
    try:
        yield
        failed = False
    except Exception as e:
        if {without_room(part) for part in causes(e)} == {None, ""}:
            why = os.strerror(errno.ENOSPC)
            raise OSError(errno.ENOSPC, why, os.fspath(folder)) from e
        if isinstance(e, OSError) and without_room(e) == "":
            e.filename = os.fspath(folder)
        raise
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            if logger.name != "asyncio" or not failed:
                logger.setLevel(level)


def stored_tree(folder: pathlib.Path) -> Any:
    """Returns the tree of arrays in a folder of orbax's, as shapes and dtypes."""
    import orbax.checkpoint as ocp

    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        return checkpointer.metadata(folder).item_metadata.tree


def _shapes(tree: Any) -> dict[str, str]:
    """Returns 'float32 [2, 3]' of a tree's arrays by their names."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): (
            f"{np.dtype(leaf.dtype).name} {list(leaf.shape)}"
        )
        for path, leaf in leaves
        if hasattr(leaf, "shape") and hasattr(leaf, "dtype")
    }


def digest(tree: Any) -> str:
    """Returns a hash of every array's bytes, in the order of the tree."""
    h = hashlib.blake2b(digest_size=16)
    for leaf in jax.tree.leaves(tree):
        h.update(
            np.ascontiguousarray(multihost.gather_to_host(leaf)).view(np.uint8).data
        )
    return h.hexdigest()
