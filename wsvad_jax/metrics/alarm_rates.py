"""False-alarm rates and thresholds, from the scores of ordinary recordings.

Recordings are put end to end and cut into blocks of equal time. Separate videos, which
have no common time, are a block each. On ordinary recordings each event is a false alarm,
so a block's score is that of its highest event. A block raises an alarm at a threshold if
its score is above it; several events of one block are one alarm. Blocks are counted
instead of snippets, since neighbouring snippets have nearly the same score.

The threshold is a split-conformal quantile (Papadopoulos et al., ECML 2002; Lei et al.,
JASA 2018): if the blocks at use are exchangeable with the n recorded ones, a new block
is above the k + 1st highest of them with probability (k + 1) / (n + 1) at most. Intervals
of rates are those of Clopper and Pearson (Biometrika 1934).
"""

import dataclasses
import functools
import math
from collections.abc import Sequence

from wsvad_jax.utils.errors import InputError

DAY = 86_400.0  # seconds
VIDEOS = 100  # videos that a rate refers to where a block is a video
PER_DAY, PER_VIDEOS = "per day", f"per {VIDEOS} videos"  # units of rates
CONFIDENCE = 0.95  # of all intervals
PERCENT = f"{100 * CONFIDENCE:g} %"
ROUNDING = 1e-9  # part of a block that sums of seconds may miss


@dataclasses.dataclass(frozen=True)
class AlarmRate:
    """False alarms expected at one score, per day or per 100 videos."""

    expected: float  # an upper bound if `blocks` is 0
    low: float  # limits of the 95 % interval of the rate
    high: float
    blocks: int  # blocks of the ordinary recordings that raise an alarm
    unit: str = PER_DAY

    @property
    def key(self) -> str:
        """Name in JSON: `false_alarms_per_day` or `false_alarms_per_100_videos`."""
        return f"false_alarms_{self.unit.replace(' ', '_')}"

    def as_dict(self) -> dict[str, float]:
        """Returns the values for JSON; rates have three digits."""
        rates = {"expected": self.expected, "low": self.low, "high": self.high}
        rounded = {name: float(f"{rate:.3g}") for name, rate in rates.items()}
        return {**rounded, "blocks": self.blocks}

    def __str__(self) -> str:
        """Words the rate as "21.6 (95 % interval 2.63 to 76.9)"."""
        rates = (self.expected, self.low, self.high)
        expected, low, high = (f"{float(f'{rate:.3g}'):g}" for rate in rates)
        interval = f"({PERCENT} interval {low} to {high})"
        if self.blocks:
            return f"{expected} {interval}"
        # The expected rate is bounded, but 0 in the recordings doesn't mean never.
        return f"fewer than {expected}; none in the recordings {interval}"


@dataclasses.dataclass(frozen=True)
class Recording:
    """An ordinary recording: its length, and its events, all of them false alarms."""

    name: str
    seconds: float
    events: tuple[tuple[float, float], ...]  # (time of the peak, score)


