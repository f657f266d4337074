"""Runs functions in fresh processes: one, or as many as there are processors."""

import multiprocessing
import os
import resource
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

from wsvad_jax.utils.progress import Progress

MAX_WORKERS = 16


def run_in_subprocess(function: Callable[..., Any], *arguments: Any) -> Any:
    """Returns the result of `function(*arguments)` in a new process.

    The memory that it took is free afterwards.

    Raises:
      concurrent.futures.process.BrokenProcessPool: the process was killed.
    """
    # Spawned, not forked: a fork copies JAX's locks without the threads that hold them.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(function, *arguments).result()
        except KeyboardInterrupt:
            # A compiler would ignore the signal for minutes.
            for process in multiprocessing.active_children():
                process.kill()
            raise


def run_in_pool(
    function: Callable[..., Any], calls: Sequence[tuple], label: str, unit: str
) -> list[Any]:
    """Returns the results of `function(*call)` for all calls, in their order.

    Args:
      function: function of a module, which new processes can import.
      calls: arguments of each call.
      label: progress-bar label.
      unit: name of a call's work on the progress bar.

    Raises:
      concurrent.futures.process.BrokenProcessPool: a process was killed.
    """
    if not calls:
        return []

    # Spawned, not forked: a fork copies JAX's locks without the threads that hold them.
    context = multiprocessing.get_context("spawn")
    workers = min(os.cpu_count() or 1, len(calls), MAX_WORKERS)
    with (
        ProcessPoolExecutor(workers, context, initializer=_end_with_parent) as pool,
        Progress(label, len(calls), unit=unit) as progress,
    ):
        jobs = [pool.submit(function, *call) for call in calls]
        try:
            for job in as_completed(jobs):
                job.result()
                progress.update()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [job.result() for job in jobs]


def _end_with_parent() -> None:
    """Ends this process when its parent is gone; a killed one can't tell its workers."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def peak_memory_bytes() -> int:
    """Returns the peak memory of this process in bytes."""
    # Kilobytes on Linux, bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
