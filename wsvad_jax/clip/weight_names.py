"""Names of CLIP's tensors in the hub's PyTorch files and OpenAI's state dicts.

Leaves of the parameter tree are named by path, as 'text_model/final_layer_norm/scale'.
`TORCH_LEAVES` and `OPENAI_NAMES` translate each path into one tensor name. A state dict
fits if it has exactly these names.
"""

import dataclasses
import functools
import re
import types
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from wsvad_jax.clip.towers import CLIP, TextConfig, VisionConfig
from wsvad_jax.utils.errors import InputError

Flat = dict[str, np.ndarray]
# Maps a leaf's path to the tensor's name and the function from tensor to leaf.
Source = Callable[[str], tuple[str, Callable[[np.ndarray], np.ndarray]]]

# Flax leaf -> PyTorch leaf; other leaves keep their names, and kernels are transposed.
TORCH_LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight"}

# Part of a path -> part of OpenAI's name; q, k and v are thirds of a packed tensor.
OPENAI_NAMES = (
    (r"^text_model/embeddings/token_embedding", "token_embedding"),
    (r"^text_model/embeddings/position_embedding/embedding", "positional_embedding"),
    (r"^text_model/encoder/layers", "transformer/resblocks"),
    (r"^text_model/final_layer_norm", "ln_final"),
    (r"^text_projection/kernel", "text_projection"),
    (r"^vision_model/embeddings/class_embedding", "visual/class_embedding"),
    (r"^vision_model/embeddings/patch_embedding", "visual/conv1"),
    (
        r"^vision_model/embeddings/position_embedding/embedding",
        "visual/positional_embedding",
    ),
    (r"^vision_model/pre_layrnorm", "visual/ln_pre"),
    (r"^vision_model/encoder/layers", "visual/transformer/resblocks"),
    (r"^vision_model/post_layernorm", "visual/ln_post"),
    (r"^visual_projection/kernel", "visual/proj"),
    (r"/self_attn/[qkv]_proj/kernel$", "/attn/in_proj_weight"),
    (r"/self_attn/[qkv]_proj/bias$", "/attn/in_proj_bias"),
    (r"/self_attn/out_proj/", "/attn/out_proj/"),
    (r"/layer_norm([12])/", r"/ln_\1/"),
    (r"/mlp/fc1/", "/mlp/c_fc/"),
    (r"/mlp/fc2/", "/mlp/c_proj/"),
)
# Scalars among the tensors of OpenAI's scripted models, which are no weights.
OPENAI_BUFFERS = ("input_resolution", "context_length", "vocab_size")
# OpenAI's models differ in the number of heads, never in the heads' width.
OPENAI_HEAD_WIDTH = 64
OPENAI_PREFIX = "clipmodel."


@functools.lru_cache(maxsize=4)  # programs load a model once per tower
def tree_shapes(
    text: TextConfig, vision: VisionConfig
) -> Mapping[str, tuple[int, ...]]:
    """Returns the shape of every parameter, by path."""
    # Layers of a tower are alike, and tracing all of them takes as long as loading.
    one_layer = CLIP(
        dataclasses.replace(text, num_hidden_layers=1),
        dataclasses.replace(vision, num_hidden_layers=1),
    )
    tokens = jnp.zeros((1, 1), jnp.int32)
    pixels = jnp.zeros((1, vision.image_size, vision.image_size, 3))
    tree = jax.eval_shape(one_layer.init, jax.random.key(0), tokens, tokens[0], pixels)

    shapes = {}
    towers = {"text_model": text, "vision_model": vision}
    for path, leaf in flatten(tree["params"]).items():
        shapes[path] = leaf.shape
        before, layer, after = path.partition("/layers/0/")
        if layer:
            config = towers[before.partition("/")[0]]
            for i in range(1, config.num_hidden_layers):
                shapes[f"{before}/layers/{i}/{after}"] = leaf.shape
    return types.MappingProxyType(dict(sorted(shapes.items())))


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Returns leaves by path."""
    return traverse_util.flatten_dict(dict(tree), sep="/")


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the tree of leaves by path, the inverse of `flatten`."""
    return traverse_util.unflatten_dict(dict(flat), sep="/")


