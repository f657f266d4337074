"""The towers against transformers' PyTorch model, and what the models rely on."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wsvad_jax.clip import towers, weight_names
from wsvad_jax.clip.random_snapshot import random_params
from wsvad_jax.clip.towers import TextConfig, VisionConfig
from wsvad_jax.utils.errors import InputError

EOS = 60
# Heads, depth, width, patch, activation, ε and both ways of finding the end token.
SIZES = {
    "plain": (
        TextConfig(64, 32, 128, 2, 4, 20, 24, eos_token_id=EOS),
        VisionConfig(32, 8, 48, 192, 2, 3, 24),
    ),
    "gelu, uneven patches, one head": (
        TextConfig(64, 24, 40, 3, 1, 12, 16, "gelu", 1e-6, EOS),
        VisionConfig(50, 16, 32, 56, 1, 1, 16, "gelu", 1e-6),
    ),
    "legacy end token, deep": (
        TextConfig(64, 64, 64, 4, 8, 77, 8, eos_token_id=towers.LEGACY_EOS),
        VisionConfig(28, 7, 64, 128, 4, 8, 8),
    ),
    "wide image tower": (
        TextConfig(64, 16, 64, 1, 2, 9, 40, eos_token_id=EOS),
        VisionConfig(48, 12, 128, 512, 3, 2, 40),
    ),
}

encode_text = jax.jit(towers.encode_text, static_argnums=1, static_argnames="dtype")
encode_image = jax.jit(towers.encode_image, static_argnums=1)


def prompts(text: TextConfig) -> np.ndarray:
    """Tokens of three prompts of different lengths, padded with the end token."""
    L = text.max_position_embeddings
    tokens = np.random.RandomState(1).randint(3, EOS, (3, L)).astype(np.int32)
    for row, end in zip(tokens, (L - 1, L // 2, 2), strict=True):
        row[end:] = EOS
    return tokens


def torch_model(text: TextConfig, vision: VisionConfig):
    """transformers' model with weights large enough for every part to matter."""
    torch = pytest.importorskip("torch", reason="parity needs PyTorch")
    import dataclasses

    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    config = CLIPConfig(
        text_config=dataclasses.asdict(text),
        vision_config=dataclasses.asdict(vision),
        projection_dim=text.projection_dim,
    )
    model = CLIPModel(config).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            std = 0.3 if p.ndim < 2 or "embedding" in name else p[0].numel() ** -0.5
            p.add_(std * torch.randn(p.shape))
    state = {k: v.numpy() for k, v in model.state_dict().items()}
    state = {k: v for k, v in state.items() if not k.endswith("position_ids")}
    shapes = weight_names.tree_shapes(text, vision)
    flat = weight_names.collect(shapes, state, weight_names.torch_source, "test")
    return torch, model, weight_names.unflatten(flat)


@pytest.mark.parametrize("sizes", SIZES)
def test_features_equal_transformers(sizes):
    text, vision = SIZES[sizes]
    torch, model, params = torch_model(text, vision)
    tokens = prompts(text)
    S = vision.image_size
    pixels = np.random.RandomState(2).standard_normal((3, S, S, 3)).astype(np.float32)
    with torch.no_grad():
        out = model.text_model(torch.from_numpy(tokens).long())
        want_text = model.text_projection(out.pooler_output).numpy()
        images = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())
        want_image = model.visual_projection(model.vision_model(images).pooler_output)

    tower = jax.jit(towers.CLIPText(text).apply)
    hidden = tower({"params": params["text_model"]}, tokens)
    eos = towers.eos_positions(tokens, text.eos_token_id)
    got_text = encode_text(params, text, tokens, eos)
    got_image = encode_image(params, vision, pixels)
    close = {"rtol": 1e-5, "atol": 1e-5}
    np.testing.assert_allclose(hidden, out.last_hidden_state.numpy(), **close)
    np.testing.assert_allclose(got_text, want_text, **close)
    np.testing.assert_allclose(got_image, want_image.numpy(), **close)


def test_tree_is_the_released_checkpoint_s():
    text = TextConfig(49408, 512, 2048, 12, 8, 77, 512)
    vision = VisionConfig(224, 16, 768, 3072, 12, 12, 512)
    assert weight_names.tree_shapes(text, vision) == released_vit_b_16()


