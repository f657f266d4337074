"""Trains and scores what `benchmark open_vocabulary` measures.

Each model is trained on normal videos and base classes, and scored on all test videos
with the words of all classes. Its test words are then exchanged (`open_vocabulary_words`)
while its weights stay. Differences are paired: the same seeds and resampled test videos.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from wsvad_jax.benchmarks import open_vocabulary_words, text_benchmark, text_metrics
from wsvad_jax.benchmarks.open_vocabulary_table import CHOSEN
from wsvad_jax.benchmarks.open_vocabulary_words import OWN, WordsAtTest
from wsvad_jax.benchmarks.result_facts import result_facts
from wsvad_jax.experiment.base_classes import (
    NAME,
    PUBLISHED,
    read_base_classes,
    refuse_base_classes,
)
from wsvad_jax.experiment.config import load_config
from wsvad_jax.metrics.base_novel import group_rows, group_values
from wsvad_jax.results import seeds as seed_summary
from wsvad_jax.results.paired_interval import METHOD, paired_difference
from wsvad_jax.results.runs import without_folders
from wsvad_jax.utils import progress
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import write_json
from wsvad_jax.utils.text import mean_and_std

if TYPE_CHECKING:
    from wsvad_jax.data.cards import Card
    from wsvad_jax.experiment.build import Experiment
    from wsvad_jax.metrics.frame_level import EvalVideo

BASE, ALL, NONE = "base", "all", "none"  # what a model was trained on
FLAG = "--base"

Values = Mapping[str, np.ndarray]  # METRIC/GROUP → values [S, R + 1]


@dataclasses.dataclass(frozen=True)
class OpenVocabularyOptions:
    """What is measured, and where files go."""

    base: str  # names of classes, or published
    seeds: str  # as 0,1,2 or 0..4
    output: pathlib.Path  # for DATASET/MODEL.json
    runs: pathlib.Path  # for the workdirs
    all_classes: bool = False  # whether models are trained on all classes, too
    shuffles: int = 5
    paraphrases: pathlib.Path | None = None  # card.json; None takes the demo's
    data_dir: str | None = None
    changes: Sequence[str] = ()  # flags --config.KEY=VALUE of every run
    together: bool = False  # trains the seeds as one program
    resamples: int = seed_summary.RESAMPLES


@dataclasses.dataclass(frozen=True)
class OpenVocabularyCase:
    """A model with its trainings and its words at test time."""

    trainings: "Mapping[str, Experiment]"  # BASE first, or NONE alone
    words: Sequence[WordsAtTest]

    @property
    def first(self) -> "Experiment":
        return next(iter(self.trainings.values()))


def open_vocabulary(
    models: Sequence[str], dataset: str, options: OpenVocabularyOptions
) -> list[dict[str, Any]]:
    """Measures models on base and novel classes; returns the results of each.

    Args:
      models: recipes whose models read text, by name.
      dataset: name, or path of a prepared dataset.
      options: what is measured, and where files go.

    Raises:
      InputError: a model without text, base classes that the dataset doesn't allow, or a
        workdir of another run.
    """
    seeds = seed_summary.parse_seeds(options.seeds)

    # All recipes and classes are read before the first training.
    cases = [open_case(model, dataset, options) for model in models]

    results = []
    for case in cases:
        result = measure_case(case, seeds, options)
        name = f"{result['dataset']}/{result['model']}.json"
        # After every model, so that an interrupted benchmark leaves its results.
        write_json(options.output / name, result)
        print(f"{options.output / name} is written")
        results.append(result)
    return results


def open_case(
    model: str, dataset: str, options: OpenVocabularyOptions
) -> OpenVocabularyCase:
    """Opens the recipes of a model; checks classes and paraphrases.

    Raises:
      InputError: as `open_vocabulary`.
    """
    from wsvad_jax.experiment.build import open_experiment
    from wsvad_jax.experiment.other_words import check_reads_text
    from wsvad_jax.experiment.training_view import count_videos

    # The classes of the split are known once the dataset is open.
    config = load_config(
        [f"--config={model}:{dataset}", *options.changes], options.data_dir
    )
    refuse_base_classes(config, f"is set by {FLAG}; leave it out, and pass {FLAG}")
    whole = open_experiment(config, options.data_dir)
    check_reads_text(whole.spec, f"--models {model}")
    base = read_base_classes(options.base or PUBLISHED, whole.dataset.card, FLAG)

    split_config = config.copy_and_resolve_references()
    split_config.data[NAME] = ",".join(base)
    on_base = dataclasses.replace(whole, config=split_config, base_classes=base)

    if whole.spec.is_trained:
        count_videos(whole.dataset, base)
        trainings = {BASE: on_base}
        if options.all_classes:
            trainings[ALL] = whole
    else:
        trainings = {NONE: on_base}

    other = _other_words(options.paraphrases, whole.dataset.card)
    words = open_vocabulary_words.list_words(whole, other, options.shuffles)
    return OpenVocabularyCase(trainings, words)


def _other_words(path: pathlib.Path | None, card: "Card") -> "Card | None":
    """Returns the card of paraphrases, with the dataset's classes in their order."""
    other = text_benchmark.read_paraphrases(path, card)
    if other is None:
        print(f"{card.name} has no other words (--paraphrases CARD): left out")
        return None

    words = {c.name: c for c in other.classes}
    if words.keys() != set(card.class_names):
        differ = sorted(words.keys() ^ set(card.class_names))
        raise InputError(
            f"--paraphrases {path}: its classes are not those of {card.name}, "
            f"{differ[0]!r} is in one of them only; give every class its words"
        )
    classes = tuple(words[name] for name in card.class_names)
    return dataclasses.replace(card, classes=classes)


