"""Trains models on some datasets and scores each on the test sets of others.

Every model is trained once per training set and seed. A test set's class words are those
of its own card. Finished trainings and scores are kept, so a run that was interrupted
resumes.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from wsvad_jax.benchmarks import text_metrics
from wsvad_jax.benchmarks.result_facts import result_facts
from wsvad_jax.experiment.config import load_config
from wsvad_jax.results import seeds as seed_summary
from wsvad_jax.results.paired_interval import METHOD, paired_difference
from wsvad_jax.results.runs import without_folders
from wsvad_jax.results.tables import headline_metric
from wsvad_jax.utils import progress
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import write_json
from wsvad_jax.utils.text import file_stem, mean_and_std

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from wsvad_jax.data.dataset import Dataset
    from wsvad_jax.experiment.build import Experiment

DROP_METHOD = (
    "percentile interval of the difference; both test sets are resampled, each by itself, "
    "or in pairs where they have the same videos; the seeds are resampled, too"
)


@dataclasses.dataclass(frozen=True)
class TransferOptions:
    """What is measured, and where files go."""

    seeds: str  # as 0,1,2 or 0..4
    output: pathlib.Path  # for MODEL/TRAINING_SET.json
    runs: pathlib.Path  # for the workdirs
    data_dir: str | None = None
    changes: Sequence[str] = ()  # flags --config.KEY=VALUE of every run
    together: bool = False  # trains the seeds of a model as one program
    resamples: int = seed_summary.RESAMPLES


@dataclasses.dataclass(frozen=True)
class TestScores:
    """Metrics of one model's seeds on one test set."""

    videos: tuple[Any, ...]  # name, length and true events of each video
    values: Mapping[str, np.ndarray]  # metric → [S, R + 1] by seed and resample

    # pytest takes classes of such names for tests.
    __test__ = False


def transfer(
    models: Sequence[str],
    train: Sequence[str],
    test: Sequence[str],
    options: TransferOptions,
) -> list[dict[str, Any]]:
    """Measures how models transfer; returns the content of each file.

    Args:
      models: recipes, by name.
      train: training sets: names, or paths of prepared datasets.
      test: datasets whose test splits are scored.
      options: what is measured, and where files go.

    Raises:
      InputError: two datasets of one name, features that were made in different ways, or
        a workdir of other data.
    """
    from wsvad_jax.experiment.build import open_experiment

    seeds = seed_summary.parse_seeds(options.seeds)
    configs = {model: [_config(model, n, options) for n in train] for model in models}
    _build_last([*train, *test], options)
    tests = _open_tests(test, options)

    # All pairs are checked before the first training.
    cases: dict[str, list[Experiment]] = {}
    for model in models:
        cases[model] = [open_experiment(c, options.data_dir) for c in configs[model]]
        _check_names("--train", train, [e.dataset for e in cases[model]])
        for experiment in cases[model]:
            _check_pairs(experiment, tests)

    results = []
    for i, (model, experiments) in enumerate(cases.items()):
        rows: dict[str, dict[str, TestScores]] = {}
        for k, experiment in enumerate(experiments, 1):
            number = f"{i * len(train) + k} of {len(models) * len(train)}"
            name = experiment.dataset.card.name
            progress.status(f"{model} trained on {name}: {number}")
            rows[name] = measure_training(experiment, tests, seeds, options)
            # After every training, so that an interruption leaves what is finished.
            written = write_rows(experiments[:k], rows, tests, seeds, options)
        results += written
    return results


def _open_tests(names: Sequence[str], options: TransferOptions) -> "list[Dataset]":
    from wsvad_jax.data.dataset import open_dataset
    from wsvad_jax.datasets import registry

    paths = [registry.resolve(name, options.data_dir) for name in names]
    tests = [open_dataset(path) for path in paths]
    _check_names("--test", names, tests)
    return tests


def _config(model: str, name: str, options: TransferOptions) -> "ConfigDict":
    flags = [f"--config={model}:{name}", *options.changes]
    return load_config(flags, options.data_dir)


def _build_last(names: Sequence[str], options: TransferOptions) -> None:
    """Raises InputError for a dataset that is missing, then builds demo worlds."""
    from wsvad_jax.datasets import registry

    # Rendering a world takes minutes, and a mistyped name shouldn't come after it.
    unique = dict.fromkeys(names)
    for name in sorted(unique, key=lambda n: registry.demo_world(n) is not None):
        registry.resolve(name, options.data_dir)


def _check_names(
    flag: str, asked: Sequence[str], datasets: "Sequence[Dataset]"
) -> None:
    """Raises InputError if two datasets of a flag have one name in the tables."""
    seen: dict[str, str] = {}
    for name, dataset in zip(asked, datasets, strict=True):
        card = dataset.card.name
        if card in seen:
            raise InputError(
                f"{flag}: {seen[card]} and {name} are both named {card}; pass one, or "
                "prepare the other again with --name"
            )
        seen[card] = name


def _check_pairs(experiment: "Experiment", tests: "Sequence[Dataset]") -> None:
    """Checks each test set against a training set; names of one set mean one content."""
    from wsvad_jax.experiment.other_data import with_test_set

    trained = experiment.dataset
    for dataset in tests:
        if dataset.card.name == trained.card.name and (
            dataset.content != trained.content
        ):
            raise InputError(
                f"{trained.path} and {dataset.path} are both named {trained.card.name}, "
                "but have different records; prepare one again with --name"
            )
        with_test_set(experiment, dataset)


