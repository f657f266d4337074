"""The files of a finished run: how they are written, and how they are shown again.

A run with results.json is finished. model/ holds its weights, so it needs no checkpoints
to be scored or shown.
"""

import os
import pathlib
import time
from typing import TYPE_CHECKING, Any

from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json, write_json

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from wsvad_jax.evaluation.scorer import Scorer
    from wsvad_jax.experiment.build import Experiment
    from wsvad_jax.training.loop import BestWeights


def is_finished(workdir: pathlib.Path) -> bool:
    """Whether a workdir holds a finished run."""
    return (workdir / "results.json").is_file()


def show_finished_run(
    config: "ConfigDict",
    workdir: pathlib.Path,
    data_dir: str | os.PathLike | None,
) -> dict[str, Any]:
    """Prints and returns the results of a finished run.

    Raises:
      InputError: the dataset has changed since the run.
    """
    from wsvad_jax.results import run_data
    from wsvad_jax.results.results_table import results_table

    results = read_json(workdir / "results.json")

    # A dataset may be deleted once its run is finished, so this is no error.
    try:
        current = run_data.describe(run_data.prepared(config, data_dir))
    except InputError as e:
        not_compared = str(e)
    else:
        recorded = run_data.check(workdir, current)
        not_compared = "" if recorded else "an older version of this program noted none"

    print(results_table(results))
    print(f"{workdir} is finished; another --workdir or seed starts a new run")
    if not_compared:
        print(f"its data was not compared with the dataset: {not_compared}")
    return results


def write_run(
    experiment: "Experiment",
    scorer: "Scorer",
    workdir: pathlib.Path,
    best: "BestWeights",
    history: list[dict[str, Any]],
    training_s: float,
    *,
    keep_checkpoints: bool = False,
) -> dict[str, Any]:
    """Writes the selected weights, and scores and results of the test set.

    The checkpoints stay until results.json is written, so that an interrupted run scores
    the test set without training again.

    Args:
      experiment: recipe, dataset and model that were trained.
      scorer: its compiled scoring program.
      workdir: folder of the run.
      best: selected weights.
      history: lines of metrics.jsonl.
      training_s: wall time of the training in seconds.
      keep_checkpoints: whether the checkpoints stay after that, too.

    Returns:
      The content of results.json.
    """
    from wsvad_jax.evaluation import results as evaluate_results
    from wsvad_jax.evaluation.scorer import Scorer, score_split
    from wsvad_jax.experiment.training_view import training_remark
    from wsvad_jax.parallel import multihost
    from wsvad_jax.training import provenance
    from wsvad_jax.training.microbatches import run_microbatches
    from wsvad_jax.training.model_notes import model_meta
    from wsvad_jax.training.sampler import training_batch_size, training_remarks
    from wsvad_jax.weights.model_folder import save_params

    # A model that was trained on some classes is scored on all.
    remarks = training_remarks(experiment)
    microbatches = run_microbatches(experiment, training_batch_size(experiment)[0])
    if (whole := experiment.with_all_classes) is not experiment:
        experiment, scorer = whole, Scorer(whole)
        remarks.append(training_remark(whole))

    meta = model_meta(experiment, best.step, remarks)
    save_params(workdir / "model", best.params, best.batch_stats, meta)

    start = time.perf_counter()
    weights = best.params, best.batch_stats
    videos = score_split(experiment, scorer, *weights, with_baseline=True)
    seconds = {"training": training_s, "scoring": time.perf_counter() - start}

    if multihost.is_process_zero():
        content = provenance.provenance(experiment, seconds, microbatches)
        write_json(workdir / provenance.FILE, content)

    # results.json comes last: it marks the run as finished.
    results = evaluate_results.write_results(experiment, videos, workdir, meta, history)

    if not keep_checkpoints:
        _free_space(workdir)
    return results


def _free_space(workdir: pathlib.Path) -> None:
    """Removes the checkpoints of a finished run, and says so."""
    from wsvad_jax.training.checkpoints import remove_checkpoints

    megabytes = remove_checkpoints(workdir / "checkpoints") / 1e6
    if megabytes:
        size = f"{megabytes:.0f}" if megabytes >= 10 else f"{megabytes:.1f}"
        print(f"checkpoints removed, {size} MB (train --keep_checkpoints keeps them)")
