"""Trains several seeds of a recipe side by side, as one program over an axis of seeds.

Initial weights, batch order and noise differ by seed. The seeds share the packed
training split and the frozen text tower on the device. Each seed has a separate
workdir, with the checkpoints of a single run. An interrupted study can therefore resume
together or seed by seed.
"""

import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from wsvad_jax.parallel.mesh import replicated_sharding
from wsvad_jax.training.loop import (
    BestWeights,
    SeedRun,
    build_init_and_step,
    run_training_loop,
)
from wsvad_jax.training.state import State
from wsvad_jax.training.train_step import MAX_STEPS_PER_CALL, compile_device_steps
from wsvad_jax.utils.progress import status

if TYPE_CHECKING:
    from wsvad_jax.evaluation.scorer import Scorer
    from wsvad_jax.experiment.build import Experiment


class VmappedSeedsStepRunner:
    """Takes the steps of several seeds, whose states are stacked into one."""

    max_steps = MAX_STEPS_PER_CALL

    def __init__(self, runs: Sequence[SeedRun]):
        self.runs = runs
        first = runs[0]
        # Stacking and picking are compiled, so states stay on the devices.
        replicated = replicated_sharding(first.experiment.mesh)

        def stack(trees):
            return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)

        def pick(tree, i):
            return jax.tree.map(lambda leaf: leaf[i], tree)

        self._stack = jax.jit(stack, out_shardings=replicated)
        self._pick = jax.jit(pick, out_shardings=replicated)

        init, step = build_init_and_step(first)
        keys = [jax.random.key(run.experiment.config.seed) for run in runs]
        self.keys = jnp.stack(keys)
        self.state = self._stack([init(key) for key in keys])
        self.train_step = compile_device_steps(step, first.experiment.mesh, seeds=True)

        # The seeds differ in the order of samples, never in the samples.
        self.resident = first.sampler.resident
        self.text = jax.device_put(first.experiment.text, replicated)

    def states(self) -> list[State]:
        return [self._pick(self.state, i) for i in range(len(self.runs))]

    def set_states(self, states: list[State]) -> None:
        self.state = self._stack(states)

    def run_steps(self, step: int, n: int) -> dict[str, jax.Array]:
        rows = np.stack([run.sampler.batch_indices(step, n) for run in self.runs])
        inputs = self.resident, rows, np.int32(n), self.text, self.keys
        self.state, metrics = self.train_step(self.state, *inputs)
        return metrics


def train_vmapped_seeds(
    experiments: Sequence["Experiment"],
    scorer: "Scorer",
    workdirs: Sequence[pathlib.Path],
    restart: bool = False,
) -> list[tuple[BestWeights, list[dict[str, Any]]]]:
    """Trains experiments that differ by seed alone, each in its workdir.

    The arguments are those of `loop.train_one_seed`, one per seed. Returns the result of
    `loop.train_one_seed` for each seed.
    """
    runs = [
        SeedRun(experiment, scorer, workdir)
        for experiment, workdir in zip(experiments, workdirs, strict=True)
    ]

    # Compiled before the workdirs are written: a bad recipe leaves no files.
    runner = VmappedSeedsStepRunner(runs)
    for run in runs:
        run.open(restart)

    start, states = restore_common_step(runs, runner.states())
    if start:
        runner.set_states(states)
        total = runs[0].schedule.total
        status(f"resuming {len(runs)} seeds at step {start} of {total}")

    run_training_loop(runs, runner, start)
    return [(run.best, run.writer.history()) for run in runs]


def restore_common_step(
    runs: Sequence[SeedRun], initial: Sequence[State]
) -> tuple[int, list[State]]:
    """Restores all seeds from the newest checkpoint step that all have, or step 0."""
    max_step = None
    while True:
        restored = [
            run.restore(state, max_step)
            for run, state in zip(runs, initial, strict=True)
        ]
        steps = [step for step, _ in restored]
        if len(set(steps)) == 1:
            return steps[0], [state for _, state in restored]

        # A seed may have saved once more before the interruption. So the oldest step is
        # the next upper bound, until all agree.
        max_step = min(steps)
        seeds = ", ".join(
            f"seed {run.experiment.config.seed} at step {step}"
            for run, step in zip(runs, steps, strict=True)
        )
        print(f"checkpoints differ ({seeds}); all resume from step {max_step} at most")
