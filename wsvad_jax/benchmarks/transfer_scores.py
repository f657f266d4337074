"""Scores of trained models on other test sets, kept beside each run.

A file of scores is read again only if run, test set and class words are the same, so an
interrupted benchmark resumes with the cells that it has.
"""

import hashlib
import json
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from wsvad_jax.utils.errors import raise_if_unreadable
from wsvad_jax.utils.files import atomic_path
from wsvad_jax.utils.text import file_stem

if TYPE_CHECKING:
    from wsvad_jax.evaluation.scorer import Scorer
    from wsvad_jax.experiment.build import Experiment
    from wsvad_jax.metrics.frame_level import EvalVideo

FOLDER, IDENTITY = "transfer", "identity"


def scored_test_set(
    experiment: "Experiment", scorer: "Scorer", workdir: pathlib.Path
) -> "list[EvalVideo]":
    """Scores a test set with a run's model, or reads its earlier scores.

    Args:
      experiment: experiment with the test set, see `other_data.with_test_set`.
      scorer: scorer of the experiment.
      workdir: folder of a finished run.
    """
    from wsvad_jax.evaluation.scorer import score_split
    from wsvad_jax.weights.model_folder import load_params

    path = scores_path(workdir, experiment.dataset.card.name)
    identity = _identity(experiment, workdir)
    if (videos := _read(path, identity, experiment)) is not None:
        return videos

    params, batch_stats, _ = load_params(workdir / "model")
    videos = score_split(experiment, scorer, params, batch_stats)
    _write(path, identity, videos)
    return videos


def scores_path(workdir: pathlib.Path, test_set: str) -> pathlib.Path:
    """Returns the file of a run's scores on a test set."""
    # Two names may have one stem.
    key = hashlib.sha256(test_set.encode()).hexdigest()[:8]
    return workdir / FOLDER / f"{file_stem(test_set, 40)}-{key}.npz"


def _identity(experiment: "Experiment", workdir: pathlib.Path) -> str:
    """Returns what the scores depend on, as JSON."""
    tower = experiment.text_tower_id or {}
    results = (workdir / "results.json").read_bytes()
    identity: dict[str, Any] = {
        "run": hashlib.sha256(results).hexdigest(),
        "content": experiment.dataset.content,
        "crop": experiment.dataset.card.test_crop,
        "tower": tower.get("hash"),
        "words": experiment.dataset.card.prompts if experiment.text else None,
    }
    return json.dumps(identity, sort_keys=True)


def _write(path: pathlib.Path, identity: str, videos: "Sequence[EvalVideo]") -> None:
    arrays: dict[str, Any] = {IDENTITY: np.array(identity)}
    for v in videos:
        curves = {"anomaly": v.anomaly, "classes": v.classes}
        curves |= {f"anomaly_{name}": curve for name, curve in v.extra.items()}
        arrays |= {f"{v.video}/{k}": c for k, c in curves.items() if c is not None}
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def _read(
    path: pathlib.Path, identity: str, experiment: "Experiment"
) -> "list[EvalVideo] | None":
    """Reads scores; None if there are none of this identity, or they are damaged."""
    from wsvad_jax.evaluation.scorer import with_ground_truth
    from wsvad_jax.models.scores import SnippetScores

    if not path.is_file():
        return None
    entries = experiment.dataset.split("test").entries
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if str(arrays[IDENTITY]) != identity:
                return None
            curves: dict[str, dict[str, Any]] = {}
            for name in set(arrays.files) - {IDENTITY}:
                video, _, curve = name.rpartition("/")
                curves.setdefault(video, {})[curve] = arrays[name]

        scores = [
            SnippetScores(
                anomaly=curves[e.video].pop("anomaly"),
                classes=curves[e.video].pop("classes", None),
                branches={
                    name.removeprefix("anomaly_"): curve
                    for name, curve in sorted(curves[e.video].items())
                },
            )
            for e in entries
        ]
    except Exception as e:  # noqa: BLE001 damage can raise anything
        raise_if_unreadable(path, e)
        return None  # a damaged file is scored again
    return with_ground_truth(entries, scores)
