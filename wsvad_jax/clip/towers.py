"""CLIP's image and text towers (Radford et al. 2021, arXiv 2103.00020) in linen.

The parameter tree is that of the Hugging Face Flax checkpoint: modules are named after
its keys, and `flax_model.msgpack` loads unchanged.

  Section 2.4, image encoder   CLIPVision, encode_image
  Section 2.4, text encoder    CLIPText, encode_text (feature at the end token)
  both and the logit scale     CLIP (for initialisation and the shape of the tree)

Letters: B images or texts, L tokens, R of them read, D width, P projection width,
H heads.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from wsvad_jax.clip.activations import ACTIVATIONS
from wsvad_jax.clip.half_products import Dense, product
from wsvad_jax.clip.tower_configs import TextConfig, VisionConfig
from wsvad_jax.utils.errors import InputError

LEGACY_EOS = 2  # wrong id in configs from before transformers' PR 24773

# Weights and inputs may be JAX arrays or come from a file.
AnyArray = Array | np.ndarray


class CLIPText(nn.Module):
    """Causal text transformer; its parameters are the tree under `text_model`."""

    config: TextConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        tokens: Int[AnyArray, "B L"],
        *,
        adapt: Callable[[int, Array], Array] | None = None,
        embed: Callable[[Array], Array] | None = None,
    ) -> Float[Array, "B L D"]:
        """Returns the hidden states after the final LayerNorm.

        Attention is causal, so tokens after the last end token can be cut off without
        effect on the others.

        Args:
          tokens: token ids; L is at most `max_position_embeddings`.
          adapt: function of block index and residual stream x [B, L, D]; its result
            replaces x after that block. Its submodules must be created outside of it.
          embed: function that replaces the token embeddings [B, L, D], before positions
            are added.

        Raises:
          InputError: there are more tokens than positions.
        """
        L = tokens.shape[1]
        if L > self.config.max_position_embeddings:
            raise InputError(
                f"the text tower has {self.config.max_position_embeddings} positions, "
                f"but the prompts have {L} tokens; shorten them"
            )

        x = TextEmbeddings(self.config, self.dtype, name="embeddings")(tokens, embed)
        # Causal: a token sees itself and those before it.
        mask = jnp.tril(jnp.ones((L, L), bool))
        x = Encoder(self.config, self.dtype, name="encoder")(x, mask, adapt)
        return _layer_norm(self, x, "final_layer_norm")


class CLIPVision(nn.Module):
    """Vision transformer; its parameters are the tree under `vision_model`."""

    config: VisionConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, pixels: Float[AnyArray, "B S S 3"]) -> Float[Array, "B D"]:
        """Returns the class token after the last LayerNorm.

        Args:
          pixels: RGB images, channels last, normalised with CLIP's mean and deviation.

        Raises:
          InputError: the images don't have the tower's size.
        """
        S = self.config.image_size
        if pixels.shape[1:3] != (S, S):
            raise InputError(
                f"the image tower takes {S} x {S} pixels, "
                f"but the images have {pixels.shape[1]} x {pixels.shape[2]}"
            )

        x = VisionEmbeddings(self.config, self.dtype, name="embeddings")(pixels)
        x = _layer_norm(self, x, "pre_layrnorm")  # spelled as in the checkpoint
        # Only the class token, which is the first, is read.
        x = Encoder(self.config, self.dtype, name="encoder")(x, num_read=1)
        return _layer_norm(self, x[:, 0], "post_layernorm")


class CLIP(nn.Module):
    """Both towers with their projections, the parameter tree of a whole checkpoint."""

    text: TextConfig
    vision: VisionConfig

    @nn.compact
    def __call__(
        self,
        tokens: Int[AnyArray, "B L"],
        eos: Int[AnyArray, "B"],
        pixels: Float[AnyArray, "N S S 3"],
    ) -> tuple[Float[Array, "B P"], Float[Array, "N P"]]:
        """Returns text and image features, not normalised."""
        text = end_token(CLIPText(self.text, name="text_model")(tokens), eos)
        image = CLIPVision(self.vision, name="vision_model")(pixels)

        # The released projections have no bias.
        project = functools.partial(Dense, use_bias=False)
        text = project(self.text.projection_dim, name="text_projection")(text)
        image = project(self.vision.projection_dim, name="visual_projection")(image)

        # Unused in the forward pass, but part of every checkpoint.
        self.param("logit_scale", nn.initializers.constant(np.log(1 / 0.07)), ())
        return text, image


def encode_text(
    params: Mapping[str, Any],
    config: TextConfig,
    tokens: Int[AnyArray, "K L"],
    eos: Int[AnyArray, "K"],
    *,
    dtype: Any = jnp.float32,
) -> Float[Array, "K P"]:
    """Returns projected text features, not normalised.

    Args:
      params: parameter tree with at least `text_model` and `text_projection`.
      config: sizes of the text tower.
      tokens: token ids.
      eos: index of each row's end token (`eos_positions`).
      dtype: type of the activations.
    """
    # parent=None: the towers are frozen arguments, never part of a calling module.
    tower = CLIPText(config, dtype, parent=None)
    hidden = tower.apply({"params": params["text_model"]}, tokens)
    return text_features(params, hidden, eos)  # pyright: ignore[reportArgumentType]


def encode_image(
    params: Mapping[str, Any],
    config: VisionConfig,
    pixels: Float[AnyArray, "B S S 3"],
    *,
    dtype: Any = jnp.float32,
) -> Float[Array, "B P"]:
    """Returns projected image features, not normalised.

    Args:
      params: parameter tree with at least `vision_model` and `visual_projection`.
      config: sizes of the image tower.
      pixels: RGB images, channels last, normalised with CLIP's mean and deviation.
      dtype: type of the activations.
    """
    tower = CLIPVision(config, dtype, parent=None)
    pooled: Any = tower.apply({"params": params["vision_model"]}, pixels)
    kernel = jnp.asarray(params["visual_projection"]["kernel"], dtype)
    return product(pooled, kernel)


def text_features(
    params: Mapping[str, Any], hidden: Float[Array, "K L D"], eos: Int[AnyArray, "K"]
) -> Float[Array, "K P"]:
    """Projects the end tokens of final hidden states with CLIP's text projection."""
    kernel = jnp.asarray(params["text_projection"]["kernel"], hidden.dtype)
    return product(end_token(hidden, eos), kernel)


