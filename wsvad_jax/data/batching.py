"""Turns records into batches: resample, pack, order, gather.

A split is resampled to one length once (`pack` for training, `windows` for scoring) and
kept as a memory-mapped file beside its dataset. A batch is then a gather by index, on
the host (`gather`, `prefetch`) or on the device. The order of batches is a pure
function of (seed, epoch), so a run needs only its step to resume.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int, Int32

from wsvad_jax.data.packing import Packed, _random
from wsvad_jax.data.records import Batch
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.prefetch import prefetch


def holdout(
    label: Float[np.ndarray, "V C"], fraction: float, seed: int
) -> Bool[np.ndarray, "V"]:
    """Chooses validation videos, about `fraction` of each class.

    The class of a video is its first abnormal one. Fractional shares are rounded by
    largest remainder, so the total is exact. Of both normal and abnormal videos, at
    least one is held out and one remains. A pure function of its arguments.

    Raises:
      InputError: there are fewer than two normal or two abnormal videos.
    """
    if not 0 < fraction < 1:
        raise InputError(f"a held-out fraction of {fraction}: expected between 0 and 1")

    abnormal = label[:, 1:].max(1) > 0
    strata = np.where(abnormal, 1 + label[:, 1:].argmax(1), 0)

    out = np.zeros(len(label), bool)
    for side in (0, 1):
        rows = np.flatnonzero(abnormal == side)
        if len(rows) < 2:
            raise InputError(
                f"{len(rows)} {'abnormal' if side else 'normal'} training videos are "
                "too few to hold one out for selection; add videos, or train without "
                "a held-out part (select the last weights)"
            )

        # How many of each class: the floor of its share, then the largest remainders.
        total = min(max(round(fraction * len(rows)), 1), len(rows) - 1)
        classes, counts = np.unique(strata[rows], return_counts=True)
        share = total * counts / len(rows)
        take = np.floor(share).astype(int)
        order = np.argsort(take - share, kind="stable")  # largest remainder first
        take[order[: total - take.sum()]] += 1

        # A generator per class, so the choice doesn't depend on the other classes.
        for c, count in zip(classes, take, strict=True):
            members = rows[strata[rows] == c]
            out[_random(seed, int(c)).permutation(members)[:count]] = True

    return out


def epoch_order(
    is_normal: Bool[np.ndarray, "S"],
    batch_size: int,
    batch_sampling: str,
    seed: int,
    epoch: int,
) -> Int32[np.ndarray, "steps B"]:
    """Returns the samples of each step of an epoch, a pure function of (seed, epoch).

    No sample appears twice. Samples that don't fill a batch are left out of this epoch.

    Args:
      is_normal: True for normal samples.
      batch_size: samples per step B.
      batch_sampling: 'balanced' for B / 2 normal samples, then B / 2 abnormal ones,
        where the smaller side ends the epoch; 'uniform' for all samples together.
      seed: seed of the run.
      epoch: index of the epoch.

    Raises:
      InputError: the samples don't fill one batch, or B is odd with 'balanced'.
    """
    random = _random(seed, epoch)
    # Each side fills its share of every batch.
    if batch_sampling == "uniform":
        sides, share = [np.arange(len(is_normal))], batch_size
    elif batch_sampling == "balanced":
        sides = [np.flatnonzero(is_normal), np.flatnonzero(~is_normal)]
        share = batch_size // 2
        if batch_size % 2:
            raise InputError(
                f"batch_size {batch_size}: halves of normal and abnormal samples need "
                "an even number"
            )
    else:
        raise InputError(
            f"batch_sampling {batch_sampling!r}: expected 'balanced' or 'uniform'"
        )

    # The smaller side ends the epoch, so no sample is drawn twice.
    steps = min(len(side) for side in sides) // max(share, 1)
    if not steps or share < 1:
        found = " and ".join(str(len(side)) for side in sides)
        kinds = "normal and abnormal " if len(sides) == 2 else ""
        raise InputError(
            f"batch_size {batch_size} asks for {share} {kinds}training samples a step"
            f"{' each' if kinds else ''}, but there are {found}; choose a batch_size "
            "that they fill"
        )

    # A fresh permutation per epoch decides which samples are left out.
    parts = [random.permutation(side)[: steps * share] for side in sides]
    halves = [part.reshape(steps, share) for part in parts]
    return np.concatenate(halves, 1).astype(np.int32)


def gather(packed: Packed, rows: Int[np.ndarray, "B"]) -> Batch:
    """Gathers samples of a packed split into a batch on the host."""
    return Batch(
        features=np.asarray(packed.features[rows]),
        length=packed.length[rows],
        label=packed.label[rows],
        mask=np.ones(len(rows), bool),
    )


def batches(
    packed: Packed, order: Int[np.ndarray, "steps B"], start_step: int = 0
) -> Iterator[Batch]:
    """Gathers the batches of an epoch from `start_step` on, with prefetching."""
    return prefetch(gather(packed, rows) for rows in order[start_step:])
