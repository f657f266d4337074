"""Trains a recipe, scores the test videos, leaves numbers and pictures.

  python -m wsvad_jax.train --config configs/dsanet.py
  python -m wsvad_jax.train --config configs/dsanet.py:ucf --data_dir DIR \\
      --workdir runs/ucf --config.seed=1 --config.protocol=paper
  python -m wsvad_jax.train --config configs/dsanet.py --seeds 0,1,2
  python -m wsvad_jax.train --config configs/clip_tsa.py --seeds 0..7 --together

Input: a recipe, FILE[:DATASET], where DATASET is demo (made on the spot), ucf, xd,
shanghaitech or the folder of a prepared dataset. Outputs, in the workdir (default
runs/MODEL-DATASET-SEED, under protocol paper with -paper behind it): config.json,
checkpoints/, metrics.jsonl, TensorBoard events, model/ (the selected weights),
MODEL_CARD.md, run.json (commit, overrides, hashes of the data, time and memory),
results.json, scores.npz, curves.json and report.png. The same command again resumes where
the last checkpoint is, or shows the results of a finished run.

With --seeds, a run for each seed (in WORKDIR/seed0 … where --workdir is given), then
mean ± standard deviation and bootstrap intervals over test videos, printed and written
to runs/MODEL-DATASET-PROTOCOL-seeds.json (WORKDIR/summary.json). Finished seeds are
skipped. With --together the others train as one program, with the packed training split
on the device; each leaves what it leaves alone.
"""

import argparse
import contextlib
import dataclasses
import os
import pathlib
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from wsvad_jax import cli, flags
from wsvad_jax.errors import InputError
from wsvad_jax.files import locked, read_json, write_json
from wsvad_jax.recipe import settings
from wsvad_jax.run_checks import read_config
from wsvad_jax.runs import flatten

# A run may go on with other values of these.
ANEW = ("data.parts", "data.placement", "model.remat")

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from wsvad_jax.loop import Best
    from wsvad_jax.recipe import Recipe
    from wsvad_jax.scoring import Scorer


def train_and_evaluate(
    config: "ConfigDict",
    workdir: str | os.PathLike,
    data_dir: str | os.PathLike | None = None,
) -> dict[str, Any]:
    """Trains, selects, scores the test set; returns the content of results.json.

    Raises:
      InputError: a bad recipe, dataset or workdir, or a loss that is not finite.
    """
    from wsvad_jax import hosts
    from wsvad_jax.loop import fit
    from wsvad_jax.recipe import open_recipe
    from wsvad_jax.scoring import Scorer
    from wsvad_jax.writer import results_table

    workdir = pathlib.Path(workdir)
    check_workdir(workdir, config)
    if (workdir / "results.json").is_file():
        results = read_json(workdir / "results.json")
        print(results_table(results))
        print(f"{workdir} is finished; another --workdir or seed starts a new run")
        return results
    hosts.wait("workdir")
    with hosts.first_alone("data"):
        recipe = open_recipe(config, data_dir)
    scorer = Scorer(recipe)
    # The other processes of one run on several hosts share its folder.
    with locked(workdir) if hosts.is_first() else contextlib.nullcontext():
        start = time.perf_counter()
        best, history = fit(recipe, scorer, workdir)
        seconds = time.perf_counter() - start
        return finish(recipe, scorer, workdir, best, history, seconds)


def finish(
    recipe: "Recipe",
    scorer: "Scorer",
    workdir: pathlib.Path,
    best: "Best",
    history: list[dict[str, Any]],
    training_s: float,
) -> dict[str, Any]:
    """Writes the selected weights and all that the test set says of them."""
    from wsvad_jax import evaluate, hosts, provenance
    from wsvad_jax.checkpoint import save_params
    from wsvad_jax.feed import remarks
    from wsvad_jax.scoring import score_split

    meta = {
        "model": recipe.config.model_name,
        "config": settings(recipe.config),
        "card": recipe.dataset.card.to_json(),
        "features": dataclasses.asdict(recipe.dataset.protocol),
        "step": best.step,
        "selection": selection_note(recipe),
        "remarks": remarks(recipe),
        "checkpoint": "model",
        # What scoring needs of the dataset, which may be gone by then.
        "length": recipe.T,
        "width": recipe.width,
        "tower": recipe.tower,
    }
    save_params(workdir / "model", best.params, best.batch_stats, meta)
    start = time.perf_counter()
    videos = score_split(recipe, scorer, best.params, best.batch_stats)
    seconds = {"training": training_s, "scoring": time.perf_counter() - start}
    if hosts.is_first():
        about = provenance.provenance(recipe, seconds)
        write_json(workdir / provenance.FILE, about)
    return evaluate.write_results(recipe, videos, workdir, meta, history)


