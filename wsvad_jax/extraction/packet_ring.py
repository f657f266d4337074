"""Keeps the last packets of a live source, so that a clip can begin before its event.

Memory is bounded in seconds and in bytes. A recording gets what is kept from the last key
frame before a time on, and then the packets that follow.
"""

import collections
import dataclasses
import fractions
import io
import math
import threading
from collections.abc import Callable
from typing import Any

from wsvad_jax.extraction.decoding.reader import VideoReader
from wsvad_jax.extraction.mp4_writer import (
    COPIED_VIDEO,
    StoredPacket,
    codec_name,
    keep_tag,
    sound_of,
)

MOST_BYTES = 128 << 20  # kept per source, and waiting per recording


class SourceFormat:
    """The tracks of one pass over a source, as templates of files."""

    def __init__(self, reader: VideoReader, offset: float):
        """Copies the settings of the tracks, which the source frees when it ends.

        Args:
          reader: open reader.
          offset: seconds of the source's clock at which the pass begins.
        """
        import av

        self.start = reader.clock.start - offset  # by stamps, where the clock is 0
        self.index = reader.stream.index
        self.silence = sound_of(reader.container)[1]
        self.video = self.sound = None
        self.obstacle = ""  # why no clip is possible
        # Frames without stamps are counted, as the reader does it.
        self.counted: fractions.Fraction | None = None  # seconds per frame
        self.count, self._context = 0, reader.stream.codec_context
        if reader.clock.useless:
            rate = fractions.Fraction(reader.clock.rate).limit_denominator(1001)
            self.counted, self.start = 1 / rate, -offset
        self.copied, self.container = False, ""
        if self._is_reordered():
            return

        # Other packets are kept in NUT, which holds any, and are encoded at the end.
        self.copied = codec_name(reader.stream) in COPIED_VIDEO
        self.container = "mp4" if self.copied else "nut"
        self._holder = av.open(io.BytesIO(), "w", format=self.container)
        try:
            add = self._holder.add_stream_from_template
            self.video = add(reader.stream, opaque=True)
            if not self.copied:
                keep_tag(reader.stream, self.video)
            if reader.sound is not None:
                self.sound = add(reader.sound, opaque=True)
        except ValueError as e:
            self.obstacle = str(e)

    def stored(self, packet: Any) -> StoredPacket | None:
        """Returns a copy of a packet with its stamps; None where they are unknown."""
        is_video = packet.stream.index == self.index
        stored = StoredPacket.of(packet, is_video=is_video)
        if self.counted is None:
            return stored

        # Sound has no stamps either, and nothing is shown before the first key frame.
        if not is_video or self._is_reordered() or not (self.count or stored.is_key):
            return None
        self.count += 1
        count = self.count - 1
        return dataclasses.replace(
            stored, pts=count, dts=count, duration=1, base=self.counted
        )

    def _is_reordered(self) -> bool:
        """Whether frames without stamps are stored in another order than shown."""
        if self.counted is None or not self._context.has_b_frames:
            return False
        self.video = None
        self.obstacle = "it has no time stamps, and its pictures are reordered"
        return True

    def seconds(self, packet: StoredPacket) -> float | None:
        """Returns when a packet is decoded, in seconds of the source's clock."""
        stamp = packet.pts if packet.dts is None else packet.dts
        return None if stamp is None else float(stamp * packet.base) - self.start


class PacketRecording:
    """The packets of one clip, which wait for the thread that writes them."""

    def __init__(self, made: SourceFormat, begin: float, until: float):
        """Starts empty.

        Args:
          made: format of the packets.
          begin: seconds of the source at which the first picture is shown.
          until: seconds of the source at which the clip ends.
        """
        self.format, self.begin, self.until = made, begin, until
        self.waiting: collections.deque[StoredPacket] = collections.deque()
        self.size = 0  # bytes waiting
        self.over = False  # whether nothing follows
        self.last: int | None = None  # latest stamp of a picture
        self.remark = ""

    def put(self, packet: StoredPacket, seconds: float) -> None:
        """Adds a packet, or ends the recording with it."""
        if self.over:
            return
        # A picture that is shown after all before it leaves no hole between them.
        last, stamp = self.last, packet.stamp or 0
        if packet.is_video:
            self.last = stamp if last is None else max(stamp, last)
        if seconds >= self.until:
            self.over = packet.is_video and (last is None or stamp > last)
            if self.over or not packet.is_video:
                return
        if self.size > MOST_BYTES:
            self.over = True
            self.remark = "the clip ends early, since the disk is too slow"
            return
        self.waiting.append(packet)
        self.size += len(packet.data)


