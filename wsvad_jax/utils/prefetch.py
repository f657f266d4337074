"""Prepares items ahead in a thread."""

import contextlib
import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

AHEAD = 3  # batches prepared in advance


Item = TypeVar("Item")


def prefetch(items: Iterable[Item], ahead: int = AHEAD) -> Iterator[Item]:
    """Yields `items` in order while a thread prepares up to `ahead` of them.

    An error in `items` is raised here, at its place in the order. The thread starts
    with the first item requested. It ends after the last one, or when this iterator is
    closed or garbage-collected.
    """
    # Bounded, so the thread stays at most `ahead` items in front.
    ready: queue.Queue = queue.Queue(ahead)
    stop = threading.Event()
    end = object()

    def put(item: Any, error: BaseException | None = None) -> None:
        # Never blocks for good: a consumer that stopped reads the queue no more.
        while not stop.is_set():
            with contextlib.suppress(queue.Full):
                return ready.put((item, error), timeout=0.1)

    def work() -> None:
        try:
            for item in items:
                put(item)
                if stop.is_set():
                    return
            put(end)
        except BaseException as e:  # noqa: BLE001 raised again by the consumer
            put(end, e)

    threading.Thread(target=work, daemon=True, name="prefetch").start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is end:
                return
            yield item
    finally:
        stop.set()