def end_token(
    hidden: Float[Array, "K L D"], eos: Int[AnyArray, "K"]
) -> Float[Array, "K D"]:
    """Returns each row's hidden state at its end token."""
    return jnp.take_along_axis(hidden, jnp.asarray(eos)[:, None, None], axis=1)[:, 0]


def eos_positions(
    tokens: Int[np.ndarray, "K L"], eos_token_id: int
) -> Int[np.ndarray, "K"]:
    """Returns the position of each row's end token, by the rule of `transformers`.

    It is the first position of `eos_token_id`. With the legacy id 2, it is the first
    position of the row's largest id.

    Raises:
      InputError: a row has no end token.
    """
    # The end token has the largest id of CLIP's vocabulary.
    if eos_token_id == LEGACY_EOS:
        return tokens.argmax(axis=1)

    is_end = tokens == eos_token_id
    if not is_end.any(axis=1).all():
        raise InputError(
            f"the CLIP config's eos_token_id {eos_token_id} is not among the tokens of "
            f"prompt {int(np.argmin(is_end.any(axis=1)))}; config.json and the "
            "tokenizer files are not from the same model"
        )
    return is_end.argmax(axis=1)


class TextEmbeddings(nn.Module):
    """Token and position embeddings."""

    config: TextConfig
    dtype: Any

    @nn.compact
    def __call__(
        self,
        tokens: Int[AnyArray, "B L"],
        embed: Callable[[Array], Array] | None,
    ) -> Float[Array, "B L D"]:
        c, L = self.config, tokens.shape[1]

        table = functools.partial(nn.Embed, features=c.hidden_size, dtype=self.dtype)
        x = table(c.vocab_size, name="token_embedding")(jnp.asarray(tokens))
        if embed is not None:
            x = embed(x)

        positions = table(c.max_position_embeddings, name="position_embedding")
        return x + positions(jnp.arange(L))[None]


