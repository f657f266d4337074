"""Training checkpoints: saved in the background, verified when they are restored.

A checkpoint is whole or absent, since orbax renames it into place. It carries a digest
of its arrays and, in files.json, the hash of every file. A checkpoint
that differs from its hashes is damaged: it is moved aside, and the previous one is used.
A checkpoint that can't be read for another reason (memory, permission, a disk) ends the
program and stays as it is.

A finished run needs no checkpoints: `remove_checkpoints` frees their space.
"""

import contextlib
import pathlib
import shutil
import sys
from typing import Any

import jax

from wsvad_jax.parallel import multihost
from wsvad_jax.parallel.array_digest import CHANGED, has_digest, tree_digest
from wsvad_jax.parallel.orbax_io import (
    describe_arrays,
    errors_name_folder,
    read_tree_metadata,
)
from wsvad_jax.utils.corruption import corruption_evidence
from wsvad_jax.utils.errors import InputError, UnreadableError
from wsvad_jax.utils.files import (
    digest_mismatch,
    file_digests,
    move_aside,
    read_json,
    write_json,
)

FILES = "files.json"  # in a checkpoint: `files.file_digests` of its items
ITEMS = ("tree", "record")  # orbax's folders in a checkpoint


class Checkpoints:
    """The training checkpoints in a folder, the `keep` newest.

    Saving is asynchronous: `save` returns when the arrays are copied to the host, so
    the next step may donate them. Three things stay synchronous. The digest needs the
    arrays before they are donated. `save` first waits for the checkpoint before, so
    that one copy at most is in memory. `close` waits, since the process ends after a
    preemption and after the last step.
    """

    def __init__(self, directory: pathlib.Path, keep: int = 2):
        import orbax.checkpoint as ocp

        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, enable_async_checkpointing=True
        )
        self.directory = directory.absolute()
        self.manager = ocp.CheckpointManager(self.directory, options=options)
        self._unfinished: pathlib.Path | None = None  # checkpoint being written

    def save(self, step: int, tree: Any, record: dict[str, Any]) -> None:
        """Starts to save arrays and a JSON record under `step`.

        Raises:
          OSError: this checkpoint or the one before can't be written; names its folder.
        """
        import orbax.checkpoint as ocp

        self.wait()

        record = {**record, "digest": tree_digest(tree)}
        self._unfinished = self.directory / str(step)
        with errors_name_folder(self._unfinished):
            self.manager.save(
                step,
                args=ocp.args.Composite(
                    tree=ocp.args.StandardSave(tree), record=ocp.args.JsonSave(record)
                ),
                force=True,
            )

    def wait(self) -> None:
        """Waits for the checkpoint being written, then writes the hashes of its files.

        A process killed before that leaves no hashes; the digest still tells damage.

        Raises:
          OSError: the checkpoint can't be written; names its folder.
        """
        if self._unfinished is None:
            return
        folder, self._unfinished = self._unfinished, None
        with errors_name_folder(folder):
            self.manager.wait_until_finished()
            self.manager.check_for_errors()

        # These tell a damaged file from one that can't be read at the moment.
        if multihost.is_process_zero():
            write_json(
                folder / FILES, {item: file_digests(folder / item) for item in ITEMS}
            )

    def restore(
        self, template: Any, newest: int | None = None
    ) -> tuple[int, Any, dict[str, Any]] | None:
        """Returns (step, arrays, record) of the newest checkpoint that is intact.

        A damaged one is reported and moved to `damaged`; the one before it is tried.

        Args:
          template: arrays or ShapeDtypeStructs of the saved tree; the result gets
            their shardings.
          newest: newest step to restore; later checkpoints are moved to `later`.

        Raises:
          InputError: a checkpoint can't be read now, or belongs to another model.
        """
        import orbax.checkpoint as ocp

        self.wait()
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
        restored, damaged = None, 0
        for step in sorted(self.manager.all_steps(), reverse=True):
            if newest is not None and step > newest:
                self._move(step, "later", "is ahead of the other seeds")
                continue

            # The hashes of files are compared first: they find damage without orbax.
            if not (damage := self._changed_file(step)):
                tree, record, damage = self._load(step, abstract)
                if not damage:
                    restored = step, tree, record
                    break

            self._move(step, "damaged", f"is damaged ({damage})")
            damaged += 1

        self.manager.reload()  # forgets those that were moved
        if damaged and restored is None and multihost.is_process_zero():
            print(
                f"no intact checkpoint is left in {self.directory}: training starts at "
                f"step 0; the damaged ones are in {self.directory / 'damaged'}",
                file=sys.stderr,
            )
        return restored

    def _load(self, step: int, abstract: Any) -> tuple[Any, dict[str, Any], str]:
        """Returns arrays, record and the proof of damage, "" for an intact checkpoint.

        Raises:
          InputError: loading fails without a proof of damage.
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
            if has_digest(found.tree, record.pop("digest")):
                return found.tree, record, ""
        except Exception as e:  # noqa: BLE001 orbax raises many kinds
            self._check_fit(step, abstract)
            folder = self.directory / str(step)
            return (
                None,
                {},
                corruption_evidence(folder, e, known=_stored(folder) is not None),
            )

        # Another dtype in the template changes the digest, too, but is no damage.
        self._check_fit(step, abstract)
        return None, {}, CHANGED

    def _changed_file(self, step: int) -> str:
        """Returns which file of a checkpoint differs from its hash, "" for none.

        Process 0 compares for all, since they must restore the same checkpoint.

        Raises:
          InputError: a file can't be read now.
        """
        found, problem = "", None
        if multihost.is_process_zero():
            try:
                found = self._compare(self.directory / str(step))
            except InputError as e:
                problem = e
        state = multihost.broadcast_from_process_zero(2 if problem else bool(found))
        if state == 2:
            raise problem or InputError(
                f"{self.directory / str(step)}: the first process can't read it now"
            )
        return found or ("the first process says which file" if state else "")

    def _compare(self, folder: pathlib.Path) -> str:
        for part, wanted in (_stored(folder) or {}).items():
            if damage := digest_mismatch(folder / part, wanted):
                return f"{part}/{damage}"
        return ""

    def _check_fit(self, step: int, abstract: Any) -> None:
        """Raises InputError where a checkpoint holds arrays of other shapes."""
        folder = self.directory / str(step)
        try:
            stored = describe_arrays(read_tree_metadata(folder / "tree"))
        except Exception:  # noqa: BLE001 its metadata can't be read either
            return
        own = describe_arrays(abstract)
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
        with multihost.process_zero_first("aside"):
            # Of processes with one folder, the first has moved it for all.
            target = move_aside(path, self.directory / kind) if path.is_dir() else ""
        if multihost.is_process_zero():
            print(
                f"checkpoint {step} in {self.directory} {what}; it is moved to {target}",
                file=sys.stderr,
            )

    def close(self) -> None:
        """Waits for the checkpoint being written and ends orbax's threads."""
        try:
            self.wait()
        finally:
            self.manager.close()


