"""Training batches, drawn from the packed training split.

The order of samples is a pure function of (seed, epoch), so a run resumes from the step
alone.
"""

import functools
import math
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from wsvad_jax.data import batching, packing
from wsvad_jax.data.records import Batch
from wsvad_jax.datasets import registry
from wsvad_jax.experiment.config import plain_recipe
from wsvad_jax.parallel import multihost
from wsvad_jax.parallel.mesh import check_batch, replicated_sharding
from wsvad_jax.training.state import Step
from wsvad_jax.training.train_step import (
    MAX_STEPS_PER_CALL,
    compile_step,
    compile_steps,
)
from wsvad_jax.utils import prefetch
from wsvad_jax.utils.errors import InputError

if TYPE_CHECKING:
    from wsvad_jax.experiment.build import Experiment


class BatchSampler:
    """Draws the batches of a training run from the packed training split."""

    def __init__(
        self, experiment: "Experiment", packed: "packing.Packed", rows: np.ndarray
    ):
        self.experiment, self.packed, self.rows = experiment, packed, rows
        config = experiment.config
        self.is_normal = packed.label[rows, 0] > 0
        normal = int(self.is_normal.sum())
        self.batch_size, self.remark = fit_batch_size(
            experiment, normal, len(rows) - normal
        )

        # Cached for two epochs: the prefetch thread may be one epoch ahead.
        self._order = functools.lru_cache(maxsize=2)(self.order)
        self.steps_per_epoch = len(self._order(0))

        # The release draws normal and abnormal videos from separate loaders, and its
        # schedule may count the batches of both (`optim.learning_rate`).
        self.loader_batches_per_epoch = self.steps_per_epoch
        if config.data.batch_sampling == "balanced":
            half = self.batch_size // 2
            self.loader_batches_per_epoch = sum(
                n // half for n in (normal, len(rows) - normal)
            )

        # With the split on the device, one call of the program takes several steps.
        self.on_device = config.data.placement == "device"
        self.max_steps = MAX_STEPS_PER_CALL if self.on_device else 1
        self._ahead: Iterator[Batch] | None = None
        self._next = -1

    def order(self, epoch: int) -> np.ndarray:
        """Returns the rows of the packed split by step of an epoch, int32 [steps, B]."""
        config = self.experiment.config
        order = batching.epoch_order(
            self.is_normal,
            self.batch_size,
            config.data.batch_sampling,
            config.seed,
            epoch,
        )
        return self.rows[order].astype(np.int32)

    def step_indices(self, step: int) -> np.ndarray:
        """Returns the rows of the packed split in one batch, int32 [B]."""
        epoch, i = divmod(step, self.steps_per_epoch)
        return self._order(epoch)[i]

    def inputs(self, step: int, n: int = 1) -> tuple[Any, ...]:
        """Returns the compiled program's arguments for the n steps after `step`.

        These are a batch, or the resident split, the rows of each batch, and n. Host
        batches are prefetched in a thread, so steps should be asked for in order.
        """
        if self.on_device:
            return self.resident, self.batch_indices(step, n), np.int32(n)

        # A jump, as after a resume, restarts the thread.
        if self._ahead is None or step != self._next:
            self._ahead = prefetch.prefetch(map(self.batch, _from(step)))
        self._next = step + 1
        return (next(self._ahead),)

    def batch(self, step: int) -> Batch:
        """Returns the batch of a step; each process gathers its own rows."""
        mesh, rows = self.experiment.mesh, self.step_indices(step)
        own = rows[multihost.local_batch_rows(mesh, len(rows))]
        return multihost.make_global_batch(batching.gather(self.packed, own), mesh)

    def batch_indices(self, step: int, n: int) -> np.ndarray:
        """Returns the rows of n batches, int32 [MAX_STEPS_PER_CALL, B], 0 after n."""
        rows = np.zeros((MAX_STEPS_PER_CALL, self.batch_size), np.int32)
        for i in range(n):
            rows[i] = self.step_indices(step + i)
        return rows

    def compile(self, step: Step) -> Callable[..., Any]:
        """Compiles a training step for the arguments that `inputs` returns."""
        if self.on_device:
            return compile_steps(step, self.experiment.mesh)
        return compile_step(step, self.experiment.mesh)

    def videos(self, step: int) -> list[str]:
        """Returns the names of the videos in one batch."""
        return [
            self.packed.video[self.packed.index[r]] for r in self.step_indices(step)
        ]

    def example(self) -> tuple[Any, Any, Any]:
        """Returns (features, length, text) of two videos, to initialise a model."""
        shape = (2, *self.packed.features.shape[1:])
        return jnp.zeros(shape), jnp.ones(2, jnp.int32), self.experiment.text

    @functools.cached_property
    def resident(self) -> Batch:
        """The packed split as one batch, replicated on all devices."""
        packed = self.packed
        whole = Batch(
            features=np.asarray(packed.features),
            length=np.asarray(packed.length),
            label=np.asarray(packed.label),
            mask=np.ones(len(packed.length), bool),
        )
        return jax.device_put(whole, replicated_sharding(self.experiment.mesh))


