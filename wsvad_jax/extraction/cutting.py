"""Cuts a part of a video file into an mp4 file, if possible without encoding it again.

Packets are copied from the last key frame before the part's start, since a decoder can
begin nowhere else. They are encoded as H.264 where mp4 doesn't hold them, where stamps
don't tell the frames' times, or where that key frame is far away.
"""

import collections
import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

from wsvad_jax.extraction.decoding.containers import open_file
from wsvad_jax.extraction.decoding.forward_reader import (
    INDEXED,
    ForwardReader,
    is_seekable,
)
from wsvad_jax.extraction.decoding.packets import demux_packets
from wsvad_jax.extraction.decoding.reader import VideoReader, fraction
from wsvad_jax.extraction.decoding.tracks import stamp
from wsvad_jax.extraction.mp4_writer import (
    COPIED_VIDEO,
    FrameWriter,
    NotCopyableError,
    PacketWriter,
    StoredPacket,
    codec_name,
    sound_of,
)
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import atomic_path

LEAD = 30.0  # most seconds from the key frame to the part's start
BACK = (0.0, 2.0, 20.0)  # seconds before the start that are sought one after another
MOMENT = 1e-3  # seconds by which stamps are rounded


@dataclasses.dataclass(frozen=True)
class Cut:
    """A part of a video in a file of its own."""

    path: pathlib.Path
    start: float  # seconds of the video at which the file begins
    end: float  # seconds of the video at which it ends
    copied: bool  # whether the pictures are those of the video, bit by bit
    remark: str = ""  # why they are not, or sound that is left out


