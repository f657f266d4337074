"""CLIP-TSA: Joo et al., ICIP 2023, https://arxiv.org/abs/2212.05136.

Temporal self-attention over CLIP snippets, then RTFM's temporal network and objective
(Tian et al., ICCV 2021, https://arxiv.org/abs/2101.10030). From top to bottom:
  wide features (I3D 2048, C3D 4096)  -> Model._project_wide
  TSA, temporal self-attention        -> Model._attend
    perturbed top-κ selector            -> perturbed_top_k
  multi-scale temporal network (MTN)  -> Model._aggregate
  snippet classifier, top-K magnitude -> Model.__call__
  objective: BCE over videos, magnitude, smoothness, sparsity
                                      -> loss_fn, losses.binary_cross_entropy,
                                         magnitude_loss, smoothness
  inference                           -> scores
Submodules carry the names of the released checkpoint, '.' replaced by '_'. Snippets
past a video's length influence nothing, so test videos of any length share a padded
batch. Memory is linear in T: neither T×T nor S·k·T values are ever built.

The selector follows Cordonnier et al. (2021, https://arxiv.org/abs/2104.03059).

Letters: R = B·N rows (crops), E the width of a layer's output, S noise draws, M draws
at a time, k of T snippets selected.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Bool, Float, Int, Num

from wsvad_jax.models import losses, released
from wsvad_jax.models.common import Dense, TemporalConv
from wsvad_jax.models.losses import LabelledBatch
from wsvad_jax.models.scores import SnippetScores
from wsvad_jax.models.spec import ModelSpec

WIDTH = 512  # width of CLIP ViT-B/16; wider features are projected to it
MARGIN = 100.0  # target magnitude of abnormal snippets
DRAW_LIMIT = 2**22  # noise values in memory at once: 16 MiB
MAX_PAIRWISE = 64  # largest number of snippets to compare pairwise rather than sort
FIELD_RANGES = {
    "kappa": "(0, 1]",
    "samples": "[1, inf)",
    "sigma": "(0, inf)",
    "max_selected": "[1, inf)",
    "top_magnitudes": "[1, inf)",
    "dropout": "[0, 1)",
}
xavier = nn.initializers.xavier_uniform()


@struct.dataclass
class Outputs:
    """Snippet and video scores, with the features that the objective compares."""

    scores: Float[Array, "B T"]  # probabilities, mean over crops, 0 past the length
    video_scores: Float[Array, "B"]
    magnitudes: Float[Array, "B T"]
    selected: Float[Array, "B N K D"]  # features of the K snippets of largest magnitude
    chosen: Bool[Array, "B K"]  # False where a video has fewer than K snippets
    attention: Float[Array, "B N T"]  # p, the fraction of draws that selected a snippet


class Model(nn.Module):
    """Temporal self-attention, multi-scale temporal network, snippet classifier.

    Args:
      kappa: fraction κ of a video's snippets that is selected.
      samples: number S of Gaussian noise draws.
      sigma: deviation σ_n of the noise.
      max_selected: upper bound of the selection at test time.
      top_magnitudes: number K of snippets behind the video score.
      dropout: dropout rate.
      attention: False drops the selection.
      test_noise: True draws new noise at test time, as the release does; otherwise all
        videos share the noise of a fixed key.
      dtype: type of the activations.
    """

    kappa: float = 0.95
    samples: int = 100
    sigma: float = 0.05
    max_selected: int = 1000
    top_magnitudes: int = 3
    dropout: float = 0.7
    attention: bool = True
    test_noise: bool = False
    dtype: Any = "float32"

    @nn.compact
    def __call__(
        self,
        features: Num[Array, "B N T D"],
        length: Int[Array, "B"],
        text: Any = None,
        *,
        train: bool,
        noise: Float[Array, "BN S T"] | None = None,
    ) -> Outputs:
        """Scores the snippets of B videos of N crops.

        Args:
          features: snippet features; normal videos first in training.
          length: valid snippets.
          text: not used; every model takes it.
          train: True for batch statistics, dropout and fresh noise (rngs 'dropout' and
            'noise').
          noise: standard normal draws that replace the model's.
        """
        del text
        B, N, T, _ = features.shape
        length = jnp.maximum(length, 1)  # padding rows have length 0
        where = jnp.arange(T)[None] < length[:, None]  # [B, T]
        rows = jnp.repeat(where, N, axis=0)  # [B·N, T]

        # Temporal self-attention weights each crop's snippets.
        x = features.reshape(B * N, T, -1).astype(self.dtype)
        x = jnp.where(rows[..., None], self._project_wide(x), 0)
        p = rows.astype(jnp.float32)
        if self.attention:
            p = self._attend(x, length, rows, N, train, noise)

        # Classifier and magnitude read the same features f, after the first dropout.
        x = self._aggregate(x, p.astype(x.dtype), rows, train)
        drop = nn.Dropout(self.dropout, deterministic=not train)
        f = drop(x)
        scores = jnp.mean(self._classify(f, drop).reshape(B, N, T), 1)
        scores = jnp.where(where, scores, 0)
        f = f.reshape(B, N, T, -1).astype(jnp.float32)
        magnitudes = jnp.where(where, jnp.mean(losses.norm(f)[..., 0], 1), 0)

        # Training hides most magnitudes, so the selected snippets vary.
        ranked = jnp.where(where, magnitudes * drop(jnp.ones((B, T))), -jnp.inf)
        _, index = jax.lax.top_k(ranked, min(self.top_magnitudes, T))  # [B, K]
        chosen = jnp.take_along_axis(where, index, -1)
        best = jnp.take_along_axis(scores, index, -1)

        return Outputs(
            scores=scores,
            video_scores=jnp.sum(best, -1) / jnp.sum(chosen, -1),
            magnitudes=magnitudes,
            selected=jnp.take_along_axis(f, index[:, None, :, None], 2),
            chosen=chosen,
            attention=p.reshape(B, N, T),
        )

    def _project_wide(self, x: Float[Array, "R T D"]) -> Float[Array, "R T E"]:
        """Projects features wider than CLIP's to its width; others stay as they are."""
        if x.shape[-1] <= WIDTH:
            return x
        x = nn.relu(self._dense(2 * WIDTH, "mlp_fc1")(x))
        return jax.nn.sigmoid(self._dense(WIDTH, "mlp_fc2")(x))

    def _classify(self, f: Float[Array, "R T D"], drop: nn.Dropout) -> Array:
        """Snippet classifier: probabilities of an anomaly, per crop."""
        y = drop(nn.relu(self._dense(128, "fc1")(f)))
        y = drop(nn.relu(self._dense(32, "fc2")(y)))
        y = self._dense(1, "fc3")(y)[..., 0]
        return jax.nn.sigmoid(y.astype(jnp.float32))

    def _attend(
        self,
        x: Float[Array, "R T D"],
        length: Int[Array, "B"],
        where: Bool[Array, "R T"],
        crops: int,
        train: bool,
        noise: Float[Array, "R S T"] | None,
    ) -> Float[Array, "R T"]:
        """Temporal self-attention p: fraction of the draws that select each snippet."""
        R, T, _ = x.shape
        # Scores in (0, 1), in float32: the noise is as small as their differences.
        s = nn.relu(self._dense(x.shape[-1] // 2, "hard_attention_scorer_fc1")(x))
        s = self._dense(1, "hard_attention_scorer_fc2")(s)[..., 0]
        s = jax.nn.sigmoid(s.astype(jnp.float32))

        k = selection_sizes(self.kappa, T, T if train else self.max_selected)
        k = jnp.repeat(jnp.asarray(k)[length], crops)

        draws: Any = noise
        distinct = R
        if noise is None and (train or self.test_noise):
            draws = self.make_rng("noise")
        elif noise is None:
            # A video's score must not depend on the other videos of its batch.
            draws, distinct = fixed_key(), crops

        return perturbed_top_k(s, where, k, draws, self.samples, self.sigma, distinct)

    def _aggregate(
        self,
        x: Float[Array, "R T D"],
        p: Float[Array, "R T"],
        where: Bool[Array, "R T"],
        train: bool,
    ) -> Float[Array, "R T D"]:
        """Multi-scale temporal network (MTN) of p · x: local and global context."""
        D = x.shape[-1]
        batch_norm = functools.partial(BatchNorm, dtype=self.dtype)

        # Local context: three dilations see 3, 5 and 9 snippets.
        scales = []
        for i, dilation in enumerate((1, 2, 4), 1):
            conv = self._conv(
                D // 4, f"Aggregate_conv_{i}_0", size=3, dilation=dilation
            )
            norm = batch_norm(name=f"Aggregate_conv_{i}_2")
            scales.append(norm(nn.relu(conv(x, p)), where, train))

        # Global context: a non-local block, in which all snippets see each other.
        z = nn.relu(self._conv(D // 4, "Aggregate_conv_4_0", use_bias=False)(x, p))

        theta, phi, g = (
            self._conv(D // 8, f"Aggregate_non_local_{name}")(z)
            for name in ("theta", "phi", "g")
        )

        # The attention (θᵀφ / n) g has no softmax. It equals θᵀ(φ gᵀ / n), so T×T is
        # never built.
        g = jnp.where(where[..., None], g, 0)
        context = jnp.einsum("rtd,rte->rde", phi, g).astype(jnp.float32)
        context = (context / jnp.sum(where, -1)[:, None, None]).astype(z.dtype)
        y = self._conv(D // 4, "Aggregate_non_local_W_0")(theta @ context)

        # A zero gain makes the block the identity when training begins.
        zero_gain = batch_norm(
            scale_init=nn.initializers.zeros, name="Aggregate_non_local_W_1"
        )
        scales.append(z + zero_gain(y, where, train))

        # Padding is zeroed again: the kernel of 3 reaches one snippet past the end.
        y = jnp.where(where[..., None], jnp.concatenate(scales, -1), 0)
        y = nn.relu(self._conv(D, "Aggregate_conv_5_0", size=3, use_bias=False)(y))
        y = batch_norm(name="Aggregate_conv_5_2")(y, where, train)

        return y + p[..., None] * x

    def _dense(self, features: int, name: str) -> nn.Dense:
        return Dense(features, name=name, dtype=self.dtype, kernel_init=xavier)

    def _conv(self, features: int, name: str, **kwargs: Any) -> TemporalConv:
        return TemporalConv(features, name=name, dtype=self.dtype, **kwargs)


def selection_sizes(kappa: float, T: int, max_selected: int) -> Int[np.ndarray, "T1"]:
    """Sizes k = ⌊κ n⌋ for n = 0 … T snippets, at least 1 and at most `max_selected`.

    Computed in double precision: single precision rounds other products down.
    """
    return np.clip(np.floor(kappa * np.arange(T + 1)), 1, max_selected).astype(np.int32)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
def perturbed_top_k(
    scores: Float[Array, "R T"],
    where: Bool[Array, "R T"],
    k: Int[Array, "R"],
    noise: Any,
    samples: int,
    sigma: float,
    distinct: int,
) -> Float[Array, "R T"]:
    """Fraction of the noise draws in which a snippet is among the k largest.

    p_t = 1/S Σ_m 1[t ∈ top-k(s + σ_n ε_m)], in O(S·T) memory. The gradient is that of
    the released code, summed over its k one-hot rows; for g = ∂loss/∂p,
      ∂loss/∂s_u = 1/(S σ_n) Σ_m 1[u ∈ top-k_m] Σ_t g_t ε_{m,t}.
    The estimator of Berthet et al. (2020, https://arxiv.org/abs/2002.08676) is its
    transpose: equal in expectation, since the Jacobian is symmetric.

    Args:
      scores: snippet scores s.
      where: valid snippets; the others are never selected.
      k: number of snippets to select, 1 ≤ k ≤ valid snippets.
      noise: standard normal draws ε [R, S, T], or the random key for them.
      samples: number of draws S.
      sigma: deviation σ_n of the noise.
      distinct: number of rows with different noise; the noise repeats after them.
    """
    return _mean_over_draws(
        lambda top, _: top, scores, where, k, noise, samples, sigma, distinct
    )


def _forward(scores, where, k, noise, samples, sigma, distinct):
    p = perturbed_top_k(scores, where, k, noise, samples, sigma, distinct)
    return p, (scores, where, k, noise)


def _backward(samples, sigma, distinct, residuals, g):
    scores, where, k, noise = residuals  # the draws are repeated rather than stored
    g = jnp.where(where, g, 0)[None]

    def term(top, epsilon):
        return top * jnp.sum(g * epsilon, -1, keepdims=True)

    mean = _mean_over_draws(term, scores, where, k, noise, samples, sigma, distinct)
    return mean / sigma, None, None, None


perturbed_top_k.defvjp(_forward, _backward)


def _mean_over_draws(term, scores, where, k, noise, samples, sigma, distinct):
    """Mean of term(1[top-k] [M, R, T], ε [M, R, T]), a few draws M at a time."""
    R, T = scores.shape

    def draw(m):
        if noise.ndim == 3:
            return noise[:, m]
        return jnp.tile(_normal(noise, m, distinct, T), (R // distinct, 1))

    def step(total, m):
        epsilon = jax.vmap(draw)(m)
        values = jnp.where(where[None], scores[None] + sigma * epsilon, -jnp.inf)
        top = _top_k(values, k) & where[None]
        return total + jnp.sum(term(top, epsilon), 0), None

    # As many draws at a time as the limit allows, in equal chunks. The batch size of an
    # exported program is a symbol; 32 videos stand for it.
    rows = R if isinstance(R, int) else 32 * distinct
    sizes = [m for m in range(1, samples + 1) if samples % m == 0]
    chunk = max([m for m in sizes if m * rows * T <= DRAW_LIMIT], default=1)

    chunks = jnp.arange(samples).reshape(-1, chunk)
    total, _ = jax.lax.scan(step, jnp.zeros((R, T)), chunks)
    return total / samples


def _normal(key: Array, m: Any, rows: int, T: int) -> Float[Array, "R T"]:
    """Draw number `m` of a key, for `rows` rows."""
    # T is the first axis: threefry's first values don't depend on how many follow.
    return jax.random.normal(jax.random.fold_in(key, m), (T, rows)).T


def fixed_key() -> Array:
    """Random key of the noise at test time."""
    return jax.random.key(0, impl="threefry2x32")


def fixed_noise(model: Model, crops: int, T: int) -> Float[Array, "N S T"]:
    """Noise of a forward pass at test time, for programs without JAX's generator."""
    draws = [_normal(fixed_key(), m, crops, T) for m in range(model.samples)]
    return jnp.stack(draws, 1)


def _top_k(x: Float[Array, "M R T"], k: Int[Array, "R"]) -> Bool[Array, "M R T"]:
    """Marks the k largest of the last axis; the earlier of equal values wins."""
    T = x.shape[-1]
    if T <= MAX_PAIRWISE:
        # Quadratic, but each pass is one vectorised comparison. For the 32 snippets of
        # a training video, that is 25 times as fast on a CPU as sorting.
        # The converter to ONNX knows no loop that reads values from outside.
        def count(u, state):
            rank, x = state
            other = jax.lax.dynamic_slice_in_dim(x, u, 1, -1)
            earlier = u < jnp.arange(T)[None, None]
            return rank + ((other > x) | ((other == x) & earlier)), x

        start = jnp.zeros(x.shape, jnp.int32), x
        rank, _ = jax.lax.fori_loop(0, T, count, start)
        return rank < k[None, :, None]

    # Sorting gives indices, rather than a k-th largest value to compare x with: XLA may
    # round x differently in the two places.
    order = jnp.argsort(x, axis=-1, descending=True)
    m, r, t = (jax.lax.broadcasted_iota(k.dtype, x.shape, i) for i in range(3))
    return jnp.zeros(x.shape, bool).at[m, r, order].set(t < k[None, :, None])


class BatchNorm(nn.Module):
    """PyTorch's batch normalisation, over valid snippets only.

    The running variance is PyTorch's unbiased one, n / (n − 1) times that of
    flax.linen.BatchNorm.
    """

    momentum: float = 0.1
    epsilon: float = 1e-5
    scale_init: Callable = nn.initializers.ones
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "R T D"], where: Bool[Array, "R T"], train: bool
    ) -> Float[Array, "R T D"]:
        D = x.shape[-1]
        scale = self.param("scale", self.scale_init, (D,))
        bias = self.param("bias", nn.initializers.zeros, (D,))
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (D,))
        running_var = self.variable("batch_stats", "var", jnp.ones, (D,))

        x = x.astype(jnp.float32)
        mean, var = running_mean.value[None, None], running_var.value[None, None]
        # Statistics cover valid snippets alone: padding would pull them towards 0.
        if train:
            valid = where[..., None]
            n = jnp.sum(valid, dtype=jnp.float32)
            mean = jnp.sum(x, (0, 1), where=valid, keepdims=True) / n
            var = jnp.sum((x - mean) ** 2, (0, 1), where=valid, keepdims=True) / n

            # Shapes are traced with a placeholder batch, whose statistics must not be
            # kept.
            if not self.is_initializing():
                unbiased = var * n / jnp.maximum(n - 1, 1)
                m = self.momentum
                running_mean.value = (1 - m) * running_mean.value + m * mean[0, 0]
                running_var.value = (1 - m) * running_var.value + m * unbiased[0, 0]

        y = (x - mean) / jnp.sqrt(var + self.epsilon)
        return (y * scale[None, None] + bias[None, None]).astype(self.dtype)


def loss_fn(
    outputs: Outputs, batch: LabelledBatch, weights: Mapping[str, Any]
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """The objective and its terms: BCE + w_m magnitude + w_1 smooth + w_2 sparse.

    Args:
      outputs: outputs of a training forward pass.
      batch: `label` [B, C] multi-hot and `length` [B]; first B/2 normal videos, then
        B/2 abnormal.
      weights: weights of `magnitude`, `smooth` and `sparse`, and two switches for
        habits of the release, both on by default. `smooth_across_videos` smooths the
        last snippet of a video with the first of the next. `pair_videos` compares
        normal video i with abnormal video i; off, every pair is compared.
    """
    half = len(outputs.scores) // 2
    # Smoothness and sparsity concern the abnormal half alone.
    length = jnp.maximum(batch.length[half:], 1)
    terms = {
        "bce": losses.binary_cross_entropy(outputs.video_scores, 1 - batch.label[:, 0]),
        "magnitude": magnitude_loss(outputs, weights.get("pair_videos", True)),
        "smooth": smoothness(
            outputs.scores[half:], length, weights.get("smooth_across_videos", True)
        ),
        "sparse": losses.norm(outputs.scores[half:].reshape(-1))[0],
    }

    weights = {"bce": 1.0, **weights}
    return losses.weighted(terms, weights)


def magnitude_loss(outputs: Outputs, pair_videos: bool = True) -> Float[Array, ""]:
    """Mean of (|100 − ‖mean_K f_abnormal‖| + ‖mean_K f_normal‖)² over crops and pairs.

    Args:
      outputs: outputs of a training forward pass, normal videos first.
      pair_videos: True pairs videos by position; False takes all B/2 × B/2 pairs.
    """
    # Videos with fewer than K snippets average over those that they have.
    chosen = outputs.chosen[:, None, :, None]
    mean = jnp.sum(jnp.where(chosen, outputs.selected, 0), 2) / jnp.sum(chosen, 2)
    normal, abnormal = jnp.split(losses.norm(mean)[..., 0], 2)  # [B/2, N]
    abnormal = jnp.abs(MARGIN - abnormal)
    if pair_videos:
        return jnp.mean(jnp.square(abnormal + normal))
    return jnp.mean(jnp.square(abnormal[:, None] + normal[None]))


def smoothness(
    s: Float[Array, "B T"], length: Int[Array, "B"], across_videos: bool
) -> Float[Array, ""]:
    """Σ (s_{t+1} − s_t)² over valid snippets.

    Args:
      s: snippet scores.
      length: valid snippets.
      across_videos: True treats the batch as one long video, so the first snippet of a
        video follows the last one of the video before.
    """
    where = jnp.arange(s.shape[1])[None] < length[:, None]
    total = jnp.sum(jnp.square(s[:, 1:] - s[:, :-1]), where=where[:, 1:])
    if across_videos:
        last = jnp.take_along_axis(s, length[:, None] - 1, -1)[:-1, 0]
        total = total + jnp.sum(jnp.square(s[1:, 0] - last))
    return total


def scores(outputs: Outputs) -> SnippetScores:
    """Returns the anomaly probability of each snippet, 0 past a video's length."""
    return SnippetScores(anomaly=outputs.scores)


SPEC = ModelSpec(
    name="clip_tsa",
    title="CLIP-TSA",
    citation="Joo et al., ICIP 2023, https://arxiv.org/abs/2212.05136",
    Model=Model,
    loss_fn=loss_fn,
    scores=scores,
    field_ranges=FIELD_RANGES,
    width_axis=("Aggregate_conv_1_0/kernel", 1),
    fixed_noise=fixed_noise,
    released=released.CLIP_TSA,
)
