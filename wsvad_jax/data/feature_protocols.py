"""Compares feature protocols by one rule, for features of datasets and models.

A feature protocol (`records.FeatureProtocol`) has an encoder, frames, resize, crops and
stride. Unknown values match anything. An encoder NAME@HASH is compared by its hash, since
one model has many names. The hashed settings are compared one by one if both sides have
them. Older versions stored the hash of the weights alone, which implies OpenAI's
settings.

Crops: a model of whole videos takes the mean over all crops, so their number must equal
that of the training. A model of windows scores one crop, the card's `test_crop`, which
must exist; the others don't matter.
"""

import dataclasses
import os
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from wsvad_jax.clip.identity import NOT_COMPARED, RANDOM, UNLIKE
from wsvad_jax.clip.preprocessing import IMAGE_MEAN, IMAGE_STD
from wsvad_jax.data.records import FRAMES_PER_SNIPPET, FeatureProtocol
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.json_shapes import PositiveCount, Shape, Text, check_shape

UNKNOWN = ("", "unknown")
# Encoders of random weights that older versions made and noted without saying so: the
# demo world's CLIP, and those of the package's cache.
RANDOM_HASHES = ("9a76bf077ca9",)
RANDOM_NAMES = re.compile(r"random-\d+@[0-9a-f]+")


def protocol_from_json(value: Mapping[str, Any] | None) -> FeatureProtocol:
    """Returns the protocol in a JSON object; missing values are unknown.

    The number 0 means unknown.
    """
    unknown = FeatureProtocol(stride=0, crops=0)
    known = {
        name: found
        for name, default in dataclasses.asdict(unknown).items()
        if type(found := (value or {}).get(name)) is type(default)
    }
    return dataclasses.replace(unknown, **known)


def _whole(value: Any) -> Any:
    return int(value) if type(value) is float and value.is_integer() else value


WholeCount = Annotated[PositiveCount, BeforeValidator(_whole)]


class ProtocolFile(Shape):
    """protocol.json beside features; further keys are kept."""

    encoder: Text = "unknown"
    stride: WholeCount = FRAMES_PER_SNIPPET
    crops: WholeCount = 1
    frame: Text = "unknown"
    resize: Text = "unknown"
    encoder_settings: dict = Field(default_factory=dict)
    clip: Text = ""


def checked(path: str | os.PathLike, value: Any) -> dict[str, Any]:
    """Returns the content of a protocol.json; whole numbers may be written as floats.

    Args:
      path: file, for messages.
      value: its JSON.

    Raises:
      InputError: no object, or a value that no protocol has.
    """
    known = check_shape(ProtocolFile, value, path).fields()
    return value | {key: known[key] for key in known if key in value}


def check_crops(
    path: str | os.PathLike,
    value: Mapping[str, Any],
    file: str | os.PathLike,
    found: int,
) -> None:
    """Raises InputError where a protocol.json states another number of crops.

    Args:
      path: of protocol.json.
      value: what it holds.
      file: of features.
      found: number of crops of the features.
    """
    if (stated := value.get("crops", found)) != found:
        raise InputError(
            f"{path}: crops is {stated}, but {file} holds {found}; correct crops, or "
            "extract the video again"
        )


def snapshot_protocol(snapshot: Any, resize: str) -> FeatureProtocol:
    """Returns the known part of the protocol of a CLIP snapshot's features.

    Args:
      snapshot: `clip.snapshot.Snapshot` of the encoder.
      resize: conversion of frames; unknown means the released `stretch`.
    """
    resize = "stretch" if resize in UNKNOWN else resize
    name, _, settings = snapshot.encoder(resize)
    return FeatureProtocol(name, 0, 0, encoder_settings=settings)


def difference(
    found: FeatureProtocol, wanted: FeatureProtocol, *, crop: int | None = None
) -> str:
    """Returns a sentence about the differences of two protocols, "" without any.

    Args:
      found: protocol of the features.
      wanted: required protocol.
      crop: index of the only scored crop; None requires equal numbers of crops.
    """
    differences = [encoder_difference(found, wanted)]
    for name in ("frame", "resize"):
        a, b = getattr(found, name), getattr(wanted, name)
        if a != b and a not in UNKNOWN and b not in UNKNOWN:
            differences.append(f"{name} {a} instead of {b}")
    if 0 not in (found.stride, wanted.stride) and found.stride != wanted.stride:
        differences.append(f"stride {found.stride} instead of {wanted.stride}")
    if crop is not None and 0 < found.crops <= crop:
        differences.append(f"crops {found.crops}, without number {crop} that is scored")

    # Without a scored crop, the mean over all crops must have as many terms.
    known = crop is None and 0 not in (found.crops, wanted.crops)
    if known and found.crops != wanted.crops:
        differences.append(f"crops {found.crops} instead of {wanted.crops}")
    return "; ".join(filter(None, differences))


