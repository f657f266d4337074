"""Audits the labels of a dataset's training videos: the work of `prepare --audit`."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from wsvad_jax.audit import disputes, sources, video_files
from wsvad_jax.audit.result import AuditOptions, LabelAudit
from wsvad_jax.audit.unlabelled import (
    UnlabelledRanking,
    find_unlabelled,
    rank_unlabelled,
)
from wsvad_jax.utils import files
from wsvad_jax.utils.errors import InputError

if TYPE_CHECKING:
    from wsvad_jax.audit.plan import FoldPlan
    from wsvad_jax.detection.inputs import VideoInput
    from wsvad_jax.experiment.build import Experiment


def audit_labels(
    name: str, options: AuditOptions, errors: list[InputError]
) -> dict[str, Any]:
    """Audits a dataset's labels, and writes CSV files, audit.json and audit.html.

    Args:
      name: dataset's name, its prepared folder, or the folder it was prepared from.
      options: run, and where files go.
      errors: receives errors about unlabelled videos, which are left out.

    Returns:
      The content of audit.json.

    Raises:
      InputError: run and dataset don't belong together, too few videos, or a file that
        can't be read.
    """
    from wsvad_jax.audit import report
    from wsvad_jax.audit.plan import plan_folds
    from wsvad_jax.experiment.build import open_experiment

    # Cheap checks come before the dataset is opened.
    config = sources.read_recipe(options.run)
    path = sources.find_dataset(name, options.run, config, options.data_dir)
    config.data.name = str(path)
    output = options.output or options.run / "audit"

    experiment = open_experiment(config, options.data_dir)
    dataset = experiment.dataset
    sources.note_changes(options.run, dataset)
    videos = video_files.find_video_files(dataset, options.videos)
    new, notes = _unlabelled_inputs(experiment, options, errors)

    with files.locked(output):
        plan = plan_folds(experiment, output, options.folds, videos)
        audited = cross_audit(experiment, plan, output)
        ranking = UnlabelledRanking()
        if new:
            how = {"clip": options.clip, "fps": options.fps, "errors": errors}
            ranking = rank_unlabelled(audited, new, **how)

        paths = {**videos.paths, **ranking.paths}
        notes = (*videos.notes, *notes)
        videos = dataclasses.replace(videos, paths=paths, notes=notes)
        return report.write(output, audited, videos, options, ranking.entries)


def _unlabelled_inputs(
    experiment: "Experiment", options: AuditOptions, errors: list[InputError]
) -> tuple[list["VideoInput"], tuple[str, ...]]:
    """Returns the videos of --unlabelled, and notes; files left out go to `errors`."""
    from wsvad_jax.utils.file_search import SkippedFiles

    if not options.unlabelled:
        return [], ()
    skipped = SkippedFiles()
    splits = experiment.dataset.splits.values()
    labelled = [e.video for split in splits for e in split.entries]
    new, notes = find_unlabelled(options.unlabelled, labelled, skipped)
    errors += skipped.errors
    # A model that reads text takes its prompts' tower from --clip, too.
    unread = experiment.text is None and not any(video.is_video for video in new)
    if options.clip is not None and unread:
        raise InputError(
            "--clip makes features of videos, and all inputs of --unlabelled are features; "
            "leave it out"
        )
    return new, (*notes, *filter(None, [str(skipped)]))


def cross_audit(
    experiment: "Experiment", plan: "FoldPlan", output: pathlib.Path
) -> LabelAudit:
    """Trains and scores the folds, and compares scores with labels.

    Args:
      experiment: opened recipe and dataset.
      plan: fold of each training video.
      output: folder of the audit; the folds' workdirs are in its folds/.
    """
    from wsvad_jax.audit.cross_validation import cross_validate
    from wsvad_jax.audit.plan import fit_batch

    fitting = fit_batch(experiment, plan.fold)
    validated = cross_validate(fitting, plan.fold, output / "folds")

    labels = [e.label for e in experiment.dataset.split("train").entries]
    scores = disputes.video_scores(validated.scores)
    return LabelAudit(
        experiment,
        plan,
        validated,
        disputes.kind_disputes(labels, plan.fold, scores),
        disputes.class_disputes(labels, plan.fold, validated.scores),
        scores,
        _video_auc(labels, plan, scores),
    )


def _video_auc(
    labels: Sequence[tuple[int, ...]], plan: "FoldPlan", scores: np.ndarray
) -> float:
    from sklearn.metrics import roc_auc_score

    abnormal = [any(c > 0 for c in label) for label in labels]
    return float(roc_auc_score(abnormal, disputes.ranks_in_folds(scores, plan.fold)))
