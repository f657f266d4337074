"""Which of a container's video tracks is the film.

It is the first one that moves. Tracks marked as pictures (cover art, thumbnails) never
are; a track of one picture, or of pictures in a still format less often than once per
second, is only where there is no other. This is the ffmpeg program's `-map 0:V:0`, but
for still tracks that nothing marks as such.
"""

import pathlib
from typing import Any

from wsvad_jax.extraction.decoding.timestamps import LEAST_STEP
from wsvad_jax.utils.errors import InputError

LONE = 2.0  # seconds of another track without a second picture of this one
PICTURES = ("apng", "bmp", "gif", "jpeg2000", "jpegls", "mjpeg", "png", "ppm", "targa",
            "tiff", "webp")  # fmt: skip


class TrackProbe:
    """What the first packets tell about a track."""

    def __init__(self, stream: Any):
        """Has seen nothing; `stream` is of `av`."""
        self.stream = stream
        self.count = 0
        self.times: list[float] = []  # seconds, where packets have a time stamp

    def add(self, packet: Any) -> None:
        """Takes the next packet."""
        self.count += 1
        if (found := stamp(packet)) is not None:
            self.times.append(float(found * self.stream.time_base))

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
        """Why the time stamps say nothing, "" if they do."""
        if self.count < 2 or self.step >= LEAST_STEP:
            return ""
        return "time stamps do not advance" if self.times else "no time stamps"

    @property
    def still(self) -> bool:
        """Whether these are single pictures rather than a film, as far as seen."""
        slow = self.codec in PICTURES and self.step > 1.0
        return self.count < 2 or slow

    @property
    def later(self) -> bool:
        """Whether a film is announced of which nothing has been seen yet."""
        if self.count or self.codec in PICTURES or self.stream.frames == 1:
            return False
        tagged = parse_duration(self.stream.metadata.get("DURATION", ""))
        return bool(self.stream.frames or self.stream.duration or tagged)

    @property
    def codec(self) -> str:
        return self.stream.codec_context.name


def stamp(packet: Any) -> int | None:
    """Returns a packet's time stamp, of presentation if it has one."""
    return packet.dts if packet.pts is None else packet.pts


def candidates(container: Any, name: str | pathlib.Path) -> list[Any]:
    """Returns the video tracks that are not marked as pictures.

    Raises:
      InputError: there are none, or none that can be decoded.
    """
    from av.stream import Disposition

    marked = Disposition.attached_pic | Disposition.timed_thumbnails
    marked |= getattr(Disposition, "still_image", marked)
    videos = container.streams.video
    films = [s for s in videos if not s.disposition & marked]
    if not films:
        raise _no_film(
            name, "only a picture beside the sound" if videos else "sound only?"
        )
    known = [s for s in films if s.codec_context is not None]
    if not known:
        raise InputError(
            f"{name}: this FFmpeg has no decoder for the video stream; convert the "
            "file to H.264"
        )
    return known


def certain_choice(looks: list[TrackProbe]) -> TrackProbe | None:
    """Returns the film as soon as the packets seen leave no doubt."""
    for i, look in enumerate(looks):
        alone = len(looks) == 1  # then it is the film at any pace
        if look.count < 2 or look.useless or (look.still and not alone):
            continue
        # Pictures of a track before it may only be late: the second, or all of them.
        if all(_outlasted(before, look) for before in looks[:i]):
            return look
    return None


def _outlasted(before: TrackProbe, look: TrackProbe) -> bool:
    """Whether a track lasts for long enough after a picture of one before it."""
    if not before.count:
        return False
    since = min(before.times or look.times)
    return look.span >= LONE and max(look.times) - since >= LONE


def likeliest_choice(looks: list[TrackProbe]) -> TrackProbe:
    """Returns the film when no more packets are looked at."""
    moving = [look for look in looks if not look.still or look.later]
    several = [look for look in looks if look.count > 1]
    some = [look for look in looks if look.count]
    return (moving or several or some or looks)[0]


def describe_other_videos(chosen: TrackProbe, looks: list[TrackProbe]) -> str:
    """Says which of several films was chosen, "" where there is one."""
    others = [
        look
        for look in looks
        if look is not chosen and look.stream.frames != 1 and look.codec not in PICTURES
    ]
    if not others:
        return ""
    context = chosen.stream.codec_context
    number = 1 + sum(other.stream.index < chosen.stream.index for other in others)
    which = "the first" if number == 1 else f"number {number}"
    return (
        f"the file has {1 + len(others)} films; {which} is read, of "
        f"{context.width} x {context.height} pixels"
    )


def check_moving(look: TrackProbe, container: Any, name: str | pathlib.Path) -> None:
    """Raises InputError for a picture file, or a picture that accompanies sound."""
    if look.count > 1 or look.codec not in PICTURES:
        return
    if container.streams.audio:
        raise _no_film(name, "only a picture beside the sound")
    if container.format.name.endswith("_pipe") or container.format.name == "image2":
        raise _no_film(name, f"it is a picture, {look.codec}")


def _no_film(name: str | pathlib.Path, what: str) -> InputError:
    return InputError(f"{name}: has no video stream ({what}); expected a video file")


def parse_duration(text: str) -> float:
    """Returns the seconds of a tag such as 00:01:02.500000000, 0 if it is none."""
    try:
        hours, minutes, seconds = map(float, text.split(":"))
    except ValueError:
        return 0.0
    return 3600 * hours + 60 * minutes + seconds
