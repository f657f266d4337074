"""One pass over a live source: camera, network stream, pipe, or a file at its pace."""

import pathlib
import re
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

from wsvad_jax.extraction import mp4_writer
from wsvad_jax.extraction import video as videos
from wsvad_jax.extraction.decoding.containers import any_tags
from wsvad_jax.extraction.decoding.reader import VideoReader
from wsvad_jax.utils.errors import InputError

# Each thread of a decoder but one holds back a frame: 16 would add 0.6 s at 25 per second.
THREADS = 2
PATIENCE = 10.0  # seconds of silence after which a network source is lost
REST = 65536  # bytes behind a file's last packet, which hold its index

# A password may hold / ? # and @; digits before a / are a port.
USER_PASSWORD = re.compile(r"(://[^/?#:@]*):(?!\d*/).*@")
NAMED_SECRET = re.compile(
    r"((?:pass|passwd|password|pwd|pw|token|secret|key|auth|sig|signature)=)[^&;/#]*",
    re.IGNORECASE,
)


@runtime_checkable
class PacketTap(Protocol):
    """Gets the packets of a source as they are read, for example to cut clips.

    Both methods are called in the thread that decodes the source. They must be quick,
    and must neither raise nor change the packet.
    """

    def opened(self, reader: VideoReader, offset: float) -> None:
        """Called when the source is opened, and after each loss when it is back.

        Args:
          reader: open reader; `reader.stream` is the track and `reader.sound` the
            sound's or None (templates for `mux`), valid until the next call.
          offset: seconds of the source's clock at which this pass begins. A packet's
            time on that clock, as in the lines of `--live`, is
            `offset + pts * time_base - reader.clock.start`.
        """

    def packet(self, packet: Any) -> None:
        """Called with each `av.Packet` of the track and the sound, as they are stored.

        A packet may be kept. Then its data stays in memory.
        """


class LiveVideo(videos.Video):
    """One pass over a live source, until it ends or is lost."""

    on_open: Callable[[], None] | None = None  # called once, with the first frame
    taps: Sequence[PacketTap] = ()
    offset = 0.0  # seconds of the source's clock at which the pass begins

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
        self.arrived = 0.0  # time.monotonic() of the current frame
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
            if self.on_open is not None and self.num_frames == 1:
                self.on_open()
            self.arrived = time.monotonic()
            yield frame

    @property
    def _name(self) -> str:
        return without_password(self.source)

    @property
    def _threads(self) -> int:
        # A file is ahead of its time anyway.
        return 0 if self.kind == "file" else THREADS

    def _sound(self, container: Any) -> Any:
        return mp4_writer.sound_of(container)[0] if self.taps else None

    def _begin(self, reader: VideoReader) -> None:
        for tap in self.taps:
            tap.opened(reader, self.offset)
            reader.on_packet.append(tap.packet)

    def _open(self) -> Any:
        import av
        import av.error

        if self.kind == "file":
            return super()._open()

        address, options = self.source, {}
        if self.kind == "pipe":
            address = "pipe:0" if self.source == "-" else f"file:{self.source}"
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
                f"{self._name}: can't be opened ({getattr(e, 'strerror', '') or e}); "
                "expected a camera, an address, a file, or - for a stream of mpegts or "
                "matroska on standard input"
            ) from None

        self.size = max(container.size, 0) if self.kind == "network" else 0
        return container

    def _close(self, reader: VideoReader) -> None:
        # A live source may state a length, but not that of this pass.
        if not self.num_frames and not self.stopped.is_set():
            reason = f" ({self.damage})" if self.damage else ""
            raise InputError(f"{self._name}: not one frame can be decoded{reason}")


def without_password(source: str) -> str:
    """Returns a source as lines and messages show it, with *** for passwords and tokens.

    Many cameras take them in the path or the query, as `/user=admin&password=…`.
    """
    shown = USER_PASSWORD.sub(r"\1:***@", source)
    return NAMED_SECRET.sub(r"\1***", shown) if "://" in source else shown


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
    except (OSError, ValueError) as e:  # ValueError: a null byte
        reason = getattr(e, "strerror", None) or str(e)
        raise _no_source(source, reason.lower()) from None
    if stat.S_ISDIR(mode):
        raise _no_source(source, "is a folder")
    if stat.S_ISFIFO(mode):
        return "pipe"
    return "camera" if stat.S_ISCHR(mode) else "file"


def _no_source(source: str, found: str) -> InputError:
    return InputError(
        f"{source}: {found}; expected a camera's device, an address (rtsp://, http://), a "
        "file, or - for standard input"
    )
