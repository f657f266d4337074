"""Scans snippet features for their cosines with a query: exact, from mapped files.

The features stay on disk and are mapped. Blocks of a few MB are widened to float32,
multiplied with the query and forgotten, by several threads. Nothing is approximated, and
no second copy of the features is kept.
"""

import concurrent.futures
import dataclasses
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from wsvad_jax.utils.errors import InputError

BLOCK = 1 << 19  # values that are widened at a time: 2 MB, which a core's cache holds
TASK = 1 << 14  # snippets that a thread takes at a time
MAX_MAPPED = 256  # files that stay mapped; each needs a file descriptor
MAX_THREADS = 16
# A float16 value that is not finite becomes at least 2**16 in `widen`.
SUSPICIOUS = 2.0**32


@dataclasses.dataclass(frozen=True)
class SnippetRows:
    """Features of one video, which are mapped when they are scanned."""

    name: str
    num_snippets: int
    width: int
    open: Callable[[], np.ndarray]  # [T, D]: float16, float32 or float64
    check: Callable[[], Any]  # raises the InputError of values that aren't finite


class SnippetIndex:
    """The snippets of many videos in one order: video after video."""

    def __init__(self, videos: Sequence[SnippetRows], *, threads: int | None = None):
        """Notes where each video's snippets are; no feature is read yet.

        Args:
          videos: features of one width.
          threads: threads of a scan; None is one per CPU core, at most 16.

        Raises:
          InputError: no snippet, or features of two widths.
        """
        if not videos:
            raise InputError("there are no features to search")
        for video in videos:
            if video.width != videos[0].width:
                raise InputError(
                    f"{video.name} has features {video.width} wide, but "
                    f"{videos[0].name} has {videos[0].width}; search them apart"
                )

        self.videos, self.width = list(videos), videos[0].width
        counts = [video.num_snippets for video in videos]
        # Snippets of video v are those from offsets[v] to offsets[v + 1].
        self.offsets = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        self.threads = threads or min(os.cpu_count() or 1, MAX_THREADS)
        self._norms: np.ndarray | None = None
        self._mapped: dict[int, np.ndarray] = {}
        self._memory = threading.local()  # one buffer per thread

    def __len__(self) -> int:
        """Returns the number of snippets."""
        return int(self.offsets[-1])

    def cosines(self, query: Float[np.ndarray, "D"]) -> Float32[np.ndarray, "S"]:
        """Returns the cosine of each snippet with a query; 0 where a snippet is zero.

        Args:
          query: feature of any length but 0.

        Raises:
          InputError: another width, a zero query, or features that are not finite.
        """
        norm = float(np.linalg.norm(np.asarray(query, np.float64)))
        if len(query) != self.width or not 0 < norm < float("inf"):
            raise InputError(
                f"a query of width {len(query)} and norm {norm:.3g} can't be compared "
                f"with features {self.width} wide; expected a finite one of that width"
            )

        unit = (np.asarray(query, np.float64) / norm).astype(np.float32)
        products = np.empty(len(self), np.float32)
        # The norms don't depend on the query: the first scan keeps them.
        norms, known = self._norms, self._norms is not None
        if norms is None:
            norms = np.empty(len(self), np.float32)

        with concurrent.futures.ThreadPoolExecutor(self.threads) as pool:
            jobs = [
                pool.submit(self._scan, task, unit, products, None if known else norms)
                for task in self._tasks()
            ]
            try:
                for job in concurrent.futures.as_completed(jobs):
                    job.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

        self._norms = norms
        return np.clip(products / norms, -1, 1)

    def _tasks(self) -> list[list[tuple[int, int, int]]]:
        """Divides the snippets into lists of (video, start, stop) of similar length."""
        tasks: list[list[tuple[int, int, int]]] = []
        room = 0
        for v, video in enumerate(self.videos):
            start = 0
            while start < video.num_snippets:
                if not room:
                    tasks.append([])
                    room = TASK
                stop = min(start + room, video.num_snippets)
                tasks[-1].append((v, start, stop))
                room -= stop - start
                start = stop
        return tasks

    def _scan(
        self,
        task: Sequence[tuple[int, int, int]],
        query: Float32[np.ndarray, "D"],
        products: Float32[np.ndarray, "S"],
        norms: Float32[np.ndarray, "S"] | None,
    ) -> None:
        """Writes the products, and norms, of one task's snippets."""
        size = max(BLOCK // self.width, 1)
        for v, start, stop in task:
            rows = self._rows(v)
            for first in range(start, stop, size):
                block = rows[first : min(first + size, stop)]
                begin = int(self.offsets[v]) + first
                at = slice(begin, begin + len(block))

                # Values that overflow are found by the norms.
                with np.errstate(over="ignore", invalid="ignore"):
                    wide = self._widened(block)
                    # Not `wide @ query`: BLAS has threads of its own, which wait for
                    # each other where other programs have the cores.
                    products[at] = np.einsum("td,d->t", wide, query)
                    if norms is not None:
                        norms[at] = self._norms_of(wide, block, v)

    def _norms_of(
        self, wide: Float32[np.ndarray, "R D"], block: np.ndarray, v: int
    ) -> Float32[np.ndarray, "R"]:
        squares = np.einsum("td,td->t", wide, wide)

        # Only blocks with a suspicious sum are looked at value by value.
        if not squares.max() < SUSPICIOUS and not (
            np.isfinite(squares).all() and np.isfinite(block).all()
        ):
            self.videos[v].check()
            raise InputError(
                f"{self.videos[v].name}: features hold values that are not finite; "
                "extract the video again"
            )
        # A product with a zero snippet is 0, whatever it is divided by.
        return np.sqrt(np.where(squares > 0, squares, np.float32(1)))

    def _rows(self, v: int) -> np.ndarray:
        """Returns the mapped features of a video."""
        if (rows := self._mapped.get(v)) is not None:
            return rows
        rows = self.videos[v].open()
        if len(self._mapped) < MAX_MAPPED:
            self._mapped[v] = rows
        return rows

    def _widened(self, block: np.ndarray) -> Float32[np.ndarray, "R D"]:
        """Returns a block as float32, in a buffer of this thread."""
        if block.dtype != np.float16:
            return np.ascontiguousarray(block, np.float32)
        buffer = getattr(self._memory, "buffer", None)
        if buffer is None:
            size = max(BLOCK // self.width, 1)
            buffer = self._memory.buffer = np.empty((size, self.width), np.int32)
        return widen(block, buffer[: len(block)])


def widen(block: np.ndarray, out: np.ndarray) -> Float32[np.ndarray, "R D"]:
    """Converts float16 to float32 exactly, several times as fast as `astype`.

    The bits of both formats differ in the exponent's length and bias. A shift and one
    product adapt them; NumPy has fast loops for these, but none for float16. Values that
    are not finite become finite ones of at least 2**16.

    Args:
      block: float16 [R, D].
      out: int32 [R, D], whose memory the result takes.
    """
    np.copyto(out, block.view(np.int16))
    np.left_shift(out, 13, out=out)
    # The sign fills the upper bits: only the first of them is kept.
    np.bitwise_and(out, np.int32(-0x70000001), out=out)
    wide = out.view(np.float32)
    return np.multiply(wide, np.float32(2.0**112), out=wide)