def selection_note(recipe: "Recipe") -> str:
    """Says in words which weights the results are of."""
    plan = recipe.plan
    if plan.select == "last":
        return "last weights"
    paper = recipe.config.protocol == "paper"
    return f"best {plan.metric} on {'test' if paper else 'held-out training videos'}"


def check_workdir(workdir: pathlib.Path, config: "ConfigDict") -> None:
    """Raises InputError if `workdir` belongs to something else than this recipe."""
    path = workdir / "config.json"
    if path.is_file():
        found, now = flatten(read_config(path)), flatten(settings(config))
        for key in sorted(found.keys() | now.keys(), key=lambda k: k != "model_name"):
            if key not in ANEW and found.get(key) != now.get(key):
                raise InputError(
                    f"{workdir} belongs to another run: its {key} is "
                    f"{found.get(key)!r}, yours {now.get(key)!r}; choose another "
                    "--workdir"
                )
    elif workdir.is_dir() and any(p.name[0] != "." for p in workdir.iterdir()):
        raise InputError(
            f"{workdir} is not empty and holds no run (config.json is missing); choose "
            "another --workdir"
        )


def main(argv: Sequence[str] | None = None) -> int:
    parser = flags.Parser(
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
    parser.add_argument(
        "--together", action="store_true", help="the seeds of --seeds in one program"
    )
    parser.add_argument("--multihost", action="store_true", help=cli.MULTIHOST_HELP)
    known, rest = parser.parse_known_args(argv)
    cli.start_hosts(known.multihost)
    config = cli.load_config(
        [f"--config={known.config}", *rest],
        known.data_dir,
        flags=flags.options(parser),
    )
    if known.seeds is None:
        if known.together:
            raise InputError("--together is of --seeds; pass both, as --seeds 0..7")
        workdir = known.workdir or default_workdir(config)
        train_and_evaluate(config, workdir, known.data_dir)
        return 0
    if any(a.split("=")[0] == "--config.seed" for a in rest):
        raise InputError("--seeds and --config.seed both choose the seed; pass one")
    where = known.workdir, known.data_dir
    train_seeds(config, known.seeds, *where, together=known.together)
    return 0


def train_seeds(
    config: "ConfigDict",
    seeds: str,
    workdir: pathlib.Path | None = None,
    data_dir: str | None = None,
    *,
    together: bool = False,
) -> dict[str, Any]:
    """Runs the recipe once a seed; writes and returns the summary.

    Args:
      config: the recipe, whose own seed doesn't count.
      seeds: as '0,1,2' or '0..4'; '' takes the recipe's list, `config.seeds`.
      workdir: holds seed0, seed1 … and summary.json; None takes each run's default.
      data_dir: where prepared datasets lie or are made.
      together: trains those that are not finished as one program.
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
    if together:
        train_together(places, data_dir)
    for i, (place, one) in enumerate(places.items(), 1):
        print(f"seed {one.seed}, {i} of {len(places)}: {place}", flush=True)
        train_and_evaluate(one, place, data_dir)
    return study.write_summary(summary, list(places), data_dir)


def train_together(
    configs: dict[pathlib.Path, "ConfigDict"], data_dir: str | None = None
) -> None:
    """Trains recipes that differ by seed, by workdir, except those that are done."""
    import jax

    from wsvad_jax.recipe import open_recipe
    from wsvad_jax.scoring import Scorer
    from wsvad_jax.together import fit_together

    if jax.process_count() > 1:
        raise InputError("--together is of one process; leave --multihost out")
    left = {w: c for w, c in configs.items() if not (w / "results.json").is_file()}
    if len(left) < 2:
        return
    recipe = open_recipe(next(iter(left.values())), data_dir)
    # One dataset, text tower and scoring program serve all.
    recipes = [dataclasses.replace(recipe, config=config) for config in left.values()]
    scorer, workdirs = Scorer(recipe), list(left)
    seeds = ", ".join(str(config.seed) for config in left.values())
    print(f"seeds {seeds} together", flush=True)
    with contextlib.ExitStack() as stack:
        for workdir in workdirs:
            stack.enter_context(locked(workdir))
        start = time.perf_counter()
        trained = fit_together(recipes, scorer, workdirs)
        seconds = time.perf_counter() - start  # of all seeds
        for one, workdir, found in zip(recipes, workdirs, trained, strict=True):
            finish(one, scorer, workdir, *found, seconds)


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
