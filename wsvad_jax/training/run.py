"""Trains a recipe for one or several seeds, and writes the files of each run."""

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
from wsvad_jax.utils import progress
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
    """Trains a model, scores the test set and writes results.

    Args:
      config: recipe, or its name or file as in `load_config`.
      workdir: folder of the run. An unfinished run in it is resumed; the results of a
        finished one are shown.
      data_dir: folder of the prepared datasets.
      restart: moves an earlier run to `workdir`/previous-N and trains from step 0.

    Returns:
      The content of results.json.

    Raises:
      InputError: recipe, dataset or workdir is invalid, the workdir holds a run of other
        data, or a loss isn't finite.
    """
    from wsvad_jax.evaluation.scorer import Scorer
    from wsvad_jax.experiment.build import open_experiment
    from wsvad_jax.parallel import multihost
    from wsvad_jax.results import run_data
    from wsvad_jax.training.loop import train_one_seed

    if isinstance(config, str | os.PathLike):
        config = load_config(config, data_dir)
    workdir = pathlib.Path(workdir)

    # Cheap checks come before the dataset is opened or made.
    check_workdir(workdir, config, restart)
    if (workdir / "results.json").is_file() and not restart:
        return show_finished_run(config, workdir, data_dir)

    # All processes look at the workdir before one of them changes it.
    multihost.sync_processes("workdir")
    with multihost.process_zero_first("data"):
        experiment = open_experiment(config, data_dir)
    if not restart:
        check_same_data(
            workdir, run_data.describe(experiment.dataset, experiment.text_tower_id)
        )
    scorer = Scorer(experiment)

    # Process 0 holds the lock for all processes of the run, which share its folder.
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
    """Prints and returns the results of a finished run.

    Raises:
      InputError: the dataset has changed since the run.
    """
    from wsvad_jax.results import run_data
    from wsvad_jax.results.results_table import results_table

    results = read_json(workdir / "results.json")

    # A dataset may be deleted once its run is finished, so this is no error.
    try:
        now = run_data.describe(run_data.prepared(config, data_dir))
    except InputError as e:
        unknown = str(e)
    else:
        recorded = run_data.check(workdir, now)
        unknown = "" if recorded else "an older version of this program noted none"

    print(results_table(results))
    print(f"{workdir} is finished; another --workdir or seed starts a new run")
    if unknown:
        print(f"its data was not compared with the dataset: {unknown}")
    return results


def check_same_data(workdir: pathlib.Path, now: dict[str, Any]) -> None:
    """Checks that the dataset is the one that an unfinished run was started with.

    Prints a note for runs of older versions, which didn't record their data.

    Args:
      workdir: folder of the run, new or existing.
      now: description of the dataset, of `run_data.describe`.

    Raises:
      InputError: the dataset has changed.
    """
    from wsvad_jax.parallel import multihost
    from wsvad_jax.results import run_data

    # Written first, so that a refused run can be identified as well.
    if multihost.is_process_zero():
        run_data.begin_about(workdir)

    begun = (workdir / "config.json").is_file()
    if not run_data.check(workdir, now) and begun and multihost.is_process_zero():
        print(
            f"{workdir} was started by an older version, which didn't record its data; "
            "it resumes without a comparison of the dataset",
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
    """Writes the selected weights, and scores and results of the test set.

    Args:
      experiment: recipe, dataset and model that were trained.
      scorer: compiled scoring program.
      workdir: folder of the run.
      best: selected weights.
      history: lines of metrics.jsonl.
      training_s: wall time of the training in seconds.

    Returns:
      The content of results.json.
    """
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
        # Scoring needs these, and must work without the dataset.
        "length": experiment.T,
        "width": experiment.width,
        "tower": experiment.text_tower_id,
    }
    save_params(workdir / "model", best.params, best.batch_stats, meta)

    start = time.perf_counter()
    videos = score_split(experiment, scorer, best.params, best.batch_stats)
    seconds = {"training": training_s, "scoring": time.perf_counter() - start}

    # results.json comes last: it marks the run as finished.
    if multihost.is_process_zero():
        about = provenance.provenance(experiment, seconds)
        write_json(workdir / provenance.FILE, about)
    return evaluate_results.write_results(experiment, videos, workdir, meta, history)


def selection_note(experiment: "Experiment") -> str:
    """Returns in words how the weights were selected."""
    plan = experiment.protocol_config
    if plan.select == "last":
        return "last weights"
    paper = experiment.config.protocol == "paper"
    return f"best {plan.metric} on {'test' if paper else 'held-out training videos'}"


