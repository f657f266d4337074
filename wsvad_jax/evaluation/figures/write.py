"""Writes the figures of a finished run, with the points behind them.

OUTPUT/figures/DATASET-MODEL-PROTOCOL-SEED/ gets

  snippets_features, snippets_encoded   snippets in a plane, before and after the model
  anomaly_roc, anomaly_auc              the anomaly score of each class
  class_roc, class_pr                   the probability of each class
  snippets.csv, curves.csv              the points of all of them
  figures.json                          settings, counts, areas, and a caption for each

Each figure is a PNG, an SVG and a PDF.
"""

import csv
import io
import pathlib
import re
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wsvad_jax.evaluation.figures import captions, style
from wsvad_jax.evaluation.figures.embedding import METHODS, check_method
from wsvad_jax.results.runs import Run
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import write_json, write_text
from wsvad_jax.utils.progress import status

if TYPE_CHECKING:
    from wsvad_jax.evaluation.figures.sample import SnippetSample
    from wsvad_jax.experiment.build import Experiment
    from wsvad_jax.metrics.class_curves import ClassCurve
    from wsvad_jax.metrics.frame_level import EvalVideo

COUNT, SEED = 2000, 0  # snippets of a figure, and the seed of choice and method


def plan_figures(
    runs: Sequence[Run],
    output: pathlib.Path,
    method: str = "tsne",
    data_dir: str | None = None,
) -> dict[pathlib.Path, Run]:
    """Returns the runs that have figures, by the folder of their figures.

    Names the other runs, and what they lack, on standard error.

    Args:
      runs: finished runs.
      output: folder that gets `figures/`.
      method: a key of `embedding.METHODS`.
      data_dir: folder of prepared datasets.

    Raises:
      InputError: no run has figures, two runs have one name, a run's dataset is missing
        or has changed, or the method's package is missing.
    """
    check_method(method)
    reasons = {run.source: reason for run in runs if (reason := missing(run))}
    if len(reasons) == len(runs):
        source, reason = next(iter(reasons.items()))
        raise InputError(f"--figures: {source} {reason}")

    folders: dict[pathlib.Path, Run] = {}
    for run in runs:
        if run.source in reasons:
            continue
        folder = output / "figures" / _name(run)
        if folder in folders:
            raise InputError(
                f"--figures: {folders[folder].source} and {run.source} are both "
                f"{folder.name}; pass one of them"
            )
        folders[folder] = run

    # Before anything is written, since figures of many runs take long.
    for run in folders.values():
        _check_data(run, data_dir)
    for source, reason in reasons.items():
        print(f"no figures of {source}: it {reason}", file=sys.stderr)
    return folders


def write_all(
    folders: Mapping[pathlib.Path, Run],
    *,
    method: str = "tsne",
    count: int = COUNT,
    data_dir: str | None = None,
) -> None:
    """Writes the figures of runs, and prints their folders.

    Args:
      folders: result of `plan_figures`.
      method: a key of `embedding.METHODS`.
      count: number of snippets of a figure, at most.
      data_dir: folder of prepared datasets.

    Raises:
      InputError: as `write_figures`.
    """
    for i, (folder, run) in enumerate(folders.items(), 1):
        status(f"figures of {run.source} ({i} of {len(folders)})")
        write_figures(run, folder, method=method, count=count, data_dir=data_dir)
        print(f"figures, their points and captions are in {folder}")


def missing(run: Run) -> str:
    """Returns what a run lacks for figures, "" for nothing."""
    if not run.source.is_dir():
        return "is a copy of results; figures need the workdir of the run"
    if run.config is None:
        return (
            "has no config.json, since its weights were trained elsewhere; figures need "
            "the workdir of the training"
        )
    if run.is_trained and not (run.source / "model").is_dir():
        return "has no model folder; train it again"
    return ""


def _check_data(run: Run, data_dir: str | None) -> None:
    """Raises InputError unless a run's dataset is there, as the run has scored it."""
    from wsvad_jax.data.dataset import open_dataset
    from wsvad_jax.datasets import registry
    from wsvad_jax.results import seeds

    name = (run.config or {})["data"]["name"]
    seeds.check_same_data([run], open_dataset(registry.resolve(name, data_dir)))


def _name(run: Run) -> str:
    parts = (run.dataset, run.model, run.protocol, str(run.seed))
    return re.sub(r"[^\w.+-]|^\.+", "_", "-".join(parts))[:120]


