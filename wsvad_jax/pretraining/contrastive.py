"""Contrastive training step of a CLIP (Radford et al. 2021, arXiv 2103.00020, figure 3).

It differs from the paper in one point: every caption of the batch that is true of a
picture is a positive, not only the picture's own. On streets, most captions are true of
many pictures.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jaxtyping import Array, Bool, Float, Int, UInt8

from wsvad_jax.clip.snapshot import IMAGE_MEAN, IMAGE_STD
from wsvad_jax.clip.towers import (
    CLIP,
    AnyArray,
    CLIPText,
    TextConfig,
    VisionConfig,
    encode_image,
    text_features,
)

MAX_LOGIT_SCALE = float(np.log(100))
# Prompt learners put vectors of this size around the words (VadCLIP, section 3.4). The
# tower must read words there too.
CONTEXT, CONTEXT_STD = 10, 0.01


@struct.dataclass
class CaptionBatch:
    """B pictures with one caption each."""

    pictures: UInt8[Array | np.ndarray, "B S S 3"] | Any
    gain: Float[Array | np.ndarray, "B 3"] | Any  # exposure of each colour
    tokens: Int[Array | np.ndarray, "B L"] | Any
    eos: Int[Array | np.ndarray, "B"] | Any
    context: Bool[Array | np.ndarray, "B L"] | Any  # places of random context vectors
    true: Bool[Array | np.ndarray, "B B"] | Any  # [picture, caption]


@struct.dataclass
class CLIPState:
    """Weights and optimiser state after `step` steps."""

    step: Any
    params: Any
    opt_state: Any


@dataclasses.dataclass(frozen=True)
class Optimisation:
    """AdamW with warmup and cosine decay."""

    steps: int
    learning_rate: float
    warmup: int = 100
    weight_decay: float = 0.1
    clip_norm: float = 1.0

    def optimizer(self) -> optax.GradientTransformation:
        """Returns the optimiser; matrices alone are decayed."""
        schedule = optax.warmup_cosine_decay_schedule(
            0.0,
            self.learning_rate,
            min(self.warmup, self.steps // 2),
            self.steps,
            0.02 * self.learning_rate,
        )
        return optax.chain(
            optax.clip_by_global_norm(self.clip_norm),
            optax.adamw(
                schedule, 0.9, 0.98, weight_decay=self.weight_decay,
                mask=lambda params: jax.tree.map(lambda x: x.ndim > 1, params),
            ),
        )  # fmt: skip


def init_params(text: TextConfig, vision: VisionConfig, seed: int) -> dict[str, Any]:
    """Returns untrained weights of both towers."""
    pixels = jnp.zeros((1, vision.image_size, vision.image_size, 3))
    tokens, eos = jnp.zeros((1, 2), jnp.int32), jnp.ones(1, jnp.int32)
    params = CLIP(text, vision).init(jax.random.key(seed), tokens, eos, pixels)
    params = jax.tree.map(jnp.asarray, params["params"])

    # Section 2.4 of the paper's code: small embeddings, so that words start alike.
    key = jax.random.key(seed + 1)
    embeddings = params["text_model"]["embeddings"]
    for i, (name, std) in enumerate(
        (("token_embedding", 0.02), ("position_embedding", 0.01))
    ):
        shape = embeddings[name]["embedding"].shape
        noise = std * jax.random.normal(jax.random.fold_in(key, i), shape)
        embeddings[name]["embedding"] = noise
    return params


def contrastive_loss(
    images: Float[AnyArray, "B P"],
    texts: Float[AnyArray, "B P"],
    true: Bool[AnyArray, "B B"] | Any,
    logit_scale: Any,
) -> Float[Array, ""]:
    """Mean cross-entropy from pictures to captions and back.

    Args:
      images: features of the pictures, not normalised.
      texts: features of the captions, not normalised.
      true: whether caption j is true of picture i; each row and column has a True.
      logit_scale: logarithm of the inverse temperature.
    """
    images = images / jnp.linalg.norm(images, axis=-1, keepdims=True)
    texts = texts / jnp.linalg.norm(texts, axis=-1, keepdims=True)
    logits = jnp.exp(jnp.minimum(logit_scale, MAX_LOGIT_SCALE)) * images @ texts.T

    # The target probability is spread evenly over what is true.
    target = jnp.asarray(true, jnp.float32)
    by_picture = target / target.sum(axis=1, keepdims=True)
    by_caption = target.T / target.T.sum(axis=1, keepdims=True)
    cross_entropy = optax.softmax_cross_entropy
    return 0.5 * (
        cross_entropy(logits, by_picture).mean()
        + cross_entropy(logits.T, by_caption).mean()
    )


def make_step(
    text: TextConfig, vision: VisionConfig, optimisation: Optimisation
) -> Any:
    """Returns the compiled function (state, batch, key) -> (state, loss).

    The state's memory is donated.
    """
    optimizer = optimisation.optimizer()
    mean, std = jnp.array([[[IMAGE_MEAN]]]), jnp.array([[[IMAGE_STD]]])
    tower = CLIPText(text, parent=None)

    def loss_fn(params: Any, batch: CaptionBatch, key: Array) -> Array:
        light = batch.pictures.astype(jnp.float32) / 255 * batch.gain[:, None, None]
        images = encode_image(params, vision, (jnp.clip(light, 0, 1) - mean) / std)

        def embed(x: Array) -> Array:
            noise = CONTEXT_STD * jax.random.normal(key, x.shape[1:])
            return jnp.where(batch.context[..., None], noise[None], x)

        variables = {"params": params["text_model"]}
        hidden: Any = tower.apply(variables, batch.tokens, embed=embed)
        texts = text_features(params, hidden, batch.eos)
        return contrastive_loss(images, texts, batch.true, params["logit_scale"])

    def step(
        state: CLIPState, batch: CaptionBatch, key: Array
    ) -> tuple[CLIPState, Array]:
        loss, grads = jax.value_and_grad(loss_fn)(state.params, batch, key)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return CLIPState(state.step + 1, params, opt_state), loss

    return jax.jit(step, donate_argnums=0)
