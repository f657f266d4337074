"""Reads snippets of a live source: camera, network stream, pipe, or a file in real time.

A thread decodes, and at most one finished snippet waits for the consumer. If the source
doesn't wait (camera, network, pipe, or a paced file), a newer snippet replaces the
waiting one, which counts as dropped. So the delay never exceeds two snippets. Without a
pace, the thread waits for the consumer instead.

Lost cameras and network streams are opened again, after a pause that doubles from one
second to half a minute.
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
from wsvad_jax.extraction.decoding.containers import any_tags
from wsvad_jax.extraction.decoding.reader import VideoReader
from wsvad_jax.utils.errors import InputError

PATIENCE = 10.0  # seconds of silence after which a network source is lost
PAUSES = (1.0, 30.0)  # first and longest pause before an attempt, seconds
STEADY = 60.0  # seconds of frames after which the pauses start over
REST = 65536  # bytes behind a file's last packet, which hold its index


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
    """State of the source: lost, back, ended, failed, or a remark."""

    kind: str
    reason: str = ""
    wait: float = 0.0  # seconds until the next attempt
    error: InputError | None = None


class LiveVideo(videos.Video):
    """One pass over a live source, until it ends or is lost."""

    def __init__(self, source: str, pace: float, kind: str = ""):
        """Stores the source; the thread opens it.

        Args:
          source: camera device, address (rtsp://, http:// …), file, or - for standard
            input.
          pace: playback speed of a file in seconds per second; 0 doesn't wait.
          kind: result of `kind_of`, if known.

        Raises:
          InputError: the file or device is missing.
        """
        super().__init__(source)
        self.source, self.kind = source, kind or kind_of(source)
        self.pace = pace if self.kind == "file" else 0.0
        self.size = 0  # bytes, 0 unknown
        self.stopped = threading.Event()

    @property
    def complete(self) -> bool:
        """Whether a finished pass has read the source to its end."""
        if self.kind in ("file", "pipe"):
            return True
        return self.size > 0 and self.position > 0.95 * self.size - REST

    def frames(self) -> Iterator[Any]:
        """Yields frames; those of a paced file not before their time."""
        begin = time.monotonic()
        for frame in super().frames():
            if self.pace:
                self.stopped.wait(begin + self.seconds / self.pace - time.monotonic())
            # A stop during the wait must not yield one more frame.
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
            options = {"rtsp_transport": "tcp"}  # UDP loses packets silently
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

    def _close(self, reader: VideoReader) -> None:
        # A live source may state a length, but not that of this pass.
        if not self.num_frames and not self.stopped.is_set():
            reason = f" ({self.damage})" if self.damage else ""
            raise InputError(f"{self.source}: not one frame can be decoded{reason}")


def kind_of(source: str) -> str:
    """Returns `pipe`, `network`, `camera` or `file`.

    Raises:
      InputError: the source is neither a file nor a device.
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
    ):
        """Stores the source; the thread opens it.

        Args:
          source: source, see `LiveVideo`.
          frame: frames of a snippet that are encoded, see `video.snippets`.
          stride: frames per snippet.
          preprocess: function from such a frame to the pictures of the image tower.
          pace: playback speed of a file, see `LiveVideo`; 0 makes any source wait for
            the consumer, so that no snippet is dropped.
          pauses: first and longest pause before a lost source is opened again, seconds.

        Raises:
          InputError: the file or device is missing, or the pace is negative.
        """
        if not 0 <= pace < float("inf"):
            raise InputError(f"--pace must be 0 or more, found {pace}")
        self.source, self.pace, self.pauses = source, pace, pauses
        self.snippet_options = {
            "frame": frame,
            "stride": stride,
            "preprocess": preprocess,
        }
        self.video = LiveVideo(source, pace)

        self.ready = threading.Condition()
        # Holds at most one snippet; states are as rare as connections.
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
            self.video.stopped.set()
            self.ready.notify_all()
        # A blocked read can't be interrupted; the daemon thread ends with the process.
        self.thread.join(0.5)

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
                # Without a pace the source waits; otherwise the newer snippet counts.
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
                complete = self.video.complete
                reason = self.video.damage
            except InputError as e:
                end, complete, reason = offset, False, str(e)
                if self.video.kind in ("file", "pipe") or not (losses or offset):
                    self._put(StreamStatus("failed", error=e))
                    return
            except Exception as e:  # noqa: BLE001 reported by the consumer's thread
                self._put(
                    StreamStatus("failed", error=InputError(f"{self.source}: {e!r}"))
                )
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
            offset = max(end, time.monotonic() - begin if self.pace else 0.0)
            self._reopen()

    def _reopen(self) -> None:
        # The kind is kept, since an unplugged camera has no device file to look at.
        video = LiveVideo(self.source, self.pace, self.video.kind)
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
                self._put(StreamSnippet(snippet, start, end, time.monotonic(), 0))
        return end
