"""Held-out check of calibrations: promised and observed alarms of random splits."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from wsvad_jax.detection.alarm_wish import AlarmWish
from wsvad_jax.metrics.alarm_rates import PERCENT, VIDEOS, BlockScores, Recording
from wsvad_jax.utils import text
from wsvad_jax.utils.errors import InputError


@dataclasses.dataclass(frozen=True)
class SplitRow:
    """Promised and observed alarms of one random split of the recordings.

    Rates are per hour, since the observed hours are few, or per 100 videos.
    """

    split: int
    threshold: float
    expected: float
    low: float  # limits of the rate of alarms in the part held out
    high: float
    rate_low: float  # limits of the rate in the long run
    rate_high: float
    held_out: BlockScores

    @property
    def alarms(self) -> int:
        """Alarms observed in the part held out."""
        return sum(score > self.threshold for score in self.held_out.maxima)

    @property
    def observed(self) -> float:
        return self.alarms * _per(self.held_out)

    @property
    def is_within(self) -> bool:
        """Whether the observed alarms are within the interval for their number."""
        return self.low <= self.observed <= self.high

    @property
    def is_within_rate(self) -> bool:
        """Whether they are within the interval of the rate, without their own chance."""
        return self.rate_low <= self.observed <= self.rate_high

    def as_dict(self) -> dict[str, int | float]:
        """Returns the values for JSON; the names of rates have their unit."""
        is_videos = self.held_out.seconds is None
        unit = f"per_{VIDEOS}_videos" if is_videos else "per_hour"
        rates = ("expected", "low", "high", "rate_low", "rate_high")
        return {
            "split": self.split,
            "threshold": self.threshold,
            **{f"{rate}_{unit}": getattr(self, rate) for rate in rates},
            "videos" if is_videos else "hours": self.held_out.size,
            "alarms": self.alarms,
        }


def _per(blocks: BlockScores) -> float:
    """Returns the rate, per hour or per 100 videos, of one alarm in these blocks."""
    return (VIDEOS if blocks.seconds is None else 1) / blocks.size


def split_rows(
    recordings: Sequence[Recording], wish: AlarmWish, splits: int
) -> list[SplitRow]:
    """Calibrates on one random half of the recordings, and observes the other.

    Args:
      recordings: ordinary recordings.
      wish: most false alarms per day or per 100 videos, and length of a block.
      splits: number of splits; split i has the random seed i.

    Raises:
      InputError: half of the recordings is too short for the wish.
    """
    rows = []
    for split in range(splits):
        order = np.random.default_rng(split).permutation(len(recordings)).tolist()
        half = len(order) // 2
        one, other = (
            BlockScores.of_recordings([recordings[i] for i in sorted(part)], wish.block)
            for part in (order[:half], order[half:])
        )
        try:
            threshold = one.threshold(wish.rate)
        except InputError as e:
            raise InputError(f"--check_splits, of half the recordings: {e}") from None

        # The promise for the part held out is one of a number of alarms.
        low, high = one.alarms_within(threshold, len(other.maxima))
        rate, per = one.rate_above(threshold), _per(other)
        unit = 1.0 if wish.block is None else 24.0
        rows.append(
            SplitRow(
                split,
                threshold,
                rate.expected / unit,
                low * per,
                high * per,
                rate.low / unit,
                rate.high / unit,
                other,
            )
        )
    return rows


def split_table(rows: Sequence[SplitRow]) -> list[str]:
    """Formats the splits as lines, with how many observations the promise held for."""
    if not rows:
        return []

    is_videos = rows[0].held_out.seconds is None
    unit, digits = (f"/{VIDEOS}", 1) if is_videos else ("/h", 2)
    head = [f"{name}{unit}" for name in ("expected", "promised", "observed")]
    cells = [
        [
            str(row.split),
            f"{row.threshold:.3f}",
            f"{row.expected:.{digits}f}",
            f"{row.low:.{digits}f} to {row.high:.{digits}f}",
            f"{row.observed:.{digits}f}",
            f"{row.alarms} in {row.held_out.amount}",
            "" if row.is_within else "outside",
        ]
        for row in rows
    ]

    # The promise for the part held out, and the interval that leaves out its chance.
    held = sum(row.is_within for row in rows)
    of_rate = sum(row.is_within_rate for row in rows)
    return [
        "",
        *text.aligned([["split", "threshold", *head, "alarms", ""], *cells]),
        "",
        (
            f"observed within the promised {PERCENT} interval for these "
            f"{'videos' if is_videos else 'hours'}: {held} of {len(rows)} splits; within "
            f"the interval of the rate alone: {of_rate}"
        ),
    ]
