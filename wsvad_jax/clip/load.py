"""Reads and writes CLIP snapshots in the Hugging Face hub's format.

A snapshot is a folder with config.json, the tokenizer's files and one of the weight
files of `WEIGHT_FILES`, the first of them that there is. Only tensors are read from
it: a pickle that would run code is refused.
"""

import dataclasses
import hashlib
import importlib.util
import os
import pathlib
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from flax import serialization

from wsvad_jax import files
from wsvad_jax.clip import names
from wsvad_jax.clip.activations import ACTIVATIONS
from wsvad_jax.clip.names import flax_to_openai, openai_configs, openai_to_flax
from wsvad_jax.clip.towers import TextConfig, VisionConfig
from wsvad_jax.errors import InputError

__all__ = [
    "IMAGE_MEAN",
    "IMAGE_STD",
    "Snapshot",
    "flax_to_openai",
    "load",
    "openai_configs",
    "openai_to_flax",
    "read_configs",
    "save_snapshot",
    "weights_hash",
]

WEIGHT_FILES = ("flax_model.msgpack", "model.safetensors", "pytorch_model.bin")
OTHER_FILES = (
    "config.json", "preprocessor_config.json", "vocab.json", "merges.txt",
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
)  # fmt: skip

LIMITS = {"num_hidden_layers": (1, 1000), "eos_token_id": (0, 2**24)}

# Of [0, 1] RGB: what all of OpenAI's models normalise with.
IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A CLIP model's weights and sizes, and the folder with its tokenizer."""

    params: dict[str, Any]  # the whole tree, float32 numpy
    text: TextConfig
    vision: VisionConfig
    path: pathlib.Path
    name: str  # hub name, or the folder's name
    weights_hash: str  # of the tensors, whatever kind of file they came from


def load(name_or_dir: str | os.PathLike) -> Snapshot:
    """Loads a CLIP snapshot.

    Args:
      name_or_dir: a hub name ("openai/clip-vit-base-patch16") or a local folder.

    Raises:
      InputError: no such model or folder; a file of it missing or damaged; tensors
        missing, unknown or of wrong shape (all of them named).
    """
    local = os.path.isdir(name_or_dir)
    path = pathlib.Path(name_or_dir) if local else _download(str(name_or_dir))
    text, vision = read_configs(path)
    file = next((path / name for name in _readable() if (path / name).exists()), None)
    if file is None:
        raise InputError(
            f"{path}: no CLIP weights there; expected {' or '.join(WEIGHT_FILES[:2])}"
            f" (or {WEIGHT_FILES[2]}, which needs PyTorch)"
        )
    state, source = _read_tensors(file)
    flat = names.collect(names.tree_shapes(text, vision), state, source, str(file))
    return Snapshot(
        params=names.unflatten(flat),
        text=text,
        vision=vision,
        path=path,
        name=path.resolve().name if local else str(name_or_dir),
        weights_hash=weights_hash(flat),
    )


def save_snapshot(
    directory: str | os.PathLike,
    text: TextConfig,
    vision: VisionConfig,
    params: Mapping[str, Any],
    *,
    tokenizer: Mapping[str, str] | None = None,
    weights: Literal["msgpack", "safetensors"] = "msgpack",
) -> pathlib.Path:
    """Writes a snapshot that `load` and `transformers` read; returns its folder.

    Args:
      directory: made if missing.
      text: the text tower's sizes.
      vision: the image tower's sizes.
      params: the whole tree.
      tokenizer: contents of the tokenizer's files, by file name.
      weights: write flax_model.msgpack, or model.safetensors with PyTorch's names.
    """
    directory = pathlib.Path(directory)
    for name, content in (tokenizer or {}).items():
        files.write_text(directory / name, content)
    files.write_json(directory / "preprocessor_config.json", _preprocessor(vision))
    flat = names.flatten(params)
    flat = {path: np.asarray(flat[path], np.float32) for path in sorted(flat)}
    if weights == "msgpack":
        with files.atomic_path(directory / "flax_model.msgpack") as temporary:
            content = serialization.msgpack_serialize(names.unflatten(flat))
            temporary.write_bytes(content)
    else:
        import safetensors.numpy

        state = names.flax_to_torch(flat)
        state = {name: np.array(x, order="C") for name, x in state.items()}
        with files.atomic_path(directory / "model.safetensors") as temporary:
            safetensors.numpy.save_file(state, temporary, {"format": "pt"})
    # Last, so that a snapshot with a config.json is whole.
    files.write_json(directory / "config.json", _config(text, vision))
    return directory


