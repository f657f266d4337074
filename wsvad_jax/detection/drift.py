"""Compares the alarms of recordings with those that a calibration promises for them.

Far more alarms than ordinary recordings have mean that much happened, or that the
recordings are unlike those of the calibration. Far fewer mean that events may be missed.
Files are compared together, live sources once a day and at their end.
"""

import dataclasses
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from wsvad_jax.metrics.alarm_rates import DAY, PERCENT, BlockScores, Recording
from wsvad_jax.utils import text

if TYPE_CHECKING:
    from wsvad_jax.detection.calibration import Calibration
    from wsvad_jax.detection.result import DetectionResult

LONGER = 1.5  # times the longest video of a calibration; noted beyond it


@dataclasses.dataclass(frozen=True)
class AlarmCount:
    """Alarms of recordings, and the number that as many ordinary ones have."""

    alarms: int
    low: int  # limits of the 95 % prediction interval
    high: int
    amount: str  # of the recordings, in words

    def __str__(self) -> str:
        """Words the count as "9 in 2.00 h; ordinary recordings have 0 to 5 (95 %)"."""
        ordinary = f"ordinary recordings have {self.low} to {self.high} ({PERCENT})"
        return f"{self.alarms} in {self.amount}; {ordinary}"

    def sentence(self) -> str:
        """Words what a count outside the interval means; "" inside."""
        if self.low <= self.alarms <= self.high:
            return ""
        found = f"{text.count(self.alarms, 'alarm')} in {self.amount}"
        ordinary = (
            f"ordinary recordings have {self.low} to {self.high} ({PERCENT} interval)"
        )
        if self.alarms > self.high:
            return (
                f"{found}, but {ordinary}: much happened, or these recordings are unlike "
                "those of the calibration; if nothing happened, calibrate again on "
                "recordings like these"
            )
        return (
            f"only {found}, but {ordinary}: these recordings are calmer than those of the "
            "calibration, so events may be missed; calibrate again on recordings like "
            "these"
        )


def count_alarms(
    calibration: "Calibration", results: Sequence["DetectionResult"]
) -> AlarmCount | None:
    """Counts the alarms of results as `calibrate` does; None if all are below one block.

    Args:
      calibration: calibration whose threshold the events are above.
      results: results of recordings, in the order of their time.
    """
    recordings = [
        Recording(
            result.name,
            float(result.edges[-1]) if len(result.edges) else 0.0,
            tuple((event.peak, event.score) for event in result.events),
        )
        for result in results
    ]

    found = BlockScores.of_recordings(recordings, calibration.blocks.seconds)
    return _compared(calibration, found)


def _compared(calibration: "Calibration", found: BlockScores) -> AlarmCount | None:
    """Returns the alarms of blocks; None without a block."""
    if not found.maxima:
        return None

    # Blocks without a counted event have the score 0, which may be the threshold.
    threshold = calibration.threshold
    alarms = sum(score > threshold for score in found.maxima)
    low, high = calibration.blocks.alarms_within(threshold, len(found.maxima))
    return AlarmCount(alarms, low, high, found.amount)


class LiveCount:
    """Counts the alarms of a live source, and compares them once a day.

    Its clock is the time that was scored, so that a lost camera doesn't seem calm.
    """

    def __init__(self, calibration: "Calibration", period: float = DAY):
        """Starts without a snippet.

        Args:
          calibration: calibration for `--live`, with blocks of time.
          period: seconds after which the alarms are compared.
        """
        self.calibration, self.period = calibration, period
        self.seconds = 0.0  # scored in this period
        self.scores: dict[int, float] = {}  # of the blocks with an alarm

    def add(self, seconds: float, scores: Iterable[float]) -> str:
        """Adds a snippet; returns a sentence on a finished period, or "".

        Args:
          seconds: length of the snippet.
          scores: scores of the events that it ends, all of which count.
        """
        block = int(self.seconds / (self.calibration.blocks.seconds or DAY))
        for score in scores:
            self.scores[block] = max(score, self.scores.get(block, 0.0))
        self.seconds += seconds
        return self.sentence() if self.seconds >= self.period else ""

    def sentence(self) -> str:
        """Returns a sentence on the period so far, or "", and begins another."""
        events = tuple(
            (block * (self.calibration.blocks.seconds or DAY), score)
            for block, score in self.scores.items()
        )
        source = Recording("live", self.seconds, events)
        found = BlockScores.of_recordings([source], self.calibration.blocks.seconds)
        self.seconds, self.scores = 0.0, {}
        count = _compared(self.calibration, found)
        return "" if count is None else count.sentence()


def alarms_shown(
    calibration: "Calibration | None", results: Sequence["DetectionResult"]
) -> dict[str, object]:
    """Returns the alarms of results beside those of ordinary recordings, for the report.

    Prints one sentence if they are far more or far fewer.

    Args:
      calibration: calibration of the model; without one, nothing is promised.
      results: results of recordings, in the order of their time.
    """
    count = None if calibration is None else count_alarms(calibration, results)
    if calibration is None or count is None:
        return {}

    shown: dict[str, object] = {"alarms": str(count)}
    found = [count.sentence(), longer_videos(calibration, results)]
    sentences = [sentence for sentence in found if sentence]
    for sentence in sentences:
        print(f"note: {sentence}", file=sys.stderr)
    if sentences:
        shown["drift"] = "; ".join(sentences)
    return shown


def longer_videos(
    calibration: "Calibration", results: Sequence["DetectionResult"]
) -> str:
    """Returns a sentence on videos that are much longer than the calibration's, or "".

    A rate per 100 videos doesn't hold for them. One per day does.

    Args:
      calibration: calibration of the model.
      results: results of recordings.
    """
    if calibration.longest is None:
        return ""
    ends = [float(r.edges[-1]) for r in results if len(r.edges)]
    longer = [end for end in ends if end > LONGER * calibration.longest]
    if not longer:
        return ""
    return (
        f"{text.count(len(longer), 'video')} of up to {max(longer):.1f} s, where the longest "
        f"of the calibration has {calibration.longest:.1f} s: longer videos have more false "
        "alarms than promised; calibrate again on videos of this length"
    )
