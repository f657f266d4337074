"""The training loop, for one seed or for several side by side.

Between steps the order is fixed: evaluate if due, go on from the best weights if the
plan says so, save if due, then start the next steps and log those before. Metrics are
fetched only after the next steps are under way, so that the device doesn't wait for the
host. With the split on the device a call takes as many steps as lie before the next
evaluation or checkpoint (`train_step.MAX_STEPS_PER_CALL` at most).
"""

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
from wsvad_jax.training.sampler import BatchSampler, open_batch_sampler, open_validation
from wsvad_jax.training.state import State, make_init
from wsvad_jax.training.train_step import make_train_step, num_microbatches
from wsvad_jax.utils.errors import InputError, Preempted
from wsvad_jax.utils.files import write_json
from wsvad_jax.utils.progress import Progress

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from wsvad_jax.evaluation.scorer import Scorer
    from wsvad_jax.experiment.build import Experiment

# A step takes its state's memory over: weights that are to stay are copies.
copy_tree = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))


@dataclasses.dataclass(frozen=True)
class Schedule:
    """What is due between the steps of a training, by the number of steps done."""

    total: int
    per_epoch: int
    eval_every: int | None  # None: each epoch's end
    save_every: int | None  # None: each epoch's end
    reload_best: bool

    def evaluates(self, step: int) -> bool:
        """Whether the selection metric is computed after `step` steps.

        `eval_every` counts anew in each epoch where it is shorter than one, as the
        releases do.
        """
        if step == self.total:
            return True
        every = self.eval_every or self.per_epoch
        within = step % self.per_epoch if every < self.per_epoch else step
        return step > 0 and within > 0 and within % every == 0

    def reloads(self, step: int) -> bool:
        """Whether training goes on from the best weights, optimiser as it was."""
        return self.reload_best and step % self.per_epoch == 0

    def saves(self, step: int) -> bool:
        """Whether a checkpoint is written after `step` steps."""
        return step == self.total or step % (self.save_every or self.per_epoch) == 0

    def until(self, step: int, most: int) -> int:
        """How many steps follow `step` with nothing due between them, at most `most`."""
        for n in range(1, most):
            then = step + n
            if self.evaluates(then) or self.reloads(then) or self.saves(then):
                return n
        return most


def build_schedule(experiment: "Experiment", sampler: BatchSampler) -> Schedule:
    """Returns the schedule of the recipe's plan."""
    plan, per_epoch = experiment.protocol_config, sampler.steps_per_epoch
    return Schedule(
        plan.steps or plan.epochs * per_epoch,
        per_epoch,
        plan.eval_every_steps,
        experiment.config.checkpoint_every_steps,
        plan.reload_best,
    )


@dataclasses.dataclass
class BestWeights:
    """The weights that the protocol selects, so far."""

    params: Any
    batch_stats: Any
    step: int = 0
    metric: float | None = None

    def arrays(self) -> dict[str, Any]:
        return {"params": self.params, "batch_stats": self.batch_stats}


def is_improvement(
    metric: float | None, best: float | None, plan: "ConfigDict"
) -> bool:
    """Whether new weights replace the best; of equals, the later under `clean`.

    A held-out tenth of a small dataset is soon scored without a mistake; the later of
    two such weights has seen more.
    """
    if plan.select == "last" or best is None or metric is None:
        return True
    return metric >= best if plan.prefer_later_on_tie else metric > best


