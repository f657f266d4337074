"""Measures whether an audit finds wrong labels: flips some, and counts those found.

A share of the training labels is flipped at random. The audit ranks all of them by their
dispute. Precision at k is the share of flipped labels among the first k. The flips alone
count as wrong, so an error of the dataset's own that the audit finds counts against it.
"""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool

from wsvad_jax.audit.folds import DEFAULT_FOLDS, is_abnormal
from wsvad_jax.benchmarks.label_flips_table import FLIPPED
from wsvad_jax.data.dataset import Dataset, Split
from wsvad_jax.data.packing import random_state
from wsvad_jax.experiment.config import load_config
from wsvad_jax.utils import progress
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import write_json
from wsvad_jax.utils.text import mean_and_std

if TYPE_CHECKING:
    from wsvad_jax.audit.disputes import KindDispute
    from wsvad_jax.experiment.build import Experiment

STREAM = 104_729  # of random numbers, so that flips don't follow the folds
PRECISION_AT = (5, 10, 20, 50, 100)


@dataclasses.dataclass(frozen=True)
class FlipOptions:
    """What is measured, and where files go."""

    seeds: str  # as 0,1,2 or 0..4
    output: pathlib.Path  # for DATASET/MODEL.json
    runs: pathlib.Path  # for the folds' workdirs
    share: float = 0.1  # of the training labels that are flipped
    folds: int = DEFAULT_FOLDS
    data_dir: str | None = None
    changes: Sequence[str] = ()  # flags --config.KEY=VALUE of every training


def with_flipped_labels(
    dataset: Dataset, share: float, seed: int
) -> tuple[Dataset, Bool[np.ndarray, "V"]]:
    """Returns a dataset with wrong labels for a share of its training videos.

    A normal video gets a random anomaly class, an abnormal one becomes normal.

    Args:
      dataset: prepared dataset; its files stay as they are.
      share: share of the training videos, drawn at random.
      seed: seed of the draw.
    """
    split, random = dataset.split("train"), random_state(seed, STREAM)
    flipped = np.zeros(len(split), bool)
    flipped[random.permutation(len(split))[: round(share * len(split))]] = True

    entries = list(split.entries)
    for i in np.flatnonzero(flipped):
        other = 1 + random.randint(len(dataset.card.classes) - 1)
        label = (0,) if is_abnormal(entries[i].label) else (int(other),)
        entries[i] = dataclasses.replace(entries[i], label=label)

    # The hash of the records stays: packed features don't depend on labels, and the
    # audit's folds have a hash of the labels.
    wrong = Split(split.path, split.name, tuple(entries), split.rows)
    splits = {**dataset.splits, "train": wrong}
    return dataclasses.replace(dataset, splits=splits), flipped


def precision(
    ranked: "Sequence[KindDispute]", flipped: Bool[np.ndarray, "V"]
) -> dict[str, float]:
    """Returns the share of flipped labels among the first k, by k.

    Args:
      ranked: all videos, the most disputed first.
      flipped: whether the label of each video is wrong.
    """
    hits = np.array([flipped[dispute.video] for dispute in ranked])
    at = {str(k): k for k in PRECISION_AT if k < len(hits)}
    at[FLIPPED] = int(flipped.sum())
    return {name: float(hits[:k].mean()) for name, k in at.items()}


def flip_benchmark(
    models: Sequence[str], datasets: Sequence[str], options: FlipOptions
) -> list[dict[str, Any]]:
    """Flips labels, audits them, and writes the precision; returns all results.

    Args:
      models: recipes, by name.
      datasets: names, or paths of prepared datasets.
      options: what is measured, and where files go.

    Raises:
      InputError: a share that flips no label or most labels, or as an audit.
    """
    from wsvad_jax.experiment.build import open_experiment
    from wsvad_jax.results.seeds import parse_seeds

    seeds = parse_seeds(options.seeds)
    if not 0 < options.share < 0.5:
        raise InputError(f"--flips is {options.share}; expected between 0 and 0.5")

    # All recipes are read before the first training.
    grid = [(d, m) for d in datasets for m in models]
    configs = [
        load_config([f"--config={m}:{d}", *options.changes], options.data_dir)
        for d, m in grid
    ]
    results = []
    for config in configs:
        base = open_experiment(config, options.data_dir)
        result = _measure(base, seeds, options)
        path = options.output / result["dataset"] / f"{result['model']}.json"
        write_json(path, result)
        print(path)
        results.append(result)
    return results


def _measure(
    base: "Experiment", seeds: Sequence[int], options: FlipOptions
) -> dict[str, Any]:
    """Audits a dataset with other flips per seed; returns the content of its file."""
    from wsvad_jax.training import provenance
    from wsvad_jax.training.workdir import run_name

    per_seed = []
    for i, seed in enumerate(seeds, 1):
        name = run_name(base.config)
        progress.status(f"{name}, flips of seed {seed}: {i} of {len(seeds)}")
        per_seed.append(_measure_seed(base, seed, options.runs / name, options))

    card = base.dataset.card
    values = {k: [seed["precision"][k] for seed in per_seed] for k in _names(per_seed)}
    return {
        "model": base.config.model_name,
        "dataset": card.name,
        "content": base.dataset.content,
        "overrides": provenance.overrides(base.config, card.name),
        "videos": len(base.dataset.split("train")),
        "share": options.share,
        "folds": options.folds,
        "seeds": per_seed,
        "precision": {
            k: dict(zip(("mean", "std"), mean_and_std(found), strict=True))
            for k, found in values.items()
        },
    }


def _names(per_seed: Sequence[dict[str, Any]]) -> list[str]:
    return list(per_seed[0]["precision"])


def _measure_seed(
    base: "Experiment", seed: int, folder: pathlib.Path, options: FlipOptions
) -> dict[str, Any]:
    from sklearn.metrics import roc_auc_score

    from wsvad_jax.audit.plan import plan_folds
    from wsvad_jax.audit.run import cross_audit
    from wsvad_jax.audit.video_files import VideosAtHand

    # The seed draws flips and folds, and starts the trainings.
    dataset, flipped = with_flipped_labels(base.dataset, options.share, seed)
    if not flipped.any():
        raise InputError(
            f"--flips {options.share} flips none of {len(flipped)} training labels"
        )
    config = base.config.copy_and_resolve_references()
    config.seed = seed
    experiment = dataclasses.replace(base, config=config, dataset=dataset)

    workdir = folder / f"seed{seed}"
    plan = plan_folds(experiment, workdir, options.folds, VideosAtHand({}))
    audited = cross_audit(experiment, plan, workdir)

    # Flips of either kind, since the recipe may find one of them more easily.
    dispute = np.zeros(len(flipped))
    for found in audited.kinds:
        dispute[found.video] = found.dispute

    # Labelled normal: normal videos that kept their label, abnormal ones that were flipped.
    truth = np.array(
        [is_abnormal(e.label) for e in base.dataset.split("train").entries]
    )
    auc = {
        name: float(roc_auc_score(flipped[rows], dispute[rows]))
        if 0 < flipped[rows].sum() < rows.sum()
        else None
        for name, rows in (
            ("labelled_normal", truth == flipped),
            ("labelled_abnormal", truth != flipped),
        )
    }

    return {
        "seed": seed,
        "flipped": int(flipped.sum()),
        "video_auc": audited.video_auc,
        "disputed": audited.num_disputed,
        "precision": precision(audited.kinds, flipped),
        "flip_auc": auc,
    }
