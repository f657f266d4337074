"""Orders and gathers the batches of a packed training split.

`packing.pack_split` resamples the training split once, to a memory-mapped file beside
its dataset. A batch is then a gather by index, on the host (`gather`, `batches`) or on
the device. The order of batches is a pure function of (seed, epoch), so a run needs only
its step to resume.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int, Int32

from wsvad_jax.data.packing import Packed, random_state
from wsvad_jax.data.records import Batch
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.prefetch import prefetch


def held_out_mask(
    label: Float[np.ndarray, "V C"], fraction: float, seed: int
) -> Bool[np.ndarray, "V"]:
    """Chooses validation videos, about `fraction` of each class.

    A video's class here is its first anomaly class. Fractional quotas are rounded by
    largest remainder, so the total is exact. Of both normal and abnormal videos, at
    least one is held out and one remains. A pure function of its arguments.

    Raises:
      InputError: there are fewer than two normal or two abnormal videos.
    """
    if not 0 < fraction < 1:
        raise InputError(f"a held-out fraction of {fraction}: expected between 0 and 1")

    abnormal = label[:, 1:].max(1) > 0
    strata = np.where(abnormal, 1 + label[:, 1:].argmax(1), 0)

    mask = np.zeros(len(label), bool)
    for is_abnormal in (False, True):
        rows = np.flatnonzero(abnormal == is_abnormal)
        if len(rows) < 2:
            raise InputError(
                f"{len(rows)} {'abnormal' if is_abnormal else 'normal'} training videos are "
                "too few to hold one out for selection; add videos, or train without "
                "a held-out part (select the last weights)"
            )

        total = min(max(round(fraction * len(rows)), 1), len(rows) - 1)
        classes, counts = np.unique(strata[rows], return_counts=True)
        quota = total * counts / len(rows)
        num_held_out = np.floor(quota).astype(int)
        order = np.argsort(
            num_held_out - quota, kind="stable"
        )  # largest remainder first
        num_held_out[order[: total - num_held_out.sum()]] += 1

        # A generator per class, so the choice doesn't depend on the other classes.
        for c, count in zip(classes, num_held_out, strict=True):
            members = rows[strata[rows] == c]
            mask[random_state(seed, int(c)).permutation(members)[:count]] = True

    return mask


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
        until the smaller group is used up; 'uniform' for all samples together.
      seed: seed of the run.
      epoch: index of the epoch.

    Raises:
      InputError: the samples don't fill one batch, or B is odd with 'balanced'.
    """
    random = random_state(seed, epoch)

    if batch_sampling == "uniform":
        groups, per_group = [np.arange(len(is_normal))], batch_size
    elif batch_sampling == "balanced":
        groups = [np.flatnonzero(is_normal), np.flatnonzero(~is_normal)]
        per_group = batch_size // 2
        if batch_size % 2:
            raise InputError(
                f"batch_size {batch_size}: halves of normal and abnormal samples need "
                "an even number"
            )
    else:
        raise InputError(
            f"batch_sampling {batch_sampling!r}: expected 'balanced' or 'uniform'"
        )

    # The epoch ends when the smaller group is used up, so no sample is drawn twice.
    steps = min(len(group) for group in groups) // max(per_group, 1)
    if not steps or per_group < 1:
        available = " and ".join(str(len(group)) for group in groups)
        needed = f"{per_group} training samples"
        if len(groups) == 2:
            needed = f"{per_group} normal and {per_group} abnormal training samples"
        raise InputError(
            f"batch_size {batch_size} needs {needed} per step, but there are {available}; "
            "choose a smaller batch_size"
        )

    # A fresh permutation per epoch decides which samples are left out.
    drawn = [random.permutation(group)[: steps * per_group] for group in groups]
    columns = [samples.reshape(steps, per_group) for samples in drawn]
    return np.concatenate(columns, 1).astype(np.int32)


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
