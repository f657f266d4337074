"""Decodes single pictures of a video file, small enough for a page.

The decoder seeks from picture to picture, so the time depends on their number and not
on the video's length. Where a seek can't be trusted, all frames are decoded.
"""

import io
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from wsvad_jax.extraction.decoding.containers import open_file
from wsvad_jax.extraction.decoding.packets import demux_packets
from wsvad_jax.extraction.decoding.picture import to_display_rgb
from wsvad_jax.extraction.decoding.reader import VideoReader
from wsvad_jax.utils.errors import InputError

QUALITY = 78  # JPEG quality
NEAR = 2.0  # seconds up to which decoding is cheaper than seeking
INDEXED = {"avi", "mov"}  # containers whose index states each packet's time
# No current browser plays these. For others, only the browser itself can tell.
UNPLAYABLE_CONTAINERS = {
    "asf": "WMV",
    "avi": "AVI",
    "flv": "FLV",
    "mpeg": "MPEG",
    "mpegts": "MPEG transport stream",
    "mpegvideo": "MPEG",
    "rm": "RealMedia",
}
UNPLAYABLE_CODECS = {
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
    """Returns the pictures of a video at the given times, as JPEGs.

    Args:
      path: video file.
      seconds: times in the video, in any order.
      width: largest width of the pictures in pixels; smaller videos keep their size.

    Returns:
      One JPEG per time, in the order of `seconds`; None where nothing can be read. A
      time after the end shows the last frame.
    """
    jpegs: list[bytes | None] = [None] * len(seconds)
    if not seconds or not pathlib.Path(path).is_file():
        return jpegs

    reader = _ForwardReader(pathlib.Path(path))
    try:
        # In the order of time, so that the reader never has to go back.
        for i in np.argsort(seconds, kind="stable").tolist():
            frame = reader.at(float(seconds[i]))
            if frame is not None:
                jpegs[i] = to_jpeg(to_display_rgb(frame), width)
    except Exception:  # noqa: BLE001 a page with fewer pictures is better than none
        return jpegs
    finally:
        reader.close()
    return jpegs


class _ForwardReader:
    """Reads the frame on screen at times that only grow."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        self.container: Any = None
        self.seekable: bool | None = None  # not known yet

    def at(self, seconds: float) -> Any:
        """Returns the last frame that begins at `seconds` or before."""
        if self.container is None:
            self._open()
        if self.next is not None and seconds - self.time > NEAR:
            self._seek(seconds)

        # Stamps are rounded, so a frame may begin a moment late.
        while self.next is not None and self.time <= seconds + 1e-3:
            self._step()
        return self.next if self.before is None else self.before

    def close(self) -> None:
        if self.container is not None:
            self.container.close()
            self.container = None

    def _open(self) -> None:
        """Opens the file; `before` and `next` are neighbours in presentation order."""
        self.close()
        self.container = open_file(self.path)
        self.video = VideoReader(self.container, self.path)
        self.frames = self.video.frames()
        self.before = self.next = None
        self._step()

    def _step(self) -> None:
        self.before = self.next if self.next is not None else self.before
        self.next = next(self.frames, None)
        self.time = self.video.clock.seconds  # of `next`

    def _seek(self, seconds: float) -> None:
        """Moves to shortly before a time; stays where only decoding is safe."""
        if self.seekable is None:
            self.seekable = _is_seekable(self.path, self.video)
        if not self.seekable:
            return

        # Without an index, a seek ends somewhere near and often behind, so each further
        # attempt aims at an earlier time.
        clock, now = self.video.clock, self.time
        back = 0.0
        while (target := seconds - back) > now:
            stamp = int((target + clock.start) / clock.base)
            if self.video.seek(stamp):
                # The decoder starts again, so the frames before are forgotten.
                self.frames = self.video.frames()
                self.before = self.next = None
                self._step()
                if self.next is not None and self.time <= seconds:
                    return

            back = max(2 * back, 1.0)

        # No attempt succeeded: the file is read again, up to where the reader was.
        self._open()
        while self.next is not None and self.time < now:
            self._step()


def _is_seekable(path: pathlib.Path, video: VideoReader) -> bool:
    """Whether a video's time stamps alone tell the times of its frames.

    A reset clock or repeated stamps move the times of all frames after them. Only
    indexed containers are trusted at once. In others all packets are checked, which is
    far cheaper than decoding them.
    """
    if video.clock.useless:
        return False
    if video.formats & INDEXED:
        return True

    last, seen, index = None, set(), video.stream.index
    with open_file(path) as container:
        for packet in demux_packets(container, [container.streams[index]]):
            if not packet.size:
                continue

            # Frames may be stored out of order, so only equal stamps are suspicious;
            # packets are decoded in order, so their stamps must grow.
            if packet.pts is None or packet.pts in seen:
                return False
            if None not in (packet.dts, last) and packet.dts <= last:
                return False

            last = packet.dts
            seen.add(packet.pts)
    return True


def shrink(jpeg: bytes, width: int) -> bytes:
    """Returns a JPEG that is at most `width` pixels wide."""
    from PIL import Image

    return to_jpeg(np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")), width)


def to_jpeg(picture: np.ndarray, width: int) -> bytes:
    """Returns an RGB picture as a JPEG that is at most `width` pixels wide."""
    from PIL import Image

    image = Image.fromarray(picture)
    if image.width > width:
        height = max(round(image.height * width / image.width), 1)
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY, optimize=True)
    return out.getvalue()


def unplayable_format(path: str | os.PathLike) -> str:
    """Returns the format that no browser plays, such as "AVI"; "" if there is none.

    A file that can't be opened is "damaged".
    """
    try:
        with open_file(pathlib.Path(path)) as container:
            video = VideoReader(container, os.fspath(path))
    except InputError:
        return "damaged"
    for name in video.formats:
        if name in UNPLAYABLE_CONTAINERS:
            return UNPLAYABLE_CONTAINERS[name]
    return UNPLAYABLE_CODECS.get(video.codec, "")
