"""Trains a grid of models, datasets, seeds and protocols, and collects the results."""

import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wsvad_jax.experiment.config import load_config
from wsvad_jax.utils import progress
from wsvad_jax.utils.errors import InputError

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from wsvad_jax.results.seed_groups import SeedGroup


def parse_names(
    text: str, known: Sequence[str], flag: str, others: Sequence[str] = ()
) -> list[str]:
    """Returns the names in 'a,b'; 'all' stands for all of them.

    Args:
      text: value of the flag.
      known: names that 'all' stands for.
      flag: flag, for the message.
      others: further names, which 'all' doesn't include.

    Raises:
      InputError: a name is in neither list.
    """
    words = [word.strip() for word in text.split(",")]
    names = [n for word in words for n in (known if word == "all" else [word])]
    for name in names:
        if name not in (*known, *others):
            raise InputError(
                f"{flag} {text}: {name!r} must be one of {', '.join((*known, *others))}"
            )
    return list(dict.fromkeys(names))


def dataset_names(text: str, flag: str = "--datasets") -> list[str]:
    """Returns the names or paths of datasets in 'a,b', each once.

    Args:
      text: value of the flag.
      flag: flag, for the message.

    Raises:
      InputError: a name is empty; a recipe without a dataset would take its default.
    """
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        wrong = f"{flag} {text} has an empty name" if any(names) else f"{flag} is empty"
        raise InputError(f"{wrong}; pass names or prepared folders, as demo,ucf")
    return list(dict.fromkeys(names))


def repro(
    models: Sequence[str],
    datasets: Sequence[str],
    seeds: str,
    protocols: Sequence[str],
    output: pathlib.Path,
    runs: pathlib.Path,
    *,
    data_dir: str | None = None,
    changes: Sequence[str] = (),
    together: bool = False,
    ablations: bool = False,
) -> "list[SeedGroup]":
    """Trains or resumes the runs of a grid; returns its finished runs by recipe.

    A model without weights is scored once, whatever the seeds and protocols are.

    Args:
      models: recipes, by name.
      datasets: names, or paths of prepared datasets.
      seeds: their number, as '5', or a list, as '0,1,2' or '0..4'.
      protocols: 'clean', 'paper' or both.
      output: folder of the collected results.
      runs: folder of the workdirs.
      data_dir: folder of prepared datasets.
      changes: flags --config.KEY=VALUE for every run.
      together: trains a recipe's seeds as one program.
      ablations: whether to train the rows of each model's ablation table, too, each in
        a separate folder.
    """
    from wsvad_jax.benchmarks.ablations import rows
    from wsvad_jax.results.runs import collect, find_runs
    from wsvad_jax.results.seed_groups import UNTRAINED, group_by_recipe
    from wsvad_jax.training.run import run_name, train_seeds

    grid = [
        (row, [f"--config={m}:{d}", f"--config.protocol={p}", *flags, *changes])
        for d in datasets
        for m in models
        for row, flags in (
            rows(m) if ablations and m not in UNTRAINED else {"": ()}
        ).items()
        for p in (["clean"] if m in UNTRAINED else protocols)
    ]
    # All recipes are read before the first run, so that a mistake costs no training.
    configs = [(row, load_config(flags, data_dir)) for row, flags in grid]

    groups = []
    for i, (row, config) in enumerate(configs, 1):
        name = "-".join(filter(None, (run_name(config), row, config.protocol)))
        progress.status(f"{name}, {i} of {len(grid)}")
        if config.model_name in UNTRAINED:
            score_untrained(config, runs / name, data_dir)
        else:
            train_seeds(
                config, parse_seed_flag(seeds), runs / name, data_dir, together=together
            )

        # After every recipe, so that an interrupted grid leaves its finished results.
        finished, summaries, _ = find_runs([runs / name])
        collect(finished, output / row, summaries)
        groups += group_by_recipe(finished, summaries)

    return groups


def score_untrained(
    config: "ConfigDict", workdir: pathlib.Path, data_dir: str | None
) -> None:
    """Scores a model without weights, and writes a summary with its intervals.

    Args:
      config: recipe.
      workdir: folder for seed0 and summary.json, as of trained models.
      data_dir: folder of prepared datasets.
    """
    from wsvad_jax.evaluation.results import evaluate_model
    from wsvad_jax.results.seeds import write_summary

    evaluate_model(config, None, workdir / "seed0", data_dir)
    write_summary(workdir / "summary.json", [workdir / "seed0"], data_dir)


def parse_seed_flag(seeds):
    """Returns seeds as `train_seeds` takes them: '5' stands for 0..4."""
    if not seeds.strip().isdecimal():
        return seeds
    if int(seeds) < 1:
        raise InputError(f"--seeds {seeds}: requires at least one seed")
    return f"0..{int(seeds) - 1}"