def collect(
    shapes: Mapping[str, tuple[int, ...]],
    state: Mapping[str, np.ndarray],
    source: Source,
    where: str,
) -> Flat:
    """Collects the leaves of a parameter tree from a state dict, as float32 by path.

    Args:
      shapes: shape of each expected leaf, by path.
      state: tensors by name.
      source: map from a leaf's path to its tensor.
      where: name of the state dict in errors.

    Raises:
      InputError: tensors are missing, unknown, of wrong shape, or not finite; the error
        names all of them.
    """
    flat, used, missing, misshapen, infinite = {}, set(), {}, [], []
    for path, shape in shapes.items():
        name, convert = source(path)
        used.add(name)
        if name not in state:
            missing[name] = None
            continue

        leaf = convert(state[name])
        if leaf.shape != shape or leaf.dtype.kind not in "fV":  # V: bfloat16
            actual = f"{name} {state[name].dtype} {list(state[name].shape)}"
            misshapen.append(f"{actual} for {path} {list(shape)}")
        else:
            flat[path] = np.ascontiguousarray(leaf, np.float32).reshape(shape)
            if bad := np.count_nonzero(~np.isfinite(flat[path])):
                infinite.append(f"{name} ({bad} of {leaf.size} values)")

    # All problems in one message, rather than one per attempt.
    problems = {
        "missing": list(missing),
        "unknown": sorted(set(state) - used),
        "of wrong shape": misshapen,
    }
    if any(problems.values()):
        listed = (f"{kind}: {', '.join(v)}" for kind, v in problems.items() if v)
        raise InputError(
            f"{where}: its tensors are not those of the CLIP model that its sizes "
            f"describe; {'; '.join(listed)}"
        )

    # Reported only if all names and shapes fit: else the file is another model's.
    if infinite:
        raise InputError(
            f"{where}: weights that are NaN or infinite, in {', '.join(infinite)}; use "
            "the file of an earlier training step, or get it again"
        )
    return flat


def flax_source(path: str) -> tuple[str, Callable[[np.ndarray], np.ndarray]]:
    """`Source` of the hub's Flax files, whose names are the paths."""
    return path, np.asarray


def torch_source(path: str) -> tuple[str, Callable[[np.ndarray], np.ndarray]]:
    """`Source` of the hub's PyTorch files."""
    *parents, leaf = path.split("/")
    name = ".".join([*parents, TORCH_LEAVES.get(leaf, leaf)])
    return name, _to_kernel if leaf == "kernel" else np.asarray


def flax_to_torch(flat: Mapping[str, np.ndarray]) -> Flat:
    """Converts leaves by path to the hub's PyTorch tensors by name."""
    return {torch_source(path)[0]: _from_leaf(path, v) for path, v in flat.items()}


