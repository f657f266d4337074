"""Reads video files: chooses the track, decodes its frames and reports damage.

All programs read video files through `VideoReader`. So features, live scores, key frames
and checks agree on the frames and their times, which are those of the ffmpeg program and
of players. The rules are in `docs/detection.md`.

The first packets determine the track (`tracks`). Times count from the container's start
(`timestamps`). Pictures are shown upright (`picture`).
"""

import collections
import fractions
import itertools
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

from wsvad_jax.extraction.decoding import nal_units, tracks
from wsvad_jax.extraction.decoding.packets import (
    demux_packets,
    ffmpeg_reason,
    join_packets,
)
from wsvad_jax.extraction.decoding.picture import (
    FrameGeometry,
    read_display_matrix,
    valid_aspect,
)
from wsvad_jax.extraction.decoding.timestamps import ASSUMED, FrameClock, stated_rate

LOOK = 100  # largest number of packets read before the track is chosen
LOOK_BYTES = 64 << 20
SLACK = 0.5  # seconds by which the frames may end before the stated length
UNKNOWN = 1 << 30  # smallest count that an AVI written to a pipe may state
NEAR_GAP = 4  # packets after a gap within which time jumps
# Containers that state the length of the video; others only estimate it.
MEASURED = {"asf", "avi", "flv", "matroska", "mov", "mxf"}


def fraction(value: Any) -> Any:
    """Returns a ratio of FFmpeg as a Fraction; PyAV 19 has another type."""
    return fractions.Fraction(value.numerator, value.denominator) if value else None


