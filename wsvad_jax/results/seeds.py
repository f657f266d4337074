"""Summarises several seeds of one recipe: mean, deviation and bootstrap intervals.

Two sources of variation are reported. The sample standard deviation over the seeds is
the variation of training. The 95 % interval of the seeds' mean, under a bootstrap over
test videos, is the variation of the test set. A resample draws whole videos, stratified
by abnormality, and is the same for every seed.
"""

import os
import pathlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from wsvad_jax.results.runs import Run, read_run
from wsvad_jax.results.seed_events import events_summary_table, summarise_events
from wsvad_jax.utils.errors import InputError, raise_if_unreadable
from wsvad_jax.utils.files import write_json
from wsvad_jax.utils.text import aligned, mean_and_std, percent

if TYPE_CHECKING:
    from wsvad_jax.data.dataset import Dataset
    from wsvad_jax.metrics.frame_level import EvalVideo

HEADLINE = ("auc", "ap", "video_auc")  # metrics with an interval, for each curve
PAIRED = ("auc", "ap")  # metrics whose resamples are kept, to compare models
# What seeds of one study share, as {name in messages: attribute of a run}.
IDENTITY = {
    "model": "model",
    "dataset": "dataset",
    "protocol": "protocol",
    "weights": "weights_description",
}
RESAMPLES, LEVEL, SEED = 1000, 0.95, 0  # settings of the bootstrap
# Stored with the intervals, whose meaning depends on it.
METHOD = (
    "percentile interval of the seeds' mean over resampled test videos, stratified by "
    "abnormality, with the same videos for every seed"
)


def parse_seeds(text: str) -> tuple[int, ...]:
    """Returns the seeds in '0,1,2' or '0..4' (4 included), or a mixture of both.

    Raises:
      InputError: the text has another form, or a duplicate seed.
    """
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:\.\.(\d+))?\s*", part)
        if not match:
            raise InputError(
                f"--seeds {text}: {part!r} must be whole numbers like 0,1,2 or a range "
                "like 0..4"
            )

        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise InputError(f"--seeds {text}: the range {part} ends before it begins")
        seeds += range(first, last + 1)

    if len(set(seeds)) < len(seeds):
        raise InputError(f"--seeds {text}: duplicate seed; give each once")
    return tuple(seeds)


def summarise_seeds(
    workdirs: Sequence[str | os.PathLike], data_dir: str | None = None
) -> dict[str, Any]:
    """Returns mean, deviation and intervals of finished runs that differ by seed.

    Args:
      workdirs: folders of the runs, with results.json, config.json and scores.npz.
      data_dir: folder of prepared datasets.

    Raises:
      InputError: the runs differ by more than the seed, a seed is a duplicate, or the
        scores don't match the dataset.
    """
    runs = [read_run(w) for w in workdirs]
    check_alike(runs)

    first = runs[0]
    metrics: dict[str, dict[str, Any]] = {}
    for key in first.values():
        values = [run.values().get(key) for run in runs]
        mean, std = mean_and_std(values)
        metrics[key] = {"mean": mean, "std": std, "seeds": values}

    # Intervals are computed from the scores, since results.json has single values.
    dataset = open_dataset_of(first, data_dir)
    check_same_data(runs, dataset)
    videos = [scored_videos(run, dataset) for run in runs]
    names = [f"{m}{suffix}" for m in HEADLINE for suffix in _suffixes(videos[0])]

    resamples = {}
    for name in names:
        if name in metrics:
            means = bootstrap_means(videos, name, stride=dataset.card.stride)
            metrics[name]["interval"] = percentile_interval(means)
            if name in PAIRED and np.isfinite(means).all():
                resamples[name] = " ".join(f"{mean:.5f}" for mean in means)

    abnormal = np.array([v.abnormal for v in videos[0]])
    weights = _weights(abnormal)
    events = summarise_events(runs, dataset, videos, weights, percentile_interval)

    return {
        "model": first.model,
        "dataset": first.dataset,
        "protocol": first.protocol,
        "weights": first.weights_description,
        "seeds": [run.seed for run in runs],
        "step": [run.results.get("step") for run in runs],
        "device": first.results.get("device"),
        "metrics": metrics,
        **({"events": events} if events else {}),
        "bootstrap": {
            "resamples": RESAMPLES,
            "level": LEVEL,
            "seed": SEED,
            "method": METHOD,
            # In the order of the resamples, which are the same for every model: values
            # of two models can be compared in pairs.
            "values": resamples,
        },
    }


