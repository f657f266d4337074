"""Cross pseudo-labels between the two branches of VadCLIP and DSANet (`cross_pseudo`).

Lee et al., CPL-VAD, ICASSP 2026, https://arxiv.org/abs/2602.17077. After a warm-up, each
branch labels the snippets of a batch for the other one; a filter of the scores in time
decides which snippets get a label. The training code is not released. What follows the
paper's figure and the released label generator, and what is ours, is in
docs/models/cross_pseudo.md.
  anomaly logits of both branches              -> branch_logits
  consistency-aware refinement (CAR)
    scale-wise: scores at several scales       -> average_scales
    temporal-wise: segments that many          -> vote_share, close_gaps
      thresholds and scales agree on
    flat Gaussian filter                       -> flat_gaussian
  pseudo-labels and the snippets that have one -> pseudo_labels
  objective L_focal                            -> cross_pseudo_loss
A weight of 0 adds no parameter and no operation.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from wsvad_jax.models.losses import LabelledBatch
from wsvad_jax.utils.errors import InputError

TERM = "cross_pseudo"  # name of the loss term, and prefix of its settings
THRESHOLDS = (0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)  # as in the release
FOCUS = 2.0  # exponent γ of the focal loss


@dataclasses.dataclass(frozen=True)
class LabelSettings:
    """How labels are made; in recipes, `loss.cross_pseudo_NAME`.

    The defaults are those of the release on UCF-Crime, for windows of 256 snippets;
    `warmup` and `calm` are ours.

    Args:
      warmup: steps before the term counts.
      votes: least vote share of an anomalous snippet.
      calm: most vote share of a normal snippet; between the two, a snippet has no label.
      gap: longest gap inside a segment, in snippets.
      length: shortest segment, in snippets.
      scales: number of scales; scale i averages blocks of 2^i snippets.
      flat: fraction of a segment whose label is 1; it falls off at both ends.
    """

    warmup: int = 500
    votes: float = 0.49
    calm: float = 0.2
    gap: int = 5
    length: int = 6
    scales: int = 5
    flat: float = 0.55


def settings_of(weights: Mapping[str, Any]) -> LabelSettings:
    """Returns the settings among the weights of a recipe's loss."""
    names = [field.name for field in dataclasses.fields(LabelSettings)]
    given = {n: weights[f"{TERM}_{n}"] for n in names if f"{TERM}_{n}" in weights}
    return LabelSettings(**given)


def is_on(weights: Mapping[str, Any]) -> bool:
    """Whether the term counts; its weight may be traced, see `weights_at`."""
    weight = weights.get(TERM, 0)
    return not (isinstance(weight, int | float) and weight == 0)


def check(weights: Mapping[str, Any], model: Any) -> None:
    """Raises InputError if the term is on and its settings or branches don't allow it.

    Args:
      weights: weights of a recipe's loss.
      model: linen module of the recipe.
    """
    if not is_on(weights):
        return

    settings = settings_of(weights)
    if settings.calm >= settings.votes:
        raise InputError(
            f"config.loss.{TERM}_calm is {settings.calm}; expected less than "
            f"config.loss.{TERM}_votes, {settings.votes}"
        )
    for branch in ("classify", "align"):
        if not getattr(model, branch, True):
            raise InputError(
                f"config.loss.{TERM} is {weights[TERM]}, which requires both branches, "
                f"but config.model.{branch} is False; set one of them back"
            )


def check_warmup(weights: Mapping[str, Any], steps: int) -> None:
    """Raises InputError if the term is on but its warm-up lasts all of the training.

    Args:
      weights: weights of a recipe's loss.
      steps: steps of the training.
    """
    warmup = settings_of(weights).warmup
    if is_on(weights) and warmup >= steps:
        raise InputError(
            f"config.loss.{TERM}_warmup is {warmup}, but the training has {steps} steps, "
            "so the labels would never count; lower it, to half of the steps for example"
        )


