"""Trains a recipe for one or several seeds, and writes the files of each run.

A run first trains (`loop.train_one_seed`). `finished_run.write_run` then scores the test
set and writes its files. `train_seeds` adds summary.json.
"""

import contextlib
import dataclasses
import os
import pathlib
import time
from typing import TYPE_CHECKING, Any

from wsvad_jax.experiment.config import load_config
from wsvad_jax.training.finished_run import is_finished, show_finished_run, write_run
from wsvad_jax.training.workdir import (
    check_same_data,
    check_workdir,
    check_workdirs,
    default_workdir,
    run_name,
)
from wsvad_jax.utils import progress
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import locked, move_aside

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from wsvad_jax.experiment.build import Experiment


def train_and_evaluate(
    config: "ConfigDict | str | os.PathLike",
    workdir: str | os.PathLike,
    data_dir: str | os.PathLike | None = None,
    *,
    restart: bool = False,
    keep_checkpoints: bool = False,
) -> dict[str, Any]:
    """Trains a model, scores the test set and writes results.

    Args:
      config: ConfigDict, recipe name, or path; see `load_config`.
      workdir: folder of the run. An unfinished run in it is resumed; the results of a
        finished one are shown.
      data_dir: folder of the prepared datasets.
      restart: whether an earlier run is moved to `workdir`/previous-N first.
      keep_checkpoints: whether the finished run keeps its checkpoints, which take about
        three times the space of the weights.

    Returns:
      The content of results.json.

    Raises:
      InputError: recipe, dataset or workdir is invalid, the workdir holds a run of other
        data, or a loss isn't finite.
    """
    from wsvad_jax.experiment.build import open_experiment
    from wsvad_jax.parallel import multihost

    if isinstance(config, str | os.PathLike):
        config = load_config(config, data_dir)
    workdir = pathlib.Path(workdir)

    # Cheap checks come before the dataset is opened or built.
    check_workdir(workdir, config, restart)
    if is_finished(workdir) and not restart:
        return show_finished_run(config, workdir, data_dir)

    # Barrier: all processes check the workdir before one of them changes it.
    multihost.sync_processes("workdir")
    with multihost.process_zero_first("data"):
        experiment = open_experiment(config, data_dir)
    return train_experiment(
        experiment, workdir, restart=restart, keep_checkpoints=keep_checkpoints
    )


def train_experiment(
    experiment: "Experiment",
    workdir: pathlib.Path,
    *,
    restart: bool = False,
    keep_checkpoints: bool = False,
) -> dict[str, Any]:
    """Trains an opened experiment; the work of `train_and_evaluate`.

    Args:
      experiment: opened recipe; its dataset and prompts may be changed.
      workdir: folder of the run, which `check_workdir` has accepted.
      restart: whether an earlier run is moved aside first.
      keep_checkpoints: whether the finished run keeps its checkpoints.

    Raises:
      InputError: the workdir holds a run of other data, or a loss isn't finite.
    """
    from wsvad_jax.evaluation.scorer import Scorer
    from wsvad_jax.experiment.training_view import training_view
    from wsvad_jax.parallel import multihost
    from wsvad_jax.results import run_data
    from wsvad_jax.training.loop import train_one_seed

    if not restart:
        check_same_data(
            workdir, run_data.describe(experiment.dataset, experiment.text_tower_id)
        )
    experiment = training_view(experiment)
    scorer = Scorer(experiment)

    # Process 0 holds the lock for all processes of the run, which share its folder.
    with locked(workdir) if multihost.is_process_zero() else contextlib.nullcontext():
        start = time.perf_counter()
        best, history = train_one_seed(experiment, scorer, workdir, restart)
        seconds = time.perf_counter() - start
        return write_run(
            experiment,
            scorer,
            workdir,
            best,
            history,
            seconds,
            keep_checkpoints=keep_checkpoints,
        )


