"""Reads snippets of a live source: camera, network stream, pipe, or a file in real time.

A thread decodes, and at most one finished snippet waits for the consumer. What happens
to a source that is faster is a choice. Either a newer snippet replaces the waiting one,
which counts as dropped, so that the delay never exceeds two snippets. Or the thread waits
for the consumer, and the delay grows with what the source or the network holds back.

Lost cameras and network streams are opened again, after a pause that doubles from one
second to half a minute.
"""

import collections
import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from wsvad_jax.extraction import video as videos
from wsvad_jax.extraction.live_video import LiveVideo, PacketTap, without_password
from wsvad_jax.utils.errors import InputError

PAUSES = (1.0, 30.0)  # first and longest pause before an attempt, seconds
STEADY = 60.0  # seconds of frames after which the pauses start over
WHEN_BEHIND = ("drop", "wait")


@dataclasses.dataclass(frozen=True)
class StreamSnippet:
    """A snippet with its times and the number of snippets dropped before it."""

    snippet: videos.Snippet
    start: float  # seconds since the source began
    end: float
    ready: float  # time.monotonic() of its last frame
    dropped: int


@dataclasses.dataclass(frozen=True)
class StreamStatus:
    """State of the source: open, lost, back, ended, failed, or a remark."""

    kind: str
    reason: str = ""
    wait: float = 0.0  # seconds until the next attempt
    error: InputError | None = None


def chosen_when_behind(pace: float, when_behind: str | None = None) -> str:
    """Returns `drop` or `wait`, what a source does that is faster than the consumer.

    Args:
      pace: as `SnippetStream` takes it.
      when_behind: choice of the user; None depends on the pace.

    Raises:
      InputError: a negative pace, an unknown choice, or one that contradicts the pace.
    """
    if not 0 <= pace < float("inf"):
        raise InputError(f"--pace must be 0 or more, found {pace}")
    if when_behind is None:
        return "drop" if pace else "wait"
    if when_behind not in WHEN_BEHIND:
        raise InputError(f"--when_behind must be drop or wait, found {when_behind!r}")
    if when_behind == "drop" and not pace:
        raise InputError(
            "--when_behind drop contradicts --pace 0, with which nothing is dropped; "
            "leave one of them out"
        )
    return when_behind


