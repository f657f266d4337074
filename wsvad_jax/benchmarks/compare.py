"""Compares two recipes, or two states of one, seed by seed on the same test videos."""

import dataclasses
import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from wsvad_jax.benchmarks import text_metrics
from wsvad_jax.results import seeds as seed_summary
from wsvad_jax.results.paired_interval import paired_difference
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import write_json
from wsvad_jax.utils.text import file_stem, mean_and_std

if TYPE_CHECKING:
    from wsvad_jax.data.dataset import Dataset
    from wsvad_jax.results.runs import Run

METHOD = (
    "percentile interval of the paired difference; test videos are resampled, stratified "
    "by abnormality, the same ones for both recipes and all seeds; the seeds are "
    "resampled, too"
)


def compare(
    base: pathlib.Path, changed: pathlib.Path, data_dir: str | None = None
) -> dict[str, Any]:
    """Returns both recipes' metrics, and their differences with intervals.

    Args:
      base: folder of finished runs of one recipe that differ by seed.
      changed: folder of as many runs of the other recipe, with the same seeds.
      data_dir: folder of prepared datasets.

    Raises:
      InputError: a folder has no such runs, the seeds or the test sets differ, or scores
        don't fit the dataset.
    """
    sides = [_runs(folder) for folder in (base, changed)]

    # Without the same seeds there are no pairs.
    seeds = [[run.seed for run in runs] for runs in sides]
    if seeds[0] != seeds[1]:
        raise InputError(
            f"{base} has seeds {seeds[0]}, {changed} has {seeds[1]}; expected the same "
            "ones, since the differences are those of pairs"
        )

    # Runs that evaluate scored have no config.json, which names the dataset.
    every = [run for runs in sides for run in runs]
    trained = next((run for run in every if run.config is not None), every[0])
    dataset = seed_summary.open_dataset_of(trained, data_dir)
    for runs in sides:
        _check_dataset(runs, dataset)
        seed_summary.check_same_data(runs, dataset)
    values = [_values(runs, dataset) for runs in sides]

    # A model without classes lacks some metrics of the other one.
    metrics = {}
    for name in values[0]:
        if name in values[1]:
            pair = [side[name] for side in values]
            difference = paired_difference(pair[1], pair[0])
            metrics[name] = {
                "base": _summary(pair[0]),
                "changed": _summary(pair[1]),
                "difference": dataclasses.asdict(difference),
            }

    return {
        "models": [runs[0].model for runs in sides],
        "dataset": dataset.card.name,
        "content": dataset.content,
        "videos": len(dataset.split("test")),
        "seeds": seeds[0],
        "differing": _differing(*(runs[0].settings() for runs in sides)),
        "metrics": metrics,
        "bootstrap": {
            "resamples": seed_summary.RESAMPLES,
            "level": seed_summary.LEVEL,
            "seed": seed_summary.SEED,
            "difference": METHOD,
        },
    }


def write_comparison(
    base: pathlib.Path,
    changed: pathlib.Path,
    output: pathlib.Path,
    data_dir: str | None = None,
) -> pathlib.Path:
    """Writes OUTPUT/DATASET/MODEL.json with what `compare` returns; returns its path.

    Two models have both names, as vadclip-dsanet.json.

    Raises:
      InputError: as `compare`, or a file can't be written.
    """
    found = compare(base, changed, data_dir)
    name = "-".join(dict.fromkeys(found["models"]))
    path = output / file_stem(found["dataset"], 40) / f"{name}.json"
    write_json(path, found)
    return path


def _runs(folder: pathlib.Path) -> "list[Run]":
    from wsvad_jax.results.runs import find_runs

    runs, _, unfinished = find_runs([folder])
    if unfinished:
        raise InputError(
            f"{unfinished[0]} is not finished; finish it, or move it out of {folder}"
        )
    if not runs:
        raise InputError(f"{folder} has no finished run; expected those of a recipe")

    runs = sorted(runs, key=lambda run: run.seed)
    seed_summary.check_alike(runs)
    return runs


def _differing(base: dict[str, Any], changed: dict[str, Any]) -> dict[str, list[Any]]:
    """Returns the settings that differ, with both values; None where there is none."""
    return {
        key: [base.get(key), changed.get(key)]
        for key in sorted(base.keys() | changed.keys())
        if base.get(key) != changed.get(key)
    }


def _check_dataset(runs: "list[Run]", dataset: "Dataset") -> None:
    if runs[0].dataset != dataset.card.name:
        raise InputError(
            f"{runs[0].source} was scored on {runs[0].dataset}, the other runs on "
            f"{dataset.card.name}; expected one test set"
        )


def _values(
    runs: "list[Run]", dataset: "Dataset"
) -> dict[str, Float[np.ndarray, "S R1"]]:
    """Returns metrics by seed and resample, the test set itself in column 0."""
    from wsvad_jax.metrics.bootstrap import resampled

    stride = dataset.card.stride
    per_seed, weights = [], None
    for run in runs:
        videos = seed_summary.scored_videos(run, dataset, with_classes=True)

        # Drawn from a fixed seed, so both recipes get the same resamples.
        if weights is None:
            weights = text_metrics.resampled_weights(
                videos, seed_summary.RESAMPLES, seed_summary.SEED
            )

        values = text_metrics.overall_values(videos, weights, stride)
        values["video_auc"] = resampled(videos, "video_auc", weights, stride=stride)
        per_seed.append(values)
    return {name: np.stack([v[name] for v in per_seed]) for name in per_seed[0]}


def _summary(values: Float[np.ndarray, "S R1"]) -> dict[str, float | None]:
    seeds = [float(v) if np.isfinite(v) else None for v in values[:, 0]]
    return dict(zip(("mean", "std"), mean_and_std(seeds), strict=True))