def write_figures(
    run: Run,
    folder: pathlib.Path,
    *,
    method: str = "tsne",
    count: int = COUNT,
    data_dir: str | None = None,
) -> dict[str, Any]:
    """Writes the figures of one run; returns the content of figures.json.

    Args:
      run: finished run, for which `missing` returns "".
      folder: folder of the figures.
      method: a key of `embedding.METHODS`.
      count: number of snippets of a figure, at most.
      data_dir: folder of prepared datasets.

    Raises:
      InputError: the dataset is not that of the run, or its scores are missing.
    """
    from wsvad_jax.evaluation.figures.sample import sample_snippets
    from wsvad_jax.results import seeds

    experiment, params, batch_stats = _open(run, data_dir)
    seeds.check_same_data([run], experiment.dataset)
    videos = seeds.scored_videos(run, experiment.dataset, with_classes=True)

    card = experiment.dataset.card
    sample = sample_snippets(
        experiment.dataset.split("test").entries,
        len(card.class_names),
        card.stride,
        count,
        SEED,
    )

    figures, notes = _write_snippets(
        experiment, (params, batch_stats), sample, videos, folder, method
    )
    curves, more = _write_curves(run, experiment, videos, folder)

    # Last, so that a folder with figures.json is whole.
    content = {
        "model": run.model,
        "dataset": run.dataset,
        "protocol": run.protocol,
        "seed": run.seed,
        "weights": run.weights_description,
        "snippets": captions.sample_counts(sample, card.class_names),
        "figures": figures | curves,
        "notes": list(dict.fromkeys([*notes, *more])),
    }
    write_json(folder / "figures.json", content)
    for note in [*content["notes"], *_older_files(folder, content["figures"])]:
        print(f"note: {note}", file=sys.stderr)
    return content


def _older_files(folder: pathlib.Path, figures: Mapping[str, Any]) -> list[str]:
    """Returns a note on pictures of an earlier call, which stay where they are."""
    new = {file for figure in figures.values() for file in figure["files"]}
    found = {p.name for kind in style.FORMATS for p in folder.glob(f"*.{kind}")}
    if not (older := sorted(found - new)):
        return []
    return [f"{folder} has files that this call didn't write: {', '.join(older)}"]


def _open(run: Run, data_dir: str | None) -> "tuple[Experiment, Any, Any]":
    """Opens a run's recipe and weights; those of an untrained model are empty."""
    from ml_collections import ConfigDict

    from wsvad_jax.evaluation.results import with_own_clip
    from wsvad_jax.experiment.build import check_params, open_experiment
    from wsvad_jax.weights.model_folder import load_params

    config = ConfigDict(dict(run.config or {}))
    if not run.is_trained:
        return open_experiment(config, data_dir), {}, {}

    model = run.source / "model"
    params, batch_stats, _ = load_params(model)
    config = with_own_clip(config, model / "clip")
    experiment = open_experiment(config, data_dir)
    check_params(experiment, params, str(model))
    return experiment, params, batch_stats


def _write_snippets(
    experiment: "Experiment",
    weights: tuple[Any, Any],
    sample: "SnippetSample",
    videos: "Sequence[EvalVideo]",
    folder: pathlib.Path,
    method: str,
) -> tuple[dict[str, Any], list[str]]:
    """Writes the figures of snippets and snippets.csv; returns captions and notes."""
    from wsvad_jax.evaluation.figures.embedding import embed
    from wsvad_jax.evaluation.figures.embedding_plot import draw_embedding
    from wsvad_jax.evaluation.figures.encode import read_features

    names = experiment.dataset.card.class_names
    figures: dict[str, Any] = {}
    notes = captions.sample_notes(sample)
    columns: dict[str, Any] = {}

    places = read_features(experiment, *weights, sample)
    for key, place in zip(("features", "encoded"), places, strict=False):
        name = f"snippets_{key}"
        if place.note:
            notes.append(f"{name} has no class texts: {place.note}")

        # A figure that can't be drawn leaves the other one as it is.
        try:
            points, texts, settings = embed(place, method, SEED)
        except InputError as e:
            notes.append(f"no {name}: {e}")
            continue

        title = f"{place.title} ({METHODS[method]})"
        files = draw_embedding(
            folder, name, points, sample.category, texts, names, title
        )
        figures[name] = {
            "files": files,
            "caption": captions.of_snippets(experiment, place, sample, method),
            **settings,
        }
        columns[key] = points, texts

    # One table for both figures: a snippet has the same row in each.
    if columns:
        table = _snippet_rows(sample, videos, names, columns, experiment)
        write_text(folder / "snippets.csv", table)
    return figures, notes


