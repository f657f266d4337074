"""Reads and writes CLIP snapshots in the Hugging Face hub's format.

A snapshot is a folder with config.json, the tokenizer's files, the weights (`hub`) and
the picture preprocessing (`preprocessing`). Only tensors are read: a pickle that would
run code is refused.
"""

import dataclasses
import functools
import hashlib
import os
import pathlib
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from flax import serialization

from wsvad_jax.clip import hub, identity, training_notes, weight_names
from wsvad_jax.clip.config_file import read_configs
from wsvad_jax.clip.hub import WEIGHT_FILES
from wsvad_jax.clip.packaged import PACKAGED, PACKAGED_FOLDER, PACKAGED_NAME
from wsvad_jax.clip.preprocessing import (
    IMAGE_MEAN,
    IMAGE_STD,
    Preprocessing,
    read_preprocessing,
)
from wsvad_jax.clip.towers import TextConfig, VisionConfig
from wsvad_jax.clip.weight_names import flax_to_openai, openai_configs, openai_to_flax
from wsvad_jax.utils import files
from wsvad_jax.utils.errors import InputError

__all__ = [
    "IMAGE_MEAN",
    "IMAGE_STD",
    "WEIGHT_FILES",
    "Preprocessing",
    "Snapshot",
    "flax_to_openai",
    "load_snapshot",
    "openai_configs",
    "openai_to_flax",
    "read_configs",
    "save_snapshot",
    "weights_hash",
]


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A CLIP model's weights and sizes, and the folder with its tokenizer."""

    params: dict[str, Any]  # the whole tree, float32 numpy
    text: TextConfig
    vision: VisionConfig
    path: pathlib.Path
    name: str  # hub name, or the folder's name
    weights_hash: str  # hash of the tensors, equal for all file formats
    training_note: str = ""  # what it was trained on, see `training_notes`

    @functools.cached_property
    def preprocessing(self) -> Preprocessing:
        """Picture preprocessing of the image tower.

        Raises:
          InputError: the folder's files have unsupported settings.
        """
        # Read on first use: the text tower alone needs no preprocessing.
        return read_preprocessing(self.path, self.vision.image_size)

    @functools.cached_property
    def image_settings(self) -> dict[str, Any]:
        """Settings of the image features: weights, activation, preprocessing."""
        settings = identity.image_settings(
            self.weights_hash, self.vision, self.preprocessing
        )
        return settings | self._training("vision_model")

    @functools.cached_property
    def text_settings(self) -> dict[str, Any]:
        """Settings of the text features, by name."""
        settings = identity.text_settings(self.weights_hash, self.text)
        return settings | self._training("text_model")

    def _training(self, tower: str) -> dict[str, Any]:
        """Returns the settings that say what a tower was trained on."""
        # The weights decide: a config.json may be a copy.
        flat = weight_names.flatten(self.params.get(tower, {}))
        if identity.untrained(flat):
            return {identity.RANDOM: True}
        note = self.training_note
        return {identity.TRAINING_NOTE: note} if note else {}

    @property
    def clip_note(self) -> str | None:
        """The line about both towers' training, None without a training note."""
        return training_notes.clip_note(
            (self.name, self.image_settings), (self.name, self.text_settings)
        )

    def encoder(self, resize: str) -> tuple[str, str, dict[str, Any]]:
        """Returns the image tower's NAME@HASH, whole hash, and hashed settings.

        Args:
          resize: conversion of frames, `stretch` or `clip`.
        """
        settings = identity.settings_for_resize(self.image_settings, resize)
        digest = identity.settings_hash(settings)
        return f"{self.name}@{digest[:12]}", digest, settings

    @property
    def text_hash(self) -> str:
        """Hash of the text tower's settings, 16 hex digits."""
        return identity.settings_hash(self.text_settings)

    @property
    def remarks(self) -> list[str]:
        """Sentences of advice for extracting features with this model."""
        # A copied folder often lacks the file, and no other file has these numbers.
        remarks = []
        if not self.preprocessing.source:
            remarks.append(
                f"{self.path}: no preprocessor_config.json there: size, mean and "
                "deviation are taken as in OpenAI's models"
            )
        return remarks


def load_snapshot(name_or_dir: str | os.PathLike) -> Snapshot:
    """Loads a CLIP snapshot.

    Args:
      name_or_dir: a hub name ("openai/clip-vit-base-patch16"), a local folder, or
        `packaged.PACKAGED`.

    Raises:
      InputError: the model or folder doesn't exist; a file is missing or damaged;
        tensors are missing, unknown, not finite or of wrong shape (the error names
        all of them); the folder has an adapter, or two files with different weights.
    """
    # Cheap checks first: a folder of another kind fails before its weights are read.
    packaged = str(name_or_dir) == PACKAGED
    name_or_dir = PACKAGED_FOLDER if packaged else name_or_dir
    local = os.path.isdir(name_or_dir)
    path = pathlib.Path(name_or_dir) if local else hub.download(str(name_or_dir))
    hub.check_adapter(path)
    hub.check_config(path)
    text, vision = read_configs(path)

    file = hub.find_weights(path)
    state, source = hub.read_tensors(file)
    flat = weight_names.collect(
        weight_names.tree_shapes(text, vision), state, source, str(file)
    )

    # Other programs may read another of the folder's weight files.
    for other in hub.other_weights(file):
        _compare(flat, state, source, file, other)
    return Snapshot(
        params=weight_names.unflatten(flat),
        text=text,
        vision=vision,
        path=path,
        name=_name(path, packaged) if local else str(name_or_dir),
        weights_hash=weights_hash(flat),
        training_note=training_notes.read_training_note(path),
    )


