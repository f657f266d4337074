"""Several processes that compute together: who does what, and when all of them stop.

Each holds its part of every batch and of sharded parameters. Process 0 writes what is
not a checkpoint. With one process everything here does nothing.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from jaxtyping import Int

from wsvad_jax.state import split


def is_first() -> bool:
    """Whether this process writes logs and results."""
    return jax.process_index() == 0


def wait(name: str) -> None:
    """Waits until all processes have come to the place of this name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


@contextlib.contextmanager
def first_alone(name: str) -> Iterator[None]:
    """Lets process 0 through before the others, which find what it made."""
    if not is_first():
        wait(name)
    yield
    if is_first():
        wait(name)


def from_first(number: int) -> int:
    """Returns process 0's `number`, to all processes."""
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


def own_rows(mesh: Mesh, batch_size: int) -> Int[np.ndarray, "b"]:
    """Returns which rows of a batch lie on this process's devices, in order."""
    places = split(mesh).addressable_devices_indices_map((batch_size,))
    rows = np.arange(batch_size)
    return np.unique(np.concatenate([rows[index] for index in places.values()]))


def join(own: Any, mesh: Mesh) -> Any:
    """Puts a batch of the rows that each process has (`own_rows`) on the devices."""
    if jax.process_count() == 1:
        return jax.device_put(own, split(mesh))
    make = jax.make_array_from_process_local_data
    return jax.tree.map(lambda x: make(split(mesh), x), own)


def spread(whole: Any, mesh: Mesh) -> Any:
    """Puts each process's rows of a batch that all of them have on its devices."""
    if jax.process_count() == 1:
        return whole
    rows = own_rows(mesh, len(jax.tree.leaves(whole)[0]))
    return join(jax.tree.map(lambda x: x[rows], whole), mesh)


def fetch(array: Any) -> np.ndarray:
    """Returns an array's whole content, wherever its parts lie."""
    if isinstance(array, jax.Array) and not (
        array.is_fully_addressable or array.is_fully_replicated
    ):
        return multihost_utils.process_allgather(array, tiled=True)
    return np.asarray(jax.device_get(array))


class Notice:
    """Notices SIGTERM, by which a scheduler or a cloud takes a machine back.

    Among several processes JAX passes it on: all stop at the same place.
    """

    def __init__(self):
        self.came, self.asked = False, 0

    def __enter__(self) -> "Notice":  # noqa: PYI034 (beartype refuses Self here)
        # JAX has a handler of its own where processes belong together.
        self.handles = (
            jax.process_count() == 1
            and threading.current_thread() is threading.main_thread()
        )
        if self.handles:
            self.before = signal.signal(signal.SIGTERM, self._take)
        return self

    def __exit__(self, *exc) -> None:
        if self.handles:
            signal.signal(signal.SIGTERM, self.before)

    def _take(self, *_: Any) -> None:
        self.came = True

    def given(self) -> bool:
        """Whether to stop here; all processes are to ask equally often."""
        self.asked += 1
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(self.asked)
        return self.came
