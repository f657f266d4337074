"""The training loop, for one seed or for several side by side.

Between steps the order is fixed: evaluate if due, reload the best weights if due, save
if due, start the next steps, log the steps before. Metrics are fetched only after the
next steps have started, so the device doesn't wait for the host. With the training split
on the device, one call takes all steps up to the next evaluation or checkpoint
(`train_step.MAX_STEPS_PER_CALL` at most).
"""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from wsvad_jax.experiment.identity import comparable_config
from wsvad_jax.parallel import multihost
from wsvad_jax.parallel.mesh import replicated_sharding
from wsvad_jax.results import run_data
from wsvad_jax.training import optim
from wsvad_jax.training.checkpoints import Checkpoints
from wsvad_jax.training.metric_log import MetricWriter, read_history
from wsvad_jax.training.sampler import open_batch_sampler
from wsvad_jax.training.schedule import build_schedule
from wsvad_jax.training.selection import open_validation
from wsvad_jax.training.state import State, make_init
from wsvad_jax.training.train_step import make_train_step, num_microbatches
from wsvad_jax.utils.errors import InputError, Preempted
from wsvad_jax.utils.files import write_json
from wsvad_jax.utils.progress import Progress, status

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from wsvad_jax.evaluation.scorer import Scorer
    from wsvad_jax.experiment.build import Experiment

# The step donates its state; copy weights that must outlive it.
copy_tree = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))


@dataclasses.dataclass
class BestWeights:
    """The weights selected so far, and the step and metric that they had."""

    params: Any
    batch_stats: Any
    step: int = 0
    metric: float | None = None

    def arrays(self) -> dict[str, Any]:
        return {"params": self.params, "batch_stats": self.batch_stats}


def is_improvement(
    metric: float | None, best: float | None, plan: "ConfigDict"
) -> bool:
    """Whether weights with `metric` replace those with `best`.

    The recipe decides whether later weights win a tie. A small held-out set is soon
    scored perfectly, and later weights have seen more samples.
    """
    if plan.select == "last" or best is None or metric is None:
        return True
    return metric >= best if plan.prefer_later_on_tie else metric > best