def openai_to_flax(state: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Converts a state dict with OpenAI's names to a parameter tree.

    Sizes come from the tensors (`openai_configs`). The prefix `clipmodel.` of VadCLIP's
    and DSANet's checkpoints is removed.

    Raises:
      InputError: tensors are missing, unknown or of wrong shape; the error names all.
    """
    state = _plain_openai(state)
    shapes = tree_shapes(*openai_configs(state))
    return unflatten(collect(shapes, state, openai_source, "OpenAI CLIP state dict"))


def flax_to_openai(params: Mapping[str, Any]) -> Flat:
    """Converts a parameter tree to tensors with OpenAI's names, without a prefix."""
    tensors: dict[str, list[np.ndarray]] = {}

    # OpenAI packs query, key and value into one tensor, in this order.
    for path, leaf in sorted(flatten(params).items(), key=lambda item: _third(item[0])):
        # OpenAI multiplies by the projections from the right: no transpose.
        keep = path in ("text_projection/kernel", "visual_projection/kernel")
        leaf = np.asarray(leaf) if keep else _from_leaf(path, leaf)
        tensors.setdefault(openai_source(path)[0], []).append(leaf)
    return {k: np.concatenate(v) if len(v) > 1 else v[0] for k, v in tensors.items()}


def openai_source(path: str) -> tuple[str, Callable[[np.ndarray], np.ndarray]]:
    """`Source` of OpenAI's state dicts."""
    name = path
    for pattern, replacement in OPENAI_NAMES:
        name = re.sub(pattern, replacement, name)

    *parents, leaf = name.split("/")
    name = ".".join([*parents, TORCH_LEAVES.get(leaf, leaf)])

    if "in_proj" in leaf:
        return name, lambda x: _to_kernel(_split(x, _third(path)))
    return name, _to_kernel if leaf == "kernel" else np.asarray


def openai_configs(state: Mapping[str, np.ndarray]) -> tuple[TextConfig, VisionConfig]:
    """Reads the sizes of both towers from the tensors' shapes.

    OpenAI's heads always have width 64.

    Raises:
      InputError: a tensor that determines a size is missing, as in models with a
        ResNet.
    """
    # OpenAI's files have no config.json.
    state = _plain_openai(state)
    try:
        # The first block's shapes stand for all blocks, which `collect` checks later.
        vocabulary, width = state["token_embedding.weight"].shape
        text = TextConfig(
            vocab_size=vocabulary,
            max_position_embeddings=state["positional_embedding"].shape[0],
            projection_dim=state["text_projection"].shape[1],
            eos_token_id=vocabulary - 1,  # 49407; OpenAI's code takes the largest id
            **_openai_blocks(state, "transformer.resblocks.", width),
        )

        width, _, patch, _ = state["visual.conv1.weight"].shape
        patches = state["visual.positional_embedding"].shape[0] - 1
        vision = VisionConfig(
            image_size=patch * round(patches**0.5),
            patch_size=patch,
            projection_dim=state["visual.proj"].shape[1],
            **_openai_blocks(state, "visual.transformer.resblocks.", width),
        )
    except (KeyError, ValueError, IndexError) as e:
        raise InputError(
            "OpenAI CLIP state dict: the tensors that determine the model's sizes are "
            f"missing or of wrong shape ({e}); expected a CLIP with a vision transformer"
        ) from None
    return text, vision


def _openai_blocks(state: Mapping[str, np.ndarray], prefix: str, width: int) -> dict:
    blocks = {
        k.removeprefix(prefix).split(".")[0] for k in state if k.startswith(prefix)
    }
    return {
        "hidden_size": width,
        "intermediate_size": state[f"{prefix}0.mlp.c_fc.weight"].shape[0],
        "num_hidden_layers": len(blocks),
        "num_attention_heads": width // OPENAI_HEAD_WIDTH,
    }


def _plain_openai(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    names = {k.removeprefix(OPENAI_PREFIX): v for k, v in state.items()}
    return {k: v for k, v in names.items() if k not in OPENAI_BUFFERS}


def _third(path: str) -> int:
    """Returns a leaf's third of the packed tensor: 0, 1, 2 for q, k, v; else 0."""
    match = re.search(r"/self_attn/([qkv])_proj/", path)
    return "qkv".index(match[1]) if match else 0


def _split(packed: np.ndarray, third: int) -> np.ndarray:
    # A length that isn't a multiple of three stays whole: `collect` then reports it.
    size, rest = divmod(packed.shape[0], 3)
    return packed if rest else packed[third * size : (third + 1) * size]


def _to_kernel(x: np.ndarray) -> np.ndarray:
    """Transposes PyTorch's [out, in] or [out, in, height, width] to a Flax kernel."""
    return x.transpose(2, 3, 1, 0) if x.ndim == 4 else x.T


def _from_leaf(path: str, x: np.ndarray) -> np.ndarray:
    """Returns PyTorch's tensor of a leaf, the inverse of `_to_kernel`."""
    x = np.asarray(x)
    if not path.endswith("/kernel"):
        return x
    return x.transpose(3, 2, 0, 1) if x.ndim == 4 else x.T
