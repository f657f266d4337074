"""Snippets of a live source: camera, network stream, pipe, or a file played at its pace.

A thread decodes; at most one finished snippet waits to be taken. A source that doesn't
wait (camera, network, a paced file or a pipe) has its waiting snippet replaced by a
newer one, which is counted, so that nothing is ever further behind than the snippet
being worked on and the one that waits. Without a pace the thread waits instead.

Cameras and network streams that are lost are opened again, after a pause that doubles
from one second to half a minute.
"""

import collections
import dataclasses
import pathlib
import stat
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from wsvad_jax.extraction import video as videos
from wsvad_jax.extraction.decoding.reader import VideoReader, any_tags
from wsvad_jax.utils.errors import InputError

PATIENCE = 10.0  # seconds that a network source may be silent
PAUSES = (1.0, 30.0)  # seconds before the first and at most before later attempts
STEADY = 60.0  # seconds of frames after which a loss counts as the first again
REST = 65536  # bytes behind a file's last packet: its index


@dataclasses.dataclass(frozen=True)
class StreamSnippet:
    """A snippet, when it was ready, and how many before it were dropped."""

    snippet: videos.Snippet
    start: float  # seconds since the source began
    end: float
    ready: float  # time.monotonic() of its last frame
    dropped: int


@dataclasses.dataclass(frozen=True)
class StreamStatus:
    """Something about the source: lost, back, ended, failed, or a remark."""

    kind: str
    reason: str = ""
    wait: float = 0.0  # seconds until the next attempt
    error: InputError | None = None


class LiveVideo(videos.Video):
    """One pass over a live source, until it ends or is lost."""

    def __init__(self, source: str, pace: float, kind: str = ""):
        """Opens nothing yet.

        Args:
          source: a camera's device, an address (rtsp://, http:// …), a file, or - for
            standard input.
          pace: seconds of a file that pass in a second; 0 doesn't wait.
          kind: of `kind_of`, where it is known.

        Raises:
          InputError: no such file or device.
        """
        super().__init__(source)
        self.source, self.kind = source, kind or kind_of(source)
        self.pace = pace if self.kind == "file" else 0.0
        self.size = 0  # bytes, 0 unknown
        self.stopped = threading.Event()

    @property
    def complete(self) -> bool:
        """Whether a pass that is over has seen all there is."""
        if self.kind in ("file", "pipe"):
            return True
        return self.size > 0 and self.position > 0.95 * self.size - REST

    def frames(self) -> Iterator[Any]:
        """Yields frames, those of a file not before their time."""
        begin = time.monotonic()
        for frame in super().frames():
            if self.pace:
                self.stopped.wait(begin + self.seconds / self.pace - time.monotonic())
            if self.stopped.is_set():
                return
            yield frame

    @property
    def _name(self) -> str:
        return self.source

    def _open(self) -> Any:
        import av
        import av.error

        if self.kind == "file":
            return super()._open()
        address, options = self.source, {}
        if self.kind == "pipe":
            address = "pipe:0"
        elif self.source.startswith("rtsp"):
            options = {"rtsp_transport": "tcp"}  # UDP loses packets without a word
        try:
            container = av.open(
                address,
                format="v4l2" if self.kind == "camera" else None,
                options=options,
                timeout=PATIENCE if self.kind == "network" else None,
                **any_tags(),
            )
        except (av.error.FFmpegError, ValueError) as e:
            raise InputError(
                f"{self.source}: can't be opened ({getattr(e, 'strerror', '') or e}); "
                "expected a camera, an address, a file, or - for a stream of mpegts or "
                "matroska on standard input"
            ) from None
        self.size = max(container.size, 0) if self.kind == "network" else 0
        return container

    def _close(self, film: VideoReader) -> None:
        # The length that a live source states, if any, is not that of this pass.
        if not self.num_frames and not self.stopped.is_set():
            reason = f" ({self.damage})" if self.damage else ""
            raise InputError(f"{self.source}: not one frame can be decoded{reason}")


def kind_of(source: str) -> str:
    """Returns `pipe`, `network`, `camera` or `file`.

    Raises:
      InputError: neither a file nor a device.
    """
    if source == "-":
        return "pipe"
    if "://" in source:
        return "network"
    try:
        mode = pathlib.Path(source).stat().st_mode
    except OSError as e:
        raise InputError(
            f"--live {source}: {(e.strerror or str(e)).lower()}; expected a camera's "
            "device, an address (rtsp://, http://), a file, or - for standard input"
        ) from None
    return "camera" if stat.S_ISCHR(mode) else "file"