class SeedRun:
    """The training of one seed: sampler, schedule, best weights and workdir."""

    best: BestWeights
    writer: MetricWriter

    def __init__(
        self, experiment: "Experiment", scorer: "Scorer", workdir: pathlib.Path
    ):
        self.experiment, self.workdir = experiment, workdir
        self.sampler = open_batch_sampler(experiment)
        self.schedule = build_schedule(experiment, self.sampler)
        self.validate = open_validation(experiment, self.sampler, scorer)
        self.evaluated = 0

    def open(self, restart: bool = False) -> None:
        """Opens the workdir; `restart` first moves an earlier run aside."""
        # Opened late, so a recipe that can't be trained leaves no files.
        with multihost.process_zero_first("workdir of the run"):
            if multihost.is_process_zero():
                if restart and (old := run_data.set_aside(self.workdir)):
                    print(f"the run in {self.workdir} is moved to {old}", flush=True)
                write_json(
                    self.workdir / "config.json",
                    comparable_config(self.experiment.config),
                )
                data = run_data.describe(
                    self.experiment.dataset, self.experiment.text_tower_id
                )
                run_data.note(self.workdir, data)
        self.checkpoints = Checkpoints(self.workdir / "checkpoints")

    def restore(self, initial: State, newest: int | None = None) -> tuple[int, State]:
        """Returns step and state of the newest checkpoint, `newest` at most, or step 0."""
        weights = {"params": initial.params, "batch_stats": initial.batch_stats}
        template = {"state": initial, "best": weights}
        restored = self.checkpoints.restore(template, newest)

        if restored is None:
            if multihost.is_process_zero() and read_history(self.workdir):
                print(f"{self.workdir} holds no checkpoint: training starts at step 0")
            # The weights before any step count as the best until the first evaluation.
            self.evaluated, self.best = 0, BestWeights(**copy_tree(weights))
            return 0, initial

        # With the step of the last evaluation, none is repeated or left out.
        step, tree, record = restored
        self.evaluated = record["evaluated"]
        self.best = BestWeights(
            **tree["best"], step=record["best"], metric=record["metric"]
        )
        return step, tree["state"]

    def evaluate(self, step: int, state: State) -> None:
        """Scores the weights on the selection set and keeps them if they improve."""
        metric, metrics = self.validate(state)
        self.evaluated = step
        if metrics:
            self.writer.write(step, metrics)

        if is_improvement(metric, self.best.metric, self.experiment.protocol_config):
            params, batch_stats = copy_tree(state.params), copy_tree(state.batch_stats)
            self.best = BestWeights(params, batch_stats, step, metric)

    def reload(self, state: State) -> State:
        """Returns `state` with the best weights, if any were selected."""
        if not self.best.step:
            return state
        weights = {k: copy_tree(v) for k, v in self.best.arrays().items()}
        return dataclasses.replace(state, **weights)

    def save(self, step: int, state: State) -> None:
        """Starts to write a checkpoint; see `Checkpoints` for what waits."""
        best = self.best
        record = {"evaluated": self.evaluated, "best": best.step, "metric": best.metric}
        self.checkpoints.save(step, {"state": state, "best": best.arrays()}, record)

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Writes the metrics of a step, counted from 1.

        Raises:
          InputError: a metric isn't finite; names step, metric and the batch's videos.
        """
        bad = [name for name, value in metrics.items() if not np.isfinite(value)]
        if bad:
            # Extreme features are the usual cause, so the videos are named.
            videos = self.sampler.videos(step - 1)
            raise InputError(
                f"step {step} of seed {self.experiment.config.seed}: {bad[0]} is "
                f"{metrics[bad[0]]}; the batch's videos are {', '.join(videos[:8])}"
                f"{' …' if len(videos) > 8 else ''}; look for extreme features among "
                "them or lower the learning rate"
            )
        self.writer.write(step, metrics)

    def close(self) -> None:
        self.checkpoints.close()
        self.writer.close()


@runtime_checkable
class Stepper(Protocol):
    """Holds the states of one or several runs and takes their steps."""

    max_steps: int  # most steps per call of `advance`

    def states(self) -> list[State]: ...
    def replace(self, states: list[State]) -> None: ...
    def advance(self, step: int, n: int) -> dict[str, jax.Array]:
        """Takes the n steps after `step`; returns metrics, [≥ n] or [runs, ≥ n]."""
        ...


class SingleSeedStepper:
    """Takes the steps of one seed's run."""

    def __init__(self, run: SeedRun):
        experiment, self.sampler = run.experiment, run.sampler
        self.max_steps = self.sampler.max_steps

        init, step = build_init_and_step(run)
        self.key = jax.random.key(experiment.config.seed)
        self.state = init(self.key)
        self.step = self.sampler.compile(step)

        # Placed once; passing host arrays would copy the text tower at every step.
        self.text = jax.device_put(
            experiment.text, replicated_sharding(experiment.mesh)
        )

    def states(self) -> list[State]:
        return [self.state]

    def replace(self, states: list[State]) -> None:
        (self.state,) = states

    def advance(self, step: int, n: int) -> dict[str, jax.Array]:
        inputs = self.sampler.inputs(step, n)
        self.state, metrics = self.step(self.state, *inputs, self.text, self.key)
        return metrics