class PacketRing:
    """The last packets of a source; a `live_video.PacketTap`."""

    def __init__(
        self,
        seconds: float,
        wake: Callable[[], None] = lambda: None,
        most_bytes: int = MOST_BYTES,
    ):
        """Starts empty.

        Args:
          seconds: seconds that are kept.
          wake: called when a recording has got packets.
          most_bytes: bytes that are kept.
        """
        self.keep, self.most_bytes, self.wake = seconds, most_bytes, wake
        self.lock = threading.Lock()
        self.format: SourceFormat | None = None
        self.packets: collections.deque[tuple[float, StoredPacket]] = (
            collections.deque()
        )
        self.size = 0  # bytes
        self.recordings: list[PacketRecording] = []

    def opened(self, reader: VideoReader, offset: float) -> None:
        """Forgets the packets of an earlier pass; called as a tap."""
        made = SourceFormat(reader, offset)
        self.finish()
        with self.lock:
            self.format, self.size = made, 0
            self.packets.clear()

    def packet(self, packet: Any) -> None:
        """Keeps a packet; called as a tap."""
        made = self.format
        if made is None or made.video is None or not packet.size:
            return
        stored = made.stored(packet)
        if stored is None:
            return
        with self.lock:
            seconds = made.seconds(stored)
            if seconds is None:
                seconds = self.packets[-1][0] if self.packets else -math.inf
            self.packets.append((seconds, stored))
            self.size += len(stored.data)

            # The oldest go first, also where packets are large.
            while self.size > self.most_bytes or (
                self.packets[0][0] < seconds - self.keep
            ):
                self.size -= len(self.packets.popleft()[1].data)

            for recording in self.recordings:
                recording.put(stored, seconds)
            waking = bool(self.recordings)
            self.recordings = [each for each in self.recordings if not each.over]
        if waking:
            self.wake()

    def record(self, start: float, until: float) -> PacketRecording | None:
        """Returns a recording from the last key frame up to `start` on.

        It begins later where that key frame is no longer kept, and is None where no key
        frame is.

        Args:
          start, until: seconds of the source's clock.
        """
        with self.lock:
            made = self.format
            if made is None or made.video is None:
                return None
            kept, chosen, begin = list(self.packets), -1, 0.0
            for i, (_, packet) in enumerate(kept):
                if not (packet.is_video and packet.is_key):
                    continue
                shown = float((packet.stamp or 0) * packet.base) - made.start
                if chosen >= 0 and shown > start:
                    break
                chosen, begin = i, shown
            if chosen < 0:
                return None

            recording = PacketRecording(made, begin, until)
            key = kept[chosen][1].stamp or 0
            for seconds, packet in kept[chosen:]:
                # Pictures shown before their key frame may need those before it.
                if packet.is_video and (packet.stamp or 0) < key:
                    continue
                recording.put(packet, seconds)
            self.recordings.append(recording)
            return recording

    def take(self, recording: PacketRecording) -> tuple[list[StoredPacket], bool]:
        """Returns the waiting packets of a recording, and whether nothing follows."""
        with self.lock:
            taken = list(recording.waiting)
            recording.waiting.clear()
            recording.size = 0
            return taken, recording.over

    def end_at(self, recording: PacketRecording, until: float) -> None:
        """Sets where a recording ends, once that is known."""
        with self.lock:
            recording.until = until

    def finish(self) -> None:
        """Ends all recordings, since no packet follows."""
        with self.lock:
            for recording in self.recordings:
                recording.over = True
            self.recordings = []