class SnippetStream:
    """Snippets of a source, decoded by a thread; a context manager."""

    def __init__(
        self,
        source: str,
        *,
        frame: str,
        stride: int,
        preprocess: Callable[[Any], Any],
        pace: float = 1.0,
        pauses: tuple[float, float] = PAUSES,
        when_behind: str | None = None,
        ready: threading.Condition | None = None,
        taps: Sequence[PacketTap] = (),
    ):
        """Stores the source; the thread opens it.

        Args:
          source: source, see `LiveVideo`.
          frame: frames of a snippet that are encoded, see `video.snippets`.
          stride: frames per snippet.
          preprocess: function from such a frame to the pictures of the image tower.
          pace: playback speed of a file, see `LiveVideo`.
          pauses: first and longest pause before a lost source is opened again, seconds.
          when_behind: what a source does that is faster than the consumer: `drop` loses
            the older snippet, `wait` makes the source wait. None: `wait` where the pace
            is 0, else `drop`.
          ready: condition of `take_all`, one for all streams that are taken together.
          taps: objects that get the packets, see `PacketTap`.

        Raises:
          InputError: the file or device is missing, the pace is negative, or
            `when_behind` is unknown or contradicts a pace of 0.
        """
        self.when_behind = chosen_when_behind(pace, when_behind)
        self.source, self.pace, self.pauses = source, pace, pauses
        self.taps = tuple(taps)
        self.snippet_options = {
            "frame": frame,
            "stride": stride,
            "preprocess": preprocess,
        }
        self.begin = time.monotonic()  # of the source's first frame, once it is open
        self.is_open = False
        self.video = self._opened_at(0.0, LiveVideo(source, pace))

        self.ready = ready or threading.Condition()
        # Holds at most one snippet; states are as rare as connections.
        self.waiting: collections.deque[StreamSnippet | StreamStatus] = (
            collections.deque(maxlen=16)
        )
        self.dropped = self.stopped = 0
        self.stopped_at = 0.0  # time.monotonic() of the first `stop`
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "SnippetStream":  # noqa: PYI034 (beartype refuses Self here)
        self.thread.start()
        return self

    def __exit__(self, *exc) -> None:
        self.stop()
        # A blocked read can't be interrupted; the daemon thread ends with the process.
        self.thread.join(max(self.stopped_at + 0.5 - time.monotonic(), 0.0))

    def stop(self) -> None:
        """Asks the thread to end, and doesn't wait for it."""
        with self.ready:
            if not self.stopped:
                self.stopped_at = time.monotonic()
            self.stopped = 1
            self.video.stopped.set()
            self.ready.notify_all()

    def take(self, timeout: float) -> StreamSnippet | StreamStatus | None:
        """Returns the next snippet or state, or None after `timeout` seconds."""
        with self.ready:
            self.ready.wait_for(lambda: len(self.waiting) > 0, timeout)
            item = self.waiting.popleft() if self.waiting else None
            self.ready.notify_all()
            return item

    def _put(self, item: StreamSnippet | StreamStatus) -> None:
        with self.ready:
            if isinstance(item, StreamSnippet):
                held = [i for i in self.waiting if isinstance(i, StreamSnippet)]
                # The source waits, or the newer snippet counts.
                if held and self.when_behind == "wait":
                    self.ready.wait_for(lambda: self.stopped or not self._holds())
                elif held:
                    self.waiting.remove(held[0])
                    self.dropped += 1
                item = dataclasses.replace(item, dropped=self.dropped)

            self.waiting.append(item)
            self.ready.notify_all()

    def _holds(self) -> bool:
        return any(isinstance(item, StreamSnippet) for item in self.waiting)

    def _run(self) -> None:
        offset, losses = 0.0, 0
        while not self.stopped:
            reason = ""
            try:
                end = self._pass(offset)
                complete = self.video.complete
                reason = self.video.damage
            except InputError as e:
                end, complete, reason = offset, False, str(e)
                if self.video.kind in ("file", "pipe") or not (losses or offset):
                    self._put(StreamStatus("failed", error=e))
                    return
            except Exception as e:  # noqa: BLE001 reported by the consumer's thread
                name = without_password(self.source)
                error = InputError(f"{name}: {e!r}")
                self._put(StreamStatus("failed", error=error))
                return

            if complete or self.stopped:
                self._put(StreamStatus("ended", reason))
                return

            # A source that was steady for long starts with the shortest pause again.
            losses = 1 if end - offset > STEADY else losses + 1
            wait = min(self.pauses[0] * 2 ** (losses - 1), self.pauses[1])
            self._put(StreamStatus("lost", reason or "the source ended", wait))
            self.video.stopped.wait(wait)

            # The clock keeps running while a source is lost.
            offset = max(end, time.monotonic() - self.begin if self.pace else 0.0)
            self._reopen(offset)

    def _opened_at(self, offset: float, video: LiveVideo) -> LiveVideo:
        video.offset, video.taps = offset, self.taps
        video.on_open = None if self.is_open else self._set_open
        return video

    def _set_open(self) -> None:
        self.begin, self.is_open = time.monotonic(), True
        self._put(StreamStatus("open"))

    def _reopen(self, offset: float) -> None:
        # The kind is kept, since an unplugged camera has no device file to look at.
        video = LiveVideo(self.source, self.pace, self.video.kind)
        self._opened_at(offset, video)
        with self.ready:  # a stop reaches either the old or the new video
            if self.stopped:
                video.stopped.set()
            self.video = video

    def _pass(self, offset: float) -> float:
        """Queues the snippets of one pass; returns the end of its last one, in seconds."""
        video, end, started = self.video, offset, False
        for snippet in videos.snippets(video, **self.snippet_options):
            # Only the first snippet shows that the source is really back.
            if not started and offset:
                self._put(StreamStatus("back"))
            elif not started and video.remark:
                self._put(StreamStatus("remark", video.remark))

            started, start = True, max(offset + snippet.seconds, end)
            end = max(offset + video.end, start)

            # A partial snippet counts only at the end of a source that was not lost.
            partial = snippet.num_frames < self.snippet_options["stride"]
            if not (partial and (self.stopped or not video.complete)):
                self._put(StreamSnippet(snippet, start, end, video.arrived, 0))
        return end


def take_all(
    streams: Sequence[SnippetStream], timeout: float
) -> list[StreamSnippet | StreamStatus | None]:
    """Returns the next snippet or state of each stream, None where there is none.

    Args:
      streams: streams with one `ready` condition; at least one.
      timeout: longest wait for the first item, in seconds.
    """
    ready = streams[0].ready
    with ready:
        ready.wait_for(lambda: any(stream.waiting for stream in streams), timeout)
        items = [s.waiting.popleft() if s.waiting else None for s in streams]
        ready.notify_all()
    return items
