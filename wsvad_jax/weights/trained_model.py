"""Opens a trained model for scoring, without the dataset that it was trained on.

`meta.json` holds the recipe, the card, the window's length, the features' width and
protocol, and whose text tower the prompts went through. What is missing in folders of
older versions is read off the weights.
"""

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wsvad_jax.clip.packaged import PACKAGED
from wsvad_jax.data import feature_protocols
from wsvad_jax.data.cards import Card
from wsvad_jax.data.feature_protocols import same_encoder
from wsvad_jax.utils.errors import InputError

__all__ = [
    "TrainedModel",
    "can_load",
    "image_snapshot",
    "open_trained_model",
    "same_encoder",
    "text_snapshot",
]

if TYPE_CHECKING:
    from wsvad_jax.clip.snapshot import Snapshot
    from wsvad_jax.data.records import FeatureProtocol
    from wsvad_jax.experiment.build import ScoringModel
    from wsvad_jax.experiment.class_words import Words
    from wsvad_jax.models.spec import ModelSpec

TOKENIZERS = ("vocab.json", "tokenizer.json")


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A model that is opened for scoring: a model folder, or zero-shot CLIP."""

    folder: pathlib.Path  # of zero-shot CLIP, the snapshot's
    source: str  # the folder, or USER/NAME@COMMIT of the hub
    network: "ScoringModel"
    params: Any
    batch_stats: Any
    meta: dict[str, Any]
    card: Card
    forced: str = ""  # difference of the text tower from training, under `force`
    snapshot: "Snapshot | None" = None  # CLIP model of the features, if it is open


def open_trained_model(
    checkpoint: str | os.PathLike,
    *,
    clip: str | None = None,
    force: bool = False,
    classes: "Words | None" = None,
    normal: "str | Sequence[str] | None" = None,
) -> TrainedModel:
    """Opens a model for scoring.

    Args:
      checkpoint: model folder, workdir of a training run, or USER/NAME[@REVISION] of
        the Hugging Face hub.
      clip: hub name or folder of a CLIP snapshot, used if its text tower is that of the
        training.
      force: whether to accept the text tower of another CLIP model.
      classes: other words for the anomaly classes, see `other_words.card_of_words`.
      normal: other words for the normal class, with `classes`.

    Raises:
      InputError: the model, its card or its text tower is not found, or the model reads
        no words.
    """
    from ml_collections import ConfigDict

    from wsvad_jax.clip.prompts import text_inputs
    from wsvad_jax.experiment import build, other_words
    from wsvad_jax.weights.hub_model import find_checkpoint
    from wsvad_jax.weights.model_folder import load_params

    found = find_checkpoint(checkpoint)
    folder = found.folder
    params, batch_stats, meta = load_params(folder, found.advice)
    card = read_card(meta, folder)

    # meta.json has the recipe, which is checked like one from a file.
    config = ConfigDict(meta["config"])
    try:
        spec = build.get_model_spec(config)
        build.build_model(config)  # so that its fields are checked here
    except InputError as e:
        raise InputError(f"{folder}/meta.json: {e}") from None
    T, width = window_and_feature_size(spec, meta, params, folder)
    if classes is not None or normal is not None:
        other_words.check_reads_text(spec, "--classes")
        card = other_words.card_of_words(classes or (), card, normal)

    # Prompts need the text tower of the training.
    text, tower, forced = None, None, ""
    if spec.reads_text:
        snapshot = text_snapshot(folder, meta, width, clip, force)
        text = text_inputs(snapshot, card.prompts)
        tower = build.text_tower_id_of(str(snapshot.path), snapshot)
        forced = tower_difference(snapshot, meta)

    network = build.scoring_model(
        config, T=T, width=width, text=text, text_tower_id=tower
    )

    if text is not None and (force or not tower_of(meta)[1]):
        # Only the text tower can differ; the other weights were written together.
        build.check_params(network, params, str(folder))
    return TrainedModel(
        folder, found.source, network, params, batch_stats, meta, card, forced
    )


def read_card(meta: dict[str, Any], folder: pathlib.Path) -> Card:
    """Returns the classes that a model was trained for."""
    if not meta.get("card"):
        raise InputError(
            f"{folder}/meta.json names no classes (key card), since it was converted "
            "for a custom dataset; add the content of the dataset's card.json as the "
            "value of card"
        )
    return Card.from_json(meta["card"], f"{folder}/meta.json: card")


def window_and_feature_size(
    spec: "ModelSpec", meta: dict[str, Any], params: Any, folder: pathlib.Path
) -> tuple[int, int]:
    """Returns the snippets per window and the width of the features.

    Raises:
      InputError: neither `meta` nor the weights tell.
    """
    T = meta.get("length") or meta["config"]["data"]["length"]
    T = T or _axis(params, spec.length_axis)
    width = meta.get("width") or _axis(params, spec.width_axis)
    if not T or not width:
        raise InputError(
            f"{folder}/meta.json doesn't say the length of a window or the width of "
            "features; train or convert the model again"
        )
    return int(T), int(width)


def _axis(params: Any, axis: tuple[str, int] | None) -> int:
    """Length of the axis (path, number) of a parameter, 0 if there is none."""
    path, number = axis or ("", 0)
    for name in path.split("/"):
        params = params.get(name) if isinstance(params, dict) else None
    return 0 if params is None else params.shape[number]


def text_snapshot(
    folder: pathlib.Path,
    meta: dict[str, Any],
    width: int,
    clip: str | None = None,
    force: bool = False,
) -> "Snapshot":
    """Returns the CLIP model whose text tower the model was trained with.

    The first of these that exists: the folder `clip` of the model, the random tower,
    the argument `clip`, the name in `meta`.

    Raises:
      InputError: no CLIP model is found, or its text tower is another one.
    """
    from wsvad_jax.clip.snapshot import load_snapshot
    from wsvad_jax.experiment.build import random_snapshot

    own, (name, wanted) = folder / "clip", tower_of(meta)
    if any((own / name).is_file() for name in TOKENIZERS):
        snapshot = load_snapshot(own)
    elif name == "random":
        snapshot = load_snapshot(random_snapshot(width))
    else:
        # The caller's CLIP model is taken only if its text tower is the same.
        if clip is not None:
            snapshot = load_snapshot(clip)
            differs = tower_difference(snapshot, meta)
            if force or not differs:
                return snapshot
            if not can_load(name):
                raise InputError(
                    f"--clip {clip} holds the weights {snapshot.text_hash[:12]}, but the "
                    f"model's text tower was of {wanted[:12]} ({name or 'unknown'}): "
                    f"{differs}; pass that one, or --force"
                )

        if not can_load(name):
            raise InputError(
                f"{folder}: its text tower was that of {name or 'a CLIP model'}, which "
                "is not here; pass --clip NAME|DIR"
            )
        snapshot = load_snapshot(name)

    # A snapshot can change after the training, so every source is compared.
    if (differs := tower_difference(snapshot, meta)) and not force:
        raise InputError(
            f"{snapshot.path}: no longer the text tower that {folder} was trained "
            f"with: {differs}; pass the CLIP model of the training as --clip, or --force"
        )
    return snapshot


def tower_difference(snapshot: "Snapshot", meta: dict[str, Any]) -> str:
    """Describes how a snapshot's text tower differs from a model's; "" if it doesn't."""
    return tower_settings_difference(snapshot.text_hash, snapshot.text_settings, meta)