def read_configs(path: pathlib.Path) -> tuple[TextConfig, VisionConfig]:
    """Reads both towers' sizes from the folder's config.json.

    Raises:
      InputError: the file is missing, or not a CLIP model's.
    """
    file = path / "config.json"
    config = files.read_json(file)
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != "clip":
        raise InputError(f"{file}: model_type is {kind!r}; expected a 'clip' model")
    from transformers import CLIPConfig

    try:
        # Not the JSON itself: the class knows the defaults that a file may leave out.
        whole: Any = CLIPConfig.from_pretrained(path, local_files_only=True)
    except Exception as e:  # noqa: BLE001 - kinds differ between transformers 4 and 5
        raise InputError(
            f"{file}: transformers can't read it as a CLIP config: {_one_line(e)}"
        ) from None
    # Each tower has a projection_dim of its own, but CLIPModel projects to this one.
    text = _sizes(TextConfig, whole.text_config, whole.projection_dim, file)
    vision = _sizes(VisionConfig, whole.vision_config, whole.projection_dim, file)
    return text, vision


def _sizes(kind: Any, tower: Any, projection_dim: Any, file: pathlib.Path) -> Any:
    fields = dataclasses.fields(kind)
    values: dict[str, Any] = {f.name: getattr(tower, f.name, None) for f in fields}
    values["projection_dim"] = projection_dim
    for field in fields:  # transformers 4 takes anything
        value = values[field.name]
        least, most = LIMITS.get(field.name, (1, 2**24))
        if field.type is int and not (type(value) is int and least <= value <= most):
            raise InputError(
                f"{file}: {field.name} is {value!r:.60}; expected a whole number from "
                f"{least} to {most}"
            )
        if field.type is float and not isinstance(value, float):
            raise InputError(f"{file}: {field.name} is {value!r:.60}, not a number")
    if values["hidden_act"] not in list(ACTIVATIONS):  # it may be anything
        raise InputError(
            f"{file}: hidden_act is {values['hidden_act']!r:.60}; expected one of "
            f"{', '.join(ACTIVATIONS)}"
        )
    heads, width = values["num_attention_heads"], values["hidden_size"]
    if width % heads:
        raise InputError(
            f"{file}: {heads} attention heads don't divide the hidden_size {width}"
        )
    return kind(**values)


def weights_hash(flat: Mapping[str, np.ndarray]) -> str:
    """Returns 16 hex digits that stand for these tensors (by path)."""
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(flat):
        digest.update(f"{path} {flat[path].shape} ".encode())
        digest.update(np.ascontiguousarray(flat[path]).tobytes())
    return digest.hexdigest()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _readable() -> tuple[str, ...]:
    torch = importlib.util.find_spec("torch") is not None
    return WEIGHT_FILES if torch else WEIGHT_FILES[:2]


def _download(name: str) -> pathlib.Path:
    """Returns the hub's local copy of a model, downloading what is missing."""
    from huggingface_hub import snapshot_download

    advice = (
        "pass a local folder with config.json, vocab.json, merges.txt and "
        f"{' or '.join(WEIGHT_FILES[:2])} instead"
    )
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise InputError(f"{name}: no such folder; {advice}")
    path = None
    for weights in _readable():  # one file of weights, not all three
        try:
            path = snapshot_download(name, allow_patterns=[*OTHER_FILES, weights])
        except Exception as e:  # noqa: BLE001 - kinds differ between hub versions
            raise InputError(
                f"{name}: not a folder here, and the Hugging Face hub did not give a "
                f"model of that name ({type(e).__name__}); {advice}"
            ) from None
        if os.path.exists(os.path.join(path, weights)):
            break
    return pathlib.Path(str(path))


def _read_tensors(file: pathlib.Path) -> tuple[names.Flat, names.Source]:
    """Reads a weight file; raises an InputError where it holds anything but tensors."""
    try:
        if file.suffix == ".msgpack":
            tree: Any = serialization.msgpack_restore(file.read_bytes())
            return names.flatten(tree), names.flax_source
        if file.suffix == ".safetensors":
            import safetensors.numpy

            state = dict(safetensors.numpy.load_file(file))
        else:
            import torch

            loaded = torch.load(file, map_location="cpu", weights_only=True)
            state = {name: x.float().numpy() for name, x in loaded.items()}
    except Exception as e:  # noqa: BLE001 - damage can raise anything
        raise InputError(
            f"{file}: not a whole file of plain tensors ({_one_line(e)[:200]}); "
            "get it again from a source that you trust"
        ) from None
    # Old versions of transformers saved this constant with the weights.
    state = {k: v for k, v in state.items() if not k.endswith(".position_ids")}
    return state, names.torch_source


def _config(text: TextConfig, vision: VisionConfig) -> dict[str, Any]:
    bos = text.eos_token_id - 1
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": text.projection_dim,
        "text_config": {
            "model_type": "clip_text_model",
            "bos_token_id": bos,
            "pad_token_id": text.eos_token_id,
        }
        | dataclasses.asdict(text),
        "vision_config": {"model_type": "clip_vision_model"}
        | dataclasses.asdict(vision),
    }


def _preprocessor(vision: VisionConfig) -> dict[str, Any]:
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": vision.image_size},
        "resample": 3,  # bicubic
        "do_center_crop": True,
        "crop_size": {"height": vision.image_size, "width": vision.image_size},
        "do_rescale": True,
        "do_normalize": True,
        "image_mean": list(IMAGE_MEAN),
        "image_std": list(IMAGE_STD),
        "do_convert_rgb": True,
    }
