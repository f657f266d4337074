"""Single pictures of a video file, small enough to lie in a page.

A file is opened once; between pictures the decoder seeks, so that a long video costs
what its pictures cost and not its length.
"""

import io
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from wsvad_jax.data.video import rgb

QUALITY = 78  # of the JPEGs
NEAR = 2.0  # seconds up to which decoding on is cheaper than seeking
# What current browsers play. Of a codec or container that is not here, and not among
# the hopeless ones below, only the browser itself knows.
HOPELESS_CONTAINERS = {
    "asf": "WMV",
    "avi": "AVI",
    "flv": "FLV",
    "mpeg": "MPEG",
    "mpegts": "MPEG transport stream",
    "mpegvideo": "MPEG",
    "rm": "RealMedia",
}
HOPELESS_CODECS = {
    "ffv1": "FFV1",
    "mjpeg": "Motion JPEG",
    "mpeg1video": "MPEG-1",
    "mpeg2video": "MPEG-2",
    "mpeg4": "MPEG-4 Part 2 (DivX, Xvid)",
    "msmpeg4v3": "Microsoft MPEG-4",
    "prores": "ProRes",
    "rawvideo": "uncompressed video",
    "wmv2": "Windows Media Video",
    "wmv3": "Windows Media Video",
}


def key_frames(
    path: str | os.PathLike, seconds: Sequence[float], *, width: int = 320
) -> list[bytes | None]:
    """Returns what a video shows at given times, as JPEGs.

    Args:
      path: of the video file.
      seconds: from the first frame on, in any order.
      width: of the pictures at most, in pixels; smaller videos keep their size.

    Returns:
      One JPEG a time, in the order of `seconds`; None where nothing can be read. A time
      behind the end shows the last frame.
    """
    import av.error

    found: list[bytes | None] = [None] * len(seconds)
    if not seconds or not pathlib.Path(path).is_file():
        return found
    try:
        with av.open(f"file:{path}") as container:
            reader = _Reader(container)
            for i in np.argsort(seconds, kind="stable").tolist():
                frame = reader.at(float(seconds[i]))
                if frame is not None:
                    found[i] = _jpeg(rgb(frame), width)
    except (av.error.FFmpegError, ValueError, IndexError):
        return found  # what was found before it; the page does without the rest
    return found


class _Reader:
    """The frame on screen at times that only grow."""

    def __init__(self, container: Any):
        self.container = container
        self.stream = container.streams.video[0]
        self.stream.thread_type = "AUTO"
        self.shown: Any = None  # and `next`: neighbours in presentation order
        self.next: Any = None
        self.base: float | None = None  # time of the first frame
        self._begin()
        self._step()

    def at(self, seconds: float) -> Any:
        """Returns the last frame that begins at `seconds` or before."""
        if self.next is not None and seconds - self._time(self.next) > NEAR:
            self._seek(seconds)
        while self.next is not None and self._time(self.next) <= seconds + 1e-3:
            self._step()
        return self.next if self.shown is None else self.shown

    def _begin(self):
        self.frames = _decoded(self.container, self.stream)
        self.count = 0

    def _step(self):
        self.shown = self.next if self.next is not None else self.shown
        self.next = next(self.frames, None)
        self.count += 1
        if self.base is None and self.next is not None:
            self.base = self.next.time or 0.0

    def _seek(self, seconds: float):
        import av.error

        if self.next.time is None:  # no time stamps: frames are counted instead
            return
        target = int((seconds + (self.base or 0.0)) / self.stream.time_base)
        last = self.next
        try:
            self.container.seek(target, stream=self.stream, backward=True)
        except av.error.FFmpegError:
            return
        self._begin()
        self.shown = self.next = None
        self._step()
        if self.next is None:
            self.shown = last

    def _time(self, frame: Any) -> float:
        if frame.time is not None:
            return float(frame.time) - (self.base or 0.0)
        return (self.count - 1) / float(self.stream.average_rate or 25)


def _decoded(container: Any, stream: Any) -> Iterator[Any]:
    """Yields frames, leaving out what is damaged."""
    import av.error

    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, av.error.FFmpegError):
            return
        try:
            yield from packet.decode()
        except av.error.EOFError:
            return
        except av.error.FFmpegError:
            continue


def shrink(jpeg: bytes, width: int) -> bytes:
    """Returns a JPEG again, at most `width` pixels wide."""
    from PIL import Image

    return _jpeg(np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")), width)


def _jpeg(picture: np.ndarray, width: int) -> bytes:
    from PIL import Image

    image = Image.fromarray(picture)
    if image.width > width:
        height = max(round(image.height * width / image.width), 1)
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY, optimize=True)
    return out.getvalue()


def unplayable(path: str | os.PathLike) -> str:
    """Returns what of a video file no browser plays, such as "AVI", or ""."""
    import av.error

    try:
        with av.open(f"file:{path}") as container:
            names = container.format.name.split(",")
            codec = container.streams.video[0].codec_context.name
    except (av.error.FFmpegError, ValueError, IndexError):
        return "damaged"
    for name in names:
        if name in HOPELESS_CONTAINERS:
            return HOPELESS_CONTAINERS[name]
    return HOPELESS_CODECS.get(codec, "")