def fit_batch_size(
    experiment: "Experiment", normal: int, abnormal: int
) -> tuple[int, str]:
    """Returns the batch size, and a remark if it is smaller than the recipe's.

    A custom dataset may be small: the batch then shrinks to the largest size that the
    samples fill. A published dataset's batch, or one that the user chose, never shrinks.

    Args:
      experiment: recipe and dataset.
      normal: number of normal training samples, without those held out.
      abnormal: number of abnormal training samples, without those held out.

    Raises:
      InputError: samples, devices or `data.batch_sampling` don't allow such a batch.
    """
    config, mesh = experiment.config, experiment.mesh
    wanted = experiment.protocol_config.batch_size
    key = f"config.{config.protocol}.batch_size"
    balanced = config.data.batch_sampling == "balanced"
    available = 2 * min(normal, abnormal) if balanced else normal + abnormal

    # Each microbatch is split over all devices, and a balanced batch has two halves.
    unit = math.lcm(2 if balanced else 1, mesh.size * config.data.microbatches)
    largest = available // unit * unit
    if wanted <= available:
        check_batch(wanted, mesh, key)
        if balanced and wanted % 2:
            even = wanted + 1 if wanted < available else wanted - 1
            raise InputError(
                f"{key} is {wanted}; halves of normal and abnormal samples need an even "
                f"number, such as --{key}={even}"
            )
        return wanted, ""

    counts = f"there are {normal} normal and {abnormal} abnormal ones"
    if not largest:
        raise InputError(
            f"{key} is {wanted}, but {counts} to train with, and a batch takes a multiple "
            f"of {unit}; add videos, or take a smaller config.data.microbatches or "
            "fewer devices"
        )

    # Only the package's own default may shrink, never a published or chosen number.
    public = registry.public_name(experiment.dataset.card)
    if public or wanted != _usual_batch(experiment):
        half = f"{wanted // 2} normal and as many abnormal" if balanced else f"{wanted}"
        raise InputError(
            f"{key} is {wanted}, which asks for {half} training samples, but {counts}; "
            f"pass --{key}={largest}"
            + f" (then it isn't the recipe of {public}), or prepare all of it"
            * bool(public)
        )
    return largest, (
        f"{key} is {wanted}, but the dataset has {normal} normal and {abnormal} abnormal "
        f"training samples, so batches of {largest} are used"
    )


def _usual_batch(experiment: "Experiment") -> int:
    """Returns the batch size of the package's recipe, else of this one."""
    config = experiment.config
    try:
        name = registry.recipe_name_of_card(experiment.dataset.card) or str(
            config.data.name
        )
        usual = plain_recipe(config.model_name, name)
    except InputError:
        return experiment.protocol_config.batch_size
    return usual[config.protocol].batch_size


def training_remarks(experiment: "Experiment") -> list[str]:
    """Returns how training departs from the recipe, as sentences for results.json."""
    records = experiment.dataset.split("train")
    label = packing.multi_hot(records, len(experiment.dataset.card.classes))

    # Counted from the records alone: the packed split may be gone by now.
    crops = np.array([e.num_crops for e in records.entries])
    samples = (
        crops if experiment.config.data.samples == "crops" else np.ones_like(crops)
    )
    if experiment.config.protocol == "clean" and (
        fraction := experiment.protocol_config.held_out
    ):
        samples = samples * ~batching.holdout(label, fraction, experiment.config.seed)

    normal = int(samples[label[:, 0] > 0].sum())
    _, remark = fit_batch_size(experiment, normal, int(samples.sum()) - normal)
    return [remark] if remark else []


def _from(step: int) -> Iterator[int]:
    while True:
        yield step
        step += 1


def open_batch_sampler(experiment: "Experiment") -> BatchSampler:
    """Opens the packed training split, under `clean` without held-out videos."""
    packed = packing.pack_split(
        experiment.dataset,
        "train",
        experiment.T,
        samples=experiment.config.data.samples,
    )

    # Held-out videos select the weights, so none of their samples trains.
    rows = np.arange(len(packed.length))
    if experiment.config.protocol == "clean":
        rows = rows[~held_out_mask(experiment, packed)[packed.index]]

    sampler = BatchSampler(experiment, packed, rows)
    if sampler.remark and multihost.is_process_zero():
        print(f"remark: {sampler.remark}", file=sys.stderr)
    return sampler


def held_out_mask(experiment: "Experiment", packed: "packing.Packed") -> np.ndarray:
    """Returns which training videos are held out under `clean`, bool [V]."""
    _, first = np.unique(packed.index, return_index=True)
    fraction = experiment.protocol_config.held_out
    if not fraction:
        return np.zeros(len(first), bool)
    return batching.holdout(packed.label[first], fraction, experiment.config.seed)