def _snippet_rows(sample, videos, names, columns, experiment) -> str:
    """Returns snippets.csv: a row per snippet, then one per class text."""
    stride = experiment.dataset.card.stride
    header = ["kind", "video", "snippet", "start_frame", "end_frame", "class", "score"]
    header += [f"{key}_{axis}" for key in columns for axis in "xy"]
    rows: list[list[Any]] = [header]

    for i, (v, t, c) in enumerate(
        zip(sample.video, sample.snippet, sample.category, strict=True)
    ):
        video = videos[v]
        end = min((int(t) + 1) * stride, max(video.num_frames, int(t) * stride + 1))
        # A model may score one snippet less than there are features.
        score = f"{video.anomaly[t]:.6f}" if t < len(video.anomaly) else ""
        row = ["snippet", video.video, int(t), int(t) * stride, end, names[c], score]
        rows.append(row + [f"{x:.4f}" for p, _ in columns.values() for x in p[i]])

    if any(texts is not None for _, texts in columns.values()):
        for c, name in enumerate(names):
            row: list[Any] = ["text", "", "", "", "", name, ""]
            for _, texts in columns.values():
                row += ["", ""] if texts is None else [f"{x:.4f}" for x in texts[c]]
            rows.append(row)
    return _csv(rows)


def _write_curves(
    run: Run,
    experiment: "Experiment",
    videos: "Sequence[EvalVideo]",
    folder: pathlib.Path,
) -> tuple[dict[str, Any], list[str]]:
    """Writes the curves of each class and curves.csv; returns captions and notes."""
    from wsvad_jax.evaluation.figures import curves_plot
    from wsvad_jax.metrics import class_curves

    card = experiment.dataset.card
    found = class_curves.against_normal(videos, card.class_names, card.stride)
    named = class_curves.against_all(videos, card.class_names, card.stride)
    notes = captions.curve_notes(found, named, experiment)
    index = {name: c for c, name in enumerate(card.class_names)}

    # A model without class probabilities has the curves of its anomaly score alone.
    plans: list[tuple[str, Sequence[ClassCurve], str, str]] = []
    if found:
        plans.append(("anomaly_roc", found, "roc", "anomaly score, AUC per class"))
    if named:
        plans.append(("class_roc", named, "roc", "class probability, AUC per class"))
        plans.append(("class_pr", named, "pr", "class probability, AP per class"))

    figures: dict[str, Any] = {}
    for name, curves, kind, title in plans:
        files = curves_plot.draw_curves(folder, name, curves, index, kind, title)
        figures[name] = {"files": files, "caption": captions.of_curves(name, run)}
        figures[name] |= {"classes": _areas(curves)}
    if found:
        files = curves_plot.draw_areas(
            folder, "anomaly_auc", found, index, run.values().get("auc"),
            "anomaly score, AUC per class (videos)",
        )  # fmt: skip
        figures["anomaly_auc"] = {
            "files": files,
            "caption": captions.of_curves("anomaly_auc", run),
            "classes": _areas(found),
        }
        write_text(folder / "curves.csv", _curve_rows(plans))
    return figures, notes


def _areas(curves: "Sequence[ClassCurve]") -> dict[str, Mapping[str, Any]]:
    return {
        c.name: {
            "auc": round(c.auc, 5),
            "ap": round(c.ap, 5),
            "frames": c.frames,
            "videos": c.videos,
        }
        for c in curves
    }


def _curve_rows(plans) -> str:
    """Returns curves.csv: the points of each drawn curve."""
    rows: list[list[Any]] = [["figure", "class", "x", "y"]]
    for name, curves, kind, _ in plans:
        for c in curves:
            xy = (c.fpr, c.tpr) if kind == "roc" else (c.recall, c.precision)
            rows += [
                [name, c.name, f"{x:.6f}", f"{y:.6f}"] for x, y in zip(*xy, strict=True)
            ]
    return _csv(rows)


def _csv(rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
