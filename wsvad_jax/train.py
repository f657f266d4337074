"""Trains a recipe, scores the test videos, leaves numbers and pictures.

  python -m wsvad_jax.train --config configs/dsanet.py
  python -m wsvad_jax.train --config configs/dsanet.py:ucf --data_dir DIR \\
      --workdir runs/ucf --config.seed=1 --config.protocol=paper
  python -m wsvad_jax.train --config configs/dsanet.py --seeds 0,1,2

Input: a recipe, FILE[:DATASET], where DATASET is demo (made on the spot), ucf, xd,
shanghaitech or the folder of a prepared dataset. Outputs, in the workdir (default
runs/MODEL-DATASET-SEED, under protocol paper with -paper behind it): config.json,
checkpoints/, metrics.jsonl, TensorBoard events, model/ (the selected weights),
results.json, scores.npz and report.png. The same command again resumes where the last
checkpoint is, or shows the results of a finished run.

With --seeds, a run for each seed (in WORKDIR/seed0 … where --workdir is given), then
mean ± standard deviation and bootstrap intervals over test videos, printed and written
to runs/MODEL-DATASET-PROTOCOL-seeds.json (WORKDIR/summary.json). Finished seeds are
skipped.
"""

import argparse
import dataclasses
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from wsvad_jax import cli
from wsvad_jax.errors import InputError
from wsvad_jax.files import read_json, write_json
from wsvad_jax.runs import flatten

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from wsvad_jax.feed import Feed
    from wsvad_jax.recipe import Recipe
    from wsvad_jax.scoring import Scorer


def train_and_evaluate(
    config: "ConfigDict", workdir: pathlib.Path, data_dir: str | None = None
) -> dict[str, Any]:
    """Trains, selects, scores the test set; returns the content of results.json.

    Raises:
      InputError: a bad recipe, dataset or workdir, or a loss that is not finite.
    """
    from wsvad_jax import evaluate
    from wsvad_jax.checkpoint import save_params
    from wsvad_jax.recipe import open_recipe
    from wsvad_jax.scoring import Scorer, score_split
    from wsvad_jax.writer import results_table

    check_workdir(workdir, config)
    if (workdir / "results.json").is_file():
        results = read_json(workdir / "results.json")
        print(results_table(results))
        print(f"{workdir} is finished; another --workdir or seed starts a new run")
        return results
    recipe = open_recipe(config, data_dir)
    scorer = Scorer(recipe)
    best, history = fit(recipe, scorer, workdir)
    meta = {
        "model": config.model_name,
        "config": settings(config),
        "card": recipe.dataset.card.to_json(),
        "features": dataclasses.asdict(recipe.dataset.protocol),
        "step": best.step,
        "selection": selection_note(recipe),
        "checkpoint": "model",
        # What scoring needs of the dataset, which may be gone by then.
        "length": recipe.T,
        "width": recipe.width,
        "tower": recipe.tower,
    }
    save_params(workdir / "model", best.params, best.batch_stats, meta)
    videos = score_split(recipe, scorer, best.params, best.batch_stats)
    return evaluate.write_results(recipe, videos, workdir, meta, history)


@dataclasses.dataclass
class Best:
    """The weights that the protocol selects, so far."""

    params: Any
    batch_stats: Any
    step: int = 0
    metric: float | None = None

    def arrays(self) -> dict[str, Any]:
        return {"params": self.params, "batch_stats": self.batch_stats}


