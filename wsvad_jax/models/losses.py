"""Loss terms that several papers share, as pure functions of scores and labels.

VadCLIP (https://arxiv.org/abs/2308.11681), also used by DSANet:
  MIL-Align, L_nce (Eq. 8 to 10)  -> mil_align
  MIL, L_bce (Eq. 11)             -> mil_top_k
  text contrast, L_cts (Eq. 12)   -> text_contrast
All reduce in float32 over the videos of a batch. `where` masks snippets instead of
slicing, so every shape is static.
"""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num


@runtime_checkable
class LabelledBatch(Protocol):
    """Batch fields that an objective reads: multi-hot labels and valid lengths."""

    @property
    def label(self) -> Float[Array, "B C"]: ...
    @property
    def length(self) -> Int[Array, "B"]: ...


def weighted(
    terms: Mapping[str, Float[Array, ""]],
    weights: Mapping[str, Any],
    term_weights: Mapping[str, Any] | None = None,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Weighted sum of loss terms, Σ weight · term, and the terms.

    Args:
      terms: mean of each term over a batch.
      weights: weight of each term.
      term_weights: weight of this microbatch in each term's full-batch mean, which
        the returned terms are multiplied by; None for a full batch.
    """
    terms = dict(terms)
    if term_weights is not None:
        terms = {k: v * term_weights[k] for k, v in terms.items()}
    return jnp.asarray(sum(weights[k] * v for k, v in terms.items())), terms


def top_k_mean(
    x: Float[Array, "B T *rest"],
    k: Int[Array, "B"],
    k_max: int,
    *,
    where: Bool[Array, "B T"],
) -> Float[Array, "B *rest"]:
    """Mean of each video's `k` largest values along T, among valid snippets.

    Args:
      x: scores or logits; the trailing axes are ranked independently.
      k: number of averaged snippets per video, 1 ≤ k ≤ min(k_max, valid snippets).
      k_max: static upper bound of k.
      where: valid snippets.
    """
    best, chosen = _top_k(x, k, k_max, where)
    k = k.reshape(k.shape + (1,) * (x.ndim - 2))
    return jnp.sum(jnp.where(chosen, best, 0), -1) / k


def _top_k(x, k, k_max, where):
    """Returns the `k_max` largest values along T and the mask of each video's `k`."""
    shape = (1,) * (x.ndim - 2)
    x = jnp.where(where.reshape(where.shape + shape), x.astype(jnp.float32), -jnp.inf)
    best, _ = jax.lax.top_k(jnp.moveaxis(x, 1, -1), k_max)  # [B, *rest, k_max]
    # k differs by video, but shapes are static: all take k_max, and the mask cuts.
    k = k.reshape(k.shape + shape + (1,))
    return best, jnp.arange(k_max).reshape((1,) * (best.ndim - 1) + (k_max,)) < k


def binary_cross_entropy(
    probability: Float[Array, "*B"], target: Float[Array, "*B"]
) -> Float[Array, ""]:
    """Binary cross-entropy, the mean of −y log p − (1 − y) log(1 − p).

    Each logarithm is clamped at −100, as in PyTorch.
    """

    def log(p):
        # The double `where` keeps the gradient finite where p is exactly 0.
        return jnp.where(
            p > 0, jnp.maximum(jnp.log(jnp.where(p > 0, p, 1)), -100), -100
        )

    p = probability.astype(jnp.float32)
    return -jnp.mean(target * log(p) + (1 - target) * log(1 - p))


def soft_cross_entropy(
    logits: Float[Array, "B C"], target: Float[Array, "B C"]
) -> Float[Array, ""]:
    """Cross-entropy with soft targets: mean over videos of −Σ_c y_c log softmax_c."""
    # From logits: the logarithm of a softmax would underflow.
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
    return -jnp.mean(jnp.sum(target * log_p, -1))


def mil_top_k(
    anomaly_logits: Float[Array, "B T"],
    label: Float[Array, "B C"],
    length: Int[Array, "B"],
) -> Float[Array, ""]:
    """Bag-level BCE of the mean of the ⌊n/16 + 1⌋ highest anomaly scores.

    VadCLIP (arXiv 2308.11681), Eq. 11: L_bce of the C-branch. It is computed from
    logits: log p = log mean σ(x), log (1 − p) = log mean σ(−x). In the released code,
    the gradient stays 0 once a score rounds to 0 or 1, and training never recovers.
    """
    k, k_max, where = _bag_top_k(length, anomaly_logits.shape[1])
    best, chosen = _top_k(anomaly_logits, k, k_max, where)
    best = jnp.where(chosen, best, 0)  # finite values for finite gradients

    def log_mean(x):
        # The mean of probabilities, taken in logarithms.
        log_p = jax.nn.log_sigmoid(x)
        return jax.nn.logsumexp(log_p, -1, where=chosen) - jnp.log(k)

    y = 1 - label[:, 0]
    return -jnp.mean(y * log_mean(best) + (1 - y) * log_mean(-best))


def mil_align(
    align_logits: Float[Array, "B T C"],
    label: Float[Array, "B C"],
    length: Int[Array, "B"],
) -> Float[Array, ""]:
    """Cross-entropy of each class's mean ⌊n/16 + 1⌋ highest alignment logits.

    VadCLIP (arXiv 2308.11681), Eq. 8 to 10: L_nce of the A-branch.
    """
    # Eq. 8: a class's similarity to the video. Logits are averaged, not probabilities.
    k, k_max, where = _bag_top_k(length, align_logits.shape[1])
    logits = top_k_mean(align_logits, k, k_max, where=where)

    # Eq. 9 and 10: softmax over the classes, then cross-entropy with the video's label.
    return soft_cross_entropy(logits, normalise_label(label))


def text_contrast(text: Float[Array, "C D"]) -> Float[Array, ""]:
    """Mean |cos| between the text features of the normal class and each other class.

    VadCLIP (arXiv 2308.11681), Eq. 12: L_cts.
    """
    text = normalise(text.astype(jnp.float32))
    return jnp.mean(jnp.abs(text[1:] @ text[0]))


def smooth_target(target: Float[Array, "*B C"], epsilon: float) -> Float[Array, "*B C"]:
    """Label smoothing: the target mixed with the uniform one, (1 − ε) y + ε / C."""
    return (1 - epsilon) * target + epsilon / target.shape[-1]


def normalise_label(label: Float[Array, "B C"]) -> Float[Array, "B C"]:
    """Distribution y / Σ y of a multi-hot label."""
    return label / jnp.maximum(jnp.sum(label, -1, keepdims=True), 1)


def norm(x: Num[Array, "*B D"]) -> Num[Array, "*B 1"]:
    """L2 norm ‖x‖₂ along the last axis, at least in float32, with gradient 0 at 0."""
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    square = jnp.sum(jnp.square(x), -1, keepdims=True)
    # The double `where` keeps the gradient of the root finite at 0.
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


def normalise(x: Num[Array, "*B D"]) -> Num[Array, "*B D"]:
    """Divides x by its L2 norm along the last axis; 0 stays 0, with gradient 0."""
    length = norm(x)
    # Not rsqrt, which XLA on a CPU only estimates: small gradients would change.
    return (x / jnp.where(length > 0, length, 1)).astype(x.dtype)


def _bag_top_k(length, T):
    # The ⌊n/16 + 1⌋ highest of a video's n snippets count.
    where = jnp.arange(T)[None] < length[:, None]
    return length // 16 + 1, min(T // 16 + 1, T), where
