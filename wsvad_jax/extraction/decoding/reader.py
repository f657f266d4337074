"""The reader of films: which track, from which moment on, and what of it is damaged.

All programs read video files through it. So features, live scores, key frames and
checks agree on the frames and their times, which are those that the ffmpeg program and
players show. The rules are in `docs/detection.md`.

The track is found by a look at the first packets (`data.tracks`). Times count from the
container's start (`data.clock`). Pictures are turned upright (`data.picture`).
"""

import collections
import fractions
import itertools
import pathlib
from collections.abc import Iterator
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
from wsvad_jax.utils.errors import InputError

LOOK = 100  # packets that are looked at before the track is chosen, at most
LOOK_BYTES = 64 << 20
SLACK = 0.5  # seconds that the pictures may end before the stated length
UNKNOWN = 1 << 30  # frames that an AVI written to a pipe states, or more
NEAR_GAP = 4  # packets after a gap within which time jumps
# Containers that state the length of the pictures; others only estimate it.
MEASURED = {"asf", "avi", "flv", "matroska", "mov", "mxf"}


def fraction(value: Any) -> Any:
    """Returns a ratio of FFmpeg's as a Fraction; PyAV 19 has a kind of its own."""
    return fractions.Fraction(value.numerator, value.denominator) if value else None


def any_tags() -> dict[str, Any]:
    """Returns arguments of `av.open` with which tags need not be UTF-8."""
    import av

    # From version 19 on PyAV reads any tags, and knows no such argument.
    major = int(av.__version__.partition(".")[0])
    return {"metadata_errors": "replace"} if major < 19 else {}


def open_file(path: pathlib.Path) -> Any:
    """Opens a file as an `av` container.

    Raises:
      InputError: no file, or nothing that FFmpeg reads as a video.
    """
    import av
    import av.error

    if not path.is_file():
        what = "is a folder" if path.is_dir() else "no such file"
        raise InputError(f"{path}: {what}; expected a video file")
    try:
        # "file:" keeps a colon in a name from being read as a protocol. Recorders
        # write titles in code pages of their own; nothing here needs them.
        container = av.open(f"file:{path}", **any_tags())
    except (av.error.FFmpegError, ValueError) as e:
        raise _not_a_video(path, ffmpeg_reason(e)) from None
    if container.format.name == "tty":  # FFmpeg renders text files as a film
        container.close()
        raise _not_a_video(path, "it is a text file")
    return container