@dataclasses.dataclass(frozen=True)
class BlockScores:
    """Scores of n blocks of ordinary recordings.

    Args:
      seconds: length of a block; None where each block is a video.
      maxima: score of each block's highest event, ascending; 0 without an event.
    """

    seconds: float | None
    maxima: tuple[float, ...]

    @classmethod
    def of_recordings(
        cls, recordings: Sequence[Recording], seconds: float | None
    ) -> "BlockScores":
        """Cuts recordings, put end to end, into blocks; a rest at the end is dropped.

        Args:
          recordings: ordinary recordings, in the order of their time.
          seconds: length of a block; None: each recording is one.
        """
        if seconds is None:
            highest = (max((s for _, s in r.events), default=0.0) for r in recordings)
            return cls(None, tuple(sorted(highest)))

        total = sum(recording.seconds for recording in recordings)
        maxima = [0.0] * math.floor(total / seconds + ROUNDING)

        # An event counts in the block of its peak.
        begin = 0.0
        for recording in recordings:
            for peak, score in recording.events:
                block = int((begin + peak) / seconds)
                if block < len(maxima):
                    maxima[block] = max(maxima[block], float(score))
            begin += recording.seconds
        return cls(seconds, tuple(sorted(maxima)))

    @property
    def unit(self) -> str:
        """Unit of rates: per day, or per 100 videos."""
        return PER_VIDEOS if self.seconds is None else PER_DAY

    @property
    def per_unit(self) -> float:
        """Number of blocks in a day; where each is a video, 100."""
        return float(VIDEOS) if self.seconds is None else DAY / self.seconds

    @property
    def size(self) -> float:
        """Hours of all blocks, or number of videos."""
        n = len(self.maxima)
        return float(n if self.seconds is None else n * self.seconds / 3600)

    @property
    def amount(self) -> str:
        """Words the size, as "2.25 h" or "120 videos"."""
        if self.seconds is None:
            return _count(len(self.maxima), "video")
        return f"{self.size:.2f} h"

    @property
    def block(self) -> str:
        """Words one block, as "block of 60 s" or "video"."""
        return "video" if self.seconds is None else f"block of {self.seconds:g} s"

    def threshold(self, wish: float) -> float:
        """Returns the score above which an event counts.

        Args:
          wish: most false alarms per day or per 100 videos, in expectation.

        Raises:
          InputError: `wish` is one or more per block, or too few for so little data.
        """
        if wish >= self.per_unit:
            other = "" if self.seconds is None else ", or shorter blocks"
            raise InputError(
                f"{wish:g} false alarms {self.unit} is one or more per {self.block}, "
                f"which counts as one alarm; expected fewer than {self.per_unit:g}{other}"
            )

        # A new block is above the k + 1st highest with probability (k + 1) / (n + 1).
        n = len(self.maxima)
        above = math.floor((n + 1) * wish / self.per_unit + ROUNDING) - 1
        if above < 0:
            raise InputError(self._refusal(wish))
        return self.maxima[n - 1 - above]

    def _refusal(self, wish: float) -> str:
        """Words why so few recordings can't support a wish, and what they support."""
        n = len(self.maxima)
        needed = math.ceil(self.per_unit / wish - ROUNDING) - 1

        if self.seconds is None:
            found, needs = _count(n, "ordinary video"), _count(needed, "video")
        else:
            found = f"{self.amount} of ordinary recordings ({n} blocks of {self.seconds:g} s)"
            needs = f"{needed * self.seconds / 3600:.1f} h"

        # Without a block, no wish is supported.
        supported = _rounded_up(self.per_unit / (n + 1))
        other = f", or wish for {supported:g} {self.unit} or more" if n else ""
        return (
            f"{found} can't support {wish:g} false "
            f"{'alarm' if wish == 1 else 'alarms'} {self.unit}: that needs "
            f"{needs}; record more{other}"
        )

    def rate_at(self, score: float) -> AlarmRate:
        """Returns the rate of alarms of at least a score."""
        return self._rate(sum(maximum >= float(score) for maximum in self.maxima))

    def rate_above(self, threshold: float) -> AlarmRate:
        """Returns the rate of alarms above a threshold."""
        return self._rate(self._above(threshold))

    def alarms_within(self, threshold: float, blocks: int) -> tuple[int, int]:
        """Returns the limits of the number of alarms in further blocks.

        It is a 95 % prediction interval: it has the uncertainty of the rate, and the
        chance of the further blocks themselves. If blocks are exchangeable, the number
        is distributed as a beta-binomial variable.

        Args:
          threshold: score above which an event counts.
          blocks: number of further blocks.
        """
        from scipy.stats import betabinom

        n, above = len(self.maxima), self._above(threshold)
        tail = (1 - CONFIDENCE) / 2
        low = betabinom.ppf(tail, blocks, above, n - above + 1) if above else 0
        high = blocks
        if above < n:
            high = betabinom.ppf(1 - tail, blocks, above + 1, n - above)
        return int(low), int(high)

    def _above(self, threshold: float) -> int:
        return sum(maximum > float(threshold) for maximum in self.maxima)

    def _rate(self, above: int) -> AlarmRate:
        n = len(self.maxima)
        low, high = _clopper_pearson(above, n)
        expected = (above + 1) / (n + 1)
        rates = (rate * self.per_unit for rate in (expected, low, high))
        return AlarmRate(*rates, blocks=above, unit=self.unit)


@functools.lru_cache(maxsize=4096)
def _clopper_pearson(k: int, n: int) -> tuple[float, float]:
    """Returns the interval of a probability, of k successes in n trials."""
    from scipy.stats import binomtest

    interval = binomtest(k, n).proportion_ci(CONFIDENCE, method="exact")
    return float(interval.low), float(interval.high)


def _rounded_up(rate: float) -> float:
    """Rounds to three digits, upwards, so that the result is supported, too."""
    step = 10.0 ** (math.floor(math.log10(rate)) - 2)
    return math.ceil(rate / step - ROUNDING) * step


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"