def weights_at(weights: Mapping[str, Any], step: Any) -> Mapping[str, Any]:
    """Returns the weights of a step: that of the term is 0 during the warm-up.

    Args:
      weights: weights of a recipe's loss.
      step: steps taken before; None for a step after the warm-up.
    """
    if not is_on(weights) or step is None:
        return weights
    warm = step >= settings_of(weights).warmup
    return {**weights, TERM: jnp.where(warm, weights[TERM], 0.0)}


def terms(
    outputs: Any, batch: LabelledBatch, weights: Mapping[str, Any]
) -> dict[str, Float[Array, ""]]:
    """Returns the term by name, nothing where its weight is 0.

    Args:
      outputs: outputs of a forward pass, with `anomaly_logits` and `align_logits`.
      batch: `label` [B, C] multi-hot and `length` [B].
      weights: weights of the loss, with the settings of the term.
    """
    if not is_on(weights):
        return {}
    logits = branch_logits(outputs.anomaly_logits, outputs.align_logits)
    return {
        TERM: cross_pseudo_loss(
            *logits, batch.label, batch.length, settings_of(weights)
        )
    }


def branch_logits(
    anomaly_logits: Float[Array, "B T"], align_logits: Float[Array, "B T C"]
) -> tuple[Float[Array, "B T"], Float[Array, "B T"]]:
    """Returns the anomaly logits of both branches.

    The A-branch's probability 1 − softmax(M)_0 is the sigmoid of the second.
    """
    M = align_logits.astype(jnp.float32)
    aligned = jax.nn.logsumexp(M[..., 1:], -1) - M[..., 0]
    return anomaly_logits.astype(jnp.float32), aligned


def cross_pseudo_loss(
    classified: Float[Array, "B T"],
    aligned: Float[Array, "B T"],
    label: Float[Array, "B C"],
    length: Int[Array, "B"],
    settings: LabelSettings,
) -> Float[Array, ""]:
    """L_focal of both directions: each branch learns the labels that the other one made.

    A video's loss is the sum over its labelled snippets, divided by its snippets; the
    result is the mean over videos. No gradient reaches the branch that labels.

    Args:
      classified: anomaly logits of the C-branch.
      aligned: anomaly logits of the A-branch.
      label: multi-hot labels, index 0 normal.
      length: valid snippets.
      settings: how labels are made.
    """
    where = jnp.arange(classified.shape[1])[None] < length[:, None]
    abnormal = label[:, 0] == 0

    total = jnp.zeros(())
    for student, teacher in ((classified, aligned), (aligned, classified)):
        score = jax.lax.stop_gradient(jax.nn.sigmoid(teacher))
        target, labelled = pseudo_labels(score, abnormal, where, settings)
        loss = jnp.where(labelled, focal_loss(student, target), 0)
        total += jnp.mean(jnp.sum(loss, -1) / jnp.maximum(length, 1))
    return total


def focal_loss(
    logits: Float[Array, "*B"], target: Float[Array, "*B"]
) -> Float[Array, "*B"]:
    """−y (1 − p)^γ log p − (1 − y) p^γ log(1 − p) with p = σ(logits)."""
    # From logits: logarithms of probabilities would underflow.
    p, q = jax.nn.sigmoid(logits), jax.nn.sigmoid(-logits)
    positive = target * q**FOCUS * jax.nn.log_sigmoid(logits)
    return -positive - (1 - target) * p**FOCUS * jax.nn.log_sigmoid(-logits)


def pseudo_labels(
    score: Float[Array, "B T"],
    abnormal: Bool[Array, "B"],
    where: Bool[Array, "B T"],
    settings: LabelSettings,
) -> tuple[Float[Array, "B T"], Bool[Array, "B T"]]:
    """Labels in [0, 1] that a branch's scores give, and the snippets that have one.

    Args:
      score: anomaly scores of the branch that labels.
      abnormal: whether a video's own label says that it has an anomaly.
      where: valid snippets.
      settings: how labels are made.
    """
    share = vote_share(score, where, settings)
    anomalous = where & (share >= settings.votes)
    calm = where & (share <= settings.calm)

    # Labels must be consistent with the video's own. All of a normal video is normal,
    # and an abnormal video without an anomalous snippet says nothing about any.
    consistent = (abnormal & jnp.any(anomalous, -1))[:, None]
    labelled = where & jnp.where(
        abnormal[:, None], consistent & (anomalous | calm), True
    )
    target = jnp.where(
        consistent & anomalous, flat_gaussian(anomalous, settings.flat), 0
    )
    return target, labelled


