"""Checkpoints through orbax: a run's own, to resume from, and models, to use.

A training checkpoint is whole or absent (orbax renames it into place) and carries a
digest of its arrays, so that damage is noticed and the one before is used. A model is
a folder with `params/` and `meta.json` (recipe, card, step), written by training and by
`convert`.
"""

import hashlib
import pathlib
import shutil
import sys
from typing import Any

import jax
import numpy as np

from wsvad_jax import hosts
from wsvad_jax.errors import InputError
from wsvad_jax.files import read_json, write_json
from wsvad_jax.run_checks import check_config

NoneType = type(None)
META: dict[str, tuple[type, ...]] = {
    "model": (str,),
    "digest": (str,),
    "config": (dict,),
    "card": (dict, NoneType),
    "features": (dict, NoneType),
    "tower": (dict, NoneType),
    "length": (int, NoneType),
    "width": (int, NoneType),
}


class Checkpoints:
    """The training checkpoints in a folder, the `keep` newest."""

    def __init__(self, directory: pathlib.Path, keep: int = 2):
        import orbax.checkpoint as ocp

        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, enable_async_checkpointing=False
        )
        self.manager = ocp.CheckpointManager(directory.absolute(), options=options)

    def save(self, step: int, tree: Any, record: dict[str, Any]) -> None:
        """Saves arrays and a JSON record under `step`; replaces nothing half-way."""
        import orbax.checkpoint as ocp

        record = {**record, "digest": digest(tree)}
        self.manager.save(
            step,
            args=ocp.args.Composite(
                tree=ocp.args.StandardSave(tree), record=ocp.args.JsonSave(record)
            ),
            force=True,
        )

    def restore(
        self, template: Any, newest: int | None = None
    ) -> tuple[int, Any, dict[str, Any]] | None:
        """Returns (step, arrays, record) of the newest checkpoint that is intact.

        A damaged one is reported, removed, and the one before it taken.

        Args:
          template: arrays or ShapeDtypeStructs of the tree that was saved, whose
            shardings the result gets.
          newest: later ones are removed; None takes any.
        """
        import orbax.checkpoint as ocp

        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
        for step in sorted(self.manager.all_steps(), reverse=True):
            if newest is not None and step > newest:
                self.manager.delete(step)
                continue
            try:
                found: Any = self.manager.restore(
                    step,
                    args=ocp.args.Composite(
                        tree=ocp.args.StandardRestore(abstract),
                        record=ocp.args.JsonRestore(),
                    ),
                )
                record = dict(found.record)
                if record.pop("digest") != digest(found.tree):
                    raise ValueError("its arrays differ from those that were saved")
            except Exception as e:  # noqa: BLE001 orbax raises many kinds
                reason = " ".join(str(e).split())[:200]
                print(
                    f"checkpoint {step} in {self.manager.directory} is damaged "
                    f"({reason}); it is removed and the one before it is used",
                    file=sys.stderr,
                )
                self.manager.delete(step)
                continue
            return step, found.tree, record
        return None

    def close(self) -> None:
        """Waits for what is being written."""
        self.manager.close()


def digest(tree: Any) -> str:
    """Returns a hash of every array's bytes, in the order of the tree."""
    h = hashlib.blake2b(digest_size=16)
    for leaf in jax.tree.leaves(tree):
        h.update(np.ascontiguousarray(hosts.fetch(leaf)).view(np.uint8).data)
    return h.hexdigest()


def save_params(
    directory: pathlib.Path, params: Any, batch_stats: Any, meta: dict[str, Any]
) -> None:
    """Writes a model folder, replacing an older one; `meta.json` comes last."""
    import orbax.checkpoint as ocp

    directory = pathlib.Path(directory).absolute()
    target = directory / "params"
    with hosts.first_alone("model"):
        if hosts.is_first():
            (directory / "meta.json").unlink(missing_ok=True)
            shutil.rmtree(target, ignore_errors=True)
    tree = {"params": params, "batch_stats": batch_stats}
    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
        checkpointer.save(target, args=ocp.args.StandardSave(tree))
    meta = {**meta, "digest": digest(tree)}
    if hosts.is_first():
        write_json(directory / "meta.json", meta)


def read_meta(directory: pathlib.Path) -> dict[str, Any]:
    """Reads the meta.json of a model folder.

    Raises:
      InputError: no model there, or a file that `save_params` didn't write.
    """
    path = directory / "meta.json"
    if not path.is_file():
        raise InputError(
            f"{directory}: no model here (meta.json is missing); pass a folder that "
            "training left as WORKDIR/model or that `python -m wsvad_jax.convert` wrote"
        )
    meta = read_json(path)
    if not isinstance(meta, dict):
        raise InputError(f"{path}: expected a JSON object, found {meta!r:.60}")
    for key, kinds in META.items():
        if not isinstance(meta.get(key), kinds):
            raise InputError(
                f"{path}: {key} is {meta.get(key)!r:.60}, which no model folder has; "
                "train or convert the model again"
            )
    tower = meta.get("tower") or {"clip": "", "hash": ""}
    if not all(isinstance(tower.get(key), str) for key in ("clip", "hash")):
        raise InputError(f"{path}: tower lacks clip or hash; train the model again")
    check_config(meta["config"], f"{path}: config")
    return meta


def load_params(directory: pathlib.Path) -> tuple[Any, Any, dict[str, Any]]:
    """Reads a model folder: (params, batch_stats, meta), the arrays on the host.

    Raises:
      InputError: no model there, or a damaged one.
    """
    import orbax.checkpoint as ocp

    directory = pathlib.Path(directory).absolute()
    meta = read_meta(directory)
    try:
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
            item = checkpointer.metadata(directory / "params").item_metadata.tree
            as_numpy = jax.tree.map(
                lambda _: ocp.RestoreArgs(restore_type=np.ndarray), item
            )
            tree = checkpointer.restore(
                directory / "params", args=ocp.args.PyTreeRestore(restore_args=as_numpy)
            )
        if digest(tree) != meta.pop("digest"):
            raise ValueError("its arrays differ from those that were saved")
    except Exception as e:  # noqa: BLE001 orbax raises many kinds
        reason = " ".join(str(e).split())[:200]
        raise InputError(
            f"{directory}: the model is damaged ({reason}); make it again"
        ) from None
    return tree["params"], tree.get("batch_stats") or {}, meta