def check_alike(runs: Sequence[Run]) -> None:
    """Raises InputError unless the runs share a recipe and differ by seed."""
    # Identity first, for a short message, then all other settings.
    first, seen = runs[0], {}
    for run in runs:
        for key, attribute in IDENTITY.items():
            value, expected = getattr(run, attribute), getattr(first, attribute)
            if value != expected:
                raise InputError(
                    f"{run.source}: {key} is {value!r}, but {expected!r} in "
                    f"{first.source}; seeds of one summary must share recipe and protocol"
                )
        if run.content and first.content and run.content != first.content:
            raise InputError(
                f"{run.source} and {first.source} have different data (content "
                f"{run.content[:12]} and {first.content[:12]}), so their numbers have no "
                "mean; train the older one again with --restart"
            )

        # Every setting but the seed must agree, named by its key.
        own, expected = run.settings(), first.settings()
        for key in sorted(own.keys() | expected.keys()):
            if own.get(key) != expected.get(key):
                raise InputError(
                    f"{run.source}: {key} is {own.get(key)!r}, but "
                    f"{expected.get(key)!r} in {first.source}; runs must differ by seed "
                    "alone"
                )

        if run.seed in seen:
            raise InputError(
                f"{seen[run.seed]} and {run.source} are both seed {run.seed}; give one"
            )
        seen[run.seed] = run.source


def check_same_data(runs: Sequence[Run], dataset: "Dataset") -> None:
    """Raises InputError if a run was scored on other records than the dataset's."""
    for run in runs:
        if run.content and run.content != dataset.content:
            raise InputError(
                f"{run.source} was scored on other data than {dataset.path} has now "
                f"(content {run.content[:12]}, now {dataset.content[:12]}); prepare "
                "that data again, or train again with --restart"
            )


def open_dataset_of(run: Run, data_dir: str | None) -> "Dataset":
    """Opens the dataset that a run was trained on.

    Raises:
      InputError: the run has no config.json, or its dataset can't be opened.
    """
    from wsvad_jax.data.dataset import open_dataset
    from wsvad_jax.datasets import registry

    if run.config is None:
        raise InputError(
            f"{run.source}: config.json is missing; pass a workdir that training wrote"
        )
    return open_dataset(registry.resolve(run.config["data"]["name"], data_dir))


def scored_videos(
    run: Run, dataset: "Dataset", *, with_classes: bool = False
) -> "list[EvalVideo]":
    """Pairs the scores of a run with the dataset's ground truth.

    Args:
      run: finished run.
      dataset: its dataset.
      with_classes: whether class probabilities are read, too, where there are any.

    Raises:
      InputError: scores.npz is missing, or has other videos than the dataset.
    """
    from wsvad_jax.metrics.frame_level import EvalVideo, check

    path = pathlib.Path(run.source) / "scores.npz"
    scores = _read_curves(path, ("classes",) if with_classes else ())

    entries = dataset.split("test").entries
    scored = {video for video, curves in scores.items() if "anomaly" in curves}
    different = {e.video for e in entries} ^ scored
    if different:
        raise InputError(
            f"{path}: its test videos are not those of {dataset.path} "
            f"({min(different)} is in one of them only); score again with evaluate "
            "--workdir"
        )

    # Curves other than `anomaly` are those of further branches.
    videos = []
    for e in entries:
        curves = scores[e.video]
        extra = {
            k.removeprefix("anomaly_"): v
            for k, v in curves.items()
            if k not in ("anomaly", "classes")
        }
        videos.append(
            EvalVideo(
                video=e.video,
                anomaly=curves["anomaly"],
                classes=curves.get("classes"),
                segments=e.segments,
                num_frames=e.num_frames,
                label=e.label,
                extra=extra,
            )
        )

    # The dataset may have been prepared again since the run was scored.
    try:
        check(videos, dataset.card.class_names, stride=dataset.card.stride)
    except InputError as e:
        raise InputError(f"{path}: {e}; score again with evaluate --workdir") from None
    return videos