def fit(
    recipe: "Recipe", scorer: "Scorer", workdir: pathlib.Path
) -> tuple[Best, list[dict[str, Any]]]:
    """Runs the training loop, from the newest checkpoint if there is one.

    The order within a step is fixed: evaluate if due, save if due, take the batch, run
    the step, log the step before. Metrics of a step are fetched only after the next one
    is under way, so that the device doesn't wait for the host.
    """
    import jax
    import jax.numpy as jnp

    from wsvad_jax import optim
    from wsvad_jax.checkpoint import Checkpoints
    from wsvad_jax.feed import open_feed, open_validation
    from wsvad_jax.progress import Progress
    from wsvad_jax.state import init_state, make_step, replicated
    from wsvad_jax.writer import Writer

    config, plan = recipe.config, recipe.plan
    feed = open_feed(recipe)
    validate = open_validation(recipe, feed, scorer)
    per_epoch = feed.steps_per_epoch
    total = plan.get("steps", 0) or plan.epochs * per_epoch
    optimiser = optim.from_plan(
        plan.to_dict(),
        epochs=-(-total // per_epoch),
        steps_per_epoch=per_epoch,
        loader_steps=feed.loader_steps,
    )
    state = init_state(
        recipe.model, optimiser, feed.example(), config.seed, recipe.mesh
    )
    # A step takes its state's memory over: weights that are to stay are copies.
    copy = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))
    best = Best(copy(state.params), copy(state.batch_stats))
    # Only now: a recipe that can't be trained leaves nothing behind.
    write_json(workdir / "config.json", settings(config))
    checkpoints = Checkpoints(workdir / "checkpoints")
    start = evaluated = 0
    if found := checkpoints.restore({"state": state, "best": best.arrays()}):
        start, tree, record = found
        state, evaluated = tree["state"], record["evaluated"]
        best = Best(**tree["best"], step=record["best"], metric=record["metric"])
        print(f"resuming {workdir} at step {start} of {total}")
    step_fn = make_step(
        recipe.model,
        recipe.paper.loss_fn,
        optimiser,
        dict(config.loss),
        config.seed,
        recipe.mesh,
        to_batch=feed.to_batch,
    )
    # Once: a step that gets it from the host would copy the text tower each time.
    text = jax.device_put(recipe.text, replicated(recipe.mesh))
    writer = Writer(workdir, resume_step=start)
    pending: tuple[int, dict[str, jax.Array]] | None = None
    save_every = config.get("checkpoint_every", 0) or per_epoch

    def log() -> None:
        nonlocal pending
        if pending is not None:
            step, metrics = pending[0], jax.device_get(pending[1])
            pending = None
            check_finite(step, metrics, feed)
            writer.write(step, {k: float(v) for k, v in metrics.items()})
            shown = {k: float(v) for k, v in metrics.items() if k != "grad_norm"}
            progress.update(1, **shown)

    with Progress("train", total, unit="step", initial=start) as progress:
        for step in range(start, total + 1):
            epoch_end = step % per_epoch == 0
            if step > evaluated and evaluation_due(step, total, per_epoch, plan):
                log()
                metric, metrics = validate(state)
                evaluated = step
                if metrics:
                    writer.write(step, metrics)
                if better(metric, best.metric, plan):
                    best = Best(
                        copy(state.params), copy(state.batch_stats), step, metric
                    )
            if step > start and epoch_end and plan.get("reload_best") and best.step:
                # The release goes on from the best weights, optimiser as it was.
                state = dataclasses.replace(
                    state, params=copy(best.params), batch_stats=copy(best.batch_stats)
                )
            if step > start and (step % save_every == 0 or step == total):
                log()
                record = {
                    "evaluated": evaluated,
                    "best": best.step,
                    "metric": best.metric,
                }
                checkpoints.save(step, {"state": state, "best": best.arrays()}, record)
            if step == total:
                break
            inputs = feed.inputs(step)
            state, metrics = step_fn(state, inputs, text)
            log()
            pending = step + 1, metrics
    checkpoints.close()
    writer.close()
    return best, writer.history()


def evaluation_due(step: int, total: int, per_epoch: int, plan: "ConfigDict") -> bool:
    """Whether the selection metric is computed after `step` steps.

    `eval_every` counts steps, and anew in each epoch where it is shorter than one, as
    the releases do; 0 is each epoch's end.
    """
    if step == total:
        return True
    every = plan.eval_every or per_epoch
    within = step % per_epoch if every < per_epoch else step
    return step > 0 and within > 0 and within % every == 0


def better(metric: float | None, best: float | None, plan: "ConfigDict") -> bool:
    """Whether new weights replace the best; of equals, the later under `clean`.

    A held-out tenth of a small dataset is soon scored without a mistake; the later of
    two such weights has seen more.
    """
    if plan.select == "last" or best is None or metric is None:
        return True
    return metric >= best if plan.get("later_of_equals") else metric > best


def check_finite(step: int, metrics: dict[str, Any], feed: "Feed") -> None:
    """Stops at a loss that is not finite, naming step, term and videos."""
    import numpy as np

    bad = [name for name, value in metrics.items() if not np.isfinite(value)]
    if bad:
        videos = feed.videos(step - 1)
        raise InputError(
            f"step {step}: {bad[0]} is {float(metrics[bad[0]])}; the batch's videos "
            f"are {', '.join(videos[:8])}{' …' if len(videos) > 8 else ''}; look for "
            "extreme features among them or lower the learning rate"
        )


def selection_note(recipe: "Recipe") -> str:
    """Says in words which weights the results are of."""
    plan = recipe.plan
    if plan.select == "last":
        return "last weights"
    paper = recipe.config.protocol == "paper"
    return f"best {plan.metric} on {'test' if paper else 'held-out training videos'}"