def train_seeds(
    config: "ConfigDict",
    seeds: str,
    workdir: pathlib.Path | None = None,
    data_dir: str | None = None,
    *,
    together: bool = False,
    restart: bool = False,
    keep_checkpoints: bool = False,
) -> dict[str, Any]:
    """Trains the recipe once per seed and writes a summary.

    Args:
      config: recipe; its own seed isn't used.
      seeds: seeds as '0,1,2' or '0..4'; '' takes the recipe's list, `config.seeds`.
      workdir: folder for seed0, seed1 … and summary.json; None takes each run's default.
      data_dir: folder of the prepared datasets.
      together: whether unfinished seeds are trained side by side, as one program.
      restart: whether every seed's run and the summary are moved aside first.
      keep_checkpoints: whether the finished runs keep their checkpoints.

    Returns:
      The content of the summary.

    Raises:
      InputError: seeds or workdir are invalid, or as in `train_and_evaluate`.
    """
    from wsvad_jax.clip import training_notes
    from wsvad_jax.experiment import validation
    from wsvad_jax.results import seeds as seed_summary

    if workdir is not None and (workdir / "config.json").is_file():
        raise InputError(f"{workdir} is a single run; give --seeds another --workdir")

    # The list names the workdirs, which are checked before any recipe is opened.
    validation.check(config)
    numbers = seed_summary.parse_seeds(seeds) if seeds else config.get("seeds", ())
    if not numbers:
        raise InputError("config.seeds is empty; pass the seeds: --seeds 0,1,2")

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

    trained = []
    if together:
        trained = train_unfinished_together(
            configs, data_dir, restart=restart, keep_checkpoints=keep_checkpoints
        )

    # Trained seeds only show their results; the others are trained one by one.
    with training_notes.shown_once():
        for i, (folder, seed_config) in enumerate(configs.items(), 1):
            progress.status(f"seed {seed_config.seed}, {i} of {len(configs)}: {folder}")
            again = restart and folder not in trained
            train_and_evaluate(
                seed_config,
                folder,
                data_dir,
                restart=again,
                keep_checkpoints=keep_checkpoints,
            )
    return seed_summary.write_summary(summary, list(configs), data_dir)


def train_unfinished_together(
    configs: dict[pathlib.Path, "ConfigDict"],
    data_dir: str | None = None,
    *,
    restart: bool = False,
    keep_checkpoints: bool = False,
) -> list[pathlib.Path]:
    """Trains the unfinished seeds of a recipe side by side, if there are several.

    Returns the trained seeds' workdirs, which are none if a single seed is unfinished.

    Args:
      configs: recipe by workdir; the recipes differ by seed alone.
      data_dir: folder of the prepared datasets.
      restart: whether finished seeds are trained too, all from step 0.
      keep_checkpoints: whether the finished runs keep their checkpoints.

    Raises:
      InputError: there are several processes, or as in `train_and_evaluate`.
    """
    import jax

    from wsvad_jax.experiment.build import open_experiment

    if jax.process_count() > 1:
        raise InputError("--together requires a single process; leave --multihost out")
    unfinished = {
        workdir: config
        for workdir, config in configs.items()
        if restart or not is_finished(workdir)
    }
    if len(unfinished) < 2:
        return []

    # All seeds share one dataset, text tower and scoring program.
    experiment = open_experiment(next(iter(unfinished.values())), data_dir)
    _train_together(
        {
            workdir: dataclasses.replace(experiment, config=config)
            for workdir, config in unfinished.items()
        },
        restart,
        keep_checkpoints,
    )
    return list(unfinished)


def train_experiments(
    experiments: "dict[pathlib.Path, Experiment]", *, together: bool = False
) -> None:
    """Trains the unfinished ones of opened experiments that differ by seed alone.

    Args:
      experiments: experiments by workdir, which `check_workdir` has accepted.
      together: whether several unfinished seeds are trained as one program.

    Raises:
      InputError: as in `train_experiment`.
    """
    unfinished = {w: e for w, e in experiments.items() if not is_finished(w)}
    if together and len(unfinished) > 1:
        _train_together(unfinished)
        return
    for i, (workdir, experiment) in enumerate(unfinished.items(), 1):
        seed = experiment.config.seed
        progress.status(f"seed {seed}, {i} of {len(unfinished)}: {workdir}")
        train_experiment(experiment, workdir)


def _train_together(
    experiments: "dict[pathlib.Path, Experiment]",
    restart: bool = False,
    keep_checkpoints: bool = False,
) -> None:
    """Trains opened experiments, which differ by seed alone, as one program."""
    from wsvad_jax.evaluation.scorer import Scorer
    from wsvad_jax.experiment.training_view import training_view
    from wsvad_jax.results import run_data
    from wsvad_jax.training.vmapped_seeds import train_vmapped_seeds

    workdirs, opened = list(experiments), list(experiments.values())
    first = opened[0]
    data = run_data.describe(first.dataset, first.text_tower_id)
    for workdir in () if restart else workdirs:
        check_same_data(workdir, data)

    # The seeds share one view of the videos, and score as they were opened.
    first = training_view(first)
    if first.whole:
        opened = [dataclasses.replace(first, config=e.config, whole=e) for e in opened]
    scorer = Scorer(first)
    seeds = ", ".join(str(e.config.seed) for e in opened)
    progress.status(f"seeds {seeds} together")

    with contextlib.ExitStack() as stack:
        for workdir in workdirs:
            stack.enter_context(locked(workdir))
        start = time.perf_counter()
        results = train_vmapped_seeds(opened, scorer, workdirs, restart)
        seconds = time.perf_counter() - start  # of all seeds

        # Each seed leaves the files of a single run.
        for experiment, workdir, (best, history) in zip(
            opened, workdirs, results, strict=True
        ):
            write_run(
                experiment,
                scorer,
                workdir,
                best,
                history,
                seconds,
                keep_checkpoints=keep_checkpoints,
            )
