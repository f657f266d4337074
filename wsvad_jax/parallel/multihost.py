"""Multi-process training: data placement, synchronisation and preemption.

Each process holds its rows of every batch and its shards of the parameters. Process 0
writes all files except checkpoints. With a single process, these functions do nothing.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from jaxtyping import Int

from wsvad_jax.parallel.mesh import batch_sharding

FIRST_INTERRUPT = (
    b"\ninterrupted: saving a checkpoint first; Ctrl-C again stops at once\n"
)


def is_process_zero() -> bool:
    """Whether this is process 0, which writes logs and results."""
    return jax.process_index() == 0


def sync_processes(name: str) -> None:
    """Waits until all processes have reached the barrier `name`."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


@contextlib.contextmanager
def process_zero_first(name: str) -> Iterator[None]:
    """Runs the block in process 0 first; the others then find its files."""
    if not is_process_zero():
        sync_processes(name)
    yield
    if is_process_zero():
        sync_processes(name)


def broadcast_from_process_zero(number: int) -> int:
    """Returns process 0's `number`, to all processes."""
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


def local_batch_rows(mesh: Mesh, batch_size: int) -> Int[np.ndarray, "b"]:
    """Returns the indices of a batch's rows on this process's devices, in order."""
    indices = batch_sharding(mesh).addressable_devices_indices_map((batch_size,))
    rows = np.arange(batch_size)
    # Sorted, since the global batch is assembled in the order of its rows.
    return np.unique(np.concatenate([rows[index] for index in indices.values()]))


def make_global_batch(local: Any, mesh: Mesh) -> Any:
    """Builds the global batch from each process's rows (`local_batch_rows`)."""
    if jax.process_count() == 1:
        return jax.device_put(local, batch_sharding(mesh))
    make = jax.make_array_from_process_local_data
    return jax.tree.map(lambda x: make(batch_sharding(mesh), x), local)


def shard_replicated_batch(whole: Any, mesh: Mesh) -> Any:
    """Builds the global batch from a whole batch that every process has."""
    # jit places a host array itself where there is one process.
    if jax.process_count() == 1:
        return whole
    rows = local_batch_rows(mesh, len(jax.tree.leaves(whole)[0]))
    return make_global_batch(jax.tree.map(lambda x: x[rows], whole), mesh)


def gather_to_host(array: Any) -> np.ndarray:
    """Returns an array on the host, gathered from all devices and processes."""
    # Other processes hold parts of an array that is sharded over all devices.
    if isinstance(array, jax.Array) and not (
        array.is_fully_addressable or array.is_fully_replicated
    ):
        return multihost_utils.process_allgather(array, tiled=True)
    return np.asarray(jax.device_get(array))


class PreemptionSignal:
    """Context that catches SIGTERM and the first Ctrl-C, so that work is saved first.

    A scheduler sends SIGTERM before it stops a job. JAX forwards it between processes, so
    all stop at the same step. Ctrl-C is caught in a single process alone, since nothing
    tells the others of it. A second Ctrl-C stops at once.
    """

    def __init__(self):
        self.received, self.interrupted, self.calls = False, False, 0
        self.previous_handlers: dict[int, Any] = {}

    def __enter__(self) -> "PreemptionSignal":  # noqa: PYI034 (beartype refuses Self here)
        # With several processes, JAX installs its own handler.
        if (
            jax.process_count() > 1
            or threading.current_thread() is not threading.main_thread()
        ):
            return self
        self._install(signal.SIGTERM)

        # A program that handles or ignores Ctrl-C itself knows better.
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._install(signal.SIGINT)
        return self

    def __exit__(self, *exc) -> None:
        for number in list(self.previous_handlers):
            self._restore(number)

    def _install(self, number: int) -> None:
        self.previous_handlers[number] = signal.signal(number, self._receive)

    def _restore(self, number: int) -> None:
        signal.signal(number, self.previous_handlers.pop(number))

    def _receive(self, number: int, frame: Any) -> None:
        self.received = True
        if number == signal.SIGINT:
            self.interrupted = True
            self._restore(number)
            # Not print: the signal may have come in the middle of one.
            with contextlib.suppress(OSError):
                os.write(2, FIRST_INTERRUPT)

    def reached(self) -> bool:
        """Whether to stop here; all processes must call this equally often."""
        self.calls += 1
        # JAX identifies the step by the number of calls.
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(self.calls)
        return self.received
