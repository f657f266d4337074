"""Base and novel classes of open-vocabulary papers, and their published numbers.

The splits are those of Wu et al., CVPR 2024, https://arxiv.org/abs/2311.07042. Their
lists of classes stand in a supplement that we could not read. What we could verify:

- UCF-Crime: a public reimplementation of the paper lists these base and novel classes.
  They have 51 and 89 of the 140 abnormal test videos. Every accuracy that the paper and
  Anomize (Li et al., CVPR 2025, https://arxiv.org/abs/2503.18094) print for base and novel
  classes is a whole number of 51 and of 89 videos, as 25 / 51 = 49.02 %. Other classes
  with the same counts are possible.
- XD-Violence: the paper leaves out videos of several classes, after which 453 abnormal
  test videos remain. The printed accuracies are whole numbers of 262 and 191 of them.
  B1, B2 and B6 have 262: fighting 107, shooting 62, car accidents 93. No other classes
  do.

`tests/datasets/test_open_vocabulary_splits.py` repeats this arithmetic.
"""

import dataclasses
from collections.abc import Mapping

from wsvad_jax.data.cards import Card
from wsvad_jax.datasets import registry

OVVAD = "https://arxiv.org/abs/2311.07042"  # Wu et al., CVPR 2024, Tables 1, 2 and 7
ANOMIZE = "https://arxiv.org/abs/2503.18094"  # Li et al., CVPR 2025, Tables 1 and 2


@dataclasses.dataclass(frozen=True)
class PublishedGroups:
    """Published numbers of a model in %, over all, base and novel classes."""

    model: str
    source: str
    values: Mapping[str, tuple[float, float, float]]  # metric → all, base, novel


@dataclasses.dataclass(frozen=True)
class BaseSplit:
    """Base classes of a dataset; the other anomaly classes are novel."""

    base: tuple[str, ...]
    source: str
    test_videos: tuple[int, int] | None = None  # abnormal, of base and novel classes
    published: tuple[PublishedGroups, ...] = ()


SPLITS: Mapping[str, BaseSplit] = {
    "ucf": BaseSplit(
        (
            *("Abuse", "Assault", "Burglary"),
            *("RoadAccidents", "Robbery", "Stealing"),
        ),
        f"{OVVAD}, by a reimplementation and the printed accuracies",
        (51, 89),
        (
            PublishedGroups(
                "OVVAD",
                OVVAD,
                {"auc": (86.40, 93.80, 88.20), "top1": (41.43, 49.02, 37.08)},
            ),
            PublishedGroups(
                "Anomize",
                ANOMIZE,
                {"auc": (84.49, 93.00, 87.05), "top1": (47.14, 56.86, 41.57)},
            ),
            PublishedGroups("RTFM", OVVAD, {"auc": (84.47, 92.54, 85.87)}),
            PublishedGroups("MIL ranking", OVVAD, {"auc": (78.25, 86.31, 80.12)}),
        ),
    ),
    "xd": BaseSplit(
        ("B1", "B2", "B6"),
        f"{OVVAD}, by the printed accuracies",
        (262, 191),
        (
            PublishedGroups(
                "OVVAD",
                OVVAD,
                {"ap": (66.53, 57.10, 76.03), "top1": (64.68, 89.31, 30.90)},
            ),
            PublishedGroups(
                "Anomize",
                ANOMIZE,
                {"ap": (69.31, 57.37, 84.24), "top1": (90.29, 92.37, 87.43)},
            ),
            PublishedGroups("RTFM", OVVAD, {"ap": (58.99, 55.72, 65.97)}),
            PublishedGroups("MIL ranking", OVVAD, {"ap": (52.26, 51.25, 54.64)}),
        ),
    ),
    # A novel class that looks like a base class, and one that doesn't.
    "demo": BaseSplit(("Explosion", "RoadAccidents"), "ours"),
}


def find_split(card: Card) -> BaseSplit | None:
    """Returns the split of a dataset's card; None for a dataset without one."""
    return SPLITS.get(registry.recipe_name_of_card(card))
