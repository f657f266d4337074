"""Measures the positional bias of finished runs on their normal training videos."""

import pathlib
from collections.abc import Sequence
from typing import Any

from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import write_json
from wsvad_jax.utils.text import aligned, percent

HEADER = ("run", "model", "dataset", "variance", "share of all, %", "windows")


def measure_runs(
    runs: Sequence[pathlib.Path],
    data_dir: str | None = None,
    output: pathlib.Path | None = None,
) -> list[dict[str, Any]]:
    """Measures runs, prints a table, and returns one row per run.

    Args:
      runs: workdirs of finished trainings.
      data_dir: folder of prepared datasets.
      output: JSON file for the rows; None writes none.

    Raises:
      InputError: a folder is no finished run, its dataset has changed, or the dataset
        has no normal training video.
    """
    # All folders are checked before the first is scored.
    for run in runs:
        if not (run / "results.json").is_file():
            raise InputError(
                f"{run} is not a finished run (it has no results.json); pass the "
                "--workdir of a training"
            )

    rows = [_measure(run, data_dir) for run in runs]
    if output is not None:
        write_json(output, rows)

    table = [
        (
            row["run"],
            row["model"],
            row["dataset"],
            f"{row['variance']:.4f}",
            percent(row["share"]),
            str(row["windows"]),
        )
        for row in rows
    ]
    print("\n".join(aligned([HEADER, *table], left=(0, 1, 2))))
    return rows


def _measure(run: pathlib.Path, data_dir: str | None) -> dict[str, Any]:
    from wsvad_jax.evaluation.position_variance import measure_position_variance
    from wsvad_jax.evaluation.results import check_data, saved_config
    from wsvad_jax.experiment.build import check_params, open_experiment
    from wsvad_jax.results import run_data
    from wsvad_jax.weights.hub_model import load_checkpoint

    config = saved_config(run, ())
    folder, params, batch_stats, _ = load_checkpoint(str(run / "model"))
    experiment = open_experiment(config, data_dir)

    # Other videos than those of the training would be another measure.
    check_data(
        run, run_data.describe(experiment.dataset, experiment.text_tower_id), folder
    )
    check_params(experiment, params, str(folder))

    measured = measure_position_variance(experiment, params, batch_stats)
    return {
        "run": str(run),
        "model": config.model_name,
        "dataset": experiment.dataset.card.name,
        "seed": int(config.seed),
        "variance": measured.variance,
        "share": measured.share,
        "windows": measured.windows,
        "mean_logits": measured.mean_logits,
    }
