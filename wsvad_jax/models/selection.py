"""Perturbed top-κ selector of CLIP-TSA's temporal self-attention.

Joo et al., ICIP 2023, https://arxiv.org/abs/2212.05136, after Cordonnier et al. (2021,
https://arxiv.org/abs/2104.03059). Memory is linear in T: S·k·T values are never built.
R = B·N rows (crops), S noise draws, M draws at a time, k of T snippets selected.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

DRAW_LIMIT = 2**22  # noise values in memory at once: 16 MiB
FEW = 64  # most snippets that are compared pairwise rather than sorted


def selection_sizes(kappa: float, T: int, most: int) -> Int[np.ndarray, "T1"]:
    """Sizes k = ⌊κ n⌋ for n = 0 … T snippets, at least 1 and at most `most`.

    Computed in double precision: single precision rounds other products down.
    """
    return np.clip(np.floor(kappa * np.arange(T + 1)), 1, most).astype(np.int32)


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
    """Share of the noise draws in which a snippet is among the k largest.

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
        # T is the first axis: threefry's first values don't depend on how many follow.
        draws = jax.random.normal(jax.random.fold_in(noise, m), (T, distinct))
        return jnp.tile(draws.T, (R // distinct, 1))

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


def _top_k(x: Float[Array, "M R T"], k: Int[Array, "R"]) -> Bool[Array, "M R T"]:
    """Marks the k largest of the last axis; the earlier of equal values wins."""
    T = x.shape[-1]
    if T <= FEW:
        # Quadratic, but each pass is one vectorised comparison. For the 32 snippets of
        # a training video, that is 25 times as fast on a CPU as sorting.
        def count(u, rank):
            other = jax.lax.dynamic_slice_in_dim(x, u, 1, -1)
            earlier = u < jnp.arange(T)[None, None]
            return rank + ((other > x) | ((other == x) & earlier))

        rank = jax.lax.fori_loop(0, T, count, jnp.zeros(x.shape, jnp.int32))
        return rank < k[None, :, None]

    # Sorting gives indices, rather than a k-th largest value to compare x with: XLA may
    # round x differently in the two places.
    order = jnp.argsort(x, axis=-1, descending=True)
    m, r, t = (jax.lax.broadcasted_iota(k.dtype, x.shape, i) for i in range(3))
    return jnp.zeros(x.shape, bool).at[m, r, order].set(t < k[None, :, None])
