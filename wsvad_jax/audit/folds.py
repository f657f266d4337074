"""Divides training videos into cross-validation folds.

Each fold has about the same number of videos of each class, and videos that share
content are in one fold: a model must not be trained on a copy of what it judges.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

import numpy as np
from jaxtyping import Int

from wsvad_jax.data.packing import random_state
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.text import count

DEFAULT_FOLDS, MAX_FOLDS = 5, 50
STREAM = 7919  # of random numbers, so that folds don't follow the order of batches

Label = tuple[int, ...]  # class indices of a video; (0,) is normal


def is_abnormal(label: Label) -> bool:
    """Whether a label has an anomaly class."""
    return any(c > 0 for c in label)


def assign_folds(
    labels: Sequence[Label],
    groups: Iterable[Collection[int]],
    num_folds: int,
    seed: int,
) -> Int[np.ndarray, "V"]:
    """Returns the fold of each video, a pure function of the arguments.

    Args:
      labels: class indices of each video.
      groups: indices of videos that stay in one fold; others are on their own.
      num_folds: number of folds K.
      seed: seed of the random order.

    Raises:
      InputError: normal or abnormal videos can't be in every fold.
    """
    units = _units(len(labels), groups)
    _check_enough(labels, units, num_folds)

    # Large groups first, since a fold can't be evened out by them later.
    order = random_state(seed, STREAM).permutation(len(units)).tolist()
    order.sort(key=lambda i: -len(units[i]))
    strata = [_stratum(labels, unit) for unit in units]

    fold = np.zeros(len(labels), np.int64)
    in_stratum = [Counter() for _ in range(num_folds)]
    of_kind = [Counter() for _ in range(num_folds)]
    for i in sorted(order, key=lambda i: strata[i]):
        # The fold with the fewest of its class, then of normal or abnormal videos.
        stratum, kind = strata[i], strata[i] > 0
        f = min(
            range(num_folds),
            key=lambda f: (in_stratum[f][stratum], of_kind[f][kind], f),
        )
        fold[units[i]] = f
        in_stratum[f][stratum] += len(units[i])
        for video in units[i]:
            of_kind[f][is_abnormal(labels[video])] += 1

    _check_folds(labels, fold, num_folds)
    return fold


def _units(num_videos: int, groups: Iterable[Collection[int]]) -> list[list[int]]:
    """Returns groups and single videos, as sorted indices."""
    units = [sorted(group) for group in groups]
    grouped = {video for unit in units for video in unit}
    units += [[video] for video in range(num_videos) if video not in grouped]
    return sorted(units)


def _stratum(labels: Sequence[Label], unit: Sequence[int]) -> int:
    """Returns the most frequent class of a unit: its first anomaly class, or 0."""
    classes = Counter(next((c for c in labels[v] if c > 0), 0) for v in unit)
    return min(classes, key=lambda c: (-classes[c], c))


def _check_enough(
    labels: Sequence[Label], units: Sequence[Sequence[int]], num_folds: int
) -> None:
    if not 2 <= num_folds <= MAX_FOLDS:
        raise InputError(f"--folds is {num_folds}; expected 2 to {MAX_FOLDS}")

    for kind, name in ((False, "normal"), (True, "abnormal")):
        videos = sum(is_abnormal(label) == kind for label in labels)
        if not videos:
            raise InputError(
                f"no training video is labelled {name}; an audit compares normal and "
                "abnormal videos, so it needs both"
            )

        # Copies of one video count once.
        different = sum(any(is_abnormal(labels[v]) == kind for v in u) for u in units)
        if different < num_folds:
            alike = " that differ" if different < videos else ""
            fix = f"pass --folds {different}" if different > 1 else "add videos"
            raise InputError(
                f"{num_folds} folds need {num_folds} {name} training videos, but there "
                f"{'is' if different == 1 else 'are'} {different}{alike}; {fix}"
            )


def _check_folds(
    labels: Sequence[Label], fold: Int[np.ndarray, "V"], num_folds: int
) -> None:
    """Raises InputError unless each fold has both kinds; large groups may prevent it."""
    for f in range(num_folds):
        inside = [is_abnormal(labels[v]) for v in np.flatnonzero(fold == f).tolist()]
        for kind, name in ((False, "normal"), (True, "abnormal")):
            if kind not in inside:
                alike = count(len(labels), "training video")
                raise InputError(
                    f"too many of the {alike} are alike: one of {num_folds} folds has no "
                    f"{name} video; pass fewer --folds"
                )