def settings(config: "ConfigDict") -> dict[str, Any]:
    """Returns what a run depends on: all of the recipe but a study's list of seeds."""
    return {k: v for k, v in config.to_dict().items() if k != "seeds"}


def check_workdir(workdir: pathlib.Path, config: "ConfigDict") -> None:
    """Raises InputError if `workdir` belongs to something else than this recipe."""
    path = workdir / "config.json"
    if path.is_file():
        found, now = flatten(read_json(path)), flatten(settings(config))
        for key in sorted(found.keys() | now.keys(), key=lambda k: k != "model_name"):
            if found.get(key) != now.get(key):
                raise InputError(
                    f"{workdir} belongs to another run: its {key} is "
                    f"{found.get(key)!r}, yours {now.get(key)!r}; choose another "
                    "--workdir"
                )
    elif workdir.is_dir() and any(workdir.iterdir()):
        raise InputError(
            f"{workdir} is not empty and holds no run (config.json is missing); choose "
            "another --workdir"
        )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m wsvad_jax.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Other options: --config.KEY=VALUE changes a key of the recipe, as "
        "--config.seed=1.",
    )
    parser.add_argument("--config", required=True, help="a recipe, FILE[:DATASET]")
    parser.add_argument("--workdir", type=pathlib.Path, help="where results go")
    parser.add_argument("--data_dir", help="where prepared datasets lie or are made")
    parser.add_argument(
        "--seeds",
        nargs="?",
        const="",
        help="a run for each: 0,1,2 or 0..4; without a value, the recipe's list",
    )
    parser.add_argument("--multihost", action="store_true", help=cli.MULTIHOST_HELP)
    known, rest = parser.parse_known_args(argv)
    cli.start_hosts(known.multihost)
    config = cli.load_config([f"--config={known.config}", *rest])
    if known.seeds is None:
        workdir = known.workdir or default_workdir(config)
        train_and_evaluate(config, workdir, known.data_dir)
        return 0
    if any(a.split("=")[0] == "--config.seed" for a in rest):
        raise InputError("--seeds and --config.seed both choose the seed; pass one")
    train_seeds(config, known.seeds, known.workdir, known.data_dir)
    return 0


def train_seeds(
    config: "ConfigDict",
    seeds: str,
    workdir: pathlib.Path | None = None,
    data_dir: str | None = None,
) -> dict[str, Any]:
    """Runs the recipe once a seed; writes and returns the summary.

    Args:
      config: the recipe, whose own seed doesn't count.
      seeds: as '0,1,2' or '0..4'; '' takes the recipe's list, `config.seeds`.
      workdir: holds seed0, seed1 … and summary.json; None takes each run's default.
      data_dir: where prepared datasets lie or are made.
    """
    from wsvad_jax import study

    chosen = study.parse_seeds(seeds or ",".join(map(str, config.get("seeds", ()))))
    if workdir is not None and (workdir / "config.json").is_file():
        raise InputError(f"{workdir} is a single run; give --seeds another --workdir")
    summary = pathlib.Path("runs") / f"{run_name(config)}-{config.protocol}-seeds.json"
    if workdir is not None:
        summary = workdir / "summary.json"
    places = {}
    for seed in chosen:
        one = config.copy_and_resolve_references()
        one.seed = seed
        place = workdir / f"seed{seed}" if workdir else default_workdir(one)
        check_workdir(place, one)  # of all seeds, before any is trained
        places[place] = one
    for i, (place, one) in enumerate(places.items(), 1):
        print(f"seed {one.seed}, {i} of {len(places)}: {place}", flush=True)
        train_and_evaluate(one, place, data_dir)
    return study.write_summary(summary, list(places), data_dir)


def run_name(config: "ConfigDict") -> str:
    """MODEL-DATASET, with the folder's name for a dataset given by path."""
    path = pathlib.PurePath(config.data.name)
    # A prepared dataset's folder is NAME/VERSION.
    name = (
        path.parent.name if path.name[:1].isdigit() and path.parent.name else path.name
    )
    return f"{config.model_name}-{name}"


def default_workdir(config: "ConfigDict") -> pathlib.Path:
    """runs/MODEL-DATASET-SEED, and -paper behind it where the test set selects."""
    name = f"{run_name(config)}-{config.seed}"
    if config.protocol == "paper":
        name += "-paper"
    return pathlib.Path("runs") / name


if __name__ == "__main__":
    cli.run(main)
