"""Training batches, drawn from the packed training split.

The order of samples is a pure function of (seed, epoch), so a run resumes from the step
alone. Three kinds of index occur:
  row     index of a sample in the packed split; a video may have several samples
  video   `packed.index[row]`, index of the sample's video in the dataset
  step    index of a batch, from 0 at the start of the training
"""

import functools
import itertools
import math
import sys
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from wsvad_jax.data import batching, packing
from wsvad_jax.data.records import Batch
from wsvad_jax.datasets import registry
from wsvad_jax.experiment import quick_look
from wsvad_jax.experiment.config import OWN, plain_recipe
from wsvad_jax.experiment.validation import QUICK
from wsvad_jax.parallel import multihost
from wsvad_jax.parallel.mesh import check_batch, replicated_sharding
from wsvad_jax.training.microbatches import required_microbatches
from wsvad_jax.training.state import Step
from wsvad_jax.training.train_step import (
    MAX_STEPS_PER_CALL,
    compile_device_steps,
    compile_host_step,
)
from wsvad_jax.utils import prefetch
from wsvad_jax.utils.errors import InputError

if TYPE_CHECKING:
    from wsvad_jax.experiment.build import Experiment


class BatchSampler:
    """Draws the batches of a training run from the packed training split.

    `rows` are the rows of the samples to train with.
    """

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
        self._cached_order = functools.lru_cache(maxsize=2)(self.order)
        self.steps_per_epoch = len(self._cached_order(0))

        # DSANet's release draws normal and abnormal videos from separate loaders; its
        # SG-NM schedule counts the batches of both (`optim.learning_rate`).
        self.loader_batches_per_epoch = self.steps_per_epoch
        if config.data.batch_sampling == "balanced":
            half = self.batch_size // 2
            self.loader_batches_per_epoch = sum(
                n // half for n in (normal, len(rows) - normal)
            )

        self.on_device = config.data.placement == "device"
        self.max_steps = MAX_STEPS_PER_CALL if self.on_device else 1
        self._prefetched: Generator[Batch, None, None] | None = None
        self._next_step = -1

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
        return self._cached_order(epoch)[i]

    def inputs(self, step: int, n: int = 1) -> tuple[Any, ...]:
        """Returns the compiled program's arguments for the n steps from `step` on.

        Returns (batch,) for host placement, (packed split, rows, n) for device
        placement. Host batches are prefetched in a thread, so call it with consecutive
        steps.
        """
        if self.on_device:
            return self.resident, self.batch_indices(step, n), np.int32(n)

        # A jump, as after a resume, restarts the thread.
        if self._prefetched is None or step != self._next_step:
            self._prefetched = prefetch.prefetch(map(self.batch, itertools.count(step)))
        self._next_step = step + 1
        return (next(self._prefetched),)

    def close(self) -> None:
        """Ends the thread that prepares batches ahead."""
        if self._prefetched is not None:
            self._prefetched.close()

    def batch(self, step: int) -> Batch:
        """Returns the batch of a step; each process gathers its own rows."""
        mesh, rows = self.experiment.mesh, self.step_indices(step)
        local_rows = rows[multihost.local_batch_rows(mesh, len(rows))]
        return multihost.make_global_batch(
            batching.gather(self.packed, local_rows), mesh
        )

    def batch_indices(self, step: int, n: int) -> np.ndarray:
        """Returns the rows of n batches, int32 [MAX_STEPS_PER_CALL, B], 0 after n."""
        rows = np.zeros((MAX_STEPS_PER_CALL, self.batch_size), np.int32)
        for i in range(n):
            rows[i] = self.step_indices(step + i)
        return rows

    def compile(self, step: Step) -> Callable[..., Any]:
        """Compiles a training step for the arguments that `inputs` returns."""
        if self.on_device:
            return compile_device_steps(step, self.experiment.mesh)
        return compile_host_step(step, self.experiment.mesh)

    def videos(self, step: int) -> list[str]:
        """Returns the names of the videos in the batch of a step, counted from 0."""
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

    A custom dataset may be small: the recipe's batch size is then reduced to the number
    of available samples. It stays as it is for a published dataset or if the user set it.

    Args:
      experiment: recipe and dataset.
      normal: number of normal training samples, without those held out.
      abnormal: number of abnormal training samples, without those held out.

    Raises:
      InputError: samples, devices or `data.batch_sampling` don't allow such a batch.
    """
    config, mesh = experiment.config, experiment.mesh
    requested = experiment.protocol_config.batch_size
    key = f"config.{config.protocol}.batch_size"
    balanced = config.data.batch_sampling == "balanced"
    available = 2 * min(normal, abnormal) if balanced else normal + abnormal

    # Each microbatch is split over all devices, and a balanced batch has two halves.
    multiple = math.lcm(2 if balanced else 1, mesh.size * required_microbatches(config))
    max_batch_size = available // multiple * multiple
    if requested <= available:
        check_batch(requested, mesh, key)
        if balanced and requested % 2:
            even = requested + 1 if requested < available else requested - 1
            raise InputError(
                f"{key} is {requested}; halves of normal and abnormal samples need an even "
                f"number, such as --{key}={even}"
            )
        return requested, ""

    counts = f"there are {normal} normal and {abnormal} abnormal ones"
    if not max_batch_size:
        raise InputError(
            f"{key} is {requested}, but {counts} to train with, and the batch size must "
            f"be a multiple of {multiple}; add videos, or take a smaller "
            "config.data.microbatches or fewer devices"
        )

    # A quick look has no published numbers to keep to.
    quick = config.protocol == QUICK
    public = "" if quick else registry.public_name(experiment.dataset.card)
    if public or requested != _recipe_batch_size(experiment):
        samples = f"{requested}"
        if balanced:
            samples = f"{requested // 2} normal and as many abnormal"
        fix = f"pass --{key}={max_batch_size}"
        if public:
            fix += f" (then it isn't the recipe of {public}), or prepare all of it"
        raise InputError(
            f"{key} is {requested}, which asks for {samples} training samples, but "
            f"{counts}; {fix}"
        )

    return max_batch_size, (
        f"{key} is {requested}, but the dataset has {normal} normal and {abnormal} abnormal "
        f"training samples, so batches of {max_batch_size} are used"
    )


def _recipe_batch_size(experiment: "Experiment") -> int:
    """Returns the recipe's batch size, or the config's if there is no such recipe."""
    config = experiment.config
    try:
        if config.protocol == QUICK:
            small = plain_recipe(config.model_name, OWN)
            return min(small.clean.batch_size, quick_look.MAX_BATCH)
        name = registry.recipe_name_of_card(experiment.dataset.card) or str(
            config.data.name
        )
        recipe = plain_recipe(config.model_name, name)
    except InputError:
        return experiment.protocol_config.batch_size
    return recipe[config.protocol].batch_size


def training_batch_size(experiment: "Experiment") -> tuple[int, str]:
    """Returns the batch size of a run, and a remark if it is smaller than the recipe's.

    Raises:
      InputError: as in `fit_batch_size`.
    """
    records = experiment.dataset.split("train")
    label = packing.multi_hot(records, len(experiment.dataset.card.classes))

    # The packed split may have been deleted, so samples are counted from the records.
    crops = np.array([e.num_crops for e in records.entries])
    samples = (
        crops if experiment.config.data.samples == "crops" else np.ones_like(crops)
    )
    samples = samples * ~left_out_mask(experiment, len(label))
    if experiment.config.protocol == "clean":
        samples = samples * ~_held_out(experiment, label)

    normal = int(samples[label[:, 0] > 0].sum())
    return fit_batch_size(experiment, normal, int(samples.sum()) - normal)


def training_remarks(experiment: "Experiment") -> list[str]:
    """Returns how training departs from the recipe, as sentences for results.json."""
    _, remark = training_batch_size(experiment)
    return [r for r in (quick_look.remark(experiment.config), remark) if r]


def open_batch_sampler(experiment: "Experiment") -> BatchSampler:
    """Creates the sampler. Under `clean`, held-out videos are excluded.

    `experiment.left_out` is excluded under every protocol.
    """
    packed = packing.pack_split(
        experiment.dataset,
        "train",
        experiment.T,
        samples=experiment.config.data.samples,
    )

    excluded = left_out_mask(experiment, len(packed.video))
    if experiment.config.protocol == "clean":
        excluded |= held_out_mask(experiment, packed)
    rows = np.flatnonzero(~excluded[packed.index])

    sampler = BatchSampler(experiment, packed, rows)
    if sampler.remark and multihost.is_process_zero():
        print(f"remark: {sampler.remark}", file=sys.stderr)
    return sampler


def left_out_mask(experiment: "Experiment", num_videos: int) -> np.ndarray:
    """Returns which training videos are in `experiment.left_out`, bool [V]."""
    mask = np.zeros(num_videos, bool)
    mask[sorted(experiment.left_out)] = True
    return mask


def held_out_mask(experiment: "Experiment", packed: "packing.Packed") -> np.ndarray:
    """Returns which training videos are held out under `clean`, bool [V]."""
    _, first = np.unique(packed.index, return_index=True)
    return _held_out(experiment, packed.label[first])


def _held_out(experiment: "Experiment", label: np.ndarray) -> np.ndarray:
    """Chooses among the videos that are not left out, given labels [V, C]."""
    fraction = experiment.protocol_config.held_out
    mask = np.zeros(len(label), bool)
    if fraction:
        kept = np.flatnonzero(~left_out_mask(experiment, len(label)))
        seed = experiment.config.seed
        mask[kept] = batching.held_out_mask(label[kept], fraction, seed)
    return mask