def measure_case(
    case: OpenVocabularyCase, seeds: Sequence[int], options: OpenVocabularyOptions
) -> dict[str, Any]:
    """Trains and scores a model; returns the content of its file."""
    from wsvad_jax.training.workdir import run_name

    first, name = case.first, run_name(case.first.config)
    # Without training, no seed changes anything.
    seeds = seeds if first.spec.is_trained else (0,)

    values: dict[str, Mapping[str, Values]] = {}
    videos: Sequence[EvalVideo] = ()
    for i, (training, experiment) in enumerate(case.trainings.items(), 1):
        progress.status(f"{name}, trained on {training}: {i} of {len(case.trainings)}")
        folders = _train(training, experiment, seeds, options)
        # Words are exchanged in the models of the first training alone.
        words = case.words if experiment is first else case.words[:1]
        values[training], videos = score_words(
            experiment, first.base_classes, words, folders, options.resamples
        )

    trainings = {
        training: {"words": _compared(case, values, training)} for training in values
    }
    return {**_about(case, seeds, videos, options), "trainings": trainings}


def _train(
    training: str,
    experiment: "Experiment",
    seeds: Sequence[int],
    options: OpenVocabularyOptions,
) -> list[pathlib.Path | None]:
    """Trains the unfinished seeds; returns their workdirs, None without training."""
    from wsvad_jax.training.workdir import run_name

    if not experiment.spec.is_trained:
        return [None]
    classes = "+".join(experiment.base_classes) if training == BASE else training
    folder = options.runs / run_name(experiment.config) / file_stem_of(classes)
    return list(
        text_benchmark.train_condition(experiment, seeds, folder, options.together)
    )


def file_stem_of(classes: str) -> str:
    """Returns the name of a training's folder; long lists of classes are shortened."""
    import hashlib

    from wsvad_jax.utils.text import file_stem

    # Two lists never share a folder, whatever signs their names have.
    digest = hashlib.sha256(classes.encode()).hexdigest()[:8]
    return f"{file_stem(classes, 40)}-{digest}"


