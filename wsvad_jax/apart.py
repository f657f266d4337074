"""Work in a process of its own, which takes its memory and compiled programs along."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Returns what `function(*arguments)` returns in a new process.

    Raises:
      concurrent.futures.process.BrokenProcessPool: the process was killed.
    """
    # Spawned: a fork would take JAX's threads along in a state of their own.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(function, *arguments).result()
        except KeyboardInterrupt:  # which a compiler wouldn't hear for minutes
            for process in multiprocessing.active_children():
                process.kill()
            raise