class SeedRun:
    """One seed's training: its batches, its best weights, its workdir."""

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
        """Opens the workdir; `restart` first moves the run aside that it holds."""
        # Only now: a recipe that can't be trained leaves nothing behind.
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
        """Returns step and state of the last checkpoint, up to step `newest`."""
        weights = {"params": initial.params, "batch_stats": initial.batch_stats}
        template = {"state": initial, "best": weights}
        found = self.checkpoints.restore(template, newest)
        if not found:
            if multihost.is_process_zero() and read_history(self.workdir):
                print(f"{self.workdir} holds no checkpoint: training starts at step 0")
            self.evaluated, self.best = 0, BestWeights(**copy_tree(weights))
            return 0, initial
        step, tree, record = found
        self.evaluated = record["evaluated"]
        self.best = BestWeights(
            **tree["best"], step=record["best"], metric=record["metric"]
        )
        return step, tree["state"]

    def evaluate(self, step: int, state: State) -> None:
        """Scores the weights for selection; keeps them if they are the best."""
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
        """Writes a checkpoint."""
        best = self.best
        record = {"evaluated": self.evaluated, "best": best.step, "metric": best.metric}
        self.checkpoints.save(step, {"state": state, "best": best.arrays()}, record)

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Writes the metrics of a step, the first being 1.

        Raises:
          InputError: one is not finite; names step, term and videos.
        """
        bad = [name for name, value in metrics.items() if not np.isfinite(value)]
        if bad:
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
    """Holds the states of runs and takes their steps."""

    max_steps: int  # steps of an advance, at most

    def states(self) -> list[State]: ...
    def replace(self, states: list[State]) -> None: ...
    def advance(self, step: int, n: int) -> dict[str, jax.Array]:
        """Takes the n steps after `step`; returns metrics, [≥ n] or [runs, ≥ n]."""
        ...


class SingleSeedStepper:
    """Takes the steps of one training."""

    def __init__(self, run: SeedRun):
        experiment, self.sampler = run.experiment, run.sampler
        self.max_steps = self.sampler.max_steps
        init, step = build_init_and_step(run)
        self.key = jax.random.key(experiment.config.seed)
        self.state = init(self.key)
        self.step = self.sampler.compile(step)
        # Once: a step that gets it from the host would copy the text tower each time.
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
    """Returns the functions that make a training's initial state and take a step."""
    experiment, schedule = run.experiment, run.schedule
    optimiser = optim.build_optimiser(
        experiment.protocol_config.to_dict(),
        epochs=-(-schedule.total // schedule.per_epoch),
        steps_per_epoch=schedule.per_epoch,
        loader_batches_per_epoch=run.sampler.loader_batches_per_epoch,
    )
    weights = dict(experiment.config.loss)
    batch_size = run.sampler.batch_size
    parts = num_microbatches(
        experiment.config, experiment.spec, batch_size, experiment.mesh
    )
    step = make_train_step(experiment.model, experiment.spec, optimiser, weights, parts)
    example = run.sampler.example()
    return make_init(experiment.model, optimiser, example, experiment.mesh), step


def train_one_seed(
    experiment: "Experiment",
    scorer: "Scorer",
    workdir: pathlib.Path,
    restart: bool = False,
) -> tuple[BestWeights, list[dict[str, Any]]]:
    """Trains a recipe, from the newest checkpoint if there is one.

    With `restart` the run that is there is moved aside. Returns the selected weights and the lines of metrics.jsonl.
    """
    with multihost.process_zero_first("sampler"):
        run = SeedRun(experiment, scorer, workdir)
    stepper = SingleSeedStepper(run)
    run.open(restart)
    start, stepper.state = run.restore(stepper.state)
    if start and multihost.is_process_zero():
        print(f"resuming {workdir} at step {start} of {run.schedule.total}")
    run_training_loop([run], stepper, start)
    return run.best, run.writer.history()


def run_training_loop(runs: Sequence[SeedRun], stepper: Stepper, start: int) -> None:
    """Takes all steps after `start` of runs that share a schedule."""
    step, schedule = start, runs[0].schedule
    pending: tuple[int, int, dict[str, jax.Array]] | None = None
    for run in runs:
        run.writer = MetricWriter(
            run.workdir, resume_step=start, active=multihost.is_process_zero()
        )

    def each():
        return zip(runs, stepper.states(), strict=True)

    def log() -> None:
        nonlocal pending
        if pending is not None:
            (first, n, found), pending = pending, None
            shown = log_steps(runs, first, n, jax.device_get(found))
            progress.update(n, **shown)

    with (
        multihost.PreemptionSignal() as preemption,
        Progress("train", schedule.total, unit="step", initial=start) as progress,
    ):
        while True:
            if step > runs[0].evaluated and schedule.evaluates(step):
                log()
                for run, state in each():
                    run.evaluate(step, state)
            if step > start and schedule.reloads(step):
                stepper.replace([run.reload(state) for run, state in each()])
            stop = preemption.reached() and step < schedule.total
            if step > start and (stop or schedule.saves(step)):
                log()
                for run, state in each():
                    run.save(step, state)
            if stop or step == schedule.total:
                break
            n = schedule.until(step, stepper.max_steps)
            metrics = stepper.advance(step, n)
            log()
            pending = step, n, metrics
            step += n
    for run in runs:
        run.close()
    if stop:
        raise Preempted(f"step {step} of {schedule.total} is saved")


def log_steps(
    runs: Sequence[SeedRun], first: int, n: int, metrics: dict[str, np.ndarray]
) -> dict[str, float]:
    """Logs the n steps after `first`; returns what progress shows of the last one."""
    # [runs, steps], of which n are real.
    tables = {k: np.reshape(v, (len(runs), -1)) for k, v in metrics.items()}
    for i in range(n):
        for row, run in enumerate(runs):
            values = {k: float(v[row, i]) for k, v in tables.items()}
            run.log(first + i + 1, values)
    means = {k: float(v[:, n - 1].mean()) for k, v in tables.items()}
    return {k: v for k, v in means.items() if k != "grad_norm"}
