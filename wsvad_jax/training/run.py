"""Trains a recipe for one or several seeds, and writes all that a run leaves."""

import contextlib
import dataclasses
import os
import pathlib
import sys
import time
from typing import TYPE_CHECKING, Any

from wsvad_jax.experiment.config import load_config
from wsvad_jax.experiment.identity import (
    MUTABLE_ON_RESUME,
    comparable_config,
    first_difference,
    keys_in_force,
)
from wsvad_jax.experiment.saved_config import read_config
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import locked, move_aside, read_json, write_json

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from wsvad_jax.evaluation.scorer import Scorer
    from wsvad_jax.experiment.build import Experiment
    from wsvad_jax.training.loop import BestWeights


def train_and_evaluate(
    config: "ConfigDict | str | os.PathLike",
    workdir: str | os.PathLike,
    data_dir: str | os.PathLike | None = None,
    *,
    restart: bool = False,
) -> dict[str, Any]:
    """Trains, selects, scores the test set; returns the content of results.json.

    Args:
      config: the recipe, or its name as `cli.load_config` takes it.
      workdir: where results go; a run that is there is resumed, or shown if finished.
      data_dir: where prepared datasets are or are made.
      restart: moves a run that is there to `workdir`/previous-N and trains from step 0.

    Raises:
      InputError: a bad recipe, dataset or workdir, a run of other data, or a loss that
        is not finite.
    """
    from wsvad_jax.evaluation.scorer import Scorer
    from wsvad_jax.experiment.build import open_experiment
    from wsvad_jax.parallel import multihost
    from wsvad_jax.results import run_data
    from wsvad_jax.training.loop import train_one_seed

    if isinstance(config, str | os.PathLike):
        config = load_config(config, data_dir)
    workdir = pathlib.Path(workdir)
    check_workdir(workdir, config, restart)
    if (workdir / "results.json").is_file() and not restart:
        return show_finished_run(config, workdir, data_dir)
    multihost.sync_processes("workdir")
    with multihost.process_zero_first("data"):
        experiment = open_experiment(config, data_dir)
    if not restart:
        check_same_data(
            workdir, run_data.describe(experiment.dataset, experiment.text_tower_id)
        )
    scorer = Scorer(experiment)
    # The other processes of one run on several hosts share its folder.
    with locked(workdir) if multihost.is_process_zero() else contextlib.nullcontext():
        start = time.perf_counter()
        best, history = train_one_seed(experiment, scorer, workdir, restart)
        seconds = time.perf_counter() - start
        return write_run(experiment, scorer, workdir, best, history, seconds)


def show_finished_run(
    config: "ConfigDict",
    workdir: pathlib.Path,
    data_dir: str | os.PathLike | None,
) -> dict[str, Any]:
    """Prints and returns the results of a finished run, if its data is the dataset's.

    Raises:
      InputError: the dataset has changed since.
    """
    from wsvad_jax.results import run_data
    from wsvad_jax.results.results_table import results_table

    results = read_json(workdir / "results.json")
    try:
        now = run_data.describe(run_data.prepared(config, data_dir))
    except InputError as e:  # a dataset may be gone when its run is done
        unknown = str(e)
    else:
        noted = run_data.check(workdir, now)
        unknown = "" if noted else "an older version of this program noted none"
    print(results_table(results))
    print(f"{workdir} is finished; another --workdir or seed starts a new run")
    if unknown:
        print(f"its data was not compared with the dataset: {unknown}")
    return results


def check_same_data(workdir: pathlib.Path, now: dict[str, Any]) -> None:
    """Says where a run can't tell whether the dataset has changed since it began.

    Raises:
      InputError: it has changed.
    """
    from wsvad_jax.parallel import multihost
    from wsvad_jax.results import run_data

    # A folder always says whose it is, whether the run is refused or not.
    if multihost.is_process_zero():
        run_data.begin_about(workdir)
    begun = (workdir / "config.json").is_file()
    if not run_data.check(workdir, now) and begun and multihost.is_process_zero():
        print(
            f"{workdir} was begun by an older version, which didn't note its data: it "
            "resumes without a comparison of the dataset",
            file=sys.stderr,
        )


def write_run(
    experiment: "Experiment",
    scorer: "Scorer",
    workdir: pathlib.Path,
    best: "BestWeights",
    history: list[dict[str, Any]],
    training_s: float,
) -> dict[str, Any]:
    """Writes the selected weights and all that the test set says of them."""
    from wsvad_jax.evaluation import results as evaluate_results
    from wsvad_jax.evaluation.scorer import score_split
    from wsvad_jax.parallel import multihost
    from wsvad_jax.training import provenance
    from wsvad_jax.training.sampler import training_remarks
    from wsvad_jax.weights.model_folder import save_params

    meta = {
        "model": experiment.config.model_name,
        "config": comparable_config(experiment.config),
        "card": experiment.dataset.card.to_json(),
        "features": dataclasses.asdict(experiment.dataset.protocol),
        "step": best.step,
        "selection": selection_note(experiment),
        "remarks": training_remarks(experiment),
        "checkpoint": "model",
        # What scoring needs of the dataset, which may be gone by then.
        "length": experiment.T,
        "width": experiment.width,
        "tower": experiment.text_tower_id,
    }
    save_params(workdir / "model", best.params, best.batch_stats, meta)
    start = time.perf_counter()
    videos = score_split(experiment, scorer, best.params, best.batch_stats)
    seconds = {"training": training_s, "scoring": time.perf_counter() - start}
    if multihost.is_process_zero():
        about = provenance.provenance(experiment, seconds)
        write_json(workdir / provenance.FILE, about)
    return evaluate_results.write_results(experiment, videos, workdir, meta, history)


