"""Batches of a training run, and what its weights are selected by.

Order is a pure function of (seed, epoch), so a run resumes from the step alone.
"""

import dataclasses
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
from wsvad_jax.training.state import State, Step
from wsvad_jax.training.train_step import (
    MAX_STEPS_PER_CALL,
    compile_step,
    compile_steps,
)
from wsvad_jax.utils import prefetch
from wsvad_jax.utils.errors import InputError

if TYPE_CHECKING:
    from wsvad_jax.evaluation.scorer import Scorer
    from wsvad_jax.experiment.build import Experiment
    from wsvad_jax.metrics.frame_level import EvalVideo


class BatchSampler:
    """The training samples of a recipe, batch by batch."""

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
        # Asked from here and, for the epoch ahead, from the thread that gathers.
        self._order = functools.lru_cache(maxsize=2)(self.order)
        self.steps_per_epoch = len(self._order(0))
        # Batches that all loaders of the release hold together (optim.learning_rate).
        self.loader_batches_per_epoch = self.steps_per_epoch
        if config.data.batch_sampling == "balanced":
            half = self.batch_size // 2
            self.loader_batches_per_epoch = sum(
                n // half for n in (normal, len(rows) - normal)
            )
        self.on_device = config.data.placement == "device"
        # Steps that the compiled program takes at once.
        self.max_steps = MAX_STEPS_PER_CALL if self.on_device else 1
        self._ahead: Iterator[Batch] | None = None
        self._next = -1

    def order(self, epoch: int) -> np.ndarray:
        """Rows of the packed split for each step of `epoch`, int32 [steps, B]."""
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
        """Rows of the packed split in the batch of `step`, int32 [B]."""
        epoch, i = divmod(step, self.steps_per_epoch)
        return self._order(epoch)[i]

    def inputs(self, step: int, n: int = 1) -> tuple[Any, ...]:
        """What the compiled program takes for the n steps after `step`.

        A batch, or the resident split, the rows of each step's batch, and n. Steps are
        asked for in order; a thread gathers the host's batches ahead.
        """
        if self.on_device:
            return self.resident, self.batch_indices(step, n), np.int32(n)
        if self._ahead is None or step != self._next:
            self._ahead = prefetch.prefetch(map(self.batch, _from(step)))
        self._next = step + 1
        return (next(self._ahead),)

    def batch(self, step: int) -> Batch:
        """Gathers the batch of `step`: of several processes, each its own rows."""
        mesh, rows = self.experiment.mesh, self.step_indices(step)
        own = rows[multihost.local_batch_rows(mesh, len(rows))]
        return multihost.make_global_batch(batching.gather(self.packed, own), mesh)

    def batch_indices(self, step: int, n: int) -> np.ndarray:
        """Rows of the batches of the n steps after `step`, int32 [MAX_STEPS_PER_CALL, B]."""
        rows = np.zeros((MAX_STEPS_PER_CALL, self.batch_size), np.int32)
        for i in range(n):
            rows[i] = self.step_indices(step + i)
        return rows

    def compile(self, step: Step) -> Callable[..., Any]:
        """Compiles a training step for what `inputs` returns."""
        if self.on_device:
            return compile_steps(step, self.experiment.mesh)
        return compile_step(step, self.experiment.mesh)

    def videos(self, step: int) -> list[str]:
        """Names of the videos in the batch of `step`."""
        return [
            self.packed.video[self.packed.index[r]] for r in self.step_indices(step)
        ]

    def example(self) -> tuple[Any, Any, Any]:
        """(features, length, text) of two videos, to initialise a model with."""
        shape = (2, *self.packed.features.shape[1:])
        return jnp.zeros(shape), jnp.ones(2, jnp.int32), self.experiment.text

    @functools.cached_property
    def resident(self) -> Batch:
        """The packed split as one batch on the devices, whole on each."""
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
    """Returns the samples of a batch, and a remark where they are fewer than asked for.

    For a custom folder, which may be small, the recipe's batch shrinks to the
    largest one that the samples fill. A published recipe is followed or refused, and so
    is a number that the user chose.

    Args:
      experiment: whose `batch_size` is asked for.
      normal: training samples of normal videos that are not held out.
      abnormal: those of abnormal videos.

    Raises:
      InputError: the samples, the devices or the pairing don't allow such a batch.
    """
    config, mesh = experiment.config, experiment.mesh
    wanted, key = (
        experiment.protocol_config.batch_size,
        f"config.{config.protocol}.batch_size",
    )
    halves = config.data.batch_sampling == "balanced"
    room = 2 * min(normal, abnormal) if halves else normal + abnormal
    # Both halves of a batch and its parts are split over all devices.
    unit = math.lcm(2 if halves else 1, mesh.size * config.data.microbatches)
    fits = room // unit * unit
    if wanted <= room:
        check_batch(wanted, mesh, key)
        if halves and wanted % 2:
            raise InputError(
                f"{key} is {wanted}; halves of normal and abnormal samples need an even "
                f"number, such as --{key}={wanted + 1 if wanted < room else wanted - 1}"
            )
        return wanted, ""

    there = f"there are {normal} normal and {abnormal} abnormal ones"
    if not fits:
        raise InputError(
            f"{key} is {wanted}, but {there} to train with, and a batch takes a multiple "
            f"of {unit}; add videos, or take a smaller config.data.microbatches or fewer devices"
        )
    public = registry.public_name(experiment.dataset.card)
    if public or wanted != _usual_batch(experiment):
        half = f"{wanted // 2} normal and as many abnormal" if halves else f"{wanted}"
        raise InputError(
            f"{key} is {wanted}, which asks for {half} training samples, but {there}; "
            f"pass --{key}={fits}"
            + f" (then it isn't the recipe of {public}), or prepare all of it"
            * bool(public)
        )
    return fits, (
        f"{key} is {wanted}, but the dataset has {normal} normal and {abnormal} abnormal "
        f"training samples, so batches of {fits} are used"
    )


