"""Trains a recipe once per fold, and scores each fold with the model that left it out.

A fold's folder is a workdir of training, so an interrupted fold resumes from its last
checkpoint. scores.npz, written last, marks the fold as done.
"""

import dataclasses
import pathlib
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Int

from wsvad_jax.models.scores import SnippetScores
from wsvad_jax.utils import progress
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import atomic_path

if TYPE_CHECKING:
    from wsvad_jax.data.dataset import Split
    from wsvad_jax.evaluation.scorer import Scorer
    from wsvad_jax.experiment.build import Experiment

SCORES = "scores.npz"
AT_ONCE = 64  # videos whose windows are in memory together


@dataclasses.dataclass(frozen=True)
class CrossValidated:
    """Scores of the training videos, each by a model that was not trained on it."""

    fold: Int[np.ndarray, "V"]
    scores: Sequence[SnippetScores]  # of each video, with `anomaly` and `classes`
    folders: Sequence[pathlib.Path]  # workdir of each fold, with its model


def cross_validate(
    experiment: "Experiment", fold: Int[np.ndarray, "V"], folder: pathlib.Path
) -> CrossValidated:
    """Trains and scores the folds that are not done yet.

    Args:
      experiment: opened recipe and dataset.
      fold: fold of each training video.
      folder: folder for the folds' workdirs.

    Raises:
      InputError: a loss isn't finite, or a file of a fold is damaged.
      Preempted: a preemption signal came; a checkpoint is saved.
    """
    from wsvad_jax.evaluation.scorer import Scorer

    scorer = Scorer(experiment)  # compiled once: weights are arguments
    num_folds = int(fold.max()) + 1
    folders = [folder / f"fold{f}" for f in range(num_folds)]
    scores: list[Any] = [None] * len(fold)

    for f, workdir in enumerate(folders):
        videos = np.flatnonzero(fold == f)
        if not (workdir / SCORES).is_file():
            progress.status(f"fold {f + 1} of {num_folds}: {workdir}")
            _train_and_score(experiment, scorer, videos, workdir)
        for video, found in zip(videos, read_scores(workdir), strict=True):
            scores[video] = found
    return CrossValidated(fold, scores, folders)


def _train_and_score(
    experiment: "Experiment",
    scorer: "Scorer",
    videos: Int[np.ndarray, "n"],
    workdir: pathlib.Path,
) -> None:
    """Trains without `videos`, scores them, and writes model and scores."""
    from wsvad_jax.training.checkpoints import remove_checkpoints
    from wsvad_jax.training.loop import train_one_seed
    from wsvad_jax.training.model_notes import model_meta
    from wsvad_jax.training.sampler import training_remarks
    from wsvad_jax.weights.model_folder import save_params

    left_out = dataclasses.replace(
        experiment, left_out=frozenset(int(v) for v in videos)
    )
    best, _ = train_one_seed(left_out, scorer, workdir)
    meta = model_meta(left_out, best.step, training_remarks(left_out))
    save_params(workdir / "model", best.params, best.batch_stats, meta)

    split = experiment.dataset.split("train")
    weights = best.params, best.batch_stats
    scores = score_videos_of(experiment, scorer, weights, split, videos)
    write_scores(workdir / SCORES, scores)

    # The model is saved; checkpoints are three times as large and not needed any more.
    remove_checkpoints(workdir / "checkpoints")


def score_videos_of(
    experiment: "Experiment",
    scorer: "Scorer",
    weights: tuple[Any, Any],
    split: "Split",
    videos: Int[np.ndarray, "n"],
) -> list[SnippetScores]:
    """Scores some videos of a split as `evaluate` scores the test set.

    Args:
      experiment: recipe and model.
      scorer: scorer of the model.
      weights: parameters and batch statistics.
      split: split of the videos.
      videos: indices of the videos.
    """
    from wsvad_jax.evaluation.scorer import score_videos

    ready = scorer.weights(*weights)
    lengths = np.array([split.entries[v].num_snippets for v in videos])

    # Videos of a group have windows of one length, so they share a compiled program.
    results: list[Any] = [None] * len(videos)
    for group in _groups(experiment, lengths):
        windows = _windows(experiment, split, videos[group])
        scores = score_videos(scorer, ready, windows, label="score held-out")
        for i, found in zip(group, scores, strict=True):
            results[i] = found
    return results


def _groups(
    experiment: "Experiment", lengths: Int[np.ndarray, "n"]
) -> list[Int[np.ndarray, "m"]]:
    from wsvad_jax.evaluation.windows import bucket_lengths

    same = np.zeros_like(lengths)
    if experiment.config.eval.mode == "whole":
        same = bucket_lengths(lengths)
    return [
        members[start : start + AT_ONCE]
        for members in (np.flatnonzero(same == length) for length in np.unique(same))
        for start in range(0, len(members), AT_ONCE)
    ]


def _windows(
    experiment: "Experiment", split: "Split", videos: Int[np.ndarray, "n"]
) -> Any:
    """Reads videos and cuts them into windows, which have one length."""
    from wsvad_jax.evaluation.windows import VideoWindows, windows_of_video

    crop = experiment.dataset.card.test_crop
    parts = [windows_of_video(split[int(v)].features, experiment, crop) for v in videos]
    counts = [len(part.length) for part in parts]
    return VideoWindows(
        np.concatenate([np.asarray(part.features) for part in parts]),
        np.repeat(np.arange(len(parts)), counts),
        np.concatenate([part.length for part in parts]),
        np.concatenate([part.num_snippets for part in parts]),
    )


def write_scores(path: pathlib.Path, scores: Sequence[SnippetScores]) -> None:
    """Writes the scores of videos in their order, as 0/anomaly, 0/classes …"""
    arrays: dict[str, Any] = {}
    for i, video in enumerate(scores):
        arrays[f"{i}/anomaly"] = np.asarray(video.anomaly)
        if video.classes is not None:
            arrays[f"{i}/classes"] = np.asarray(video.classes)
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def read_scores(workdir: pathlib.Path) -> list[SnippetScores]:
    """Reads what `write_scores` wrote for a fold.

    Raises:
      InputError: the file is damaged.
    """
    path = workdir / SCORES
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        n = sum(name.endswith("/anomaly") for name in arrays)
        return [
            SnippetScores(arrays[f"{i}/anomaly"], arrays.get(f"{i}/classes"))
            for i in range(n)
        ]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as e:
        raise InputError(
            f"{path}: not readable ({e}); remove it, and run the audit again"
        ) from None