def released_vit_b_16() -> dict[str, tuple[int, ...]]:
    """Paths and shapes of openai/clip-vit-base-patch16's flax_model.msgpack.

    Written down from `FlaxCLIPModel` of transformers 4.57.6.
    """
    tree = {
        "logit_scale": (),
        "text_model/embeddings/position_embedding/embedding": (77, 512),
        "text_model/embeddings/token_embedding/embedding": (49408, 512),
        "text_model/final_layer_norm/bias": (512,),
        "text_model/final_layer_norm/scale": (512,),
        "text_projection/kernel": (512, 512),
        "vision_model/embeddings/class_embedding": (768,),
        "vision_model/embeddings/patch_embedding/kernel": (16, 16, 3, 768),
        "vision_model/embeddings/position_embedding/embedding": (197, 768),
        "vision_model/post_layernorm/bias": (768,),
        "vision_model/post_layernorm/scale": (768,),
        "vision_model/pre_layrnorm/bias": (768,),
        "vision_model/pre_layrnorm/scale": (768,),
        "visual_projection/kernel": (768, 512),
    }
    for tower, D in (("text_model", 512), ("vision_model", 768)):
        for i in range(12):
            block = f"{tower}/encoder/layers/{i}"
            for name in ("layer_norm1", "layer_norm2"):
                tree[f"{block}/{name}/bias"] = tree[f"{block}/{name}/scale"] = (D,)
            for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
                tree[f"{block}/self_attn/{name}/kernel"] = (D, D)
                tree[f"{block}/self_attn/{name}/bias"] = (D,)
            tree[f"{block}/mlp/fc1/kernel"] = (D, 4 * D)
            tree[f"{block}/mlp/fc1/bias"] = (4 * D,)
            tree[f"{block}/mlp/fc2/kernel"] = (4 * D, D)
            tree[f"{block}/mlp/fc2/bias"] = (D,)
    return tree


@pytest.fixture(scope="module")
def plain():
    """Sizes, parameters, tokens and end positions of a small text tower."""
    text, vision = SIZES["plain"]
    tokens = prompts(text)[1:]  # the end tokens are at 10 and 2
    params = random_params(text, vision, seed=0)
    return text, params, tokens, towers.eos_positions(tokens, EOS)


def test_tokens_after_the_end_change_nothing(plain):
    text, params, tokens, eos = plain
    whole = encode_text(params, text, tokens, eos)
    cut = encode_text(params, text, tokens[:, : eos.max() + 1], eos)
    np.testing.assert_allclose(cut, whole, atol=1e-6)

    def read(embeddings):
        tower = towers.CLIPText(text)
        hidden = tower.apply(
            {"params": params["text_model"]}, tokens, embed=lambda x: x + embeddings
        )
        # Weighted, since the sum of a normalised vector never changes.
        return (towers.end_token(hidden, eos) @ weights).sum()

    weights = np.random.RandomState(0).standard_normal(text.hidden_size)
    gradient = jax.jit(jax.grad(read))(jnp.zeros((*tokens.shape, text.hidden_size)))
    moves = np.abs(gradient).sum(-1) > 0
    np.testing.assert_array_equal(moves, np.arange(moves.shape[1]) <= eos[:, None])


def test_adapt_replaces_the_stream_after_each_block(plain):
    text, params, tokens, _ = plain
    seen = []

    def adapt(i, x):
        seen.append(i)
        return x * 0 if i == 1 else x

    tower = functools.partial(towers.CLIPText(text).apply, adapt=adapt)
    hidden = jax.jit(tower)({"params": params["text_model"]}, tokens)
    assert seen == [0, 1]
    # LayerNorm of zeros is its bias, which is zero here.
    np.testing.assert_array_equal(hidden, np.zeros_like(hidden))


def test_both_towers_in_one_module_equal_the_pure_functions(plain):
    text, params, tokens, eos = plain
    vision = SIZES["plain"][1]
    pixels = np.random.RandomState(0).standard_normal((2, 32, 32, 3)).astype(np.float32)
    both = jax.jit(towers.CLIP(text, vision).apply)
    got = both({"params": params}, tokens, eos, pixels)
    want_text = encode_text(params, text, tokens, eos)
    want_image = encode_image(params, vision, pixels)
    np.testing.assert_allclose(got[0], want_text, atol=1e-6)
    np.testing.assert_allclose(got[1], want_image, atol=1e-6)


def test_bfloat16_activations_are_near(plain):
    text, params, tokens, eos = plain
    want = np.asarray(encode_text(params, text, tokens, eos))
    got = encode_text(params, text, tokens, eos, dtype=jnp.bfloat16)
    assert got.dtype == jnp.bfloat16
    error = np.abs(np.asarray(got, np.float32) - want).max()
    assert 0 < error < 0.05 * np.abs(want).max()


def test_end_token_is_found_as_transformers_does():
    tokens = np.array([[5, 9, 7, 7], [5, 7, 0, 7]])
    np.testing.assert_array_equal(towers.eos_positions(tokens, 7), [2, 1])
    # The legacy id means the largest id, whatever it is.
    np.testing.assert_array_equal(towers.eos_positions(tokens, 2), [1, 1])
    with pytest.raises(InputError, match="eos_token_id 9 .* prompt 1"):
        towers.eos_positions(tokens, 9)


def test_bad_inputs_are_named(plain):
    text, params, tokens, eos = plain
    vision = SIZES["plain"][1]
    with pytest.raises(InputError, match="20 positions, but the prompts have 40"):
        encode_text(params, text, np.tile(tokens, 2), eos)
    with pytest.raises(InputError, match="32 x 32 pixels, but the images have 40 x 40"):
        encode_image(params, vision, jnp.zeros((1, 40, 40, 3)))