def measure_training(
    training: "Experiment",
    tests: "Sequence[Dataset]",
    seeds: Sequence[int],
    options: TransferOptions,
) -> dict[str, TestScores]:
    """Trains a model's unfinished seeds, and scores every test set with each.

    Args:
      training: opened recipe.
      tests: datasets whose test splits are scored.
      seeds: seeds of the runs.
      options: what is measured, and where files go.

    Raises:
      InputError: as in `transfer`.
    """
    from wsvad_jax.benchmarks.text_benchmark import train_condition
    from wsvad_jax.benchmarks.transfer_scores import scored_test_set
    from wsvad_jax.evaluation.scorer import Scorer
    from wsvad_jax.experiment.other_data import with_test_set

    model, name = training.config.model_name, training.dataset.card.name
    runs = options.runs / f"{model}-{file_stem(name, 40)}"
    folders = train_condition(training, seeds, runs, options.together)

    scored = {}
    for dataset in tests:
        experiment = with_test_set(training, dataset)
        scorer = Scorer(experiment)  # compiled once for all seeds, when it is needed
        videos = [scored_test_set(experiment, scorer, folder) for folder in folders]

        # Every model sees the same resamples of a test set, so rows are pairs.
        weights = text_metrics.resampled_weights(
            videos[0], options.resamples, seed_summary.SEED
        )
        values = [_values(each, weights, dataset.card.stride) for each in videos]
        scored[dataset.card.name] = TestScores(
            tuple((v.video, v.num_frames, v.segments) for v in videos[0]),
            {key: np.stack([v[key] for v in values]) for key in values[0]},
        )
    return scored


def _values(videos: Any, weights: np.ndarray, stride: int) -> dict[str, np.ndarray]:
    from wsvad_jax.metrics.bootstrap import resampled

    values = text_metrics.overall_values(videos, weights, stride)
    for name in ("ap_align", "video_auc"):
        if not name.endswith("_align") or "align" in videos[0].extra:
            values[name] = resampled(videos, name, weights, stride=stride)
    return values


def write_rows(
    experiments: "Sequence[Experiment]",
    rows: Mapping[str, Mapping[str, TestScores]],
    tests: "Sequence[Dataset]",
    seeds: Sequence[int],
    options: TransferOptions,
) -> list[dict[str, Any]]:
    """Writes a file per training set of one model; returns their contents.

    Args:
      experiments: opened recipes, one per training set.
      rows: measured test sets by training set and test set.
      tests: datasets of the test sets.
      seeds: seeds of the runs.
      options: what is measured, and where files go.
    """
    from wsvad_jax.experiment.other_data import unknown_protocol_note

    contents = []
    for experiment in experiments:
        name = experiment.dataset.card.name
        cells = {}
        for dataset in tests:
            note = unknown_protocol_note(experiment.dataset, dataset)
            cells[dataset.card.name] = {
                "content": dataset.content,
                "videos": len(dataset.split("test")),
                "headline": headline_metric(dataset.card.name),
                "class_words": experiment.spec.reads_text,
                **({"note": note} if note else {}),
                "metrics": _metrics(name, dataset.card.name, rows),
            }

        content = {**_about(experiment, seeds, options), "tests": cells}
        path = options.output / content["model"] / f"{file_stem(name, 40)}.json"
        write_json(path, content)
        print(f"{path} is written")
        contents.append(content)
    return contents


def _metrics(
    train: str, test: str, rows: Mapping[str, Mapping[str, TestScores]]
) -> dict[str, Any]:
    """Returns a cell's metrics, with differences to the cells that it compares with."""
    cell, metrics = rows[train][test], {}
    for key, values in cell.values.items():
        seeds = [float(v) if np.isfinite(v) else None for v in values[:, 0]]
        mean, std = mean_and_std(seeds)
        interval = seed_summary.percentile_interval(values[:, 1:].mean(axis=0))
        metric = {"mean": mean, "std": std, "seeds": seeds, "interval": interval}

        # To the model that was trained on the test set's own training videos.
        if train != test and test in rows:
            base = rows[test][test].values[key]
            metric["difference"] = dataclasses.asdict(paired_difference(values, base))

        # To the same model on the test set of its own dataset.
        if train != test and train in rows[train]:
            own = rows[train][train]
            metric["drop"] = dataclasses.asdict(
                paired_difference(values, _aligned(own, cell, key))
            )
        metrics[key] = metric
    return metrics


def _aligned(own: TestScores, other: TestScores, key: str) -> np.ndarray:
    """Returns the values of `own`, whose resamples are independent of the other's.

    Test sets of the same videos keep their pairs: they differ by the pictures alone.
    """
    values = own.values[key]
    if own.videos == other.videos:
        return values
    return np.concatenate([values[:, :1], np.roll(values[:, 1:], 1, axis=1)], axis=1)


def _about(
    experiment: "Experiment", seeds: Sequence[int], options: TransferOptions
) -> dict[str, Any]:
    """Returns which model, data, code and bootstrap the numbers come from."""
    from wsvad_jax.datasets import registry

    card = experiment.dataset.card
    recipe = registry.recipe_name_of_card(card) or card.name
    about = {
        "model": experiment.config.model_name,
        "train": card.name,
        "protocol": experiment.config.protocol,
        "seeds": list(seeds),
        "videos": len(experiment.dataset.split("train")),
        **result_facts(
            experiment,
            recipe,
            options.resamples,
            interval=seed_summary.METHOD,
            difference=METHOD,
            drop=DROP_METHOD,
        ),
    }
    # Files are kept in version control, without paths of this machine.
    return without_folders(about)
