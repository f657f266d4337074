"""Averages the curves of a model's test scores over its seeds."""

import dataclasses
import statistics
from collections.abc import Sequence
from typing import Any

from wsvad_jax.results.schema import read_curves
from wsvad_jax.results.seed_groups import SeedGroup

GRID = [i / 100 for i in range(101)]  # false positive rates, and recalls
KEYS = ("roc", "pr", "normal", "anomalous", "accuracy", "frames")
MIN_FRAMES = 50  # frames that a bin of the reliability diagram needs


@dataclasses.dataclass(frozen=True)
class MeanCurves:
    """Means over seeds of what `wsvad_jax.metrics.curves` returns; [] if undefined."""

    roc: list[float]  # true positive rate at each false positive rate of GRID
    pr: list[float]  # precision at each recall of GRID
    normal: list[float]  # fraction of the normal frames in each bin of the score
    anomalous: list[float]
    accuracy: list[float]  # fraction of anomalous frames in each bin of confidence
    frames: list[float]  # number of frames in each bin of confidence
    class_ap: dict[str, float | None]

    @property
    def has_ground_truth(self) -> bool:
        """Whether it is known which frames are anomalous.

        Older versions wrote histograms for unknown frames, so the ROC decides, too.
        """
        return bool(self.roc and self.accuracy)

    @property
    def reliability(self) -> tuple[list[float], list[float]]:
        """Middles of the well filled bins, and the fraction of anomalous frames."""
        used = [i for i, n in enumerate(self.frames) if n >= MIN_FRAMES]
        return [(i + 0.5) / 10 for i in used], [self.accuracy[i] for i in used]


def mean_curves(group: SeedGroup) -> MeanCurves | None:
    """Returns the means over the runs that have curves; None if no run has any.

    Raises:
      InputError: a curves.json has another shape.
    """
    paths = [run.curves_path for run in group.runs]
    curves = [read_curves(path) for path in paths if path.is_file()]
    if not curves:
        return None

    # A curve that is undefined for one seed is averaged over the others.
    means = {key: _column_means([c[key] for c in curves if c[key]]) for key in KEYS}
    return MeanCurves(class_ap=_mean_class_ap(curves), **means)


def _column_means(rows: Sequence[Sequence[Any]]) -> list[float]:
    return [statistics.fmean(column) for column in zip(*rows, strict=True)]


def _mean_class_ap(curves: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    seeds = [c["class_ap"] for c in curves if c["class_ap"]]
    means: dict[str, float | None] = {}
    for name in dict.fromkeys(name for ap in seeds for name in ap):
        # A class without test frames has no value.
        values = [v for ap in seeds if (v := ap.get(name)) is not None]
        means[name] = statistics.fmean(values) if values else None
    return means