def encoder_difference(found: FeatureProtocol, wanted: FeatureProtocol) -> str:
    """Returns a sentence about the difference of two encoders, "" without any."""
    if found.encoder in UNKNOWN or wanted.encoder in UNKNOWN:
        return ""
    details = settings_difference(
        found.encoder_settings,
        wanted.encoder_settings,
        (hash_of(found.encoder), hash_of(wanted.encoder)),
    )
    if same_encoder(found.encoder, wanted.encoder) and not details:
        return ""
    details = f" ({details})" if details else ""
    return f"encoder {found.encoder} instead of {wanted.encoder}{details}"


def same_encoder(found: str, wanted: str) -> bool:
    """Returns whether two names NAME@HASH mean one encoder; unknown matches any.

    The hash decides, since one model has many names.
    """
    if found in UNKNOWN or wanted in UNKNOWN:
        return True
    if "@" in found and "@" in wanted:
        return hash_of(found) == hash_of(wanted)
    return found.partition("@")[0] == wanted.partition("@")[0]


def hash_of(encoder: str) -> str:
    """Returns the hash in NAME@HASH, "" without one."""
    return encoder.rpartition("@")[2] if "@" in encoder else ""


def settings_difference(
    found: Mapping[str, Any],
    wanted: Mapping[str, Any],
    hashes: tuple[str, str] = ("", ""),
) -> str:
    """Returns a sentence about the differences of a tower's settings, "" without any.

    Args:
      found: settings, see `clip.identity`; empty if an older version stored none.
      wanted: required settings.
      hashes: hashes of both towers, which may be shortened.
    """
    found, wanted = _object(found), _object(wanted)
    if found and wanted:
        names = [k for k in found if k in wanted and k not in NOT_COMPARED]
        return ", ".join(
            f"{name} {_plain(found[name])} instead of {_plain(wanted[name])}"
            for name in names
            if found[name] != wanted[name]
        )
    # An older version's hash is that of the weights: the settings must be OpenAI's.
    for noted, other, which in ((found, hashes[1], 0), (wanted, hashes[0], 1)):
        same = other and str(noted.get("weights", "")).startswith(other)
        if same and (odd := unlike_openai(noted)):
            one, other = ("first", "second")[which], ("second", "first")[which]
            return (
                f"the same weights, the {one} with {odd}; the {other} was noted by an "
                "older version, whose hash of weights stands for OpenAI's settings"
            )
    return ""


def unlike_openai(settings: Mapping[str, Any]) -> str:
    """Returns the settings that differ from OpenAI's, in words."""
    names = _object(settings).get(UNLIKE)
    names = names if isinstance(names, list) else []
    return ", ".join(f"{name} {_plain(settings.get(name))}" for name in names)


def _object(value: Any) -> Mapping[str, Any]:
    """Returns settings of a file, empty if they are no JSON object."""
    return value if isinstance(value, Mapping) else {}


def settings_noted(protocol: FeatureProtocol) -> dict[str, Any]:
    """Returns an encoder's settings; for older versions, the known ones.

    Older versions used OpenAI's normalisation and didn't store the activation.
    """
    if protocol.encoder_settings or not hash_of(protocol.encoder):
        return dict(protocol.encoder_settings)
    return {
        "weights": hash_of(protocol.encoder),
        "activation": None,
        "interpolation": "bicubic",
        "scale": 1 / 255,
        "mean": list(IMAGE_MEAN),
        "deviation": list(IMAGE_STD),
    }


def _plain(value: Any) -> str:
    """Returns a setting's value for a sentence: lists without brackets."""
    parts = value if isinstance(value, list) else [value]
    return " ".join(f"{x:.6g}" if isinstance(x, float) else str(x) for x in parts)


def is_random(protocol: FeatureProtocol) -> bool:
    """Returns whether features come from an untrained, random tower."""
    if protocol.encoder_settings:
        return bool(_object(protocol.encoder_settings).get(RANDOM))
    known = hash_of(protocol.encoder).startswith(RANDOM_HASHES)
    return known or bool(RANDOM_NAMES.fullmatch(protocol.encoder))


def random_note(
    protocol: FeatureProtocol, tower: Mapping[str, Any] | None = None
) -> str:
    """Returns a warning about towers with random weights, "" without any.

    Args:
      protocol: the features.
      tower: `settings` of the text tower, and its name `clip`; None: no prompts.
    """
    settings = _object((tower or {}).get("settings"))
    text = bool(settings.get(RANDOM)) or (tower or {}).get("clip") == "random"
    if is_random(protocol):
        what = "features and prompts" if text else "features"
        return (
            f"the CLIP model of the {what} ({protocol.encoder}) has random weights: "
            "scores show that the programs work, and say nothing about real video"
        )
    if text:
        return (
            "the prompts go through a text tower of random weights: the names of "
            "classes carry no meaning"
        )
    return ""