def _name(path: pathlib.Path, packaged: bool) -> str:
    """Returns a folder's name; the demo's CLIP model has that of its copies."""
    return PACKAGED_NAME if packaged else path.resolve().name


def save_snapshot(
    directory: str | os.PathLike,
    text: TextConfig,
    vision: VisionConfig,
    params: Mapping[str, Any],
    *,
    tokenizer: Mapping[str, str] | None = None,
    weights: Literal["msgpack", "safetensors"] = "msgpack",
    training_note: str = "",
    dtype: Any = np.float32,
) -> pathlib.Path:
    """Writes a snapshot that `load` and `transformers` read; returns its folder.

    Args:
      directory: folder, created if missing.
      text: sizes of the text tower.
      vision: sizes of the image tower.
      params: whole parameter tree.
      tokenizer: contents of the tokenizer's files, by file name.
      weights: format: flax_model.msgpack, or model.safetensors with PyTorch's names.
      training_note: fragment of a sentence on what the model was trained on, such as
        "trained on rendered streets only"; see `training_notes`.
      dtype: type of the stored weights; loading converts them to float32.
    """
    directory = pathlib.Path(directory)
    for name, content in (tokenizer or {}).items():
        files.write_text(directory / name, content)
    files.write_json(directory / "preprocessor_config.json", _preprocessor(vision))

    # Sorted, so that equal weights give equal bytes.
    flat = weight_names.flatten(params)
    flat = {path: np.asarray(flat[path], dtype) for path in sorted(flat)}
    if weights == "msgpack":
        with files.atomic_path(directory / "flax_model.msgpack") as temporary:
            content = serialization.msgpack_serialize(weight_names.unflatten(flat))
            temporary.write_bytes(content)
    else:
        import safetensors.numpy

        # safetensors writes the buffer as it is: a transposed view would be wrong.
        state = weight_names.flax_to_torch(flat)
        state = {name: np.array(x, order="C") for name, x in state.items()}
        with files.atomic_path(directory / "model.safetensors") as temporary:
            safetensors.numpy.save_file(state, temporary, {"format": "pt"})

    # Written last: a snapshot with a config.json is complete.
    config = _config(text, vision)
    if training_note:
        config[identity.TRAINING_NOTE] = training_note
    files.write_json(directory / "config.json", config)
    return directory


def _compare(
    flat: weight_names.Flat,
    state: weight_names.Flat,
    source: weight_names.Source,
    file: pathlib.Path,
    other: pathlib.Path,
) -> None:
    """Compares a second weight file of a folder with the one that was read.

    Raises:
      InputError: the weights differ, so other programs would use another model.
    """
    try:
        theirs, their_source = hub.read_tensors(other)
    except InputError:
        return  # half a download or a pointer: no program can read it either

    for path, ours in flat.items():
        (name, convert), stored = their_source(path), state[source(path)[0]]

        # A copy in half precision is the same model: both are rounded equally first.
        pair = (stored, theirs.get(name, stored))
        kinds = [x.dtype for x in pair if x.dtype.itemsize < 4]
        a, b = (
            x.astype(kinds[0] if kinds else np.float32).astype(np.float32)
            for x in (ours, convert(theirs.get(name, np.zeros(0, np.float32))))
        )

        if a.shape != b.shape or not np.array_equal(a, b):
            raise InputError(
                f"{file.parent}: {file.name} and {other.name} hold different weights "
                f"({path} differs), and programs may read either; remove one of them"
            )


def weights_hash(flat: Mapping[str, np.ndarray]) -> str:
    """Returns a hash of tensors by path, 16 hex digits."""
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(flat):
        digest.update(f"{path} {flat[path].shape} ".encode())
        digest.update(np.ascontiguousarray(flat[path]).tobytes())
    return digest.hexdigest()


def _config(text: TextConfig, vision: VisionConfig) -> dict[str, Any]:
    """Returns the content of config.json."""
    start = text.eos_token_id - 1  # the start token precedes it in CLIP's vocabulary
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": text.projection_dim,
        "text_config": {
            "model_type": "clip_text_model",
            "bos_token_id": start,
            "pad_token_id": text.eos_token_id,
        }
        | dataclasses.asdict(text),
        "vision_config": {"model_type": "clip_vision_model"}
        | dataclasses.asdict(vision),
    }


def _preprocessor(vision: VisionConfig) -> dict[str, Any]:
    """Returns the content of preprocessor_config.json, OpenAI's preprocessing."""
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
