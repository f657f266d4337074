"""Prepares items in threads, a bounded number ahead of the consumer."""

import contextlib
import queue
import threading
from collections.abc import Generator, Iterable, Sequence
from typing import Any, TypeVar

AHEAD = 3  # batches prepared in advance


Item = TypeVar("Item")


def prefetch(items: Iterable[Item], ahead: int = AHEAD) -> Generator[Item, None, None]:
    """Yields `items` in order while a thread prepares up to `ahead` of them.

    An error in `items` is raised here, at its place in the order. The thread starts
    with the first item requested. It ends after the last one, or when this iterator is
    closed or garbage-collected.
    """
    return prefetch_all([items], ahead)


def prefetch_all(
    sources: Sequence[Iterable[Item]], ahead: int, *, join: bool = False
) -> Generator[Item, None, None]:
    """Yields the items of several sources, each prepared by a thread of its own.

    Items of one source keep their order; sources are interleaved. An error in a source
    is raised here and ends the iteration.

    Args:
      sources: iterables, one per thread.
      ahead: largest number of prepared items, of all sources together.
      join: whether closing this iterator waits until the threads have ended.
    """
    # Bounded, so the threads stay at most `ahead` items in front.
    ready: queue.Queue = queue.Queue(ahead)
    stop = threading.Event()
    end = object()

    def put(item: Any, error: BaseException | None = None) -> None:
        # Never blocks for good: a consumer that stopped reads the queue no more.
        while not stop.is_set():
            with contextlib.suppress(queue.Full):
                return ready.put((item, error), timeout=0.1)

    def work(items: Iterable[Item]) -> None:
        try:
            for item in items:
                put(item)
                if stop.is_set():
                    return
            put(end)
        except BaseException as e:  # noqa: BLE001 raised again by the consumer
            put(end, e)

    threads = [
        threading.Thread(target=work, args=(items,), daemon=True, name="prefetch")
        for items in sources
    ]
    for thread in threads:
        thread.start()

    try:
        running = len(threads)
        while running:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is end:
                running -= 1
            else:
                yield item
    finally:
        stop.set()
        for thread in threads if join else ():
            thread.join()


class SharedIterator:
    """An iterator that several threads draw from."""

    def __init__(self, items: Iterable):
        self.items, self.lock = iter(items), threading.Lock()

    def __iter__(self) -> "SharedIterator":
        return self

    def __next__(self) -> Any:
        with self.lock:
            return next(self.items)
