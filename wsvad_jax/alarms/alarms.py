"""Turns lines and events of `detect` into messages, and delivers them.

An event is in the outbox before its line is printed. It leaves the outbox when each sink
has acknowledged it. Without sinks, nothing happens.
"""

import contextlib
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wsvad_jax.alarms import delivery, event_ids
from wsvad_jax.alarms.delivery import PAUSES, Delivery
from wsvad_jax.alarms.event_ids import Origin
from wsvad_jax.alarms.outbox import Outbox
from wsvad_jax.alarms.sinks import Message, Sink
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.text import count

GRACE = 5.0  # seconds at the end for which a sink may be silent
LONGEST_GRACE = 60.0  # seconds at the end in which messages are still delivered
FORMAT = 1
CHANGES = ("opened", "closed")
OF_A_LINE = ("type", "id", "source")


class Alarms:
    """Messages for sinks about events; a context manager.

    It is a listener of `detection.live.run`.
    """

    def __init__(
        self,
        outbox: Outbox | None = None,
        sinks: Sequence[Sink] = (),
        *,
        pauses: tuple[float, float] = PAUSES,
        grace: float = GRACE,
        say: Callable[[str], None] = delivery.say,
    ):
        """Stores where messages go; `with` opens the outbox and starts to deliver.

        Args:
          outbox: outbox, not opened yet; None without sinks.
          sinks: sinks.
          pauses: first and longest pause before a message is sent again, seconds.
          grace: seconds at the end for which a sink may be silent.
          say: function that prints a sentence.
        """
        self.outbox, self.sinks, self.grace, self.say = outbox, sinks, grace, say
        self.identities = [sink.identity for sink in sinks]
        self.deliveries: list[Delivery] = []
        self.pauses = pauses
        self._origins: dict[str, Origin] = {}

    def __enter__(self) -> "Alarms":  # noqa: PYI034 (beartype refuses Self here)
        """Opens the outbox; delivers what an earlier run left in it.

        Raises:
          InputError: the outbox can't be opened, see `Outbox`.
        """
        if self.outbox is None:
            return self
        outbox = self.outbox.__enter__()
        try:
            self._take_over(outbox)
        except sqlite3.Error as e:
            outbox.__exit__()
            raise InputError(
                f"--outbox {outbox.folder}: can't be read or written ({e}); choose "
                "another folder"
            ) from None

        self.deliveries = [
            Delivery(sink, outbox, pauses=self.pauses, say=self.say)
            for sink in self.sinks
        ]
        for sender in self.deliveries:
            sender.start()
        return self

    def __exit__(self, *exc) -> None:
        """Delivers for a while, says what is left, and closes the outbox."""
        if self.outbox is None:
            return
        # Events are open here if scoring ended with an error.
        self._close_interrupted()
        for sender in self.deliveries:
            sender.end()
        longest = time.monotonic() + LONGEST_GRACE
        for sender in self.deliveries:
            sender.join(self.grace, longest)

        for sink in self.sinks:
            with contextlib.suppress(Exception):
                sink.close()
            self._say_what_is_left(sink)
        self.outbox.__exit__(*exc)

    def line(self, source: str, line: Mapping[str, Any]) -> None:
        """Sends what a line of a live source says about an event.

        The message is on disk when this returns.

        Args:
          source: name of the source.
          line: line, as `detection.live` describes it; those of events have an `id`.
        """
        if line["type"] == "start":
            address = str(line.get("address", line["source"]))
            self._origins[source] = event_ids.origin_of(source, address, line["began"])
        elif line["type"] in CHANGES:
            self._send(line, self._origins.get(source) or Origin(source, ""))
        elif line["type"] == "clip" and line.get("id"):
            # Its start and end are the clip's, so they aren't keys of the event.
            clip = {k: v for k, v in line.items() if k not in OF_A_LINE}
            self._send(
                {"type": "clip", "id": line["id"], "clip": clip}, Origin(source, "")
            )

    def tap(self, source: str) -> None:
        """Takes no packets of a source; see `detection.live.Listener`."""

    def event(self, event: Mapping[str, Any], source: str) -> None:
        """Sends an event of a file, as closed.

        Args:
          event: event, as events.json holds it, with its `id`.
          source: name of the video.
        """
        self._send({"type": "closed", **event}, Origin(source, ""))

    def _take_over(self, outbox: Outbox) -> None:
        """Says what an earlier run left in the outbox, and closes its open events."""
        outbox.register({sink.identity: sink.shown for sink in self.sinks})
        self._close_interrupted()

        for sink in self.sinks:
            outbox.release_refused(sink.identity)
            if number := outbox.counts(sink.identity)[0]:
                self.say(
                    f"{count(number, 'message')} of an earlier run for {sink.shown} in "
                    f"{outbox.folder}"
                )
        for shown, number in outbox.others(self.identities).items():
            self.say(
                f"{count(number, 'message')} in {outbox.folder} for {shown}, which isn't "
                "among the sinks of this run; pass it again to deliver them"
            )

    def _send(self, line: Mapping[str, Any], origin: Origin) -> None:
        if self.outbox is None:
            return
        body = {
            "format": FORMAT,
            # An event that was cut off by a stop is no copy of the whole one.
            "message_id": f"{line['id']}-{line.get('reason', line['type'])}",
            "source": origin.name,
            **line,
        }
        if (start := origin.time_of(line.get("start"))) is not None:
            body["start_time"] = start
        if (end := origin.time_of(line.get("end"))) is not None:
            body["end_time"] = end
        self._add(
            Message.of(body),
            self.identities,
            opens=line["id"] if line["type"] == "opened" else "",
            closes=line["id"] if line["type"] == "closed" else "",
        )

    def _add(self, message: Message, sinks: Sequence[str], **changes: str) -> None:
        assert self.outbox is not None
        before, dropped = self.outbox.failure, self.outbox.dropped.total()
        self.outbox.add(message, sinks, **changes)
        for sender in self.deliveries:
            sender.wake()

        # Both are said when they begin; the count of dropped messages at each hundred.
        if self.outbox.failure and self.outbox.failure != before:
            self.say(
                f"{self.outbox.folder} can't be written ({self.outbox.failure}); messages "
                "are held in memory until it can, and a kill would lose them"
            )
        now = self.outbox.dropped.total()
        if now > dropped and (not dropped or now // 100 > dropped // 100):
            self.say(
                f"{self.outbox.folder} is full ({self.outbox.limit} messages per sink); "
                f"{count(now, 'message')} dropped, the oldest first"
            )

    def _close_interrupted(self) -> None:
        """Closes the events that an ended run left open."""
        assert self.outbox is not None
        for opened, sinks in self.outbox.open_events():
            body = {k: v for k, v in opened.items() if k != "time"} | {
                "message_id": f"{opened['id']}-interrupted",
                "type": "closed",
                "reason": "interrupted",
                "end": None,
            }
            self._add(Message.of(body), sinks, closes=opened["id"])

    def _say_what_is_left(self, sink: Sink) -> None:
        assert self.outbox is not None
        lost = self.outbox.in_memory(sink.identity)
        waiting, refused = self.outbox.counts(sink.identity)
        if lost:
            self.say(
                f"{count(lost, 'message')} for {sink.shown} lost, since "
                f"{self.outbox.folder} can't be written"
            )

        # Held messages count as waiting, too, but no next start will find them.
        if (waiting := waiting - lost) > 0:
            self.say(
                f"{count(waiting, 'message')} for {sink.shown} left in "
                f"{self.outbox.folder}; the next start with the same {sink.flag} and "
                "--outbox delivers them"
            )

        if refused:
            verb = "refused" if sink.tries is None else "failed on"
            self.say(
                f"{count(refused, 'message')} that {sink.shown} {verb} left in "
                f"{self.outbox.folder}; the next start sends them once more"
            )

        if dropped := self.outbox.dropped[sink.identity]:
            self.say(
                f"{count(dropped, 'message')} for {sink.shown} dropped, too many waited"
            )
