"""Trains and scores the conditions of `benchmark text`, and compares them in pairs.

Every condition is compared with `trained`, seed by seed, on the same test videos.
Finished trainings are not repeated.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from wsvad_jax.benchmarks import text_conditions, text_metrics
from wsvad_jax.benchmarks.result_facts import result_facts
from wsvad_jax.benchmarks.text_conditions import TextCondition
from wsvad_jax.experiment.config import load_config
from wsvad_jax.results import seeds as seed_summary
from wsvad_jax.results.paired_interval import METHOD, paired_difference
from wsvad_jax.results.runs import without_folders
from wsvad_jax.utils import progress
from wsvad_jax.utils.files import write_json
from wsvad_jax.utils.text import mean_and_std

if TYPE_CHECKING:
    from wsvad_jax.data.cards import Card
    from wsvad_jax.experiment.build import Experiment
    from wsvad_jax.metrics.frame_level import EvalVideo

Values = Mapping[str, np.ndarray]  # metric → values [S, R + 1] by seed and resample


@dataclasses.dataclass(frozen=True)
class TextBenchmarkOptions:
    """What is measured, and where files go."""

    seeds: str  # as 0,1,2 or 0..4
    output: pathlib.Path  # for DATASET/MODEL.json
    runs: pathlib.Path  # for the workdirs
    conditions: Sequence[str] = text_conditions.NAMES
    held_out: Sequence[str] = ("all",)
    paraphrases: pathlib.Path | None = None  # card.json; None takes the demo's
    data_dir: str | None = None
    changes: Sequence[str] = ()  # flags --config.KEY=VALUE of every run
    together: bool = False  # trains the seeds of a condition as one program
    resamples: int = seed_summary.RESAMPLES


def text_benchmark(
    models: Sequence[str], datasets: Sequence[str], options: TextBenchmarkOptions
) -> list[dict[str, Any]]:
    """Measures what the words contribute to models; returns the results of each.

    Args:
      models: recipes whose models read text, by name.
      datasets: names, or paths of prepared datasets.
      options: what is measured, and where files go.

    Raises:
      InputError: a model without text, a condition that the dataset doesn't allow, base
        classes, or a workdir of other data.
    """
    from wsvad_jax.experiment.base_classes import refuse_base_classes
    from wsvad_jax.experiment.build import open_experiment
    from wsvad_jax.experiment.other_words import check_reads_text

    seeds = seed_summary.parse_seeds(options.seeds)
    grid = [(d, m) for d in datasets for m in models]

    # All recipes and conditions are read before the first training.
    cases = []
    for dataset, model in grid:
        flags = [f"--config={model}:{dataset}", *options.changes]
        config = load_config(flags, options.data_dir)
        refuse_base_classes(
            config,
            "contradicts the conditions, which train on all classes or leave one out; "
            "leave it out, or use benchmark open_vocabulary",
        )
        base = open_experiment(config, options.data_dir)
        check_reads_text(base.spec, f"--models {model}")
        cases.append((base, _conditions(base, options)))

    results = []
    for base, conditions in cases:
        result = measure_model(base, conditions, seeds, options)
        name = f"{result['dataset']}/{result['model']}.json"
        write_json(options.output / name, result)
        print(f"{options.output / name} is written")
        results.append(result)
    return results


def _conditions(
    base: "Experiment", options: TextBenchmarkOptions
) -> list[TextCondition]:
    card = base.dataset.card
    held_out = () if tuple(options.held_out) == ("none",) else options.held_out
    conditions = text_conditions.list_conditions(
        base.dataset,
        options.conditions,
        held_out,
        read_paraphrases(options.paraphrases, card),
    )
    kinds = [c.kind for c in conditions]

    asked = text_conditions.PARAPHRASED in options.conditions
    if asked and text_conditions.PARAPHRASED not in kinds:
        print(f"{card.name} has no paraphrases (--paraphrases CARD): left out")

    # The recipe's own tower may be the random one.
    random = [c for c in conditions if c.kind == text_conditions.RANDOM_TOWER]
    tower = base.text_tower_id or {}
    if random and tower.get("clip") == "random":
        print(f"the text tower of {card.name} has random weights already: left out")
        conditions.remove(random[0])
    return conditions


def read_paraphrases(path: pathlib.Path | None, card: "Card") -> "Card | None":
    """Returns the card of paraphrased prompts, None where there is none.

    Args:
      path: card.json; None takes those of the demo for its card.
      card: card of the dataset.
    """
    from wsvad_jax.datasets import registry
    from wsvad_jax.datasets.demo.paraphrases import paraphrased
    from wsvad_jax.experiment.other_words import read_words

    if path is not None:
        return read_words(path, card)
    if registry.recipe_name_of_card(card) == registry.DEMO:
        return paraphrased(card)
    return None


def measure_model(
    base: "Experiment",
    conditions: Sequence[TextCondition],
    seeds: Sequence[int],
    options: TextBenchmarkOptions,
) -> dict[str, Any]:
    """Trains and scores a model's conditions; returns the content of its file."""
    from wsvad_jax.training.workdir import run_name

    card, classes = base.dataset.card, base.dataset.card.class_names
    held_out = [c.held_out for c in conditions if c.held_out]
    runs = options.runs / run_name(base.config)

    values: dict[str, Values] = {}
    for i, condition in enumerate(conditions, 1):
        label = f"{run_name(base.config)}, {condition.name}"
        progress.status(f"{label}: {i} of {len(conditions)}")
        training = text_conditions.training_experiment(base, condition)
        folders = train_condition(
            training, seeds, runs / condition.training, options.together
        )
        scored = score_condition(base, training, condition, folders)

        # Baselines of held-out classes come from the trained models.
        wanted = [condition.held_out] if condition.held_out else held_out
        values[condition.name] = _values(
            scored, [classes.index(c) for c in wanted], card, options.resamples
        )

    base_values = values[text_conditions.TRAINED]
    rows = {c.name: _compared(c, values[c.name], base_values) for c in conditions}
    return {**_about(base, seeds, options), "conditions": rows}


