"""The training loop, for one seed or for several side by side.

Between steps the order is fixed: evaluate if due, reload the best weights if due, save
if due, dispatch the next steps, then log the previous ones. Metrics are fetched only after the
next steps have started, so the device doesn't wait for the host. With the training split
on the device, one call takes all steps up to the next evaluation, reload or checkpoint
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
from wsvad_jax.models.cross_pseudo import check_warmup
from wsvad_jax.parallel import multihost
from wsvad_jax.parallel.mesh import replicated_sharding
from wsvad_jax.parallel.precision import AUTO
from wsvad_jax.results import run_data
from wsvad_jax.results.history import read_history
from wsvad_jax.training import optim
from wsvad_jax.training.checkpoints import Checkpoints
from wsvad_jax.training.metric_log import MetricWriter
from wsvad_jax.training.microbatches import run_microbatches
from wsvad_jax.training.sampler import open_batch_sampler
from wsvad_jax.training.schedule import build_schedule
from wsvad_jax.training.selection import open_validation
from wsvad_jax.training.state import State, make_init
from wsvad_jax.training.train_step import shared_train_step
from wsvad_jax.utils.errors import InputError, Interrupted, Preempted
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
    """The weights selected so far, with their step and metric."""

    params: Any
    batch_stats: Any
    step: int = 0
    metric: float | None = None

    def arrays(self) -> dict[str, Any]:
        return {"params": self.params, "batch_stats": self.batch_stats}


def is_improvement(
    metric: float | None, best: float | None, protocol_config: "ConfigDict"
) -> bool:
    """Whether weights with `metric` replace those with `best`.

    The recipe decides whether later weights win a tie. Small held-out sets soon reach
    an AUC of 1, and later weights have seen more samples.
    """
    if protocol_config.select == "last" or best is None or metric is None:
        return True
    if protocol_config.prefer_later_on_tie:
        return metric >= best
    return metric > best


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
        self.last_evaluated_step = 0

    def open(self, restart: bool = False) -> None:
        """Opens the workdir; `restart` first moves an earlier run aside."""
        with multihost.process_zero_first("workdir of the run"):
            if multihost.is_process_zero():
                if restart and (old := run_data.set_aside(self.workdir)):
                    print(f"the run in {self.workdir} is moved to {old}", flush=True)

                config = comparable_config(self.experiment.config)
                write_json(self.workdir / "config.json", config)
                whole = self.experiment.with_all_classes
                data = run_data.describe(whole.dataset, whole.text_tower_id)
                run_data.note(self.workdir, data)

        self.checkpoints = Checkpoints(self.workdir / "checkpoints")

    def restore(self, initial: State, max_step: int | None = None) -> tuple[int, State]:
        """Returns step and state of the newest checkpoint whose step is ≤ `max_step`.

        Without such a checkpoint, returns step 0 and `initial`.
        """
        weights = {"params": initial.params, "batch_stats": initial.batch_stats}
        template = {"state": initial, "best": weights}
        restored = self.checkpoints.restore(template, max_step)

        if restored is None:
            if multihost.is_process_zero() and read_history(self.workdir):
                print(f"{self.workdir} holds no checkpoint: training starts at step 0")
            # The weights before any step count as the best until the first evaluation.
            self.last_evaluated_step, self.best = 0, BestWeights(**copy_tree(weights))
            return 0, initial

        # Restored so that no evaluation is repeated or skipped.
        step, tree, record = restored
        self.last_evaluated_step = record["evaluated"]
        self.best = BestWeights(
            **tree["best"], step=record["best"], metric=record["metric"]
        )
        return step, tree["state"]

    def evaluate(self, step: int, state: State) -> None:
        """Scores the weights on the selection set and keeps them if they improve."""
        metric, metrics = self.validate(state)
        self.last_evaluated_step = step
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
        """Saves a checkpoint asynchronously."""
        best = self.best
        record = {
            "evaluated": self.last_evaluated_step,
            "best": best.step,
            "metric": best.metric,
        }
        self.checkpoints.save(step, {"state": state, "best": best.arrays()}, record)

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Writes the metrics of a step, counted from 1.

        Raises:
          InputError: a metric isn't finite; names step, metric and the batch's videos.
        """
        bad = [name for name, value in metrics.items() if not np.isfinite(value)]
        if bad:
            # Extreme features are the usual cause, so the error names the videos.
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
class StepRunner(Protocol):
    """Holds the states of one or several runs and takes their steps."""

    max_steps: int  # most steps per call of `run_steps`

    def states(self) -> list[State]: ...
    def set_states(self, states: list[State]) -> None: ...
    def run_steps(self, step: int, n: int) -> dict[str, jax.Array]:
        """Takes the n steps after `step`; returns metrics, [≥ n] or [runs, ≥ n]."""
        ...


class SingleSeedStepRunner:
    """Takes the steps of one seed's run."""

    def __init__(self, run: SeedRun):
        experiment, self.sampler = run.experiment, run.sampler
        self.max_steps = self.sampler.max_steps

        init, step = build_init_and_step(run)
        self.key = jax.random.key(experiment.config.seed)
        self.state = init(self.key)
        self.train_step = self.sampler.compile(step)

        # Placed once; passing host arrays would copy the text tower at every step.
        self.text = jax.device_put(
            experiment.text, replicated_sharding(experiment.mesh)
        )

    def states(self) -> list[State]:
        return [self.state]

    def set_states(self, states: list[State]) -> None:
        (self.state,) = states

    def run_steps(self, step: int, n: int) -> dict[str, jax.Array]:
        inputs = self.sampler.inputs(step, n)
        self.state, metrics = self.train_step(self.state, *inputs, self.text, self.key)
        return metrics