def build_init_and_step(run: SeedRun) -> tuple[Callable, Callable]:
    """Returns a run's functions key → initial state and (state, batch, …) → state."""
    experiment, schedule = run.experiment, run.schedule
    optimiser = optim.build_optimiser(
        experiment.protocol_config.to_dict(),
        epochs=-(-schedule.total // schedule.per_epoch),  # the last may be partial
        steps_per_epoch=schedule.per_epoch,
        loader_batches_per_epoch=run.sampler.loader_batches_per_epoch,
    )

    # The batch may be smaller than the recipe's, so microbatches are checked here.
    microbatches = num_microbatches(
        experiment.config, experiment.spec, run.sampler.batch_size, experiment.mesh
    )
    step = make_train_step(
        experiment.model,
        experiment.spec,
        optimiser,
        weights=dict(experiment.config.loss),
        microbatches=microbatches,
    )

    example = run.sampler.example()
    return make_init(experiment.model, optimiser, example, experiment.mesh), step


def train_one_seed(
    experiment: "Experiment",
    scorer: "Scorer",
    workdir: pathlib.Path,
    restart: bool = False,
) -> tuple[BestWeights, list[dict[str, Any]]]:
    """Trains one seed, from the newest checkpoint if there is one.

    Args:
      experiment: recipe, dataset, model and mesh.
      scorer: compiled scoring program, for the selection of weights.
      workdir: folder of the run.
      restart: moves an earlier run in `workdir` aside and trains from step 0.

    Returns:
      The selected weights, and the lines of metrics.jsonl.
    """
    # Process 0 packs the training split, which the others then read.
    with multihost.process_zero_first("sampler"):
        run = SeedRun(experiment, scorer, workdir)

    # Compiled before the workdir is written: a bad recipe leaves no files.
    stepper = SingleSeedStepper(run)
    run.open(restart)

    start, stepper.state = run.restore(stepper.state)
    if start and multihost.is_process_zero():
        status(f"resuming {workdir} at step {start} of {run.schedule.total}")

    run_training_loop([run], stepper, start)
    return run.best, run.writer.history()


def run_training_loop(runs: Sequence[SeedRun], stepper: Stepper, start: int) -> None:
    """Takes the steps from `start` to the end, for runs that share a schedule.

    Raises:
      Preempted: a preemption signal came; a checkpoint is saved.
      InputError: a metric isn't finite.
    """
    for run in runs:
        run.writer = MetricWriter(
            run.workdir, resume_step=start, active=multihost.is_process_zero()
        )

    try:
        step = _take_steps(runs, stepper, start)
    except BaseException:
        # The last checkpoint may still be on its way to the disk.
        for run in runs:
            with contextlib.suppress(Exception):
                run.checkpoints.wait()
        raise

    for run in runs:
        run.close()
    if step < (total := runs[0].schedule.total):
        raise Preempted(f"step {step} of {total} is saved")


def _take_steps(runs: Sequence[SeedRun], stepper: Stepper, start: int) -> int:
    """Returns the step that is reached: the last, or an earlier one at a preemption."""
    step, schedule = start, runs[0].schedule
    pending: tuple[int, int, dict[str, jax.Array]] | None = None

    def each():
        return zip(runs, stepper.states(), strict=True)

    def log() -> None:
        # Fetching metrics waits for their steps, so this comes as late as possible.
        nonlocal pending
        if pending is not None:
            (first, n, metrics), pending = pending, None
            shown = log_steps(runs, first, n, jax.device_get(metrics))
            progress.update(n, **shown)

    with (
        multihost.PreemptionSignal() as preemption,
        Progress("train", schedule.total, unit="step", initial=start) as progress,
    ):
        while True:
            # A resumed run has the evaluation of its first step already.
            if step > runs[0].evaluated and schedule.evaluates(step):
                log()
                for run, state in each():
                    run.evaluate(step, state)

            if step > start and schedule.reloads(step):
                stepper.replace([run.reload(state) for run, state in each()])

            # Saved after the reload, so a resumed run continues with the same weights.
            preempted = preemption.reached() and step < schedule.total
            if step > start and (preempted or schedule.saves(step)):
                log()
                for run, state in each():
                    run.save(step, state)

            if preempted or step == schedule.total:
                return step

            # The next steps are dispatched before the metrics of the last are fetched.
            n = schedule.steps_until_due(step, stepper.max_steps)
            metrics = stepper.advance(step, n)
            log()
            pending = step, n, metrics
            step += n


def log_steps(
    runs: Sequence[SeedRun], first: int, n: int, metrics: dict[str, np.ndarray]
) -> dict[str, float]:
    """Logs the n steps after `first`; returns the last step's means over the runs.

    Args:
      runs: runs that took the steps.
      first: step before them.
      n: number of steps.
      metrics: arrays [≥ n] of one run or [runs, ≥ n], valid up to n.
    """
    tables = {k: np.reshape(v, (len(runs), -1)) for k, v in metrics.items()}

    for i in range(n):
        for row, run in enumerate(runs):
            values = {k: float(v[row, i]) for k, v in tables.items()}
            run.log(first + i + 1, values)

    means = {k: float(v[:, n - 1].mean()) for k, v in tables.items()}
    return {k: v for k, v in means.items() if k != "grad_norm"}