def _about(
    base: "Experiment", seeds: Sequence[int], options: TextBenchmarkOptions
) -> dict[str, Any]:
    """Returns which model, data, code and bootstrap the numbers come from."""

    name = base.dataset.card.name
    about = {
        "model": base.config.model_name,
        "dataset": name,
        "protocol": base.config.protocol,
        "seeds": list(seeds),
        **result_facts(base, name, options.resamples, method=METHOD),
    }
    # Files are kept in version control, without paths of this machine.
    return without_folders(about)


def train_condition(
    training: "Experiment", seeds: Sequence[int], folder: pathlib.Path, together: bool
) -> list[pathlib.Path]:
    """Trains the unfinished seeds of a condition; returns all seeds' workdirs.

    Args:
      training: experiment of the condition.
      seeds: seeds of the runs.
      folder: folder of the workdirs.
      together: whether the seeds are trained as one program.

    Raises:
      InputError: a workdir holds a run of another recipe or other data.
    """
    from wsvad_jax.results import run_data
    from wsvad_jax.training.run import train_experiments
    from wsvad_jax.training.workdir import check_workdir

    data = run_data.describe(training.dataset, training.text_tower_id)
    experiments = {}
    for seed in seeds:
        config = training.config.copy_and_resolve_references()
        config.seed = seed
        workdir = folder / f"seed{seed}"
        check_workdir(workdir, config)
        run_data.check(workdir, data, "choose another --runs folder")
        experiments[workdir] = dataclasses.replace(training, config=config)

    train_experiments(experiments, together=together)
    return list(experiments)


def score_condition(
    base: "Experiment",
    training: "Experiment",
    condition: TextCondition,
    folders: Sequence[pathlib.Path],
) -> "list[list[EvalVideo]]":
    """Scores the whole test set with each seed's model and the condition's words."""
    from wsvad_jax.evaluation.scorer import Scorer, score_split
    from wsvad_jax.weights.model_folder import load_params

    experiment = text_conditions.test_experiment(base, training, condition)
    scorer = Scorer(experiment)  # compiled once for all seeds
    scored = []
    for folder in folders:
        params, batch_stats, _ = load_params(folder / "model")
        scored.append(score_split(experiment, scorer, params, batch_stats))
    return scored


def _values(
    scored: "Sequence[Sequence[EvalVideo]]",
    classes: Sequence[int],
    card: "Card",
    resamples: int,
) -> Values:
    """Returns the metrics by seed and resample; those of classes end in /CLASS."""
    weights = text_metrics.resampled_weights(scored[0], resamples, seed_summary.SEED)
    per_seed = []
    for videos in scored:
        values = text_metrics.overall_values(videos, weights, card.stride)
        for c in classes:
            of_class = text_metrics.class_values(videos, weights, c, card.stride)
            name = card.class_names[c]
            values |= {f"{key}/{name}": value for key, value in of_class.items()}
        per_seed.append(values)
    return {key: np.stack([v[key] for v in per_seed]) for key in per_seed[0]}


def _compared(condition: TextCondition, values: Values, base: Values) -> dict[str, Any]:
    """Returns a condition's metrics with their differences to the trained models'."""
    metrics = {}
    for key, found in values.items():
        seeds = [float(v) if np.isfinite(v) else None for v in found[:, 0]]
        mean, std = mean_and_std(seeds)
        metrics[key] = {"mean": mean, "std": std, "seeds": seeds}
        if condition.kind != text_conditions.TRAINED:
            difference = paired_difference(found, base[key])
            metrics[key]["difference"] = dataclasses.asdict(difference)

    return {
        "words": {c.name: list(c.prompts) for c in condition.words.classes},
        "held_out": condition.held_out,
        "metrics": metrics,
    }
