"""Checkpoints through orbax: a run's own, to resume from, and models, to use.

A training checkpoint is whole or absent (orbax renames it into place). It carries a
digest of its arrays and, in files.json, the hash of every file. One that differs from
them is damaged: it is moved aside, and the one before is used. One that can't be read
for another reason (memory, permission, a disk) ends the program and stays as it is. A
model is a folder with `params/` and `meta.json` (recipe, card, step, the same digest
and hashes), written by training and by `convert`.
"""

import contextlib
import errno
import hashlib
import logging
import os
import pathlib
import shutil
import sys
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from wsvad_jax import hosts
from wsvad_jax.damage import proof
from wsvad_jax.errors import (
    InputError,
    Unreadable,
    causes,
    without_room,
)
from wsvad_jax.files import (
    difference,
    hashes,
    move_aside,
    read_json,
    write_json,
)
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
FILES = "files.json"  # of a checkpoint: `files.hashes` of its parts
PARTS = ("tree", "record")
CHANGED = "its arrays differ from those that were saved"


class Checkpoints:
    """The training checkpoints in a folder, the `keep` newest."""

    def __init__(self, directory: pathlib.Path, keep: int = 2):
        import orbax.checkpoint as ocp

        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, enable_async_checkpointing=False
        )
        self.directory = directory.absolute()
        self.manager = ocp.CheckpointManager(self.directory, options=options)

    def save(self, step: int, tree: Any, record: dict[str, Any]) -> None:
        """Saves arrays and a JSON record under `step`; replaces nothing half-way."""
        import orbax.checkpoint as ocp

        record = {**record, "digest": digest(tree)}
        with _raised_only(self.directory / str(step)):
            self.manager.save(
                step,
                args=ocp.args.Composite(
                    tree=ocp.args.StandardSave(tree), record=ocp.args.JsonSave(record)
                ),
                force=True,
            )

        # These tell a damaged file from one that can't be read at the moment.
        if hosts.is_first():
            folder = self.directory / str(step)
            found = {part: hashes(folder / part) for part in PARTS}
            write_json(folder / FILES, found)

    def restore(
        self, template: Any, newest: int | None = None
    ) -> tuple[int, Any, dict[str, Any]] | None:
        """Returns (step, arrays, record) of the newest checkpoint that is intact.

        A damaged one is reported and moved to `damaged`, and the one before it taken.

        Args:
          template: arrays or ShapeDtypeStructs of the tree that was saved, whose
            shardings the result gets.
          newest: later ones are moved to `later`; None takes any.

        Raises:
          InputError: one can't be read now, or is of another model than `template`.
        """
        import orbax.checkpoint as ocp

        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
        found, aside = None, 0
        for step in sorted(self.manager.all_steps(), reverse=True):
            if newest is not None and step > newest:
                self._move(step, "later", "is ahead of the other seeds")
                continue
            if not (damage := self._changed_file(step)):
                tree, record, damage = self._load(step, abstract)
                if not damage:
                    found = step, tree, record
                    break
            self._move(step, "damaged", f"is damaged ({damage})")
            aside += 1

        self.manager.reload()  # forgets those that were moved
        if aside and not found and hosts.is_first():
            print(
                f"no intact checkpoint is left in {self.directory}: training starts at "
                f"step 0; the damaged ones are in {self.directory / 'damaged'}",
                file=sys.stderr,
            )
        return found

    def _load(self, step: int, abstract: Any) -> tuple[Any, dict[str, Any], str]:
        """Returns arrays and record of a checkpoint, and what shows that it is damaged.

        Raises:
          InputError: nothing shows it, yet it can't be loaded.
        """
        import orbax.checkpoint as ocp

        try:
            found: Any = self.manager.restore(
                step,
                args=ocp.args.Composite(
                    tree=ocp.args.StandardRestore(abstract),
                    record=ocp.args.JsonRestore(),
                ),
            )
            record = dict(found.record)
            if record.pop("digest") == digest(found.tree):
                return found.tree, record, ""
        except Exception as e:  # noqa: BLE001 orbax raises many kinds
            self._check_fit(step, abstract)
            folder = self.directory / str(step)
            return None, {}, proof(folder, e, known=_stored(folder) is not None)
        # Other kinds of numbers than were saved have another digest, too.
        self._check_fit(step, abstract)
        return None, {}, CHANGED

    def _changed_file(self, step: int) -> str:
        """Returns which file of a checkpoint is damaged; "" for none or the unknown.

        The first process looks, since all of them must take the same checkpoint.

        Raises:
          InputError: a file can't be read now.
        """
        found, problem = "", None
        if hosts.is_first():
            try:
                found = self._compare(self.directory / str(step))
            except InputError as e:
                problem = e
        state = hosts.from_first(2 if problem else bool(found))
        if state == 2:
            raise problem or InputError(
                f"{self.directory / str(step)}: the first process can't read it now"
            )
        return found or ("the first process says which file" if state else "")

    def _compare(self, folder: pathlib.Path) -> str:
        for part, wanted in (_stored(folder) or {}).items():
            if damage := difference(folder / part, wanted):
                return f"{part}/{damage}"
        return ""

    def _check_fit(self, step: int, abstract: Any) -> None:
        """Raises InputError where a checkpoint holds arrays of other shapes."""
        folder = self.directory / str(step)
        try:
            stored = _shapes(stored_tree(folder / "tree"))
        except Exception:  # noqa: BLE001 its metadata can't be read either
            return
        own = _shapes(abstract)
        for name in sorted(stored.keys() | own.keys()) if stored else ():
            found, wanted = stored.get(name, "missing"), own.get(name, "nothing there")
            if found != wanted:
                raise InputError(
                    f"{folder}: {name} is {found}, but this training has {wanted}, so "
                    "it is of another version or recipe; choose another --workdir, or "
                    "pass --restart"
                )

    def _move(self, step: int, kind: str, what: str) -> None:
        """Moves a checkpoint to the folder `kind`; `what` says why."""
        path = self.directory / str(step)
        with hosts.first_alone("aside"):
            # Of processes with one folder, the first has moved it for all.
            target = move_aside(path, self.directory / kind) if path.is_dir() else ""
        if hosts.is_first():
            print(
                f"checkpoint {step} in {self.directory} {what}; it is moved to {target}",
                file=sys.stderr,
            )

    def close(self) -> None:
        """Waits for what is being written."""
        self.manager.close()


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


