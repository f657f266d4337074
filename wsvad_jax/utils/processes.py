"""Runs a function in a fresh process, so its memory is released afterwards."""

import multiprocessing
import resource
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any


def run_in_subprocess(function: Callable[..., Any], *arguments: Any) -> Any:
    """Returns the result of `function(*arguments)` in a new process.

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


def peak_memory_bytes() -> int:
    """Returns the peak memory of this process in bytes."""
    # Kilobytes on Linux, bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
