"""Scores a test set with several finished runs: `evaluate --with RUN --with RUN`.

The anomaly score of a snippet is the mean of its ranks in the runs
(`wsvad_jax.metrics.rank_mean`). Ranks are taken over the whole test set, so the result is
transductive: it says how well the runs rank this test set together, and `detect` can't use
it. Class probabilities are the mean of the runs'.
"""

import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from wsvad_jax.results import run_data, seeds
from wsvad_jax.results.runs import Run, read_run
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import write_json

if TYPE_CHECKING:
    from wsvad_jax.data.dataset import Dataset
    from wsvad_jax.metrics.frame_level import EvalVideo

TRANSDUCTIVE = (
    "scores are mean ranks over the whole test set (transductive): they rate this test "
    "set as a whole, and exist for no single video"
)
LEFT_OUT = (
    "no false alarm rate, calibration or events: a threshold on a rank is a share of "
    "this test set's snippets"
)
MEAN_CLASSES = "mAP takes the mean of the runs' class probabilities"
NO_CLASSES = "no mAP: not all of the runs have class probabilities"


def evaluate_ensemble(
    members: Sequence[str | os.PathLike],
    workdir: pathlib.Path,
    data_dir: str | None = None,
    *,
    width: int = 1,
) -> dict[str, Any]:
    """Scores the test set of finished runs by their mean ranks.

    Writes results.json, scores.npz, curves.json, data.json and report.png; returns the
    content of results.json, without events.

    Args:
      members: workdirs of the runs, with results.json and scores.npz.
      workdir: folder for the results, not that of a run.
      data_dir: folder of prepared datasets.
      width: snippets of the moving average over the mean ranks.

    Raises:
      InputError: fewer than two runs, one run twice, runs of other data, a run that is
        not finished or has no scores, or a workdir that holds a run.
    """
    from wsvad_jax.metrics import rank_mean

    # All checks come before the first file is written.
    runs = _read_members(members)
    check_workdir(workdir, runs)
    dataset = seeds.open_dataset_of(runs[0], data_dir)
    _check_same_data(runs, dataset)
    scored = [seeds.scored_videos(run, dataset) for run in runs]
    _check_distinct(runs, scored)

    ranks = rank_mean.mean_ranks([[v.anomaly for v in run] for run in scored], width)
    classes = _mean_classes(runs, scored[0], len(dataset.card.class_names))
    return _write(workdir, runs, dataset, _videos(scored[0], ranks, classes), width)


def _read_members(members: Sequence[str | os.PathLike]) -> list[Run]:
    paths = [pathlib.Path(member) for member in members]
    if len(paths) < 2:
        raise InputError(
            f"--with {paths[0]} is a single run; pass --with for two runs or more"
        )

    seen: dict[pathlib.Path, pathlib.Path] = {}
    for path in paths:
        if path.resolve() in seen:
            raise InputError(f"--with {path}: this run is given twice; pass each once")
        seen[path.resolve()] = path

    runs = []
    for path in paths:
        if not path.is_dir():
            raise InputError(
                f"--with {path}: expected the workdir of a finished run, with scores.npz"
            )
        runs.append(run := read_run(path))
        if run.is_ensemble:
            raise InputError(
                f"--with {path} is a rank ensemble itself; pass the runs that it is of"
            )
    return runs


def check_workdir(workdir: pathlib.Path, runs: Sequence[Run]) -> None:
    """Raises InputError if the results would replace those of a run."""
    own = workdir.resolve() in [run.source.resolve() for run in runs]
    other = (workdir / "config.json").is_file()
    if not other and (workdir / "results.json").is_file():
        other = not read_run(workdir).is_ensemble
    if own or other:
        raise InputError(
            f"{workdir} holds a run, whose results would be replaced; pass it as --with, "
            "and a new folder as --workdir"
        )


def _check_same_data(runs: Sequence[Run], dataset: "Dataset") -> None:
    """Raises InputError unless all runs were scored on the dataset's records."""
    first = runs[0]
    for run in runs:
        if run.dataset != first.dataset:
            raise InputError(
                f"{run.source} scored {run.dataset}, but {first.source} scored "
                f"{first.dataset}; ranks are averaged on one test set"
            )
        if not run.content or run.content != dataset.content:
            was = f"content {run.content[:12]}" if run.content else "unknown content"
            raise InputError(
                f"{run.source} was scored on other videos, labels or features than those "
                f"of {dataset.path} ({was}, now {dataset.content[:12]}); ranks are "
                "averaged on one test set"
            )


def _check_distinct(
    runs: Sequence[Run], scored: "Sequence[Sequence[EvalVideo]]"
) -> None:
    """Raises InputError if two runs have the same scores, such as copies of one."""
    seen: dict[bytes, Run] = {}
    for run, videos in zip(runs, scored, strict=True):
        key = b"".join(v.anomaly.tobytes() for v in videos)
        if key in seen:
            raise InputError(
                f"{seen[key].source} and {run.source} have the same scores, so they are "
                "one run; pass it once"
            )
        seen[key] = run