def _read_curves(
    path: pathlib.Path, others: Sequence[str] = ()
) -> dict[str, dict[str, np.ndarray]]:
    """Returns the anomaly curves of a scores.npz by video and name, and `others`."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; score again with evaluate --workdir")

    # Names are VIDEO/CURVE, and a video's name may hold slashes itself.
    scores: dict[str, dict[str, np.ndarray]] = {}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for name in arrays.files:
                video, _, curve = name.rpartition("/")
                if curve in others:
                    scores.setdefault(video, {})[curve] = _curve(arrays[name], 2)
                elif curve not in ("classes", "events"):
                    scores.setdefault(video, {})[curve] = _curve(arrays[name])
    except Exception as e:  # noqa: BLE001 damage can raise anything
        raise_if_unreadable(path, e)
        raise InputError(
            f"{path}: incomplete or no file of scores ({e}); score again with evaluate "
            "--workdir"
        ) from None
    return scores


def _curve(array: np.ndarray, axes: int = 1) -> np.ndarray:
    if array.ndim != axes or array.dtype.kind != "f":
        raise ValueError(f"a curve has type {array.dtype} and shape {array.shape}")
    return array


def _suffixes(videos: "Sequence[EvalVideo]") -> list[str]:
    return ["", *(f"_{name}" for name in videos[0].extra)]


def bootstrap_means(
    runs: "Sequence[Sequence[EvalVideo]]",
    metric: str,
    *,
    n: int = RESAMPLES,
    seed: int = SEED,
    stride: int = 16,
) -> np.ndarray:
    """Returns the mean of a metric over runs, for each of `n` resamples of the videos.

    Args:
      runs: scored test set of each run, with the videos in the same order.
      metric: one of `bootstrap.METRICS`, with the suffix of its curve, as in auc_align.
      n: number of resamples.
      seed: seed of the resamples.
      stride: frames per snippet.
    """
    from wsvad_jax.metrics.bootstrap import resampled

    # One draw for all runs: the interval is that of their mean.
    abnormal = np.array([v.abnormal for v in runs[0]])
    weights = _weights(abnormal, n, seed)
    values = [resampled(videos, metric, weights, stride=stride) for videos in runs]
    return np.mean(values, axis=0)


def _weights(abnormal: np.ndarray, n: int = RESAMPLES, seed: int = SEED) -> np.ndarray:
    """Returns counts [n, V] of each video per resample, the same for every metric."""
    from wsvad_jax.metrics.bootstrap import resample_weights

    return resample_weights(abnormal, n, np.random.default_rng(seed))


def percentile_interval(values: np.ndarray, level: float = LEVEL) -> list[float] | None:
    """Returns the percentile interval [low, high], or None if no value is defined."""
    # Resamples without a defined metric are left out, not counted as 0.
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    tail = (1 - level) / 2
    return np.quantile(values, [tail, 1 - tail]).tolist()


def write_summary(
    path: str | os.PathLike,
    workdirs: Sequence[str | os.PathLike],
    data_dir: str | None = None,
) -> dict[str, Any]:
    """Summarises runs, prints the table and writes the summary as JSON."""
    summary = summarise_seeds(workdirs, data_dir)
    print(summary_table(summary))
    write_json(path, summary)
    print(f"the summary is in {path}")
    return summary


def summary_table(summary: dict[str, Any]) -> str:
    """Formats a summary as plain text tables, of frames in % and of events."""
    seeds = summary["seeds"]
    # One column per seed shows outliers that a deviation hides.
    rows = [["%", "mean ± std", "95 % interval", *(f"seed {s}" for s in seeds)]]
    for name, m in summary["metrics"].items():
        if m["mean"] is None:
            continue

        low_high = m.get("interval") or ()
        interval = " to ".join(f"{100 * x:.2f}" for x in low_high) or "-"
        each = ["-" if v is None else f"{100 * v:.2f}" for v in m["seeds"]]
        rows.append([name, percent(m["mean"], m["std"]), interval, *each])

    count = f"{len(seeds)} seed{'s' * (len(seeds) > 1)}"
    title = f"{summary['model']} on {summary['dataset']}, {count}; {summary['weights']}"
    lines = [title, *aligned(rows)]
    if events := summary.get("events"):
        lines += events_summary_table(events, seeds)
    return "\n".join(lines)
