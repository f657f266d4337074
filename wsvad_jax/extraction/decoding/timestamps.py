"""When each frame of a film is shown: seconds that never go back.

A frame's time is its time stamp, counted from the container's start, as players do. A
frame whose stamp is missing or goes back follows the frame before it, and so does one
whose stamp alone is far ahead. Where stamps are missing or equal throughout, frames are
counted at the rate that the film states.
"""

import fractions
from typing import Any

LEAST_STEP = 5e-4  # seconds; stamps that are closer on average say nothing
STUCK = 4  # further frames of one stamp, from which on frames are counted
ASSUMED = 25.0  # frames per second where no rate is stated, as FFmpeg assumes
LEAP = 0.1  # seconds ahead, from which on the next stamp tells whether one is right
GAP = 10.0  # seconds without a frame that are worth a remark
FASTEST = 1000.0  # frames per second; what is faster is a unit of time and no rate


class FrameClock:
    """The time of the frame that came last."""

    def __init__(
        self, base: fractions.Fraction, start: float, rate: float, useless: str = ""
    ):
        """Stands at the beginning.

        Args:
          base: seconds per unit of the stamps.
          start: seconds at which the container starts.
          rate: frames per second, 0 unknown.
          useless: why stamps are ignored and frames are counted, "" if they are not.
        """
        self.base, self.start, self.useless = base, start, useless
        self.stated, self.rate = bool(rate), rate or ASSUMED
        self.frames = self.replaced = 0  # all; those whose stamp was of no use
        self.gaps = 0.0  # seconds in which stamps jump ahead
        self.strays: list[float] = []  # seconds by stamps that were passed over
        self.reset()

    def reset(self) -> None:
        """Forgets the frames before, as after a seek."""
        self.seconds = self.end = 0.0
        self._first = True
        self._raw = 0.0  # seconds by the stamp of the frame before
        self._same = 0  # frames before with the same stamp
        self._last: dict[str, tuple[int, int]] = {}  # two stamps before
        self._faults = {"pts": 0, "dts": 0}

    def stamp(self, frame: Any) -> int | None:
        """Returns the better time stamp of an `av.VideoFrame`; to be called for each.

        That of presentation, or of decoding where it is missing or advances more
        reliably, as the ffmpeg program chooses.
        """
        for name, value in (("pts", frame.pts), ("dts", frame.dts)):
            if value is not None:
                before, last = self._last.get(name, (value - 1, value - 1))
                # The fault is not this stamp's if only the one before it was astray.
                stray = before < value and (last - before) * self.base > LEAP
                self._faults[name] += value <= last and not stray
                self._last[name] = (last, value)
        if frame.pts is None or frame.dts is None:
            return frame.dts if frame.pts is None else frame.pts
        better = self._faults["pts"] <= self._faults["dts"]
        return frame.pts if better else frame.dts

    def leaps(self, stamp: int | None) -> bool:
        """Tells whether the stamp after this one has to be known, too."""
        if self.useless or stamp is None:
            return False
        return self._seconds(stamp) - self.start - self.end > LEAP

    def tick(
        self, stamp: int | None, duration: int | None, following: int | None = None
    ) -> None:
        """Takes the next frame.

        Args:
          stamp: its stamp, in units of `base`.
          duration: how long it is shown, in the same units.
          following: stamp of the frame after it, where this one `leaps`.
        """
        leaps = stamp if self.leaps(stamp) else None
        if leaps is not None and following is not None and following < leaps:
            self.strays.append(self._seconds(leaps) - self.start)
            stamp = None  # being alone, it is wrong
        step = 1 / self.rate if self.stated or self.useless else 0.0
        if self.useless:
            self.seconds = self.frames / self.rate
        else:
            if duration and duration > 0:
                step = float(duration * self.base)
            self.seconds = max(self._time(stamp, step), 0.0)
        self._first = False
        self.frames += 1
        self.end = self.seconds + step

    def _seconds(self, stamp: int) -> float:
        return float(stamp) * self.base.numerator / self.base.denominator

    def _time(self, stamp: int | None, step: float) -> float:
        """Returns the stamp's time, or a made up one that follows the frame before."""
        raw = None
        if stamp is not None:
            raw = self._seconds(stamp)
            near = not self._first and abs(raw - self._raw) < LEAST_STEP
            self._raw, self._same = raw, self._same + 1 if near else 0
        if raw is not None and self._same < STUCK:
            time = raw - self.start
            if self._first or time >= self.seconds:
                jump = 0.0 if self._first else time - self.end
                self.gaps += jump if jump > GAP else 0.0
                return time
        self.replaced += 1
        # The first frames of one stamp could have been duplicates.
        late = (STUCK - 1) * step if self._same == STUCK else 0.0
        return self.end + late

    @property
    def remark(self) -> str:
        """What was done about stamps of no use, "" for nothing."""
        if self.useless:
            stated = "the stated" if self.stated else "an assumed"
            return (
                f"{self.useless}, so frames are counted at {stated} {self.rate:g} per "
                "second"
            )
        if self.replaced > max(0.01 * self.frames, STUCK):
            return (
                f"{self.replaced} of {self.frames} time stamps are missing or do not "
                "advance; those frames follow the one before at the film's rate"
            )
        if self.strays:
            return (
                f"{len(self.strays)} of {self.frames} time stamps are far ahead of those "
                "around them; those frames follow the one before at the film's rate"
            )
        if self.gaps:
            return (
                f"time stamps jump ahead by {self.gaps:.1f} s in all, as in recordings that "
                "were joined; the frame before counts as shown meanwhile"
            )
        return ""


def stated_rate(stream: Any, *, counted: bool) -> float:
    """Returns the frames per second that a track states, 0 unknown.

    Args:
      stream: a video stream of `av`.
      counted: whether its stamps say nothing. The average rate is made of them, so
        that the codec's comes first.
    """
    codec = getattr(stream.codec_context, "framerate", None)
    guessed = getattr(stream, "guessed_rate", None)
    rates = [stream.average_rate, guessed, codec, stream.base_rate]
    if counted:
        rates = [codec, guessed, stream.average_rate, stream.base_rate]
    good = [float(rate) for rate in rates if rate and 0 < rate <= FASTEST]
    return good[0] if good else 0.0
