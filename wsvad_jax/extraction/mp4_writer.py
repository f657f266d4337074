"""Writes mp4 files from packets as they are, or from frames that are encoded as H.264."""

import contextlib
import dataclasses
import fractions
import heapq
import pathlib
from typing import Any

from wsvad_jax.extraction.decoding.packets import ffmpeg_reason
from wsvad_jax.extraction.decoding.picture import (
    display_matrix,
    pixel_aspect,
    to_display_rgb,
)
from wsvad_jax.extraction.decoding.reader import fraction
from wsvad_jax.utils.errors import InputError

# Codecs whose packets mp4 holds, and that its players know.
COPIED_VIDEO = ("av1", "h264", "hevc", "mjpeg", "mpeg1video", "mpeg2video", "mpeg4",
                "vp9")  # fmt: skip
COPIED_SOUND = ("aac", "ac3", "alac", "eac3", "flac", "mp2", "mp3", "opus")
ENCODERS = ("libx264", "libopenh264")  # FFmpeg may be built without either
QUALITY = {"crf": "20", "preset": "veryfast"}
BASE = fractions.Fraction(1, 90000)  # seconds per unit of encoded frames' stamps
DELAY = 16  # most frames by which H.264 and H.265 reorder


@dataclasses.dataclass(frozen=True, slots=True)
class StoredPacket:
    """A packet that outlives its container."""

    data: bytes
    pts: int | None
    dts: int | None
    duration: int
    base: fractions.Fraction  # seconds per unit of the stamps
    is_video: bool  # else sound
    is_key: bool
    new_format: bool  # whether it brings new settings of the decoder

    @classmethod
    def of(cls, packet: Any, *, is_video: bool) -> "StoredPacket":
        """Copies an `av.Packet`."""
        has = getattr(packet, "has_sidedata", None)  # PyAV 17 and later
        return cls(
            bytes(packet),
            packet.pts,
            packet.dts,
            packet.duration or 0,
            fraction(packet.time_base),
            is_video,
            bool(packet.is_keyframe),
            bool(has and has("new_extradata")),
        )

    @property
    def stamp(self) -> int | None:
        """Presentation stamp, or the decoding stamp without one."""
        return self.dts if self.pts is None else self.pts


class NotCopyableError(Exception):
    """Packets that an mp4 file can't hold as they are; the reason in words."""


def codec_name(stream: Any) -> str:
    """Returns a stream's codec, such as "av1"; "" where FFmpeg has no decoder."""
    context = stream.codec_context
    if context is None:
        return ""
    # The decoder's own name, such as libdav1d, may differ.
    return getattr(context.codec, "canonical_name", "") or context.name


def keep_tag(source: Any, stream: Any) -> None:
    """Gives a new stream the source's tag, which names the form of raw pictures."""
    with contextlib.suppress(ValueError, UnicodeError):
        stream.codec_context.codec_tag = source.codec_context.codec_tag


def sound_of(container: Any) -> tuple[Any, str]:
    """Returns the sound track that mp4 holds, or None, and a sentence on one left out."""
    tracks = container.streams.audio
    fitting = [track for track in tracks if codec_name(track) in COPIED_SOUND]
    if fitting or not tracks:
        return (fitting[0] if fitting else None), ""
    name = codec_name(tracks[0]) or "an unknown codec"
    return None, f"the sound ({name}) is left out, since mp4 players don't know it"


