"""Reads the frames of a video at times that only grow, and seeks where that is safe."""

import pathlib
from typing import Any

from wsvad_jax.extraction.decoding.containers import open_file
from wsvad_jax.extraction.decoding.packets import demux_packets
from wsvad_jax.extraction.decoding.reader import VideoReader

NEAR = 2.0  # seconds up to which decoding is cheaper than seeking
INDEXED = {"avi", "mov"}  # containers whose index states each packet's time


class ForwardReader:
    """Reads the frame on screen at times that only grow."""

    def __init__(self, path: pathlib.Path):
        """Stores the path; the first `at` opens it."""
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
            self.step()
        return self.next if self.before is None else self.before

    def close(self) -> None:
        """Closes the file."""
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
        self.step()

    def step(self) -> None:
        self.before = self.next if self.next is not None else self.before
        self.next = next(self.frames, None)
        self.time = self.video.clock.seconds  # of `next`

    def _seek(self, seconds: float) -> None:
        """Moves to shortly before a time; stays where only decoding is safe."""
        if self.seekable is None:
            self.seekable = is_seekable(self.path, self.video)
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
                self.step()
                if self.next is not None and self.time <= seconds:
                    return

            back = max(2 * back, 1.0)

        # No attempt succeeded: the file is read again, up to where the reader was.
        self._open()
        while self.next is not None and self.time < now:
            self.step()


def is_seekable(path: pathlib.Path, video: VideoReader) -> bool:
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