class SnippetStream:
    """Snippets of a source, decoded by a thread; use with `with`."""

    def __init__(
        self,
        source: str,
        *,
        frame: str,
        stride: int,
        preprocess: Callable[[Any], Any],
        pace: float = 1.0,
        pauses: tuple[float, float] = PAUSES,
    ):
        """Opens nothing yet.

        Args:
          source: see `LiveVideo`.
          frame: which frames of a snippet are encoded, see `video.snippets`.
          stride: frames per snippet.
          preprocess: turns such a frame into the pictures of the image tower.
          pace: of a file, see `LiveVideo`; at 0 the source, whatever it is, waits for what
            takes its snippets, and none is dropped.
          pauses: seconds before the first attempt at a lost source, and at most.

        Raises:
          InputError: no such file or device, or a pace that is none.
        """
        if not 0 <= pace < float("inf"):
            raise InputError(f"--pace is {pace}; expected 0 or more")
        self.source, self.pace, self.pauses = source, pace, pauses
        self.cut = {"frame": frame, "stride": stride, "preprocess": preprocess}
        self.feed = LiveVideo(source, pace)
        self.ready = threading.Condition()
        # At most one snippet; notes are as rare as connections.
        self.waiting: collections.deque[StreamSnippet | StreamStatus] = (
            collections.deque(maxlen=16)
        )
        self.dropped = self.stopped = 0
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "SnippetStream":  # noqa: PYI034 (beartype refuses Self here)
        self.thread.start()
        return self

    def __exit__(self, *exc) -> None:
        with self.ready:
            self.stopped = 1
            self.feed.stopped.set()
            self.ready.notify_all()
        # A read that blocks can't be interrupted; the thread ends with the process.
        self.thread.join(0.5)

    def take(self, timeout: float) -> StreamSnippet | StreamStatus | None:
        """Returns what is next, or None after `timeout` seconds without."""
        with self.ready:
            self.ready.wait_for(lambda: len(self.waiting) > 0, timeout)
            found = self.waiting.popleft() if self.waiting else None
            self.ready.notify_all()
            return found

    def _put(self, item: StreamSnippet | StreamStatus) -> None:
        with self.ready:
            if isinstance(item, StreamSnippet):
                held = [i for i in self.waiting if isinstance(i, StreamSnippet)]
                if held and not self.pace:
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
        begin, offset, losses = time.monotonic(), 0.0, 0
        while not self.stopped:
            reason = ""
            try:
                end = self._pass(offset)
                complete = self.feed.complete
                reason = self.feed.damage
            except InputError as e:
                end, complete, reason = offset, False, str(e)
                if self.feed.kind in ("file", "pipe") or not (losses or offset):
                    self._put(StreamStatus("failed", error=e))
                    return
            except Exception as e:  # noqa: BLE001 told by the consumer's thread
                self._put(
                    StreamStatus("failed", error=InputError(f"{self.source}: {e!r}"))
                )
                return
            if complete or self.stopped:
                self._put(StreamStatus("ended", reason))
                return
            losses = 1 if end - offset > STEADY else losses + 1
            wait = min(self.pauses[0] * 2 ** (losses - 1), self.pauses[1])
            self._put(StreamStatus("lost", reason or "the source ended", wait))
            self.feed.stopped.wait(wait)
            # Time goes on while a source is away.
            offset = max(end, time.monotonic() - begin if self.pace else 0.0)
            self._again()

    def _again(self) -> None:
        # A camera that is unplugged is no device at the moment.
        feed = LiveVideo(self.source, self.pace, self.feed.kind)
        with self.ready:  # so that a stop reaches either the old or the new one
            if self.stopped:
                feed.stopped.set()
            self.feed = feed

    def _pass(self, offset: float) -> float:
        """Puts the snippets of one pass; returns when its last one ended."""
        feed, end, known = self.feed, offset, 0
        for snippet in videos.snippets(feed, **self.cut):
            if not known and offset:
                self._put(StreamStatus("back"))
            elif not known and feed.remark:
                self._put(StreamStatus("remark", feed.remark))
            known, start = 1, max(offset + snippet.seconds, end)
            end = max(offset + feed.end, start)
            partial = snippet.num_frames < self.cut["stride"]
            if not (partial and (self.stopped or not feed.complete)):
                self._put(StreamSnippet(snippet, start, end, time.monotonic(), 0))
        return end