class PacketWriter:
    """Copies packets into an mp4 file that begins with a key frame.

    The display matrix and the pixel aspect are those of the source.
    """

    def __init__(
        self,
        path: pathlib.Path,
        video: Any,
        sound: Any,
        start: float,
        container: str = "mp4",
    ):
        """Opens the file.

        Args:
          path: file to write.
          video, sound: streams of the source, or copies of them; None is no sound.
          start: seconds of the source's stamps at which its time begins.
          container: format of the file, by FFmpeg's name.
        """
        self.container = open_for_writing(path, container)
        add = self.container.add_stream_from_template
        self.video: Any = add(video, opaque=True)
        if container != "mp4":
            keep_tag(video, self.video)
        self.sound: Any = None if sound is None else add(sound, opaque=True)
        self.start = fractions.Fraction(start)
        self.origin: fractions.Fraction | None = None  # of the file, by source stamps
        self.end = fractions.Fraction(0)  # end of the last picture, by source stamps
        self.order = DecodingStamps()
        self.sound_end: int | None = None
        self.count = 0  # pictures

    def write(self, packet: StoredPacket) -> None:
        """Copies a packet; sound before the first picture is left out.

        Raises:
          NotCopyableError: stamps are missing, or FFmpeg refuses the packet.
        """
        base, pts, dts = packet.base, packet.pts, packet.dts
        if not packet.is_video:
            if self.sound is None or pts is None or self.origin is None:
                return
            if pts * base < self.origin:
                return
            # Sound isn't reordered.
            if self.sound_end is not None and pts <= self.sound_end:
                return
            self.sound_end = dts = pts
        else:
            if pts is None:
                raise NotCopyableError("pictures have no presentation stamps")
            if packet.new_format:
                raise NotCopyableError("the video's format changes")
            if self.origin is None:
                # Pictures that the source hides before its start stay hidden.
                self.origin = max(pts * base, self.start)
            dts = self.order.next(pts, dts, packet.duration or 1)
            self.end = max(self.end, (pts + packet.duration) * base)
            self.count += 1

        shift = round(self.origin / base)
        self._mux(packet, pts - shift, dts - shift)

    @property
    def seconds(self) -> tuple[float, float]:
        """Where the file begins and ends, in seconds of the source."""
        origin = self.start if self.origin is None else self.origin
        return float(origin - self.start), float(max(self.end, origin) - self.start)

    def close(self) -> None:
        """Completes the file."""
        close_mp4(self.container)

    def _mux(self, packet: StoredPacket, pts: int, dts: int) -> None:
        import av
        import av.error

        copy = av.Packet(packet.data)
        copy.pts, copy.dts, copy.time_base = pts, dts, packet.base
        copy.duration, copy.is_keyframe = packet.duration, packet.is_key
        copy.stream = self.video if packet.is_video else self.sound
        try:
            self.container.mux(copy)
        except (av.error.FFmpegError, ValueError) as e:
            raise_if_disk(e)
            raise NotCopyableError(ffmpeg_reason(e)) from None


class DecodingStamps:
    """Decoding stamps that grow: those of the source, or derived where it has none."""

    def __init__(self):
        self.last: int | None = None
        self.derived: list[int] | None = None  # heap of presentation stamps

    def next(self, pts: int, dts: int | None, duration: int) -> int:
        """Returns the stamp of the next picture in decoding order.

        Args:
          pts, dts: stamps of the source.
          duration: units of time per picture.

        Raises:
          NotCopyableError: no stamp fits between the last one and `pts`.
        """
        if self.last is None and (dts is None or dts > pts):
            self.derived = [pts - i * duration for i in range(DELAY, 0, -1)]

        # The n-th picture is decoded when the n-th one is shown, or before.
        if self.derived is not None:
            dts = heapq.heappushpop(self.derived, pts)
        if self.last is not None and (dts is None or dts <= self.last):
            dts = self.last + 1
        if dts is None or dts > pts:
            raise NotCopyableError("the order of its time stamps is damaged")
        self.last = dts
        return dts