def _usual_batch(experiment: "Experiment") -> int:
    """Returns the batch of the package's recipe, or of one that isn't the package's."""
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
    """Returns what training does otherwise than the recipe says, for its results."""
    records = experiment.dataset.split("train")
    label = packing.multi_hot(records, len(experiment.dataset.card.classes))
    crops = np.array([e.num_crops for e in records.entries])
    samples = (
        crops if experiment.config.data.samples == "crops" else np.ones_like(crops)
    )
    if experiment.config.protocol == "clean" and (
        share := experiment.protocol_config.held_out
    ):
        samples = samples * ~batching.holdout(label, share, experiment.config.seed)
    normal = int(samples[label[:, 0] > 0].sum())
    _, remark = fit_batch_size(experiment, normal, int(samples.sum()) - normal)
    return [remark] if remark else []


def _from(step: int) -> Iterator[int]:
    while True:
        yield step
        step += 1


def open_batch_sampler(experiment: "Experiment") -> BatchSampler:
    """Opens the training samples; under `clean`, those that are not held out."""
    packed = packing.pack_split(
        experiment.dataset,
        "train",
        experiment.T,
        samples=experiment.config.data.samples,
    )
    rows = np.arange(len(packed.length))
    if experiment.config.protocol == "clean":
        rows = rows[~held_out_mask(experiment, packed)[packed.index]]
    sampler = BatchSampler(experiment, packed, rows)
    if sampler.remark and multihost.is_process_zero():
        print(f"remark: {sampler.remark}", file=sys.stderr)
    return sampler


def held_out_mask(experiment: "Experiment", packed: "packing.Packed") -> np.ndarray:
    """Which training videos are held out under `clean`, bool [V]."""
    _, first = np.unique(packed.index, return_index=True)
    share = experiment.protocol_config.held_out
    if not share:
        return np.zeros(len(first), bool)
    return batching.holdout(packed.label[first], share, experiment.config.seed)


def open_validation(
    experiment: "Experiment", sampler: BatchSampler, scorer: "Scorer"
) -> Callable[[State], tuple[float | None, dict[str, float]]]:
    """Returns the function that scores weights for selection.

    Under `clean`: video-level AUC of the held-out training videos, which needs no
    frame labels; each is scored as packed, its first crop; nothing where none are held
    out. Under `paper`: the plan's metric on the test set, as the releases do.

    Raises:
      InputError: the plan's metric is none that these videos have, or the best weights
        are asked for with nothing held out.
    """
    from wsvad_jax.evaluation import scorer as scoring
    from wsvad_jax.metrics import frame_level

    config, card, metric = (
        experiment.config,
        experiment.dataset.card,
        experiment.protocol_config.metric,
    )
    on_test = config.protocol == "paper"
    if not on_test:
        _check_selection(experiment.protocol_config)
        if not experiment.protocol_config.held_out:
            return lambda state: (None, {})

    def validate(state: State) -> tuple[float | None, dict[str, float]]:
        weights = state.params, state.batch_stats
        if on_test:
            videos = scoring.score_split(experiment, scorer, *weights)
        else:
            videos = score_held_out(experiment, sampler.packed, scorer, *weights)
        found = frame_level.evaluate(
            videos,
            card.class_names,
            normal_truth=config.eval.normal_truth,
            stride=card.stride,
            slack=0 if on_test else None,
        )
        numbers = {k: v for k, v in found.items() if isinstance(v, float)}
        if metric not in found:
            raise InputError(
                f"config.{config.protocol}.metric is {metric!r}; expected one of "
                f"{', '.join(found)}"
            )
        prefix = "test" if on_test else "heldout"
        return found[metric], {f"{prefix}/{k}": v for k, v in numbers.items()}

    return validate


def _check_selection(plan: Any) -> None:
    if not plan.metric.startswith("video_auc"):
        raise InputError(
            f"config.clean.metric is {plan.metric!r}, but held-out training videos "
            "have no frame truth; choose video_auc"
        )
    if plan.select == "best" and not plan.held_out:
        raise InputError(
            "config.clean.held_out is 0, but config.clean.select is 'best'; hold a "
            "share of the training videos out (0.1), or select the 'last' weights"
        )


def score_held_out(
    experiment: "Experiment",
    packed: "packing.Packed",
    scorer: "Scorer",
    params: Any,
    batch_stats: Any,
) -> list["EvalVideo"]:
    """Scores the held-out videos as packed, at a length that is not their own."""
    from wsvad_jax.evaluation import scorer as scoring

    _, first = np.unique(packed.index, return_index=True)
    chosen = np.flatnonzero(held_out_mask(experiment, packed))
    rows = first[chosen]
    entries = [experiment.dataset.split("train").entries[i] for i in chosen]
    scores = scorer(
        scorer.weights(params, batch_stats),
        packed.features[rows],
        packed.length[rows],
        label="score held-out",
    )
    videos = scoring.join_windows(scores, packed.length[rows], packed.length[rows])
    # What truth there is counts other frames than the resampled ones.
    bare = [dataclasses.replace(e, segments=()) for e in entries]
    return scoring.eval_videos(bare, videos)
