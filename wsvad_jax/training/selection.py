"""The metric by which a training selects its weights."""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from wsvad_jax.data import packing
from wsvad_jax.training.sampler import BatchSampler, held_out_mask
from wsvad_jax.training.state import State
from wsvad_jax.utils.errors import InputError

if TYPE_CHECKING:
    from wsvad_jax.evaluation.scorer import Scorer
    from wsvad_jax.experiment.build import Experiment
    from wsvad_jax.metrics.frame_level import EvalVideo


def open_validation(
    experiment: "Experiment", sampler: BatchSampler, scorer: "Scorer"
) -> Callable[[State], tuple[float | None, dict[str, float]]]:
    """Returns the function state → (selection metric, metrics to log).

    Under `clean` the metric is the video-level AUC of held-out training videos, which
    needs no frame labels. It is None if no video is held out. Under `paper` it is the
    recipe's metric on the test set, as in the releases.

    Args:
      experiment: recipe and dataset.
      sampler: training samples; its packed split has the held-out videos too.
      scorer: compiled scoring program.

    Raises:
      InputError: held-out videos lack the recipe's metric, or the best weights are to be
        selected with no video held out.
    """
    from wsvad_jax.evaluation import scorer as scoring
    from wsvad_jax.metrics import frame_level

    config, card = experiment.config, experiment.dataset.card
    metric = experiment.protocol_config.metric
    on_test = config.protocol == "paper"
    if not on_test:
        _check_selection(experiment.protocol_config)
        if not experiment.protocol_config.held_out:
            return lambda state: (None, {})

    def validate(state: State) -> tuple[float | None, dict[str, float]]:
        weights = state.params, state.batch_stats
        if on_test:
            videos = scoring.score_split(experiment, scorer, *weights)
        else:
            videos = score_held_out(experiment, sampler.packed, scorer, *weights)

        metrics = frame_level.evaluate(
            videos,
            card.class_names,
            normal_truth=config.eval.normal_truth,
            stride=card.stride,
            slack=0 if on_test else None,
        )
        if metric not in metrics:
            raise InputError(
                f"config.{config.protocol}.metric is {metric!r}; expected one of "
                f"{', '.join(metrics)}"
            )

        numbers = {k: v for k, v in metrics.items() if isinstance(v, float)}
        prefix = "test" if on_test else "heldout"
        return metrics[metric], {f"{prefix}/{k}": v for k, v in numbers.items()}

    return validate


def _check_selection(protocol_config: Any) -> None:
    if not protocol_config.metric.startswith("video_auc"):
        raise InputError(
            f"config.clean.metric is {protocol_config.metric!r}, but held-out training videos "
            "have no frame labels; choose video_auc"
        )
    if protocol_config.select == "best" and not protocol_config.held_out:
        raise InputError(
            "config.clean.held_out is 0, but config.clean.select is 'best'; hold "
            "a fraction of the training videos out (0.1), or select the 'last' weights"
        )


def score_held_out(
    experiment: "Experiment",
    packed: "packing.Packed",
    scorer: "Scorer",
    params: Any,
    batch_stats: Any,
) -> list["EvalVideo"]:
    """Scores the first crop of each held-out video at its packed length."""
    from wsvad_jax.evaluation import scorer as scoring

    # The first sample of each video is its first crop.
    _, first = np.unique(packed.index, return_index=True)
    chosen = np.flatnonzero(held_out_mask(experiment, packed))
    rows = first[chosen]
    entries = [experiment.dataset.split("train").entries[i] for i in chosen]

    scores = scorer(
        scorer.weights(params, batch_stats),
        packed.features[rows],
        packed.length[rows],
        label="score held-out",
    )
    videos = scoring.join_windows(scores, packed.length[rows], packed.length[rows])

    # Event segments count original frames, which the resampled snippets don't match.
    bare = [dataclasses.replace(e, segments=()) for e in entries]
    return scoring.with_ground_truth(bare, videos)
