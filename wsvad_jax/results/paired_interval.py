"""Intervals of differences between two conditions, on the same test videos and seeds.

Both conditions are scored on the same resamples of the test videos. A seed's interval
comes from the videos alone. The interval over seeds draws the seeds with replacement,
too, so it also holds the variation of training.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from wsvad_jax.results.seeds import LEVEL, SEED, percentile_interval
from wsvad_jax.utils.text import mean_and_std

METHOD = (
    "percentile interval of the paired difference; test videos are resampled, "
    "stratified by abnormality, the same ones for both conditions and all seeds; the "
    "interval over seeds resamples the seeds, too"
)


@dataclasses.dataclass(frozen=True)
class PairedDifference:
    """Difference of a metric between two conditions, as fractions."""

    mean: float | None  # over the seeds
    interval: list[float] | None  # of the mean; None where undefined
    seeds: list[float | None]  # difference of each seed
    seed_intervals: list[list[float] | None]

    @property
    def is_clear(self) -> bool:
        """Whether the interval over seeds leaves out 0."""
        return self.interval is not None and not (
            self.interval[0] <= 0 <= self.interval[1]
        )


def paired_difference(
    changed: Float[np.ndarray, "S R"],
    base: Float[np.ndarray, "S R"],
    *,
    level: float = LEVEL,
    seed: int = SEED,
) -> PairedDifference:
    """Compares a metric of two conditions.

    Column 0 holds the values on the test set as it is, the others those on resamples.

    Args:
      changed: values of one condition by seed and resample; NaN where undefined.
      base: values of the condition that it is compared with, in the same order.
      level: level of the intervals.
      seed: seed of the draws of seeds.
    """
    difference = changed - base
    own, resamples = difference[:, 0], difference[:, 1:]

    # Each resample draws as many seeds as there are, with replacement.
    S, R = resamples.shape
    drawn = np.random.default_rng(seed).integers(S, size=(S, R))
    means = np.take_along_axis(resamples, drawn, axis=0).mean(0)

    seeds = [float(d) if np.isfinite(d) else None for d in own]
    return PairedDifference(
        mean=mean_and_std(seeds)[0],
        interval=percentile_interval(means, level),
        seeds=seeds,
        seed_intervals=[percentile_interval(row, level) for row in resamples],
    )