def _mean_classes(
    runs: Sequence[Run], videos: "Sequence[EvalVideo]", C: int
) -> list[np.ndarray] | None:
    """Returns the mean class probabilities of each video, None if a run has none."""
    tables = []
    for run in runs:
        with np.load(run.source / "scores.npz", allow_pickle=False) as arrays:
            names = [f"{v.video}/classes" for v in videos]
            if not set(names) <= set(arrays.files):
                return None
            tables.append([arrays[name] for name in names])

    # The anomaly curves are checked already; these must fit them.
    for run, table in zip(runs, tables, strict=True):
        for video, classes in zip(videos, table, strict=True):
            if classes.shape != (len(video.anomaly), C):
                raise InputError(
                    f"{run.source}/scores.npz: the classes of {video.video} have shape "
                    f"{classes.shape}, expected {(len(video.anomaly), C)}; score the "
                    "run again with evaluate --workdir"
                )
    return [np.mean(video, axis=0) for video in zip(*tables, strict=True)]


def _videos(
    videos: "Sequence[EvalVideo]",
    ranks: Sequence[np.ndarray],
    classes: Sequence[np.ndarray] | None,
) -> "list[EvalVideo]":
    import dataclasses

    return [
        dataclasses.replace(
            v, anomaly=ranks[i], classes=classes[i] if classes else None, extra={}
        )
        for i, v in enumerate(videos)
    ]


def _write(
    workdir: pathlib.Path,
    runs: Sequence[Run],
    dataset: "Dataset",
    videos: "Sequence[EvalVideo]",
    width: int,
) -> dict[str, Any]:
    """Writes the files of the ensemble, results.json last; prints the table."""
    from wsvad_jax.evaluation import plots
    from wsvad_jax.evaluation.results import write_scores
    from wsvad_jax.metrics.curves import curves
    from wsvad_jax.results.results_table import results_table

    card = dataset.card
    results = _results(runs, dataset, videos, width)

    write_json(workdir / run_data.FILE, run_data.describe(dataset))
    write_scores(workdir / "scores.npz", videos, {})
    drawn = curves(videos, card.class_names, card.stride)
    drawn |= {"accuracy": None, "frames": None}  # ranks are no probabilities
    write_json(workdir / "curves.json", drawn, indent=None)
    plots.report_png(
        workdir / "report.png",
        videos,
        [],
        title=f"{results['model']} on {card.name}, {_kind(runs)}",
        class_names=card.class_names,
        stride=card.stride,
    )
    write_json(workdir / "results.json", results)

    print(results_table(results))
    print(f"results.json, scores.npz and report.png are in {workdir}")
    return results


def _results(
    runs: Sequence[Run],
    dataset: "Dataset",
    videos: "Sequence[EvalVideo]",
    width: int,
) -> dict[str, Any]:
    """Metrics of the ensemble, and what it is of."""
    from wsvad_jax.evaluation.results import device, versions
    from wsvad_jax.metrics import frame_level

    card, first = dataset.card, runs[0]
    eval_config = (first.config or {}).get("eval", {})
    truth = eval_config.get("normal_truth", frame_level.NORMAL_TRUTHS[0])
    results = frame_level.evaluate(
        videos, card.class_names, normal_truth=truth, stride=card.stride
    )
    # A rank above one half says that half of the snippets score less, no more.
    results = {k: v for k, v in results.items() if k != "far"}

    kind = _kind(runs)
    smoothed = f", smoothed over {width} snippets" if width > 1 else ""
    checkpoint = kind.replace(" ", "-") + (f"-smoothed-{width}" if smoothed else "")
    has_classes = videos[0].classes is not None
    remarks = [TRANSDUCTIVE, LEFT_OUT, MEAN_CLASSES if has_classes else NO_CLASSES]

    return results | {
        "model": " + ".join(dict.fromkeys(run.model for run in runs)),
        "dataset": card.name,
        "seed": 0,  # of no meaning; files of results have one
        "protocol": "",
        "selection": kind + smoothed,
        "ensemble": {
            "runs": len(runs),
            "width": width,
            "members": "; ".join(map(_member, runs)),
        },
        "checkpoint": checkpoint,
        "remarks": remarks,
        "versions": versions(),
        "device": device(),
    }


def _kind(runs: Sequence[Run]) -> str:
    return f"rank ensemble of {len(runs)} runs"


def _member(run: Run) -> str:
    """A run in words: model, protocol, seed, and its own AUC."""
    auc = run.results.get("auc")
    own = "undefined" if auc is None else f"{100 * auc:.2f}"
    name = " ".join(filter(None, [run.model, run.protocol, f"seed {run.seed}"]))
    return f"{name} (frame AUC {own})"
