"""Opens zero-shot CLIP for detection: classes are words, and nothing is trained."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from wsvad_jax.experiment.class_words import Words
from wsvad_jax.weights.trained_model import TrainedModel

FRAME, RESIZE = "middle", "stretch"  # of the features that are made, as in `extract`


def open_zero_shot(
    clip: str | os.PathLike,
    classes: Words,
    normal: str | Sequence[str],
    resize: str | None = None,
    **fields: Any,
) -> TrainedModel:
    """Opens zero-shot CLIP with classes in words.

    Args:
      clip: hub name or folder of the CLIP model.
      classes: what is to be found, see `class_words.class_cards`.
      normal: what the video shows otherwise.
      resize: `stretch` (default) or `clip`, how frames are cut to the tower's size.
      **fields: fields of `models.zero_shot.Model`, in place of the recipe's.

    Raises:
      InputError: words are missing or stand in two classes, a field is unknown or out
        of range, or no CLIP model is found.
    """
    from wsvad_jax.clip.prompts import text_inputs
    from wsvad_jax.clip.snapshot import load_snapshot
    from wsvad_jax.data import feature_protocols
    from wsvad_jax.experiment import build
    from wsvad_jax.experiment.class_words import card_from_words
    from wsvad_jax.experiment.config import plain_recipe
    from wsvad_jax.experiment.identity import comparable_config

    # Words and fields are checked before the weights are read.
    name = os.fspath(clip)
    card = card_from_words(classes, normal, name)
    config = plain_recipe("zero_shot", card.name)
    with config.unlocked():
        config.model.update(fields)
    build.build_model(config)

    snapshot = load_snapshot(name)
    text, tower = (
        text_inputs(snapshot, card.prompts),
        build.text_tower_id_of(name, snapshot),
    )
    network = build.scoring_model(
        config,
        T=config.data.length,
        width=snapshot.vision.projection_dim,
        text=text,
        text_tower_id=tower,
    )

    # Any stride and number of crops is scored alike, so they stay unknown.
    protocol = dataclasses.replace(
        feature_protocols.snapshot_protocol(snapshot, resize or RESIZE),
        frame=FRAME,
        resize=resize or RESIZE,
    )
    meta = {
        "model": config.model_name,
        "config": comparable_config(config),
        "card": card.to_json(),
        "features": dataclasses.asdict(protocol),
        "tower": tower,
    }
    path = snapshot.path
    return TrainedModel(path, str(path), network, {}, {}, meta, card, snapshot=snapshot)