def selection_note(experiment: "Experiment") -> str:
    """Says in words which weights the results are of."""
    plan = experiment.protocol_config
    if plan.select == "last":
        return "last weights"
    paper = experiment.config.protocol == "paper"
    return f"best {plan.metric} on {'test' if paper else 'held-out training videos'}"


def check_workdir(
    workdir: pathlib.Path, config: "ConfigDict", restart: bool = False
) -> None:
    """Raises InputError if `workdir` belongs to something else than this recipe.

    With `restart` it may belong to any run.
    """
    path = workdir / "config.json"
    if path.is_file():
        if restart:
            return
        saved = keys_in_force(read_config(path), MUTABLE_ON_RESUME)
        asked = keys_in_force(comparable_config(config), MUTABLE_ON_RESUME)
        if differs := first_difference(saved, asked):
            key, old, new = differs
            raise InputError(
                f"{workdir} belongs to another run: its {key} is {old!r}, yours "
                f"{new!r}; choose another --workdir"
            )
    elif workdir.is_dir() and any(
        not p.name.startswith((".", "previous-")) for p in workdir.iterdir()
    ):
        raise InputError(
            f"{workdir} is not empty and holds no run (config.json is missing); choose "
            "another --workdir"
        )


def train_seeds(
    config: "ConfigDict",
    seeds: str,
    workdir: pathlib.Path | None = None,
    data_dir: str | None = None,
    *,
    together: bool = False,
    restart: bool = False,
) -> dict[str, Any]:
    """Runs the recipe once per seed; writes and returns the summary.

    Args:
      config: the recipe, whose own seed doesn't count.
      seeds: as '0,1,2' or '0..4'; '' takes the recipe's list, `config.seeds`.
      workdir: holds seed0, seed1 … and summary.json; None takes each run's default.
      data_dir: where prepared datasets are or are made.
      together: trains those that are not finished as one program.
      restart: moves every seed's run and the summary aside and trains from step 0.
    """
    from wsvad_jax.results import seeds as study

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
        places[place] = one
    check_workdirs(places, data_dir, restart)
    if restart and summary.is_file():
        move_aside(summary, summary.parent / "previous")
    if together:
        train_unfinished_together(places, data_dir, restart=restart)
        restart = restart and len(places) < 2  # one is left to the loop below
    for i, (place, one) in enumerate(places.items(), 1):
        print(f"seed {one.seed}, {i} of {len(places)}: {place}", flush=True)
        train_and_evaluate(one, place, data_dir, restart=restart)
    return study.write_summary(summary, list(places), data_dir)


def check_workdirs(
    configs: dict[pathlib.Path, "ConfigDict"], data_dir: str | None, restart: bool
) -> None:
    """Checks the workdirs of all seeds before any of them is trained.

    Raises:
      InputError: one belongs to another recipe or other data.
    """
    from wsvad_jax.results import run_data

    now = None
    with contextlib.suppress(InputError):  # said when training opens it
        dataset = run_data.prepared(next(iter(configs.values())), data_dir)
        now = run_data.describe(dataset)
    for place, config in configs.items():
        check_workdir(place, config, restart)
        if now and not restart:
            run_data.check(place, now)


def train_unfinished_together(
    configs: dict[pathlib.Path, "ConfigDict"],
    data_dir: str | None = None,
    *,
    restart: bool = False,
) -> None:
    """Trains recipes that differ by seed, by workdir, except those that are done.

    With `restart` none counts as done.
    """
    import jax

    from wsvad_jax.evaluation.scorer import Scorer
    from wsvad_jax.experiment.build import open_experiment
    from wsvad_jax.results import run_data
    from wsvad_jax.training.vmapped_seeds import train_vmapped_seeds

    if jax.process_count() > 1:
        raise InputError("--together is of one process; leave --multihost out")
    left = {
        workdir: config
        for workdir, config in configs.items()
        if restart or not (workdir / "results.json").is_file()
    }
    if len(left) < 2:
        return
    experiment = open_experiment(next(iter(left.values())), data_dir)
    for workdir in () if restart else left:
        check_same_data(
            workdir, run_data.describe(experiment.dataset, experiment.text_tower_id)
        )
    # One dataset, text tower and scoring program serve all.
    experiments = [
        dataclasses.replace(experiment, config=config) for config in left.values()
    ]
    scorer, workdirs = Scorer(experiment), list(left)
    seeds = ", ".join(str(config.seed) for config in left.values())
    print(f"seeds {seeds} together", flush=True)
    with contextlib.ExitStack() as stack:
        for workdir in workdirs:
            stack.enter_context(locked(workdir))
        start = time.perf_counter()
        trained = train_vmapped_seeds(experiments, scorer, workdirs, restart)
        seconds = time.perf_counter() - start  # of all seeds
        for one, workdir, found in zip(experiments, workdirs, trained, strict=True):
            write_run(one, scorer, workdir, *found, seconds)


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