def vote_share(
    score: Float[Array, "B T"], where: Bool[Array, "B T"], settings: LabelSettings
) -> Float[Array, "B T"]:
    """How far scales and thresholds agree that a snippet is in an anomalous segment.

    A segment is a run of scores above a threshold, with gaps of up to `gap` snippets,
    of at least `length` snippets. It votes with the mean of its scores above the
    threshold, and the share is the mean vote over all scales and thresholds.
    """
    scores = average_scales(score, where, settings.scales)[:, None]  # [S, 1, B, T]
    limits = jnp.asarray(THRESHOLDS, scores.dtype)[None, :, None, None]
    above = where[None, None] & (scores >= limits)  # [S, thresholds, B, T]

    segment = close_gaps(above, settings.gap)
    before, after = _neighbours(segment)
    segment &= after - before - 1 >= settings.length

    # Sums over a segment are differences of cumulative sums at its ends.
    def over_segment(x):
        sums = jnp.cumsum(jnp.pad(x, ((0, 0),) * 3 + ((1, 0),)), -1)
        first = jnp.take_along_axis(sums, before + 1, -1)
        return jnp.take_along_axis(sums, after, -1) - first

    count = over_segment(above.astype(jnp.float32))
    vote = over_segment(jnp.where(above, scores, 0)) / jnp.maximum(count, 1)
    return jnp.mean(jnp.where(segment, vote, 0), (0, 1))


def average_scales(
    score: Float[Array, "B T"], where: Bool[Array, "B T"], scales: int
) -> Float[Array, "S B T"]:
    """Means of the scores over blocks of 1, 2, 4, … valid snippets."""
    B, T = score.shape
    curves = []
    for block in (2**i for i in range(scales)):
        padding = ((0, 0), (0, -T % block))
        blocks = [
            jnp.pad(x, padding).reshape(B, -1, block).sum(-1)
            for x in (jnp.where(where, score, 0), where.astype(score.dtype))
        ]
        mean = blocks[0] / jnp.maximum(blocks[1], 1)
        curves.append(jnp.repeat(mean, block, -1)[:, :T])
    return jnp.stack(curves)


def close_gaps(mask: Bool[Array, "*B T"], gap: int) -> Bool[Array, "*B T"]:
    """Fills runs of at most `gap` False entries that have True on both sides."""
    before, after = _neighbours(~mask)
    inside = (before >= 0) & (after < mask.shape[-1])
    return mask | (inside & (after - before - 1 <= gap))


def flat_gaussian(mask: Bool[Array, "*B T"], flat: float) -> Float[Array, "*B T"]:
    """1 in the middle of each run of True, falling as a Gaussian at its ends.

    Of a run of L snippets, ⌊flat · L⌋ and the odd one out are 1. Each tail of n snippets
    has a deviation of n / 3; outside of runs the value is 0.
    """
    before, after = _neighbours(mask)
    length = after - before - 1
    tail = (length - jnp.floor(flat * length + 1e-4).astype(int)) // 2

    # Distance from the flat part, 0 on it.
    t = _places(mask)
    outside = tail - 1 - jnp.minimum(t - before - 1, after - 1 - t)
    distance = 3 * jnp.maximum(outside, 0) / jnp.maximum(tail, 1)
    return jnp.where(mask, jnp.exp(-0.5 * distance**2), 0)


def _neighbours(mask):
    """Indices of the last False before and the first False after each entry.

    At the ends of the axis they are −1 and T.
    """
    t, axis = _places(mask), mask.ndim - 1
    before = jax.lax.cummax(jnp.where(mask, -1, t), axis)
    after = jax.lax.cummin(jnp.where(mask, mask.shape[-1], t), axis, reverse=True)
    return before, after


def _places(mask):
    return jax.lax.broadcasted_iota(jnp.int32, mask.shape, mask.ndim - 1)