class VisionEmbeddings(nn.Module):
    """Embeddings of the class token and the patches, with positions."""

    config: VisionConfig
    dtype: Any

    @nn.compact
    def __call__(self, pixels: Float[AnyArray, "B S S 3"]) -> Float[Array, "B N D"]:
        c, B = self.config, pixels.shape[0]
        token = self.param(
            "class_embedding", nn.initializers.normal(0.02), (c.hidden_size,)
        )

        # A convolution whose stride is its size: one product per patch.
        P = c.patch_size
        patch_embedding = nn.Conv(
            c.hidden_size, (P, P), (P, P), "VALID", use_bias=False, dtype=self.dtype,
            name="patch_embedding",
        )  # fmt: skip
        x = patch_embedding(jnp.asarray(pixels))
        x = x.reshape(B, -1, c.hidden_size)  # [B, patches, D], row by row

        token = jnp.broadcast_to(token.astype(x.dtype), (B, 1, c.hidden_size))
        x = jnp.concatenate([token, x], axis=1)

        N = x.shape[1]
        table = nn.Embed(N, c.hidden_size, dtype=self.dtype, name="position_embedding")
        return x + table(jnp.arange(N))[None]


class Encoder(nn.Module):
    """Stack of transformer blocks, which the checkpoint keeps under `layers`."""

    config: TextConfig | VisionConfig
    dtype: Any

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B L D"],
        mask: Bool[Array, "L L"] | None = None,
        adapt: Callable[[int, Array], Array] | None = None,
        num_read: int | None = None,
    ) -> Float[Array, "B R D"]:
        layers = Layers(self.config, self.dtype, name="layers")
        return layers(x, mask, adapt, num_read)


class Layers(nn.Module):
    """Transformer blocks named 0, 1, … as in the checkpoint.

    With `num_read`, only so many of the first tokens are returned. The last block then
    computes no others: of them, it needs keys and values alone.
    """

    config: TextConfig | VisionConfig
    dtype: Any

    @nn.compact
    def __call__(self, x, mask, adapt, num_read):
        last = self.config.num_hidden_layers - 1
        for i in range(last + 1):
            block = Block(self.config, self.dtype, name=str(i))
            x = block(x, mask, num_read if i == last else None)
            if adapt is not None:
                x = adapt(i, x)
        return x


class Block(nn.Module):
    """Pre-LayerNorm transformer block."""

    config: TextConfig | VisionConfig
    dtype: Any

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B L D"],
        mask: Bool[Array, "L L"] | None,
        num_read: int | None = None,
    ) -> Float[Array, "B R D"]:
        attention = Attention(self.config, self.dtype, name="self_attn")
        update = attention(_layer_norm(self, x, "layer_norm1"), mask, num_read)
        x = x[:, :num_read] + update

        mlp = MLP(self.config, self.dtype, name="mlp")
        return x + mlp(_layer_norm(self, x, "layer_norm2"))


class Attention(nn.Module):
    """Multi-head self-attention with the softmax in float32."""

    config: TextConfig | VisionConfig
    dtype: Any

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B L D"],
        mask: Bool[Array, "L L"] | None,
        num_read: int | None = None,
    ) -> Float[Array, "B R D"]:
        B, _, D = x.shape
        H = self.config.num_attention_heads

        # Heads come before tokens: XLA's CPU products are several times slower where
        # the axes of a batch of products aren't the first.
        def heads(name: str, x: Array) -> Array:
            x = Dense(D, dtype=self.dtype, name=name)(x)
            return x.reshape(B, -1, H, D // H).transpose(0, 2, 1, 3)

        q = heads("q_proj", x[:, :num_read])
        k, v = heads("k_proj", x), heads("v_proj", x)

        # Queries are scaled before the product, in the order of the released towers.
        logits = (q * (D // H) ** -0.5) @ k.transpose(0, 1, 3, 2)
        logits = logits.astype(jnp.float32)

        if mask is not None:
            logits = jnp.where(mask[:num_read], logits, -jnp.inf)

        weights = jax.nn.softmax(logits, axis=-1).astype(self.dtype)
        x = (weights @ v).transpose(0, 2, 1, 3).reshape(B, -1, D)
        return Dense(D, dtype=self.dtype, name="out_proj")(x)


class MLP(nn.Module):
    """Two dense layers with the config's activation between them."""

    config: TextConfig | VisionConfig
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        c = self.config
        x = Dense(c.intermediate_size, dtype=self.dtype, name="fc1")(x)
        x = ACTIVATIONS[c.hidden_act](x)
        return Dense(c.hidden_size, dtype=self.dtype, name="fc2")(x)


def _layer_norm(module: CLIPText | CLIPVision | Block, x: Array, name: str) -> Array:
    # Exact variance rather than E[x²] − E[x]², which cancels in float32.
    norm = nn.LayerNorm(
        epsilon=module.config.layer_norm_eps,
        dtype=jnp.float32,
        use_fast_variance=False,
        parent=module,
        name=name,
    )
    return norm(x).astype(module.dtype)