def tower_settings_difference(
    text_hash: str, settings: Mapping[str, Any], meta: dict[str, Any]
) -> str:
    """Describes how a text tower differs from a model's; "" if it doesn't.

    Args:
      text_hash: hash of the tower.
      settings: settings of the tower, by name.
      meta: meta.json of the model folder.
    """
    _, wanted = tower_of(meta)
    noted = (meta.get("tower") or {}).get("settings") or {}
    differs = feature_protocols.settings_difference(
        settings, noted, (text_hash, wanted)
    )

    # Older folders have the start of the hash only.
    if not wanted or (text_hash.startswith(wanted) and not differs):
        return ""

    hashes = f"text tower {text_hash[:12]} instead of {wanted[:12]}"
    return f"{hashes} ({differs})" if differs else hashes


def image_snapshot(
    folder: pathlib.Path,
    meta: dict[str, Any],
    clip: str | None = None,
    force: bool = False,
) -> "Snapshot":
    """Returns the CLIP model whose image tower made the training features.

    Raises:
      InputError: `clip` is another model, or no model is known.
    """
    from wsvad_jax.clip.snapshot import load_snapshot

    wanted = feature_protocols.protocol_from_json(meta.get("features"))
    own = meta["card"].get("clip", "")
    if not clip and (snapshot := _image_snapshot_of_folder(folder, wanted)):
        return snapshot

    # Training and its features nearly always share one CLIP model.
    names = [own, tower_of(meta)[0]]
    name = clip or next((n for n in names if can_load(n)), "")
    if not name:
        raise InputError(
            f"{folder}: videos need the image tower that made the model's features "
            f"({own or wanted.encoder}); pass --clip NAME|DIR"
        )

    snapshot = load_snapshot(name)
    here = feature_protocols.snapshot_protocol(snapshot, wanted.resize)
    differs = feature_protocols.encoder_difference(here, wanted)
    if not force and differs:
        raise InputError(
            f"{name} is {here.encoder}, but the model was trained on features of "
            f"{wanted.encoder}: {differs}; pass that one as --clip, or --force to use "
            "this one"
        )
    return snapshot


def _image_snapshot_of_folder(
    folder: pathlib.Path, wanted: "FeatureProtocol"
) -> "Snapshot | None":
    """Returns the CLIP model that comes with a model, if it made the features."""
    from wsvad_jax.clip.snapshot import load_snapshot

    path = folder / "clip"
    known = "@" in wanted.encoder
    if not known or not any((path / name).is_file() for name in TOKENIZERS):
        return None

    # A converted file comes with a text tower whose image tower others trained.
    snapshot = load_snapshot(path)
    here = feature_protocols.snapshot_protocol(snapshot, wanted.resize)
    differs = feature_protocols.encoder_difference(here, wanted)
    return None if differs else snapshot


def tower_of(meta: dict[str, Any]) -> tuple[str, str]:
    """Returns name and hash, or its start, of the text tower; "" if unknown."""
    if tower := meta.get("tower"):
        return tower["clip"], tower["hash"]

    # Older versions noted no tower. With `auto`, they took the model of the features if
    # the card named one.
    name = meta["config"].get("clip", "")
    if name != "auto":
        return name, ""
    encoder = (meta.get("features") or {}).get("encoder", "")
    name = (meta.get("card") or {}).get("clip") or "random"
    return name, encoder.partition("@")[2] if name != "random" else ""


def can_load(name: str) -> bool:
    """Whether `name` is a folder or comes along, or could be a name of the hub."""
    if name == PACKAGED:
        return True
    hub = name.count("/") == 1 and not name.startswith((".", "/", "~"))
    return bool(name) and (os.path.isdir(name) or hub)