def remove_checkpoints(directory: pathlib.Path) -> int:
    """Removes the checkpoints in a folder, also half-written ones; returns their bytes.

    `damaged` and `later` stay, since only the user can say what they are worth. A
    checkpoint that can't be removed stays, too, and is named on standard error: the run
    is finished without this. Only the first of several processes removes anything.

    Args:
      directory: folder of a run's checkpoints, which may be missing.
    """
    if not multihost.is_process_zero() or not directory.is_dir():
        return 0

    removed = 0
    # orbax names a half-written one STEP.orbax-checkpoint-tmp…
    for path in sorted(directory.iterdir()):
        if not path.name.partition(".")[0].isdigit():
            continue
        size = sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
        try:
            shutil.rmtree(path)
        except OSError as e:
            print(
                f"{path} could not be removed ({e.strerror or e}); the run is finished "
                "and doesn't need it",
                file=sys.stderr,
            )
        else:
            removed += size

    with contextlib.suppress(OSError):  # something else is in it
        directory.rmdir()
    return removed


def _stored(folder: pathlib.Path) -> dict[str, Any] | None:
    """Returns the hashes that a checkpoint holds of its files, None where it has none.

    Older versions wrote none, and a process may end before it writes them.
    """
    try:
        value = read_json(folder / FILES)
    except UnreadableError:
        raise
    except InputError:
        return None
    return value if isinstance(value, dict) else None
