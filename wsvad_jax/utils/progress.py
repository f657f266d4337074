"""Shows the progress of long work: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from typing import Any

LINE_EVERY = 10.0  # seconds between plain lines
_quiet = False


def set_quiet(quiet: bool) -> None:
    """Switches progress bars and status lines off, or on again."""
    global _quiet
    _quiet = quiet


def status(text: str) -> None:
    """Prints a line about what happens now, unless progress is switched off."""
    if not _quiet:
        print(text, flush=True)


class Progress:
    """Progress bar of `total` units of work (0 if unknown), as a context manager.

    Args:
      label: progress-bar label.
      total: number of units.
      unit: name of a unit.
      initial: units that are done at the start.
      compiles: whether the first update includes compilation, so that its time says
        nothing of the others.
    """

    def __init__(
        self,
        label: str,
        total: int,
        *,
        unit: str = "it",
        initial: int = 0,
        compiles: bool = False,
    ):
        self.label, self.total, self.unit = label, total, unit
        self.count = self.initial = self.first = initial
        self.compiles = compiles
        self.info: dict[str, Any] = {}
        self.start = self.last_line = time.monotonic()

        # tqdm redraws its line, which fills a log file with copies.
        self.bar = None
        if sys.stderr.isatty() and not _quiet:
            from tqdm import tqdm

            self.bar = tqdm(
                desc=label,
                total=total or None,
                unit=unit,
                initial=initial,
                dynamic_ncols=True,
            )

    def __enter__(self) -> "Progress":  # noqa: PYI034 (beartype refuses Self here)
        return self

    def __exit__(self, *exc) -> None:
        # The last line shows the end state, but not after an error.
        if self.bar is not None:
            self.bar.close()
        elif self.count > self.first and exc[0] is None:
            self._line()

    def update(self, n: int = 1, **info: Any) -> None:
        """Adds `n` units. `info` (name=text or number) is shown after the count."""
        # Plain lines are limited in time, not in number: units differ in length.
        self.count += n
        self.info.update(info)
        if self.bar is not None:
            self.bar.set_postfix(self._texts(), refresh=False)
            self.bar.update(n)
        elif time.monotonic() - self.last_line >= LINE_EVERY:
            self._line()

        if self.compiles and n:
            self.compiles = False
            self.initial, self.start = self.count, time.monotonic()

    def message(self, text: str) -> None:
        """Prints a line without breaking the bar."""
        if self.bar is not None:
            self.bar.write(text, file=sys.stderr)
        else:
            print(text, file=sys.stderr, flush=True)

    def _texts(self) -> dict[str, str]:
        return {
            k: f"{v:.4g}" if isinstance(v, float) else str(v)
            for k, v in self.info.items()
        }

    def _line(self) -> None:
        self.last_line = time.monotonic()
        if _quiet:
            return
        done = self.count - self.initial
        # Units of an earlier run count as done, but not for the rate.
        rate = done / max(self.last_line - self.start, 1e-9)
        left = (self.total - self.count) / rate if rate else float("inf")

        # The time of a compilation is no rate.
        speed = [f"{rate:.1f} {self.unit}/s"]
        speed += [f"{left:.0f} s left"] if self.total else []
        parts = [
            f"{self.label} {self.count}" + (f"/{self.total}" if self.total else ""),
            *([] if self.compiles or not done else speed),
            *(f"{k} {v}" for k, v in self._texts().items()),
        ]
        print(", ".join(parts), file=sys.stderr, flush=True)
