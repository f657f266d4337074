"""Saves and loads model folders: trained or converted weights, ready for use.

A model folder holds `params/`, written by orbax, and `meta.json`: recipe, card, step, a
digest of the arrays and the hash of every file. Training and `convert` write it. Folders
of the hub have `model.safetensors` as well, or instead, with the same arrays.
"""

import os
import pathlib
import shutil
from typing import Any

import jax
import numpy as np

from wsvad_jax.experiment.saved_config import check_config
from wsvad_jax.parallel import multihost
from wsvad_jax.parallel.array_digest import CHANGED, has_digest, tree_digest
from wsvad_jax.parallel.orbax_io import errors_name_folder
from wsvad_jax.utils.corruption import corruption_evidence
from wsvad_jax.utils.errors import InputError, one_line, raise_if_unreadable
from wsvad_jax.utils.files import digest_mismatch, file_digests, read_json, write_json
from wsvad_jax.utils.json_shapes import Shape, Text, check_shape
from wsvad_jax.weights.tensor_file import TENSOR_FILE, read_tensors

AGAIN = "train or convert it again"


class TextTowerId(Shape):
    """Text tower that read the prompts: its name or folder, and the weights' hash."""

    clip: Text
    hash: Text


class ModelMeta(Shape):
    """Shape of meta.json in a model folder; further keys are allowed."""

    model: Text
    digest: Text  # of the arrays
    config: dict
    card: dict | None = None
    features: dict | None = None
    tower: TextTowerId | None = None
    length: int | None = None
    width: int | None = None


def find_model_folder(checkpoint: str | os.PathLike) -> pathlib.Path:
    """Returns the model folder of a path: the path, or `model` in a workdir."""
    folder = pathlib.Path(checkpoint)
    if not (folder / "meta.json").is_file() and (folder / "model").is_dir():
        return folder / "model"
    return folder


def save_params(
    directory: pathlib.Path, params: Any, batch_stats: Any, meta: dict[str, Any]
) -> None:
    """Writes a model folder, replacing an older one.

    `meta.json` is written last, so an interrupted save leaves no valid model.
    """
    import orbax.checkpoint as ocp

    directory = pathlib.Path(directory).absolute()
    target = directory / "params"

    # Without meta.json, an incomplete folder is no model.
    with multihost.process_zero_first("model"):
        if multihost.is_process_zero():
            (directory / "meta.json").unlink(missing_ok=True)
            (directory / TENSOR_FILE).unlink(missing_ok=True)
            shutil.rmtree(target, ignore_errors=True)

    # Synchronous: nothing is left to compute meanwhile.
    tree = {"params": params, "batch_stats": batch_stats}
    with (
        errors_name_folder(target),
        ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer,
    ):
        checkpointer.save(target, args=ocp.args.StandardSave(tree))

    meta = {**meta, "digest": tree_digest(tree)}
    if multihost.is_process_zero():
        write_json(directory / "meta.json", {**meta, "files": file_digests(target)})


def read_meta(directory: pathlib.Path) -> dict[str, Any]:
    """Returns the content of a model folder's meta.json.

    Raises:
      InputError: the folder holds no model, or meta.json is invalid.
    """
    path = directory / "meta.json"
    if not path.is_file():
        _refuse_ensemble(directory)
        raise InputError(
            f"{directory}: no model here (meta.json is missing); pass "
            "WORKDIR/model or the output of `python -m wsvad_jax.convert`"
        )
    meta = read_json(path)
    check_shape(ModelMeta, meta, path, "train or convert the model again")
    meta["config"] = check_config(meta["config"], f"{path}: config")
    return meta


def _refuse_ensemble(directory: pathlib.Path) -> None:
    """Raises InputError if a folder has the results of `evaluate --with`."""
    path = directory / "results.json"
    if path.is_file() and (results := read_json(path)).get("ensemble"):
        raise InputError(
            f"{directory} is a {results.get('selection')}, which has no model: its "
            "scores are ranks over a whole test set; pass one of its runs"
        )


def load_params(
    directory: pathlib.Path, advice: str = AGAIN
) -> tuple[Any, Any, dict[str, Any]]:
    """Returns (params, batch_stats, meta) of a model folder, as NumPy arrays.

    `model.safetensors` is read if it is there, else `params/`. The digest in meta.json
    covers the arrays, so both give the same model or an error.

    Args:
      directory: model folder.
      advice: end of the error for a damaged folder, what the user should do.

    Raises:
      InputError: the folder holds no model, a damaged one or an unreadable one.
    """
    directory = pathlib.Path(directory).absolute()
    meta = read_meta(directory)
    target, files = directory / "params", meta.pop("files", None)
    tree: Any = {}

    # A link of the hub's cache may point to a missing file, so lexists.
    single = directory / TENSOR_FILE
    if os.path.lexists(single):
        target, files = single, None
    try:
        tree = read_tensors(single) if target == single else _read_orbax(target)
        damage = "" if has_digest(tree, meta.pop("digest")) else CHANGED
    except Exception as e:  # noqa: BLE001 readers raise many kinds
        # Models of older versions come without hashes of their files.
        damage = digest_mismatch(target, files) if files else ""
        damage = damage or _evidence(target, e, known=files is not None)

    if damage:
        where = f"{directory}: {TENSOR_FILE}" if target == single else str(directory)
        raise InputError(f"{where}: the model is damaged ({damage}); {advice}")
    return tree.get("params") or {}, tree.get("batch_stats") or {}, meta


def _read_orbax(target: pathlib.Path) -> Any:
    """Returns the tree that orbax wrote into a folder."""
    import orbax.checkpoint as ocp

    # Read as NumPy arrays: the devices of the training may not exist here.
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        tree_metadata = checkpointer.metadata(target).item_metadata.tree
        as_numpy = jax.tree.map(
            lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree_metadata
        )
        return checkpointer.restore(
            target, args=ocp.args.PyTreeRestore(restore_args=as_numpy)
        )


def _evidence(target: pathlib.Path, error: Exception, known: bool) -> str:
    """Returns the evidence that stored arrays are damaged; see `corruption_evidence`."""
    if target.name != TENSOR_FILE:
        return corruption_evidence(target, error, known=known)
    raise_if_unreadable(target, error)
    return one_line(error)
