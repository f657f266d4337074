"""Delivers the messages of an outbox to one sink, in a thread of its own.

Messages are sent in their order, one at a time. A sink that doesn't answer is tried again
after a pause that doubles. Scoring never waits for it. A program that fails on a message
gets it a few times, and then the message is set aside.
"""

import sys
import threading
import time
from collections.abc import Callable

from wsvad_jax.alarms.outbox import Outbox, Waiting
from wsvad_jax.alarms.sinks import MessageRefusedError, NotDeliveredError, Sink
from wsvad_jax.utils.text import count

PAUSES = (1.0, 300.0)  # first and longest pause before a message is sent again, seconds
IDLE = 30.0  # seconds between looks at the outbox without a new message


def say(sentence: str) -> None:
    """Prints a sentence about an alarm on standard error."""
    print(f"alarms: {sentence}", file=sys.stderr, flush=True)


class Delivery:
    """A thread that sends what waits for a sink."""

    def __init__(
        self,
        sink: Sink,
        outbox: Outbox,
        *,
        pauses: tuple[float, float] = PAUSES,
        say: Callable[[str], None] = say,
    ):
        """Stores sink and outbox; `start` starts the thread.

        Args:
          sink: sink.
          outbox: open outbox.
          pauses: first and longest pause before a message is sent again, seconds.
          say: function that prints a sentence.
        """
        self.sink, self.outbox, self.pauses, self.say = sink, outbox, pauses, say
        self.delivered_at = 0.0  # time.monotonic() of the last acknowledgement
        self.delivered = self.failures = self.refused = 0
        self._tries = ("", 0)  # key of the message that failed last, and how often
        self._new, self._ending = threading.Event(), threading.Event()
        self._thread = threading.Thread(
            target=self._run, name=f"alarms to {sink.shown}", daemon=True
        )

    def start(self) -> None:
        """Starts to deliver."""
        self._thread.start()

    def wake(self) -> None:
        """Has the thread look at the outbox; a pause after a failure isn't shortened."""
        self._new.set()

    def end(self) -> None:
        """Has the thread try what waits once more, and end."""
        self._ending.set()
        self._new.set()

    def join(self, silence: float, longest: float) -> None:
        """Waits for the thread's end.

        Args:
          silence: seconds without an acknowledgement after which it isn't waited for.
          longest: time of `time.monotonic()` until which it is waited for at most.
        """
        begin = time.monotonic()
        while self._thread.is_alive():
            end = min(max(begin, self.delivered_at) + silence, longest)
            if (left := end - time.monotonic()) <= 0:
                return
            self._thread.join(min(left, 0.1))

    def _run(self) -> None:
        while True:
            self._new.clear()
            ending = self._ending.is_set()
            wait = self._next()
            if wait is None:  # nothing waits
                if ending:
                    break
                self._new.wait(0.0 if self._ending.is_set() else IDLE)
            elif wait and ending:
                break
            elif wait:
                self._ending.wait(wait)

        self.sink.close()

    def _next(self) -> float | None:
        """Sends the oldest message; returns the pause behind it, or None without one."""
        waiting = self.outbox.first(self.sink.identity)
        if waiting is None:
            return None
        try:
            self.sink.send(waiting.message)
        except MessageRefusedError as e:
            self.outbox.set_aside(waiting, str(e))
            self.refused += 1
            if _worth_saying(self.refused):
                self.say(
                    f"{self.sink.shown} refuses a message ({e}); it is set aside in "
                    f"{self.outbox.folder}, the next start sends it once more"
                )
            return 0.0
        except NotDeliveredError as e:
            if self._is_last_try(waiting.message.key):
                return self._give_up(waiting, str(e))
            return self._pause(str(e), e.wait)
        # A thread that ends would leave all later messages waiting in silence.
        except Exception as e:  # noqa: BLE001
            return self._pause(f"a fault of this program, {type(e).__name__}", 0.0)

        # Removed only now: a kill before it sends the message again, with the same id.
        self.outbox.remove(waiting)
        self.delivered, self.delivered_at = self.delivered + 1, time.monotonic()
        if self.failures:
            self.say(f"{self.sink.shown} takes messages again")
        self.failures = 0
        return 0.0

    def _is_last_try(self, key: str) -> bool:
        """Counts a failed try; whether the sink gets this message no more."""
        last, number = self._tries
        self._tries = key, number + 1 if key == last else 1
        return self.sink.tries is not None and self._tries[1] >= self.sink.tries

    def _give_up(self, waiting: Waiting, reason: str) -> float:
        """Sets a message aside that failed too often, so that later ones are sent."""
        self.outbox.set_aside(waiting, f"failed {self._tries[1]} times: {reason}")
        self.refused += 1
        self.failures = 0

        # Each one is named: nothing else says which event nobody heard of.
        self.say(
            f"{self.sink.shown} failed {self._tries[1]} times on message "
            f"{waiting.message.key} ({reason}); it is set aside in "
            f"{self.outbox.folder}, the next start sends it once more"
        )
        return 0.0

    def _pause(self, reason: str, wait: float) -> float:
        """Returns the seconds to the next try after a failure, which it reports."""
        self.failures += 1
        pause = min(self.pauses[0] * 2 ** min(self.failures - 1, 30), self.pauses[1])
        pause = max(pause, wait)
        if _worth_saying(self.failures):
            number = self.outbox.counts(self.sink.identity)[0]
            again = "" if self._ending.is_set() else f", next try in {pause:g} s"
            self.say(
                f"{self.sink.shown} doesn't take messages ({reason}); "
                f"{count(number, 'message')} waiting{again}"
            )
        return pause


def _worth_saying(number: int) -> bool:
    """Whether an n-th failure is reported: the 1st, 2nd, 4th, 8th …, then rarely."""
    return number & (number - 1) == 0