class Cutter:
    """Cuts parts of one video."""

    def __init__(self, path: pathlib.Path):
        """Opens the video once, to see what can be copied.

        Raises:
          InputError: the file is missing or no video.
        """
        self.path = pathlib.Path(path)
        with open_file(self.path) as container:
            reader = VideoReader(container, self.path)
            self.video, self.start = reader.stream.index, reader.clock.start
            self.base, self.rate = reader.clock.base, reader.rate
            self.indexed = bool(reader.formats & INDEXED)
            sound, self.silence = sound_of(container)
            self.sound = None if sound is None else sound.index
            self.obstacle = _obstacle(reader)
            # Stamps are read to the end once where the container has no index.
            self.timed = is_seekable(self.path, reader)
        if not self.timed:
            self.obstacle = self.obstacle or "its time stamps aren't its frames' times"
            if self.sound is not None:
                self.sound = None
                self.silence = "the sound is left out, since time stamps are damaged"

    def cut(self, target: pathlib.Path, start: float, end: float) -> Cut:
        """Writes the part from `start` to `end` seconds; it may begin earlier.

        Args:
          target: mp4 file to write, atomically.
          start, end: seconds in the video; they may be before its begin or after its
            end.

        Raises:
          InputError: the part holds no frame, or can neither be copied nor encoded.
          OSError: the file can't be written.
        """
        start, obstacle = max(start, 0.0), self.obstacle
        with atomic_path(target) as temporary:
            if not obstacle:
                try:
                    times = self._copy(temporary, start, end)
                    return Cut(target, *times, copied=True, remark=self.silence)
                except NotCopyableError as e:
                    obstacle = str(e)
            try:
                times = self._encode(temporary, start, end)
            except NotCopyableError as e:
                raise InputError(f"{self.path}: can't be cut ({e})") from None
            why = f"encoded again: {obstacle}"
            remark = "; ".join(filter(None, (why, self.silence)))
            return Cut(target, *times, copied=False, remark=remark)

    def _copy(
        self, temporary: pathlib.Path, start: float, end: float
    ) -> tuple[float, float]:
        """Copies packets; returns where the file begins and ends."""
        seek, key = self._key_frame(start)
        begun = False
        with open_file(self.path) as container:
            video, sound = self._streams(container, seek)
            with contextlib.closing(
                PacketWriter(temporary, video, sound, self.start)
            ) as writer:
                for packet in self._until(end, container, [video, sound]):
                    is_video = packet.stream.index == self.video
                    if is_video:
                        shown = stamp(packet)
                        begun = begun or (packet.is_keyframe and shown == key)
                        # Pictures after a key frame that are shown before it may need
                        # the ones in front of it.
                        if not begun or (shown is not None and shown < key):
                            continue
                    writer.write(StoredPacket.of(packet, is_video=is_video))

        if not writer.count:
            raise NotCopyableError("the key frame can't be read again")
        return writer.seconds

    def _streams(self, container: Any, seek: int | None) -> list[Any]:
        """Returns the video and the sound, or None, after a seek."""
        video = container.streams[self.video]
        if seek is not None:
            container.seek(seek, stream=video, backward=True)
        sound = None if self.sound is None else container.streams[self.sound]
        return [video, sound]

    def _until(self, end: float, container: Any, streams: list[Any]) -> Iterator[Any]:
        """Yields the packets of the pictures and the sound before `end`."""
        left = {stream.index for stream in streams if stream is not None}
        last: int | None = None
        for packet in demux_packets(container, [s for s in streams if s is not None]):
            index, at = packet.stream.index, packet.dts
            if not packet.size or index not in left:
                continue

            # Pictures are stored in the order of decoding, so later ones than `end` may
            # come before the last one that is needed. One that is shown after all before
            # it leaves no hole between them.
            at, shown = packet.pts if at is None else at, stamp(packet)
            past = at is not None and self._seconds(at, packet) >= end
            if index == self.video and shown is not None:
                # Sound that is stored far behind its pictures isn't waited for.
                if past and (last is None or shown > last):
                    return
                last = shown if last is None else max(shown, last)
            elif past:
                left.discard(index)
                continue
            yield packet

    def _seconds(self, at: int, packet: Any) -> float:
        return float(at * fraction(packet.time_base)) - self.start

    def _key_frame(self, start: float) -> tuple[int | None, int]:
        """Returns a stamp to seek, None for none, and the key frame's stamp.

        Raises:
          NotCopyableError: no key frame is near.
        """
        for back in (*BACK, None):
            seek = None
            if back is not None:
                if start <= back:
                    continue
                seek = int((start - back + self.start) / self.base)
            first, last = self._keys(seek, start)
            if last is None and back is None:
                last = first  # the recording begins between key frames
            if last is None:
                continue

            lead = start - (float(last * self.base) - self.start)
            if lead > LEAD:
                raise NotCopyableError(f"the key frame before is {lead:.0f} s away")
            # An index leads to the key frame and to the sound beside it.
            return (last if self.indexed else seek), last
        raise NotCopyableError("it has no key frame")

    def _keys(self, seek: int | None, start: float) -> tuple[int | None, int | None]:
        """Returns the first key frame's stamp, and the last one's up to `start`."""
        import av.error

        first = last = None
        with open_file(self.path) as container:
            try:
                video, _ = self._streams(container, seek)
            except av.error.FFmpegError:
                return None, None
            for packet in demux_packets(container, [video]):
                shown = stamp(packet)
                if not packet.size or shown is None:
                    continue
                after = self._seconds(shown, packet) > start + MOMENT
                if packet.is_keyframe:
                    first = shown if first is None else first
                    last = last if after else shown
                decoded = shown if packet.dts is None else packet.dts
                if first is not None and self._seconds(decoded, packet) > start:
                    break
        return first, last

    def _encode(
        self, temporary: pathlib.Path, start: float, end: float
    ) -> tuple[float, float]:
        """Encodes frames; returns where the file begins and ends."""
        reader = ForwardReader(self.path)
        with contextlib.closing(reader), open_file(self.path) as container:
            shown = reader.at(start)
            if shown is None:
                raise InputError(f"{self.path}: no frame can be read at {start:.1f} s")
            # A video whose first picture comes later begins there.
            begin = last = start if reader.before is not None else reader.time

            sounds = collections.deque(self._sound_packets(container, begin, end))
            track = None if self.sound is None else container.streams[self.sound]
            with contextlib.closing(
                FrameWriter(temporary, track, begin, self.start, self.rate)
            ) as writer:
                if reader.before is not None:
                    writer.write(shown, begin)
                while reader.next is not None and reader.time < end:
                    last = reader.time
                    writer.write(reader.next, last)
                    # Sound and pictures of one time are stored together.
                    while sounds and self._seconds(sounds[0].pts, sounds[0]) <= last:
                        writer.write_sound(sounds.popleft())
                    reader.step()
                for packet in sounds:
                    writer.write_sound(packet)
        return begin, last + (1 / self.rate if self.rate else 0.0)

    def _sound_packets(self, container: Any, start: float, end: float) -> Iterator[Any]:
        """Yields the packets of sound between two times."""
        if self.sound is None:
            return
        track = container.streams[self.sound]
        seek = int((start + self.start) / fraction(track.time_base))
        container.seek(seek, stream=track, backward=True)
        for packet in demux_packets(container, [track]):
            if packet.size and packet.pts is not None:
                seconds = self._seconds(packet.pts, packet)
                if seconds >= end:
                    return
                if seconds >= start:
                    yield packet


def _obstacle(reader: VideoReader) -> str:
    """Returns why a video's packets can't be copied, "" if they can."""
    name, context = codec_name(reader.stream), reader.stream.codec_context
    if name not in COPIED_VIDEO:
        return f"mp4 doesn't hold {name}"
    # AVI has one stamp per picture, and packs two pictures into one packet.
    if "avi" in reader.formats and context.has_b_frames:
        return f"AVI states no times for reordered pictures of {name}"
    return ""