def score_words(
    experiment: "Experiment",
    base: Sequence[str],
    words: Sequence[WordsAtTest],
    folders: Sequence[pathlib.Path | None],
    resamples: int,
) -> "tuple[Mapping[str, Values], Sequence[EvalVideo]]":
    """Scores the test set with each seed's model and each of the words.

    Args:
      experiment: opened recipe with all classes.
      base: base classes.
      words: words at test time.
      folders: workdir of each seed; None for a model without weights.
      resamples: number of resamples of the test videos.

    Returns:
      Metrics by words, and the scored videos of the last seed.
    """
    from wsvad_jax.evaluation.scorer import Scorer, score_split
    from wsvad_jax.weights.model_folder import load_params

    card, stride = experiment.dataset.card, experiment.dataset.card.stride
    indices = [card.index(name) for name in base]
    scorer = Scorer(experiment)  # compiled once for all seeds and words

    per_seed: dict[str, list[dict[str, np.ndarray]]] = {w.name: [] for w in words}
    videos: Sequence[EvalVideo] = ()
    for folder in folders:
        params, batch_stats = {}, {}
        if folder is not None:
            params, batch_stats, _ = load_params(folder / "model")

        for each in words:
            of_texts = []
            for text in each.texts:
                with_text = scorer.with_text(text)
                videos = score_split(experiment, with_text, params, batch_stats)
                weights = text_metrics.resampled_weights(
                    videos, resamples, seed_summary.SEED
                )
                of_texts.append(group_values(videos, weights, indices, stride=stride))

            # Shuffles are averaged within a resample, so the interval is of their mean.
            mean = {k: np.mean([v[k] for v in of_texts], 0) for k in of_texts[0]}
            per_seed[each.name].append(mean)

    stacked = {
        name: {key: np.stack([v[key] for v in rows]) for key in rows[0]}
        for name, rows in per_seed.items()
    }
    return stacked, videos


def _compared(
    case: OpenVocabularyCase,
    values: Mapping[str, Mapping[str, Values]],
    training: str,
) -> dict[str, Any]:
    """Returns the metrics of a training's words, with their differences.

    Other words are compared with the own ones, and base classes with all classes.
    """
    names = case.first.dataset.card.class_names
    orders = {w.name: w.orders for w in case.words}
    rows = {}
    for name, own in values[training].items():
        reference = values[training][OWN] if name != OWN else None
        if name == OWN and training == BASE and ALL in values:
            reference = values[ALL][OWN]

        shuffles = [[names[i] for i in order] for order in orders[name]]
        rows[name] = {"shuffles": shuffles, "metrics": _metrics(own, reference)}
    return rows


def _metrics(values: Values, reference: Values | None) -> dict[str, Any]:
    metrics = {}
    for key, found in values.items():
        seeds = [float(v) if np.isfinite(v) else None for v in found[:, 0]]
        mean, std = mean_and_std(seeds)
        metrics[key] = {"mean": mean, "std": std, "seeds": seeds}
        if reference is not None:
            difference = paired_difference(found, reference[key])
            metrics[key]["difference"] = dataclasses.asdict(difference)
    return metrics


def _about(
    case: OpenVocabularyCase,
    seeds: Sequence[int],
    videos: "Sequence[EvalVideo]",
    options: OpenVocabularyOptions,
) -> dict[str, Any]:
    """Returns which model, classes, data, code and bootstrap the numbers come from."""
    from wsvad_jax.datasets.open_vocabulary_splits import find_split

    first, card = case.first, case.first.dataset.card
    base = first.base_classes
    split = find_split(card)
    rows = group_rows(videos, [card.index(name) for name in base])

    about = {
        "model": first.config.model_name,
        "dataset": card.name,
        "protocol": first.config.protocol,
        "seeds": list(seeds),
        "base": list(base),
        "novel": [name for name in card.class_names[1:] if name not in base],
        "split": split.source if split and set(split.base) == set(base) else CHOSEN,
        "test_videos": {group: len(own) for group, own in rows.items()},
        "abnormal_test_videos": {
            group: sum(videos[i].abnormal for i in own) for group, own in rows.items()
        },
        **result_facts(first, card.name, options.resamples, method=METHOD),
    }
    # Files are kept in version control, without paths of this machine.
    return without_folders(about)
