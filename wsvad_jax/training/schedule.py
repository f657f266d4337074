"""When a training evaluates, reloads its best weights and saves."""

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsvad_jax.experiment.build import Experiment
    from wsvad_jax.training.sampler import BatchSampler


@dataclasses.dataclass(frozen=True)
class Schedule:
    """When to evaluate, reload and save, by the number of steps done."""

    total: int
    per_epoch: int
    eval_every: int | None  # None: each epoch's end
    save_every: int | None  # None: each epoch's end
    reload_best: bool

    def evaluates(self, step: int) -> bool:
        """Whether the selection metric is computed after `step` steps.

        An interval shorter than an epoch is counted from each epoch's start, as in the
        releases.
        """
        if step == self.total:
            return True

        every = self.eval_every or self.per_epoch
        within = step % self.per_epoch if every < self.per_epoch else step
        return step > 0 and within > 0 and within % every == 0

    def reloads(self, step: int) -> bool:
        """Whether the best weights are reloaded; the optimiser state is kept."""
        return self.reload_best and step % self.per_epoch == 0

    def saves(self, step: int) -> bool:
        """Whether a checkpoint is written after `step` steps."""
        return step == self.total or step % (self.save_every or self.per_epoch) == 0

    def steps_until_due(self, step: int, most: int) -> int:
        """Steps from `step` to the next evaluation, reload or checkpoint, ≤ `most`."""
        for n in range(1, most):
            then = step + n
            if self.evaluates(then) or self.reloads(then) or self.saves(then):
                return n
        return most


def build_schedule(experiment: "Experiment", sampler: "BatchSampler") -> Schedule:
    """Returns the schedule that the recipe's protocol sets."""
    protocol_config = experiment.protocol_config
    per_epoch = sampler.steps_per_epoch
    return Schedule(
        total=protocol_config.steps or protocol_config.epochs * per_epoch,
        per_epoch=per_epoch,
        eval_every=protocol_config.eval_every_steps,
        save_every=experiment.config.checkpoint_every_steps,
        reload_best=protocol_config.reload_best,
    )