def build_init_and_step(run: SeedRun) -> tuple[Callable, Callable]:
    """Returns (init, train_step) of a run: key → state, (state, batch, …) → state."""
    experiment, schedule = run.experiment, run.schedule
    weights = dict(experiment.config.loss)
    check_warmup(weights, schedule.total)
    optimiser = optim.build_optimiser(
        experiment.protocol_config.to_dict(),
        # Rounded up: the last epoch may be partial.
        epochs=-(-schedule.total // schedule.per_epoch),
        steps_per_epoch=schedule.per_epoch,
        loader_batches_per_epoch=run.sampler.loader_batches_per_epoch,
    )

    # The batch may be smaller than the recipe's, so microbatches are checked here.
    microbatches = run_microbatches(experiment, run.sampler.batch_size, say=True)
    if experiment.config.model.get("dtype") == AUTO and multihost.is_process_zero():
        status(f"precision: {experiment.model.dtype} (config.model.dtype={AUTO})")

    step = shared_train_step(
        experiment.model,
        experiment.spec,
        optimiser,
        weights=tuple(weights.items()),
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

    # Compiled before the workdir is written, so a bad recipe leaves no files.
    runner = SingleSeedStepRunner(run)
    run.open(restart)

    start, runner.state = run.restore(runner.state)
    if start and multihost.is_process_zero():
        status(f"resuming {workdir} at step {start} of {run.schedule.total}")

    run_training_loop([run], runner, start)
    return run.best, run.writer.history()


def run_training_loop(runs: Sequence[SeedRun], runner: StepRunner, start: int) -> None:
    """Takes the steps from `start` to the end, for runs that share a schedule.

    Raises:
      Preempted: a preemption signal came; a checkpoint is saved.
      Interrupted: Ctrl-C was pressed once; a checkpoint is saved.
      InputError: a metric isn't finite.
    """
    for run in runs:
        run.writer = MetricWriter(
            run.workdir, resume_step=start, active=multihost.is_process_zero()
        )

    with multihost.PreemptionSignal() as preemption:
        try:
            step = _take_steps(runs, runner, start, preemption)
        except BaseException:
            # The last checkpoint may still be written asynchronously.
            for run in runs:
                with contextlib.suppress(Exception):
                    run.checkpoints.wait()
            raise
        finally:
            # Its thread would wait for the next step for as long as the process lives.
            for run in runs:
                run.sampler.close()

        for run in runs:
            run.close()

    # A signal also ends a run after its last step: scoring the test videos takes longer.
    total = runs[0].schedule.total
    saved = f"step {step} of {total} {'is saved' if step else 'has nothing to save'}"
    if preemption.interrupted:
        raise Interrupted(saved)
    if preemption.received or step < total:
        raise Preempted(saved)


def _take_steps(
    runs: Sequence[SeedRun],
    runner: StepRunner,
    start: int,
    preemption: multihost.PreemptionSignal,
) -> int:
    """Runs until the last step or a preemption; returns the step reached."""
    step, schedule = start, runs[0].schedule
    pending: tuple[int, int, dict[str, jax.Array]] | None = None

    def runs_with_states():
        return zip(runs, runner.states(), strict=True)

    def log() -> None:
        # Fetching metrics waits for their steps, so this comes as late as possible.
        nonlocal pending
        if pending is not None:
            (start_step, n, metrics), pending = pending, None
            means = log_steps(runs, start_step, n, jax.device_get(metrics))
            progress.update(n, **means)

    with Progress(
        "train", schedule.total, unit="step", initial=start, compiles=True
    ) as progress:
        while True:
            # A resumed run must not repeat the evaluation at its start step.
            if step > runs[0].last_evaluated_step and schedule.evaluates(step):
                log()
                for run, state in runs_with_states():
                    run.evaluate(step, state)

            if step > start and schedule.reloads(step):
                runner.set_states(
                    [run.reload(state) for run, state in runs_with_states()]
                )

            # Saved after the reload, so a resumed run continues with the same weights.
            preempted = preemption.reached() and step < schedule.total
            if step > start and (preempted or schedule.saves(step)):
                log()
                for run, state in runs_with_states():
                    run.save(step, state)

            if preempted or step == schedule.total:
                return step

            # The next steps are dispatched before the previous metrics are fetched.
            n = schedule.steps_until_due(step, runner.max_steps)
            metrics = runner.run_steps(step, n)
            log()
            pending = step, n, metrics
            step += n


def log_steps(
    runs: Sequence[SeedRun], start_step: int, n: int, metrics: dict[str, np.ndarray]
) -> dict[str, float]:
    """Logs the n steps after `start_step`; returns the last step's means over the runs.

    Args:
      runs: runs that took the steps.
      start_step: number of steps done before.
      n: number of steps.
      metrics: arrays [≥ n] of one run or [runs, ≥ n], valid up to n.
    """
    tables = {k: np.reshape(v, (len(runs), -1)) for k, v in metrics.items()}

    for i in range(n):
        for row, run in enumerate(runs):
            values = {k: float(v[row, i]) for k, v in tables.items()}
            run.log(start_step + i + 1, values)

    means = {k: float(v[:, n - 1].mean()) for k, v in tables.items()}
    return {k: v for k, v in means.items() if k != "grad_norm"}