def check_workdir(
    workdir: pathlib.Path, config: "ConfigDict", restart: bool = False
) -> None:
    """Checks that a workdir is new, empty or holds a run of this recipe.

    Args:
      workdir: folder to check.
      config: recipe.
      restart: whether a run of another recipe may be moved aside.

    Raises:
      InputError: the workdir belongs to another run, or holds other files.
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
    """Trains the recipe once per seed and writes a summary.

    Args:
      config: recipe; its own seed isn't used.
      seeds: seeds as '0,1,2' or '0..4'; '' takes the recipe's list, `config.seeds`.
      workdir: folder for seed0, seed1 … and summary.json; None takes each run's default.
      data_dir: folder of the prepared datasets.
      together: whether unfinished seeds are trained side by side, as one program.
      restart: moves every seed's run and the summary aside and trains from step 0.

    Returns:
      The content of the summary.

    Raises:
      InputError: seeds or workdir are invalid, or as in `train_and_evaluate`.
    """
    from wsvad_jax.results import seeds as seed_summary

    if workdir is not None and (workdir / "config.json").is_file():
        raise InputError(f"{workdir} is a single run; give --seeds another --workdir")
    numbers = seed_summary.parse_seeds(
        seeds or ",".join(map(str, config.get("seeds", ())))
    )
    summary = pathlib.Path("runs") / f"{run_name(config)}-{config.protocol}-seeds.json"
    if workdir is not None:
        summary = workdir / "summary.json"

    configs = {}
    for seed in numbers:
        seed_config = config.copy_and_resolve_references()
        seed_config.seed = seed
        folder = workdir / f"seed{seed}" if workdir else default_workdir(seed_config)
        configs[folder] = seed_config

    # All workdirs are checked before the first is trained or moved aside.
    check_workdirs(configs, data_dir, restart)
    if restart and summary.is_file():
        move_aside(summary, summary.parent / "previous")

    if together:
        train_unfinished_together(configs, data_dir, restart=restart)
        # A single seed isn't trained above, so the loop below restarts it.
        restart = restart and len(configs) < 2
    for i, (folder, seed_config) in enumerate(configs.items(), 1):
        progress.status(f"seed {seed_config.seed}, {i} of {len(configs)}: {folder}")
        train_and_evaluate(seed_config, folder, data_dir, restart=restart)
    return seed_summary.write_summary(summary, list(configs), data_dir)


def check_workdirs(
    configs: dict[pathlib.Path, "ConfigDict"], data_dir: str | None, restart: bool
) -> None:
    """Checks the workdirs of all seeds, given recipes by workdir.

    Raises:
      InputError: a workdir belongs to another recipe or other data.
    """
    from wsvad_jax.results import run_data

    # A dataset that can't be opened is reported when training opens it.
    now = None
    with contextlib.suppress(InputError):
        dataset = run_data.prepared(next(iter(configs.values())), data_dir)
        now = run_data.describe(dataset)

    for workdir, config in configs.items():
        check_workdir(workdir, config, restart)
        if now and not restart:
            run_data.check(workdir, now)


def train_unfinished_together(
    configs: dict[pathlib.Path, "ConfigDict"],
    data_dir: str | None = None,
    *,
    restart: bool = False,
) -> None:
    """Trains the unfinished seeds of a recipe side by side, if there are several.

    Args:
      configs: recipe by workdir; the recipes differ by seed alone.
      data_dir: folder of the prepared datasets.
      restart: trains all seeds from step 0, finished ones too.

    Raises:
      InputError: there are several processes, or as in `train_and_evaluate`.
    """
    import jax

    from wsvad_jax.evaluation.scorer import Scorer
    from wsvad_jax.experiment.build import open_experiment
    from wsvad_jax.results import run_data
    from wsvad_jax.training.vmapped_seeds import train_vmapped_seeds

    if jax.process_count() > 1:
        raise InputError("--together requires a single process; leave --multihost out")
    unfinished = {
        workdir: config
        for workdir, config in configs.items()
        if restart or not (workdir / "results.json").is_file()
    }
    if len(unfinished) < 2:
        return

    experiment = open_experiment(next(iter(unfinished.values())), data_dir)
    data = run_data.describe(experiment.dataset, experiment.text_tower_id)
    for workdir in () if restart else unfinished:
        check_same_data(workdir, data)

    # All seeds share one dataset, text tower and scoring program.
    experiments = [
        dataclasses.replace(experiment, config=config) for config in unfinished.values()
    ]
    scorer, workdirs = Scorer(experiment), list(unfinished)
    seeds = ", ".join(str(config.seed) for config in unfinished.values())
    progress.status(f"seeds {seeds} together")

    with contextlib.ExitStack() as stack:
        for workdir in workdirs:
            stack.enter_context(locked(workdir))
        start = time.perf_counter()
        results = train_vmapped_seeds(experiments, scorer, workdirs, restart)
        seconds = time.perf_counter() - start  # of all seeds

        # Each seed leaves the files of a single run.
        for one, workdir, (best, history) in zip(
            experiments, workdirs, results, strict=True
        ):
            write_run(one, scorer, workdir, best, history, seconds)


def run_name(config: "ConfigDict") -> str:
    """Returns MODEL-DATASET; a dataset given by path counts by its folder's name."""
    path = pathlib.PurePath(config.data.name)
    # A prepared dataset's folder is NAME/VERSION.
    name = (
        path.parent.name if path.name[:1].isdigit() and path.parent.name else path.name
    )
    return f"{config.model_name}-{name}"


def default_workdir(config: "ConfigDict") -> pathlib.Path:
    """Returns runs/MODEL-DATASET-SEED, with the suffix -paper for that protocol."""
    name = f"{run_name(config)}-{config.seed}"
    if config.protocol == "paper":
        name += "-paper"
    return pathlib.Path("runs") / name
