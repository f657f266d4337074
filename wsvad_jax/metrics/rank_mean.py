"""Scores of several runs on one test set, averaged as ranks.

A run's scores are replaced by their ranks among all snippets of the test set, the values
of their empirical distribution function. Ranks of different models have one scale, which
their scores don't. A rank depends on all other scores, so it exists for a whole test set
only, not for a single video or a stream.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from wsvad_jax.utils.errors import InputError

Curves = Sequence[Float[np.ndarray, "_"]]  # scores of each video's snippets


def mean_ranks(runs: Sequence[Curves], width: int = 1) -> list[np.ndarray]:
    """Returns the mean over the runs of their ranks, a curve in [0, 1] per video.

    Args:
      runs: each run's scores of the same videos, in the same order.
      width: snippets of the centred moving average over each video's mean ranks; 1
        leaves them as they are.

    Raises:
      InputError: the runs have other videos or snippets, or the width is no odd number.
    """
    lengths = {tuple(map(len, run)) for run in runs}
    if len(lengths) != 1:
        raise InputError(
            "the runs have scores of other videos or snippets; score all of them on one "
            "test set"
        )

    ranks = [cdf_ranks(run) for run in runs]
    return [smooth(np.mean(video, axis=0), width) for video in zip(*ranks, strict=True)]


def cdf_ranks(curves: Curves) -> list[Float[np.ndarray, "_"]]:
    """Returns each score's rank among all, (scores below + half of the equal ones) / N.

    Equal scores have equal ranks, so the ranks order snippets as the scores do.
    """
    scores = np.concatenate(curves)
    _, index, count = np.unique(scores, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - count / 2) / len(scores)

    ends = np.cumsum([len(c) for c in curves])
    return np.split(rank[index.ravel()], ends[:-1])


def smooth(curve: Float[np.ndarray, "T"], width: int) -> Float[np.ndarray, "T"]:
    """Returns the mean of `width` neighbours, at the ends of those that there are.

    Raises:
      InputError: the width is even, or less than 1.
    """
    if width < 1 or width % 2 == 0:
        raise InputError(
            f"a smoothing width of {width} snippets has no middle; pass an odd number "
            "such as 3"
        )
    if width == 1:
        return curve

    window = np.ones(width)
    reach = width // 2
    total, count = (
        np.convolve(x, window)[reach : reach + len(curve)]
        for x in (curve, np.ones(len(curve)))
    )
    return total / count