class VideoReader:
    """One pass over the film of an open container."""

    def __init__(self, container: Any, name: str | pathlib.Path):
        """Chooses the track.

        Args:
          container: opened by `av`, at its beginning.
          name: the file's, for messages.

        Raises:
          InputError: no track is a film.
        """
        found = tracks.candidates(container, name)
        self.container = container
        self.formats = set(container.format.name.split(","))
        self.num_frames = 0
        self.position = 0  # bytes up to the packet that came last
        self.packets = self.pictureless = 0  # read; of them, those without a picture
        self.empty: collections.Counter = collections.Counter()  # packets per track
        self.early = 0  # packets before the first key frame
        self.failed = self.lost = self.corrupt = 0  # packets, places, frames
        self.reason = self.broken = ""  # of the first failed packet; of an early end

        self._held: list[Any] = []  # packets that were looked at
        self._source = self._demuxed(found)
        looks = [tracks.TrackProbe(track) for track in found]
        look = self._choose(looks)
        tracks.check_moving(look, container, name)
        self.stream = look.stream
        self.stream.thread_type = "AUTO"

        start = (container.start_time or 0) / 1e6
        self.rate = stated_rate(self.stream, counted=bool(look.useless))
        base = fraction(self.stream.time_base)
        self.clock = FrameClock(base, start, self.rate, look.useless)
        self._several = tracks.describe_other_videos(look, looks)
        self._keyed = False
        self._begin: int | None = None  # stamp before which frames are not shown
        self._hidden: set[int | None] = set()  # stamps of frames that are not shown
        context = self.stream.codec_context
        self._holds_picture = nal_units.make_picture_test(context)
        # The container's aspect counts more than the decoder's, which may change.
        self._aspect = fraction(self.stream.sample_aspect_ratio)
        self._matrix: tuple[float, float, float, float] | None = None  # the last one
        self._fixed = self._aspect != fraction(context.sample_aspect_ratio)

    @property
    def codec(self) -> str:
        return self.stream.codec_context.name

    def frames(self) -> Iterator[Any]:
        """Yields `av.VideoFrame`s in presentation order; `clock` has their times."""
        held = None
        for frame, stamp in self._stamped():
            if held:
                yield self._timed(*held, stamp)
                held = None
            # A stamp far ahead may be wrong, which the next one tells.
            if self.clock.leaps(stamp):
                held = frame, stamp
            else:
                yield self._timed(frame, stamp)
        if held:
            yield self._timed(*held)

    def seek(self, stamp: int) -> bool:
        """Goes to a key frame that is shown at a time stamp or before.

        Returns:
          whether the seek ended at one. If not, frames are not to be taken until
          another seek does.
        """
        import av.error

        self._held, self._source = [], iter(())
        try:
            self.container.seek(stamp, stream=self.stream, backward=True)
        except av.error.FFmpegError:
            return False
        self._source = self._demuxed([self.stream])
        # What comes before a key frame can't be decoded, or looks grey.
        for packet in self._source:
            if packet.is_keyframe:
                self._held, self._begin = [packet], tracks.stamp(packet)
                self.clock.reset()
                return self._begin is not None and self._begin <= stamp
        return False

    @property
    def damage(self) -> str:
        """What could not be read so far, "" if all could."""
        if self.broken or self.failed > self.early:
            return self.broken or self.reason
        if self.lost:
            return f"packets are missing at {self.lost} places"
        return "corrupt frames" if self.corrupt else ""

    @property
    def missing_end(self) -> str:
        """What is missing after the last frame, "" for nothing.

        The measures are the container's index and the length that it states for the
        pictures, both after edit lists. A count of packets is none of frames: some are
        hidden, and not all hold a picture.
        """
        rate = self.rate or ASSUMED
        empty = self.empty[self.stream.index]
        late = self.length - empty / rate - self.clock.end
        # A writer may take the length from a stamp that is wrong.
        astray = any(abs(self.length - t) <= SLACK for t in self.clock.strays)
        short = not (self.clock.useless or astray) and late > max(SLACK, 3 / rate)
        if self.packets + empty >= self.indexed and not short:
            return ""
        cause = f" ({self.damage})" if self.damage else ""
        # AVI states time slots, which need not hold a frame, and `indexed` leaves out
        # what an edit list cuts.
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
        """Seconds after which the pictures end by the container's word, 0 unknown."""
        stream, whole = self.stream, (self.container.duration or 0) / 1e6
        if not self.formats & MEASURED:
            return 0.0
        if "avi" in self.formats and stream.frames:
            # The duration is made of the file's size where the index is missing.
            known = stream.frames < UNKNOWN
            return float(stream.frames * stream.time_base) if known else 0.0
        if "asf" in self.formats and len(self.container.streams) > 1:
            return 0.0  # it states the file's length, be it that of the sound
        if stream.duration and "matroska" not in self.formats:
            return float(self._stated_end() * stream.time_base) - self.clock.start
        # Matroska states the length of the whole file, and mostly each track's.
        tagged = tracks.parse_duration(stream.metadata.get("DURATION", ""))
        if not tagged and len(self.container.streams) > 1:
            return 0.0
        return max(min(tagged or whole, whole) - self.clock.start, 0.0)

    def _stated_end(self) -> int:
        """Stamp at which the container says that its pictures end."""
        start, duration = self.stream.start_time or 0, self.stream.duration
        index: Any = self.stream.index_entries if "mov" in self.formats else ()
        shown = [entry.timestamp for entry in index if not entry.is_discard]
        if not (start and shown):
            return start + duration
        # An edit list's leading gap is part of the duration or not; the index tells.
        end = start + shown[-1] - shown[0]
        return min(start + duration, duration, key=lambda known: abs(known - end))

    @property
    def seconds(self) -> float:
        """Seconds that the film may take, 0 unknown."""
        if self.stream.frames >= UNKNOWN:  # FFmpeg makes the duration of it
            return 0.0
        return self.length or (self.container.duration or 0) / 1e6

    @property
    def expected_frames(self) -> int:
        """Number of frames that the container lets expect, 0 unknown."""
        index = getattr(self.stream, "index_entries", ())
        hidden = sum(entry.is_discard for entry in index)  # by an edit list
        # AVI states time slots, and a file of fragments the frames of the first.
        known = self.stream.frames < UNKNOWN
        stated = (self.indexed or self.stream.frames) if known else 0
        count = len(index) - hidden if hidden else stated
        if not count:
            return round(self.seconds * self.rate)
        share = self.pictureless / self.packets if self.packets else 0.0
        return round(count * (1 - share))

    @property
    def remark(self) -> str:
        """What was decided that a user may not expect, "" for nothing."""
        cut = ""
        if self.early and self.failed:
            cut = f"{self.early} packets before the first key frame cannot be decoded"
        return "; ".join(filter(None, (self._several, cut, self.clock.remark)))

    def _choose(self, looks: list[tracks.TrackProbe]) -> tracks.TrackProbe:
        """Returns the first track that is a film."""
        by_index, size = {look.stream.index: look for look in looks}, 0
        for packet in self._source:
            self._held.append(packet)
            by_index[packet.stream.index].add(packet)
            size += packet.size
            if found := tracks.certain_choice(looks):
                return found
            if len(self._held) >= LOOK or size >= LOOK_BYTES:
                break
        return tracks.likeliest_choice(looks)

    def _demuxed(self, streams: list[Any]) -> Iterator[Any]:
        """Yields packets that hold something, until the end or a failure."""
        for packet in demux_packets(self.container, streams, self._breaks):
            # AVI stores an empty packet for a dropped frame. A decoder would take it
            # for the end.
            if packet.size:
                yield packet
            else:
                self.empty[packet.stream.index] += packet.dts is not None

    def _breaks(self, why: str) -> None:
        self.broken = why

    def _packets(self) -> Iterator[Any]:
        """Yields the film's packets: those that were looked at, then the others."""
        held, self._held = self._held, []
        for part in (held, self._source):
            for packet in part:
                if packet.stream.index == self.stream.index:
                    yield packet

    def _whole(self, packets: Iterator[Any]) -> Iterator[Any]:
        """Yields packets that a decoder takes, and notes what is lost between them.

        A sample without a picture goes in front of the next one, where the standards
        have it: alone, it would be an error, which costs pictures at the end.
        """
        before: list[Any] = []
        suspect, last = 0, None
        step = 1.5 / float((self.rate or ASSUMED) * self.stream.time_base)
        for packet in packets:
            self.packets += 1
            self._keyed = self._keyed or packet.is_keyframe
            self.early += not self._keyed
            self.position = (packet.pos or 0) + packet.size or self.position

            # A stream's own count of packets also breaks where recordings were joined.
            # Pictures are lost only where time jumps, too.
            jump = 0 if None in (packet.dts, last) else packet.dts - last
            last = packet.dts
            suspect = NEAR_GAP if packet.is_corrupt else max(suspect - 1, 0)
            if suspect and jump > step:
                self.lost, suspect = self.lost + 1, 0

            holds = self._holds_picture(packet)
            self.pictureless += not holds
            if not holds and len(before) < LOOK:
                before.append(packet)
                continue
            if before and packet.is_discard:  # which a new packet can't be
                self._hidden.add(packet.pts)
            yield join_packets(before, packet)
            before = []
        self.lost += suspect > 0  # the file ends within a packet

    def _stamped(self) -> Iterator[tuple[Any, int | None]]:
        """Yields the frames that are shown, and their stamps."""
        for packet in itertools.chain(self._whole(self._packets()), [None]):
            for frame in self._decode(packet):
                if frame.pts in self._hidden:
                    self._hidden.discard(frame.pts)
                    continue
                stamp, begin = self.clock.stamp(frame), self._begin
                if begin is not None and stamp is not None and stamp < begin:
                    continue
                self._keyed = True
                yield frame, stamp

    def _timed(
        self, frame: Any, stamp: int | None, following: int | None = None
    ) -> Any:
        """Returns the next frame after a tick of the clock."""
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
        for frame in decoded:
            changed = None if self._fixed else self.stream.codec_context
            aspect = fraction(changed.sample_aspect_ratio) if changed else None
            self._matrix = read_display_matrix(frame) or self._matrix
            frame.opaque = FrameGeometry(
                valid_aspect(aspect or self._aspect), self._matrix
            )
            yield frame


def unexpected_error(name: str | pathlib.Path, error: Exception) -> InputError:
    """Returns the error of a file that fails as no file should."""
    return InputError(
        f"{name}: can't be read as a video ({type(error).__name__}: {error}); convert "
        "it to H.264 in mp4, for example with ffmpeg"
    )


def no_frame_error(name: str | pathlib.Path, damage: str) -> InputError:
    """Returns the error of a file without a frame that can be decoded."""
    cause = f" ({damage})" if damage else ""
    return InputError(
        f"{name}: not one frame can be decoded{cause}; expected a video that FFmpeg "
        "can decode"
    )


def _not_a_video(path: pathlib.Path, why: str) -> InputError:
    return InputError(
        f"{path}: can't be read as a video ({why}); expected a whole mp4, "
        "avi, mkv or other file that FFmpeg knows"
    )