class VideoReader:
    """One pass over the main video track of an open container."""

    def __init__(
        self,
        container: Any,
        name: str | pathlib.Path,
        sound: Any = None,
        *,
        threads: int = 0,
    ):
        """Chooses the track.

        Args:
          container: container opened by `av`, at its beginning.
          name: file name for messages.
          sound: track whose packets `on_packet` gets, too; None is no such track.
          threads: threads that decode; 0 is one per core. Each holds back a frame.

        Raises:
          InputError: no track is a video.
        """
        candidates = tracks.candidates(container, name)
        self.container = container
        self.formats = set(container.format.name.split(","))
        self.num_frames = 0
        self.position = 0  # bytes up to the end of the last packet
        self.packets = self.pictureless = 0  # all packets; those without a picture
        self.empty: collections.Counter = (
            collections.Counter()
        )  # empty packets per track
        self.early = 0  # packets before the first key frame
        self.failed = self.lost = self.corrupt = 0  # packets, gaps, frames
        self.reason = self.broken = ""  # first failed packet's; of an early end

        # The packets that decide on the track are kept and decoded later.
        self._held: list[Any] = []
        self.on_packet: list[Callable[[Any], None]] = []  # called with the track's
        self.sound = sound
        self._source = self._demuxed([*candidates, *([sound] if sound else [])])
        probes = [tracks.TrackProbe(track) for track in candidates]
        probe = self._choose(probes)
        tracks.check_moving(probe, container, name)
        self.stream = probe.stream
        self.stream.thread_type = "AUTO"
        self.stream.codec_context.thread_count = threads

        start = (container.start_time or 0) / 1e6
        self.rate = stated_rate(self.stream, counted=bool(probe.useless))
        base = fraction(self.stream.time_base)
        self.clock = FrameClock(base, start, self.rate, probe.useless)
        self._several = tracks.describe_other_videos(probe, probes)

        self._keyed = False  # whether a key frame has come
        self._begin: int | None = None  # frames with earlier stamps are not shown
        self._hidden: set[int | None] = set()  # stamps of frames that are not shown
        context = self.stream.codec_context
        self._holds_picture = nal_units.make_picture_test(context)

        # The container's aspect takes precedence over the decoder's, which may change.
        self._aspect = fraction(self.stream.sample_aspect_ratio)
        self._matrix: tuple[float, float, float, float] | None = None  # latest one
        self._has_fixed_aspect = self._aspect != fraction(context.sample_aspect_ratio)

    @property
    def codec(self) -> str:
        return self.stream.codec_context.name

    def frames(self) -> Iterator[Any]:
        """Yields `av.VideoFrame`s in presentation order, while `clock` has their times."""
        held = None
        for frame, stamp in self._stamped():
            if held:
                yield self._timed(*held, stamp)
                held = None

            # A stamp far ahead may be wrong; the next one decides.
            if self.clock.leaps(stamp):
                held = frame, stamp
            else:
                yield self._timed(frame, stamp)
        if held:
            yield self._timed(*held)

    def seek(self, stamp: int) -> bool:
        """Seeks to a key frame at or before a time stamp.

        Returns:
          Whether the seek reached one. If not, don't read frames until another seek
          succeeds.
        """
        import av.error

        self._held, self._source = [], iter(())
        try:
            self.container.seek(stamp, stream=self.stream, backward=True)
        except av.error.FFmpegError:
            return False

        # Packets before a key frame can't be decoded, or give grey frames.
        self._source = self._demuxed([self.stream])
        for packet in self._source:
            if packet.is_keyframe:
                self._held, self._begin = [packet], tracks.stamp(packet)
                self.clock.reset()
                return self._begin is not None and self._begin <= stamp
        return False

    @property
    def damage(self) -> str:
        """Sentence about content that could not be read so far, "" for none."""
        if self.broken or self.failed > self.early:
            return self.broken or self.reason
        if self.lost:
            return f"packets are missing in {self.lost} gaps"
        return "corrupt frames" if self.corrupt else ""

    @property
    def missing_end(self) -> str:
        """Sentence about frames missing at the end, "" for none.

        The frames are compared with the container's index and its stated video length,
        both after edit lists. Packets can't be counted as frames: some are hidden, and
        not all hold a picture.
        """
        rate = self.rate or ASSUMED
        empty = self.empty[self.stream.index]
        missing = self.length - empty / rate - self.clock.end

        # A writer may have derived the length from a wrong stamp.
        astray = any(abs(self.length - t) <= SLACK for t in self.clock.strays)
        short = not (self.clock.useless or astray) and missing > max(SLACK, 3 / rate)
        if self.packets + empty >= self.indexed and not short:
            return ""

        # AVI counts time slots, which may hold no frame. `indexed` excludes what an
        # edit list cuts.
        cause = f" ({self.damage})" if self.damage else ""
        if "avi" not in self.formats and self.num_frames < self.stream.frames:
            count = f"{self.num_frames} of {self.stream.frames} frames"
            return f"{count} can be read{cause}"
        return f"{self.clock.end:.1f} of {self.length:.1f} seconds can be read{cause}"

    @property
    def indexed(self) -> int:
        """Number of packets in the container's index, 0 unknown."""
        whole = self.formats & {"avi", "mov"}
        return len(getattr(self.stream, "index_entries", ())) if whole else 0

    @property
    def length(self) -> float:
        """Length of the video that the container states, in seconds; 0 unknown."""
        stream, whole = self.stream, (self.container.duration or 0) / 1e6
        if not self.formats & MEASURED:
            return 0.0

        if "avi" in self.formats and stream.frames:
            # Without an index, FFmpeg estimates the duration from the file's size.
            known = stream.frames < UNKNOWN
            return float(stream.frames * stream.time_base) if known else 0.0
        if "asf" in self.formats and len(self.container.streams) > 1:
            return 0.0  # ASF states the length of the file, which may be the sound's
        if stream.duration and "matroska" not in self.formats:
            return float(self._stated_end() * stream.time_base) - self.clock.start

        # Matroska states the length of the file, and usually of each track.
        tagged = tracks.parse_duration(stream.metadata.get("DURATION", ""))
        if not tagged and len(self.container.streams) > 1:
            return 0.0
        return max(min(tagged or whole, whole) - self.clock.start, 0.0)

    def _stated_end(self) -> int:
        """Returns the stamp at which the video ends, by the container's statement."""
        start, duration = self.stream.start_time or 0, self.stream.duration
        index: Any = self.stream.index_entries if "mov" in self.formats else ()
        shown = [entry.timestamp for entry in index if not entry.is_discard]
        if not (start and shown):
            return start + duration

        # The duration may or may not include an edit list's leading gap; the index
        # shows which.
        end = start + shown[-1] - shown[0]
        return min(start + duration, duration, key=lambda known: abs(known - end))

    @property
    def seconds(self) -> float:
        """Estimated length of the video in seconds, 0 unknown."""
        if self.stream.frames >= UNKNOWN:  # FFmpeg derives the duration from it
            return 0.0
        return self.length or (self.container.duration or 0) / 1e6

    @property
    def expected_frames(self) -> int:
        """Number of frames to expect by the container's statements, 0 unknown."""
        index = getattr(self.stream, "index_entries", ())
        hidden = sum(entry.is_discard for entry in index)  # by an edit list

        # AVI counts time slots, and a fragmented file the frames of its first fragment.
        known = self.stream.frames < UNKNOWN
        stated = (self.indexed or self.stream.frames) if known else 0
        count = len(index) - hidden if hidden else stated
        if not count:
            return round(self.seconds * self.rate)

        pictureless = self.pictureless / self.packets if self.packets else 0.0
        return round(count * (1 - pictureless))

    @property
    def remark(self) -> str:
        """Sentences about decisions that may surprise the user, "" for none."""
        cut = ""
        if self.early and self.failed:
            cut = f"{self.early} packets before the first key frame cannot be decoded"
        return "; ".join(filter(None, (self._several, cut, self.clock.remark)))

    def _choose(self, probes: list[tracks.TrackProbe]) -> tracks.TrackProbe:
        """Reads packets until they decide which track is the main one."""
        by_index, size = {probe.stream.index: probe for probe in probes}, 0
        looked = 0
        for packet in self._source:
            self._held.append(packet)
            if packet.stream.index not in by_index:  # sound
                continue
            by_index[packet.stream.index].add(packet)
            looked, size = looked + 1, size + packet.size

            if choice := tracks.certain_choice(probes):
                return choice
            if looked >= LOOK or size >= LOOK_BYTES:
                break
        return tracks.likeliest_choice(probes)

    def _demuxed(self, streams: list[Any]) -> Iterator[Any]:
        """Yields non-empty packets until the end of the file or a failure."""
        for packet in demux_packets(self.container, streams, self._note_failure):
            # AVI stores an empty packet for a dropped frame, which a decoder would take
            # for the end.
            if packet.size:
                yield packet
            else:
                self.empty[packet.stream.index] += packet.dts is not None

    def _note_failure(self, reason: str) -> None:
        self.broken = reason

    def _packets(self) -> Iterator[Any]:
        """Yields the track's packets: the kept ones, then the others."""
        held, self._held = self._held, []
        for packet in itertools.chain(held, self._source):
            index = packet.stream.index
            own = index == self.stream.index
            if own or (self.sound and index == self.sound.index):
                for callback in self.on_packet:
                    callback(packet)
            if own:
                yield packet

    def _decodable(self, packets: Iterator[Any]) -> Iterator[Any]:
        """Yields packets that a decoder accepts, and counts gaps between them.

        A sample without a picture is joined with the next one, as the standards define
        it. Alone it would cause an error, which costs frames at the end.
        """
        earlier: list[Any] = []
        suspect, last = 0, None
        step = 1.5 / float((self.rate or ASSUMED) * self.stream.time_base)
        for packet in packets:
            self.packets += 1
            self._keyed = self._keyed or packet.is_keyframe
            self.early += not self._keyed
            self.position = (packet.pos or 0) + packet.size or self.position

            # The stream's packet counter also jumps where recordings were joined. Frames
            # are lost only if time jumps, too.
            jump = 0 if None in (packet.dts, last) else packet.dts - last
            last = packet.dts
            suspect = NEAR_GAP if packet.is_corrupt else max(suspect - 1, 0)
            if suspect and jump > step:
                self.lost, suspect = self.lost + 1, 0

            holds = self._holds_picture(packet)
            self.pictureless += not holds
            if not holds and len(earlier) < LOOK:
                earlier.append(packet)
                continue

            # A joined packet is a new one, which can't carry the discard flag.
            if earlier and packet.is_discard:
                self._hidden.add(packet.pts)
            yield join_packets(earlier, packet)
            earlier = []

        self.lost += suspect > 0  # the file ends within a packet

    def _stamped(self) -> Iterator[tuple[Any, int | None]]:
        """Yields the displayed frames with their stamps."""
        for packet in itertools.chain(self._decodable(self._packets()), [None]):
            for frame in self._decode(packet):
                if frame.pts in self._hidden:
                    self._hidden.discard(frame.pts)
                    continue

                # Frames between the key frame and the target of a seek aren't shown.
                stamp, begin = self.clock.stamp(frame), self._begin
                if begin is not None and stamp is not None and stamp < begin:
                    continue
                self._keyed = True
                yield frame, stamp

    def _timed(
        self, frame: Any, stamp: int | None, following: int | None = None
    ) -> Any:
        """Advances the clock to a frame and returns it."""
        self.num_frames += 1
        self.clock.tick(stamp, frame.duration, following)
        self.corrupt += frame.is_corrupt
        return frame

    def _decode(self, packet: Any) -> Iterator[Any]:
        import av.error

        try:
            decoded = self.stream.codec_context.decode(packet)
        except av.error.EOFError:
            return
        except av.error.FFmpegError as e:
            self.failed += 1
            self.reason = self.reason or ffmpeg_reason(e)
            return

        # PyAV has no room for the geometry but `opaque`, which stays with the frame.
        for frame in decoded:
            changed = None if self._has_fixed_aspect else self.stream.codec_context
            aspect = fraction(changed.sample_aspect_ratio) if changed else None
            self._matrix = read_display_matrix(frame) or self._matrix
            frame.opaque = FrameGeometry(
                valid_aspect(aspect or self._aspect), self._matrix
            )
            yield frame