class FrameWriter:
    """Encodes frames as H.264 into an mp4 file, upright and with square pixels."""

    def __init__(
        self,
        path: pathlib.Path,
        sound: Any,
        begin: float,
        start: float,
        rate: float,
    ):
        """Opens the file; the first frame opens the encoder.

        Args:
          path: file to write.
          sound: sound track of the source, whose packets are copied; None for none.
          begin: seconds of the source at which the file begins.
          start: seconds at which the source's time begins, by its stamps.
          rate: frames per second, for the encoder's choice of bits.
        """
        self.container, self.video = open_for_writing(path), None
        self.begin, self.origin = begin, fractions.Fraction(begin + start)
        self.rate, self.last = rate or 25.0, -1
        self.sound = None
        if sound is not None:
            self.sound = self.container.add_stream_from_template(sound, opaque=True)
        self.sound_end = -1

    def write(self, frame: Any, seconds: float) -> None:
        """Encodes the next `av.VideoFrame`, shown from `seconds` of the source on.

        Raises:
          InputError: this FFmpeg has no encoder for H.264.
        """
        import av

        if display_matrix(frame) is not None or pixel_aspect(frame) != 1:
            frame = av.VideoFrame.from_ndarray(to_display_rgb(frame), format="rgb24")
        if self.video is None:
            self.video = self._stream(frame.width, frame.height)
        video = self.video

        # Chroma needs even sides; a frame of another size is scaled to the first one's.
        shown = frame.reformat(video.width, video.height, "yuv420p")
        self.last = max(round((seconds - self.begin) / BASE), self.last + 1)
        shown.pts, shown.time_base = self.last, BASE
        shown.pict_type = 0  # the encoder chooses its own key frames
        self._mux(video.encode(shown))

    def write_sound(self, packet: Any) -> None:
        """Copies a packet of sound."""
        import av

        copy = av.Packet(bytes(packet))
        pts = packet.pts - round(self.origin / fraction(packet.time_base))
        if self.sound is None or pts <= self.sound_end:
            return
        copy.pts = copy.dts = self.sound_end = pts
        copy.time_base, copy.duration = packet.time_base, packet.duration or 0
        copy.stream = self.sound
        self._mux([copy])

    def close(self) -> None:
        """Completes the file."""
        if self.video is not None:
            self._mux(self.video.encode())
        close_mp4(self.container)

    def _stream(self, width: int, height: int) -> Any:
        import av
        import av.error

        rate = fractions.Fraction(self.rate).limit_denominator(1001)
        for name in ENCODERS:
            try:
                stream: Any = self.container.add_stream(name, rate=rate)
            except (av.error.FFmpegError, ValueError):
                continue
            stream.width, stream.height = width + width % 2, height + height % 2
            stream.pix_fmt, stream.codec_context.time_base = "yuv420p", BASE
            stream.options = QUALITY if name == "libx264" else {}
            return stream
        raise InputError(
            f"this FFmpeg has no encoder for H.264 ({' or '.join(ENCODERS)}); install "
            "PyAV's own wheels: pip install --force-reinstall av"
        )

    def _mux(self, packets: Any) -> None:
        import av.error

        try:
            self.container.mux(packets)
        except av.error.FFmpegError as e:
            raise_if_disk(e)
            raise InputError(f"can't be encoded ({ffmpeg_reason(e)})") from None


def open_for_writing(path: pathlib.Path, container: str = "mp4") -> Any:
    """Opens a file; the index of an mp4 comes first, as browsers want it."""
    import av

    options = {"movflags": "faststart"} if container == "mp4" else {}
    return av.open(f"file:{path}", "w", format=container, options=options)


def close_mp4(container: Any) -> None:
    """Writes the index, and closes the file.

    Raises:
      NotCopyableError: FFmpeg can't complete the file.
      OSError: the disk is full, or fails.
    """
    import av.error

    try:
        container.close()
    except (av.error.FFmpegError, ValueError) as e:
        raise_if_disk(e)
        raise NotCopyableError(ffmpeg_reason(e)) from None


def raise_if_disk(error: Exception) -> None:
    """Raises OSError for an error of FFmpeg that is the disk's."""
    import errno

    number = getattr(error, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EROFS):
        raise OSError(number, ffmpeg_reason(error)) from None
