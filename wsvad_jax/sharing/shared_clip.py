"""The CLIP model that a shared model needs: by which name others get it, or its copy."""

import dataclasses
import json
import os
import pathlib
from typing import TYPE_CHECKING, Any

from wsvad_jax.clip.packaged import PACKAGED
from wsvad_jax.data import feature_protocols
from wsvad_jax.results.runs import without_folders
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json, write_json
from wsvad_jax.utils.hub_access import parse_hub_name
from wsvad_jax.weights import trained_model

if TYPE_CHECKING:
    from wsvad_jax.clip.snapshot import Snapshot

RANDOM = "random"  # text tower whose weights follow from its size
SETTINGS = ("preprocessor_config.json", "processor_config.json")
TOKENIZER = (
    "vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class SharedClip:
    """How others get the CLIP model of a shared model."""

    text: str = ""  # name of the text tower's model, as it is written in meta.json
    image: str = ""  # name of the image tower's
    copy: "Snapshot | None" = None  # is pushed along, as clip/
    note: str = ""  # what users of the model must do

    @property
    def hub_names(self) -> list[str]:
        """Names that others must find on the hub; none if a copy comes along."""
        names = () if self.copy is not None else (self.text, self.image)
        return sorted({n for n in names if parse_hub_name(n) is not None})


def shared_clip(
    folder: pathlib.Path, meta: dict[str, Any], with_clip: bool
) -> SharedClip:
    """Decides how others get the CLIP model that a model needs.

    Args:
      folder: model folder.
      meta: content of its meta.json.
      with_clip: whether a CLIP model in a local folder may be pushed along.

    Raises:
      InputError: the model's prompts need a CLIP model that only this machine has, or
        the folder of that name now holds another one.
    """
    from wsvad_jax.clip.snapshot import load_snapshot

    # A converted file comes with its own.
    own = folder / "clip"
    text, _ = trained_model.tower_of(meta)
    text, image = text if _reads_text(meta) else "", meta["card"].get("clip") or ""
    if any((own / name).is_file() for name in trained_model.TOKENIZERS):
        return SharedClip(_last(text), "", load_snapshot(own))

    # The demo's CLIP model is recognised by its weights: its copies have any path.
    packaged = load_snapshot(PACKAGED)
    if text and _is_text_tower(packaged, meta):
        text = PACKAGED
    if _is_image_tower(packaged, meta):
        image = PACKAGED
    local = sorted({name for name in (text, image) if _is_local(name)})
    if not local:
        return SharedClip(text, image)

    if with_clip:
        return SharedClip(_last(text), "", _local_snapshot(local, text, meta, folder))
    advice = (
        "pass --with_clip to push it along, if its licence allows it, or train with a "
        "CLIP model of the hub"
    )
    if _is_local(text):
        raise InputError(
            f"{folder}: the CLIP model that reads its prompts is a folder of this machine "
            f"({text}), so nobody else could load the model; {advice}"
        )
    note = (
        f"videos need the image tower in {_last(image)}, a folder of this machine: "
        f"others can score features only; {advice}"
    )
    return SharedClip(text, "", note=note)


def write_clip(snapshot: "Snapshot", folder: pathlib.Path) -> None:
    """Writes a CLIP model as safetensors, with its tokenizer and preprocessing.

    Args:
      snapshot: CLIP model.
      folder: folder to write, created if missing.

    Raises:
      InputError: the copy is not the same model.
    """
    from wsvad_jax.clip.snapshot import load_snapshot, save_snapshot

    tokenizer = {
        name: (snapshot.path / name).read_text(encoding="utf-8")
        for name in TOKENIZER
        if (snapshot.path / name).is_file()
    }

    # This file may name the folder that it was saved in.
    if text := tokenizer.get("tokenizer_config.json"):
        tokenizer["tokenizer_config.json"] = json.dumps(
            without_folders(json.loads(text)), indent=1
        )

    sizes = snapshot.text, snapshot.vision
    save_snapshot(
        folder,
        *sizes,
        snapshot.params,
        tokenizer=tokenizer,
        weights="safetensors",
        training_note=snapshot.training_note,
    )
    for name in SETTINGS:
        if (snapshot.path / name).is_file():
            write_json(folder / name, without_folders(read_json(snapshot.path / name)))

    # Other settings would give other features without an error.
    copy = load_snapshot(folder)
    if (copy.text_settings, copy.image_settings) != (
        snapshot.text_settings,
        snapshot.image_settings,
    ):
        raise InputError(
            f"{snapshot.path}: the copy of this CLIP model has other settings; share the "
            "CLIP model by itself, and train with its hub name"
        )


def _reads_text(meta: dict[str, Any]) -> bool:
    from ml_collections import ConfigDict

    from wsvad_jax.experiment import build

    return build.get_model_spec(ConfigDict(meta["config"])).reads_text


def _local_snapshot(
    local: list[str], text: str, meta: dict[str, Any], folder: pathlib.Path
) -> "Snapshot":
    """Returns the CLIP model to push along, after a comparison with the training's."""
    from wsvad_jax.clip.snapshot import load_snapshot

    path = next((name for name in local if os.path.isdir(name)), None)
    if path is None:
        raise InputError(
            f"{folder}: its CLIP model was in {' and '.join(local)}, which is not here; "
            "put it there again"
        )
    snapshot = load_snapshot(path)

    # One copy serves both towers.
    encoder = meta.get("features", {}).get("encoder", "")
    if text and not _is_text_tower(snapshot, meta):
        raise InputError(
            f"{path}: not the CLIP model whose text tower {folder} was trained with; put "
            "that one there, or train again"
        )
    if "@" in encoder and not _is_image_tower(snapshot, meta):
        raise InputError(
            f"{path}: not the CLIP model of the features of {folder}, {encoder}; a model "
            "can be pushed with one CLIP model for prompts and features"
        )
    return snapshot


def _is_text_tower(snapshot: "Snapshot", meta: dict[str, Any]) -> bool:
    known = bool(trained_model.tower_of(meta)[1])
    return known and not trained_model.tower_difference(snapshot, meta)


def _is_image_tower(snapshot: "Snapshot", meta: dict[str, Any]) -> bool:
    wanted = feature_protocols.protocol_from_json(meta.get("features"))
    if "@" not in wanted.encoder:
        return False
    here = feature_protocols.snapshot_protocol(snapshot, wanted.resize)
    return not feature_protocols.encoder_difference(here, wanted)


def _is_local(name: str) -> bool:
    """Whether a name is a folder's, which exists here or has no form of a hub name."""
    if name in ("", PACKAGED, RANDOM):
        return False
    # Old models of the hub have no user, as "gpt2".
    return os.path.isdir(name) or name.startswith((".", "/", "~")) or "\\" in name


def _last(name: str) -> str:
    """Returns the name without the folders of this machine."""
    # A relative folder of two parts has the form of a hub name.
    return pathlib.PureWindowsPath(name).name if _is_local(name) else name
