"""Single pictures of a video file, small enough for a page.

Between pictures the decoder seeks, so that a long video costs what its pictures cost.
Where a seek can't be trusted, all frames are decoded.
"""

import io
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from wsvad_jax.extraction.decoding.packets import demuxed
from wsvad_jax.extraction.decoding.picture import to_display_rgb
from wsvad_jax.extraction.decoding.reader import VideoReader, open_file
from wsvad_jax.utils.errors import InputError

QUALITY = 78  # of the JPEGs
NEAR = 2.0  # seconds up to which decoding on is cheaper than seeking
INDEXED = {"avi", "mov"}  # containers whose index states each packet's time
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
      path: video file.
      seconds: times as `video.Video` counts them, in any order.
      width: largest width of the pictures in pixels; smaller videos keep their size.

    Returns:
      One JPEG per time, in the order of `seconds`; None where nothing can be read. A
      time after the end shows the last frame.
    """
    found: list[bytes | None] = [None] * len(seconds)
    if not seconds or not pathlib.Path(path).is_file():
        return found
    reader = _Reader(pathlib.Path(path))
    try:
        for i in np.argsort(seconds, kind="stable").tolist():
            frame = reader.at(float(seconds[i]))
            if frame is not None:
                found[i] = _jpeg(to_display_rgb(frame), width)
    except Exception:  # noqa: BLE001 the page does without the rest
        return found
    finally:
        reader.close()
    return found


class _Reader:
    """The frame on screen at times that only grow."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        self.container: Any = None
        self.seekable: bool | None = None  # not known yet

    def at(self, seconds: float) -> Any:
        """Returns the last frame that begins at `seconds` or before."""
        if self.container is None:
            self._begin()
        if self.next is not None and seconds - self.time > NEAR:
            self._seek(seconds)
        while self.next is not None and self.time <= seconds + 1e-3:
            self._step()
        return self.next if self.before is None else self.before

    def close(self) -> None:
        if self.container is not None:
            self.container.close()
            self.container = None

    def _begin(self) -> None:
        """Opens the file; `before` and `next` are neighbours in presentation order."""
        self.close()
        self.container = open_file(self.path)
        self.film = VideoReader(self.container, self.path)
        self.frames = self.film.frames()
        self.before = self.next = None
        self._step()

    def _step(self) -> None:
        self.before = self.next if self.next is not None else self.before
        self.next = next(self.frames, None)
        self.time = self.film.clock.seconds  # of `next`

    def _seek(self, seconds: float) -> None:
        """Moves to shortly before a time, or stays where decoding is the only way."""
        if self.seekable is None:
            self.seekable = _seekable(self.path, self.film)
        if not self.seekable:
            return
        clock, now = self.film.clock, self.time
        back = 0.0
        while (target := seconds - back) > now:
            # Without an index, a seek ends somewhere near and often behind.
            stamp = int((target + clock.start) / clock.base)
            if self.film.seek(stamp):
                self.frames = self.film.frames()
                self.before = self.next = None
                self._step()
                if self.next is not None and self.time <= seconds:
                    return
            back = max(2 * back, 1.0)
        self._begin()
        while self.next is not None and self.time < now:
            self._step()


def _seekable(path: pathlib.Path, film: VideoReader) -> bool:
    """Tells whether a time is found by a film's time stamps alone.

    A reset clock or stamps that repeat move the times of all frames after them. Only
    indexed containers can be trusted without a look; of others all packets are read,
    which costs far less than decoding them.
    """
    if film.clock.useless:
        return False
    if film.formats & INDEXED:
        return True
    last, shown, index = None, set(), film.stream.index
    with open_file(path) as container:
        for packet in demuxed(container, [container.streams[index]]):
            if not packet.size:
                continue
            if packet.pts is None or packet.pts in shown:
                return False
            if None not in (packet.dts, last) and packet.dts <= last:
                return False
            last = packet.dts
            shown.add(packet.pts)
    return True


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


def unplayable_format(path: str | os.PathLike) -> str:
    """Returns what of a video file no browser plays, such as "AVI", or ""."""
    try:
        with open_file(pathlib.Path(path)) as container:
            film = VideoReader(container, os.fspath(path))
    except InputError:
        return "damaged"
    for name in film.formats:
        if name in HOPELESS_CONTAINERS:
            return HOPELESS_CONTAINERS[name]
    return HOPELESS_CODECS.get(film.codec, "")
