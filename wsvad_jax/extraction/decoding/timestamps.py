"""Computes the presentation time of each frame, in seconds that never decrease.

A frame's time is its time stamp, counted from the container's start as in players. If
the stamp is missing, goes back, or is far ahead of both neighbours, the frame follows
the one before it. If all stamps are missing or equal, frames are counted at the stated
rate.
"""

import fractions
from typing import Any

LEAST_STEP = 5e-4  # seconds; stamps that are closer on average are useless
STUCK = 4  # repetitions of one stamp after which frames are counted
ASSUMED = 25.0  # frames per second without a stated rate, as in FFmpeg
LEAP = 0.1  # seconds ahead after which a stamp is checked against the next one
GAP = 10.0  # seconds without a frame that cause a remark
FASTEST = 1000.0  # frames per second; larger values are time units, not rates


class FrameClock:
    """The presentation time of the current frame."""

    def __init__(
        self, base: fractions.Fraction, start: float, rate: float, useless: str = ""
    ):
        """Starts before the first frame.

        Args:
          base: seconds per unit of the stamps.
          start: seconds at which the container starts.
          rate: stated frames per second, 0 unknown.
          useless: reason for ignoring stamps and counting frames; "" uses stamps.
        """
        self.base, self.start, self.useless = base, start, useless
        self.stated, self.rate = bool(rate), rate or ASSUMED
        self.frames = self.replaced = 0  # all frames; those with an unusable stamp
        self.gaps = 0.0  # seconds in which stamps jump ahead
        self.strays: list[float] = []  # seconds of stamps that were ignored
        self.reset()

    def reset(self) -> None:
        """Forgets earlier frames, for use after a seek."""
        self.seconds = self.end = 0.0
        self._first = True
        self._raw = 0.0  # seconds by the previous frame's stamp
        self._same = 0  # number of earlier frames with the same stamp
        self._last: dict[str, tuple[int, int]] = {}  # last two stamps
        self._faults = {"pts": 0, "dts": 0}

    def stamp(self, frame: Any) -> int | None:
        """Returns the more reliable stamp of an `av.VideoFrame`; call it per frame.

        This is the presentation stamp, or the decoding stamp if the former is missing
        or advances less reliably. The ffmpeg program chooses in the same way.
        """
        for name, value in (("pts", frame.pts), ("dts", frame.dts)):
            if value is not None:
                before, last = self._last.get(name, (value - 1, value - 1))
                # A single stray stamp before this one is no fault of this one.
                stray = before < value and (last - before) * self.base > LEAP
                self._faults[name] += value <= last and not stray
                self._last[name] = (last, value)

        if frame.pts is None or frame.dts is None:
            return frame.dts if frame.pts is None else frame.pts
        better = self._faults["pts"] <= self._faults["dts"]
        return frame.pts if better else frame.dts

    def leaps(self, stamp: int | None) -> bool:
        """Returns whether a stamp is so far ahead that the next one must confirm it."""
        if self.useless or stamp is None:
            return False
        return self._seconds(stamp) - self.start - self.end > LEAP

    def tick(
        self, stamp: int | None, duration: int | None, following: int | None = None
    ) -> None:
        """Advances to the next frame.

        Args:
          stamp: stamp of the frame, in units of `base`.
          duration: display duration of the frame, in the same units.
          following: stamp of the frame after it, if this one `leaps`.
        """
        leaps = stamp if self.leaps(stamp) else None
        if leaps is not None and following is not None and following < leaps:
            self.strays.append(self._seconds(leaps) - self.start)
            stamp = None  # a single stamp far ahead is wrong

        # Without a stated rate or duration, a frame's end is unknown.
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
        """Returns the stamp's time, or the end of the previous frame as a substitute."""
        raw = None
        if stamp is not None:
            raw = self._seconds(stamp)
            near = not self._first and abs(raw - self._raw) < LEAST_STEP
            self._raw, self._same = raw, self._same + 1 if near else 0

        # A usable stamp: it doesn't go back, and isn't repeated too often.
        if raw is not None and self._same < STUCK:
            time = raw - self.start
            if self._first or time >= self.seconds:
                jump = 0.0 if self._first else time - self.end
                self.gaps += jump if jump > GAP else 0.0
                return time

        self.replaced += 1
        # The first frames with a repeated stamp counted as duplicates; make up for it.
        late = (STUCK - 1) * step if self._same == STUCK else 0.0
        return self.end + late

    @property
    def remark(self) -> str:
        """Sentence about unusable stamps, "" if there are none."""
        if self.useless:
            stated = "the stated" if self.stated else "an assumed"
            return (
                f"{self.useless}, so frames are counted at {stated} {self.rate:g} per "
                "second"
            )
        if self.replaced > max(0.01 * self.frames, STUCK):
            return (
                f"{self.replaced} of {self.frames} time stamps are missing or do not "
                "advance; those frames follow the one before at the video's rate"
            )
        if self.strays:
            return (
                f"{len(self.strays)} of {self.frames} time stamps are far ahead of those "
                "around them; those frames follow the one before at the video's rate"
            )
        if self.gaps:
            return (
                f"time stamps jump ahead by {self.gaps:.1f} s in all, as in joined "
                "recordings; the frame before each jump counts as shown meanwhile"
            )
        return ""


def stated_rate(stream: Any, *, counted: bool) -> float:
    """Returns the frames per second that a track states, 0 unknown.

    Args:
      stream: video stream of `av`.
      counted: whether its stamps are useless. The average rate is derived from them,
        so the codec's rate is preferred then.
    """
    codec = getattr(stream.codec_context, "framerate", None)
    guessed = getattr(stream, "guessed_rate", None)
    rates = [stream.average_rate, guessed, codec, stream.base_rate]
    if counted:
        rates = [codec, guessed, stream.average_rate, stream.base_rate]
    valid = [float(rate) for rate in rates if rate and 0 < rate <= FASTEST]
    return valid[0] if valid else 0.0
