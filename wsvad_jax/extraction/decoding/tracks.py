"""Chooses a container's main video track: the first one that moves.

Tracks marked as pictures (cover art, thumbnails) are never chosen. A still track is
chosen only if there is no other: it has one picture, or pictures in a still format less
than once per second. This equals the ffmpeg program's `-map 0:V:0`, except for still
tracks that aren't marked.
"""

import pathlib
from typing import Any

from wsvad_jax.extraction.decoding.timestamps import LEAST_STEP
from wsvad_jax.utils.errors import InputError

LONE = 2.0  # seconds of another track that show this one to be a single picture
PICTURES = ("apng", "bmp", "gif", "jpeg2000", "jpegls", "mjpeg", "png", "ppm", "targa",
            "tiff", "webp")  # fmt: skip


class TrackProbe:
    """Statistics of a track's first packets."""

    def __init__(self, stream: Any):
        """Starts without packets; `stream` is a video stream of `av`."""
        self.stream = stream
        self.count = 0
        self.times: list[float] = []  # seconds of packets with a time stamp

    def add(self, packet: Any) -> None:
        """Counts the next packet."""
        self.count += 1
        if (value := stamp(packet)) is not None:
            self.times.append(float(value * self.stream.time_base))

    @property
    def span(self) -> float:
        """Seconds from the first picture to the last."""
        return max(self.times) - min(self.times) if self.times else 0.0

    @property
    def step(self) -> float:
        """Mean seconds between pictures."""
        return self.span / max(self.count - 1, 1)

    @property
    def useless(self) -> str:
        """Reason why the time stamps are useless, "" if they are usable."""
        if self.count < 2 or self.step >= LEAST_STEP:
            return ""
        return "time stamps do not advance" if self.times else "no time stamps"

    @property
    def still(self) -> bool:
        """Whether the packets so far are single pictures rather than a video."""
        slow = self.codec in PICTURES and self.step > 1.0
        return self.count < 2 or slow

    @property
    def later(self) -> bool:
        """Whether the container announces a video without any packet so far."""
        if self.count or self.codec in PICTURES or self.stream.frames == 1:
            return False
        tagged = parse_duration(self.stream.metadata.get("DURATION", ""))
        return bool(self.stream.frames or self.stream.duration or tagged)

    @property
    def codec(self) -> str:
        return self.stream.codec_context.name


def stamp(packet: Any) -> int | None:
    """Returns a packet's presentation stamp, or its decoding stamp without one."""
    return packet.dts if packet.pts is None else packet.pts


def candidates(container: Any, name: str | pathlib.Path) -> list[Any]:
    """Returns the video tracks that are not marked as pictures.

    Raises:
      InputError: there is no such track, or none that can be decoded.
    """
    from av.stream import Disposition

    marked = Disposition.attached_pic | Disposition.timed_thumbnails
    marked |= getattr(Disposition, "still_image", marked)

    videos = container.streams.video
    moving = [s for s in videos if not s.disposition & marked]
    if not moving:
        raise _no_video(
            name, "only a picture beside the sound" if videos else "sound only?"
        )

    # FFmpeg lists streams of codecs that it can't decode, too.
    known = [s for s in moving if s.codec_context is not None]
    if not known:
        raise InputError(
            f"{name}: this FFmpeg has no decoder for the video stream; convert the "
            "file to H.264"
        )
    return known


def certain_choice(probes: list[TrackProbe]) -> TrackProbe | None:
    """Returns the main track once the packets so far leave no doubt, else None."""
    for i, probe in enumerate(probes):
        alone = len(probes) == 1  # chosen at any rate of pictures
        if probe.count < 2 or probe.useless or (probe.still and not alone):
            continue
        # An earlier track may still begin, or show its second picture.
        if all(_outlasted(before, probe) for before in probes[:i]):
            return probe
    return None


def _outlasted(before: TrackProbe, probe: TrackProbe) -> bool:
    """Returns whether a track ran long enough after an earlier track's picture."""
    if not before.count:
        return False
    since = min(before.times or probe.times)
    return probe.span >= LONE and max(probe.times) - since >= LONE


def likeliest_choice(probes: list[TrackProbe]) -> TrackProbe:
    """Returns the best guess when no more packets are read."""
    moving = [probe for probe in probes if not probe.still or probe.later]
    several = [probe for probe in probes if probe.count > 1]
    some = [probe for probe in probes if probe.count]
    return (moving or several or some or probes)[0]


def describe_other_videos(chosen: TrackProbe, probes: list[TrackProbe]) -> str:
    """Returns a sentence about the chosen track of several, "" if there is one."""
    others = [
        probe
        for probe in probes
        if probe is not chosen
        and probe.stream.frames != 1
        and probe.codec not in PICTURES
    ]
    if not others:
        return ""

    context = chosen.stream.codec_context
    number = 1 + sum(other.stream.index < chosen.stream.index for other in others)
    which = "the first" if number == 1 else f"number {number}"
    return (
        f"the file has {1 + len(others)} video tracks; {which} is read, of "
        f"{context.width} x {context.height} pixels"
    )


def check_moving(probe: TrackProbe, container: Any, name: str | pathlib.Path) -> None:
    """Raises InputError for a picture file, or for sound with a picture."""
    if probe.count > 1 or probe.codec not in PICTURES:
        return
    if container.streams.audio:
        raise _no_video(name, "only a picture beside the sound")
    if container.format.name.endswith("_pipe") or container.format.name == "image2":
        raise _no_video(name, f"it is a picture, {probe.codec}")


def _no_video(name: str | pathlib.Path, what: str) -> InputError:
    return InputError(f"{name}: has no video stream ({what}); expected a video file")


def parse_duration(text: str) -> float:
    """Returns the seconds of a tag such as 00:01:02.500000000, 0 if it is malformed."""
    try:
        hours, minutes, seconds = map(float, text.split(":"))
    except ValueError:
        return 0.0
    return 3600 * hours + 60 * minutes + seconds