def _stored(folder: pathlib.Path) -> dict[str, Any] | None:
    """Returns the hashes that a checkpoint holds of its files, None where it has none.

    Older versions wrote none, and a process may end before it writes them.
    """
    try:
        value = read_json(folder / FILES)
    except Unreadable:
        raise
    except InputError:
        return None
    return value if isinstance(value, dict) else None


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
    with (
        _raised_only(target),
        ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer,
    ):
        checkpointer.save(target, args=ocp.args.StandardSave(tree))
    meta = {**meta, "digest": digest(tree)}
    if hosts.is_first():
        write_json(directory / "meta.json", {**meta, "files": hashes(target)})


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
      InputError: no model there, a damaged one, or one that can't be read now.
    """
    import orbax.checkpoint as ocp

    directory = pathlib.Path(directory).absolute()
    meta = read_meta(directory)
    target, files = directory / "params", meta.pop("files", None)
    tree: Any = {}
    try:
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
            item = checkpointer.metadata(target).item_metadata.tree
            as_numpy = jax.tree.map(
                lambda _: ocp.RestoreArgs(restore_type=np.ndarray), item
            )
            tree = checkpointer.restore(
                target, args=ocp.args.PyTreeRestore(restore_args=as_numpy)
            )
        damage = "" if digest(tree) == meta.pop("digest") else CHANGED
    except Exception as e:  # noqa: BLE001 orbax raises many kinds
        # Models of older versions come without hashes of their files.
        damage = difference(target, files) if files else ""
        damage = damage or proof(target, e, known=files is not None)
    if damage:
        raise InputError(f"{directory}: the model is damaged ({damage}); make it again")
    return tree["params"], tree.get("batch_stats") or {}, meta
