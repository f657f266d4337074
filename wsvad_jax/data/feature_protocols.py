"""Compares feature protocols by one rule, for features of datasets and models.

A feature protocol (`records.FeatureProtocol`) has an encoder, frames, resize, crops and
stride. Unknown values match anything. An encoder NAME@HASH is compared by its hash, since
one model has many names. The hashed settings are compared one by one if both sides have
them. Older versions stored the hash of the weights alone, which implies OpenAI's
settings.

Crops: a model of whole videos averages over all crops, so training and test need equal
numbers of them. A model of windows scores one crop, the card's `test_crop`. That crop
must exist; the others don't matter.
"""

import dataclasses
import os
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from wsvad_jax.clip import training_notes
from wsvad_jax.clip.identity import NOT_COMPARED, UNLIKE
from wsvad_jax.clip.preprocessing import IMAGE_MEAN, IMAGE_STD
from wsvad_jax.data.records import FRAMES_PER_SNIPPET, FeatureProtocol
from wsvad_jax.parallel.precision import PRECISIONS
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.json_shapes import (
    PositiveCount,
    Shape,
    Text,
    check_shape,
    expected,
)

UNKNOWN = ("", "unknown")


def protocol_from_json(value: Mapping[str, Any] | None) -> FeatureProtocol:
    """Returns the protocol in a JSON object; missing values are unknown.

    The number 0 means unknown.
    """
    unknown = FeatureProtocol(stride=0, crops=0)
    known = {
        name: known_value
        for name, default in dataclasses.asdict(unknown).items()
        if type(known_value := (value or {}).get(name)) is type(default)
    }
    return dataclasses.replace(unknown, **known)


def _whole(value: Any) -> Any:
    return int(value) if type(value) is float and value.is_integer() else value


def _precision(value: str) -> str:
    if value not in PRECISIONS:
        raise expected(" or ".join(PRECISIONS))
    return value


def _precision_if_known(value: str) -> str:
    return value if value in UNKNOWN else _precision(value)


WholeCount = Annotated[PositiveCount, BeforeValidator(_whole)]
Precision = Annotated[Text, AfterValidator(_precision)]
PrecisionIfKnown = Annotated[Text, AfterValidator(_precision_if_known)]


class ProtocolFile(Shape):
    """Shape of protocol.json beside features; other keys are kept."""

    encoder: Text = "unknown"
    stride: WholeCount = FRAMES_PER_SNIPPET
    crops: WholeCount = 1
    frame: Text = "unknown"
    resize: Text = "unknown"
    encoder_settings: dict = Field(default_factory=dict)
    dtype: PrecisionIfKnown = "unknown"
    clip: Text = ""


def checked(path: str | os.PathLike, value: Any) -> dict[str, Any]:
    """Returns the content of a protocol.json; whole numbers may be written as floats.

    Args:
      path: path of the file, for errors.
      value: JSON value of the file.

    Raises:
      InputError: the value is no JSON object, or a key has an invalid value.
    """
    known = check_shape(ProtocolFile, value, path).fields()
    return value | {key: known[key] for key in known if key in value}


def check_crops(
    path: str | os.PathLike,
    value: Mapping[str, Any],
    file: str | os.PathLike,
    crops: int,
) -> None:
    """Raises InputError if protocol.json states another number of crops.

    Args:
      path: path of protocol.json.
      value: content of protocol.json.
      file: path of the features, for errors.
      crops: number of crops of the features.
    """
    if (stated := value.get("crops", crops)) != crops:
        raise InputError(
            f"{path}: crops is {stated}, but {file} has {crops}; correct crops, or "
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
    actual: FeatureProtocol, wanted: FeatureProtocol, *, crop: int | None = None
) -> str:
    """Returns a sentence about the differences of two protocols, "" if there are none.

    Args:
      actual: protocol of the features.
      wanted: required protocol.
      crop: index of the only scored crop; None requires equal numbers of crops.
    """
    differences = [encoder_difference(actual, wanted)]
    for name in ("frame", "resize"):
        a, b = getattr(actual, name), getattr(wanted, name)
        if a != b and a not in UNKNOWN and b not in UNKNOWN:
            differences.append(f"{name} {a} instead of {b}")

    if 0 not in (actual.stride, wanted.stride) and actual.stride != wanted.stride:
        differences.append(f"stride {actual.stride} instead of {wanted.stride}")

    # A scored crop must exist; others don't matter.
    if crop is not None and 0 < actual.crops <= crop:
        differences.append(
            f"crops {actual.crops}, without number {crop} that is scored"
        )

    # Without a scored crop, the mean over all crops must have as many terms.
    known = crop is None and 0 not in (actual.crops, wanted.crops)
    if known and actual.crops != wanted.crops:
        differences.append(f"crops {actual.crops} instead of {wanted.crops}")
    return "; ".join(filter(None, differences))


def encoder_difference(actual: FeatureProtocol, wanted: FeatureProtocol) -> str:
    """Returns a sentence about the difference of two encoders, "" if there is none."""
    if actual.encoder in UNKNOWN or wanted.encoder in UNKNOWN:
        return ""

    # Equal hashes may hide different settings: older versions hashed the weights only.
    details = settings_difference(
        actual.encoder_settings,
        wanted.encoder_settings,
        (hash_of(actual.encoder), hash_of(wanted.encoder)),
    )
    if same_encoder(actual.encoder, wanted.encoder) and not details:
        return ""

    details = f" ({details})" if details else ""
    return f"encoder {actual.encoder} instead of {wanted.encoder}{details}"


def same_encoder(actual: str, wanted: str) -> bool:
    """Returns whether two names NAME@HASH mean one encoder; unknown matches any.

    The hash decides, since one model has many names.
    """
    if actual in UNKNOWN or wanted in UNKNOWN:
        return True
    if "@" in actual and "@" in wanted:
        return hash_of(actual) == hash_of(wanted)
    return actual.partition("@")[0] == wanted.partition("@")[0]


def hash_of(encoder: str) -> str:
    """Returns the hash in NAME@HASH, "" if there is none."""
    return encoder.rpartition("@")[2] if "@" in encoder else ""


def settings_difference(
    actual: Mapping[str, Any],
    wanted: Mapping[str, Any],
    hashes: tuple[str, str] = ("", ""),
) -> str:
    """Returns a sentence about the differences of a tower's settings, or "".

    Args:
      actual: settings, see `clip.identity`; empty if an older version stored none.
      wanted: required settings.
      hashes: hashes of both towers, which may be shortened.
    """
    actual, wanted = _object(actual), _object(wanted)
    if actual and wanted:
        names = [k for k in actual if k in wanted and k not in NOT_COMPARED]
        return ", ".join(
            f"{name} {_plain(actual[name])} instead of {_plain(wanted[name])}"
            for name in names
            if actual[name] != wanted[name]
        )

    # One side has no settings: an older version hashed the weights alone, which implies
    # OpenAI's settings. The other side must have these, too.
    orders = ("first", "second"), ("second", "first")
    sides = (actual, hashes[1], orders[0]), (wanted, hashes[0], orders[1])
    for settings, other_hash, (one, other) in sides:
        same = other_hash and str(settings.get("weights", "")).startswith(other_hash)
        if same and (odd := unlike_openai(settings)):
            return (
                f"the same weights, the {one} with {odd}; the {other} was stored by an "
                "older version, whose hash of weights implies OpenAI's settings"
            )
    return ""


def unlike_openai(settings: Mapping[str, Any]) -> str:
    """Returns the settings that differ from OpenAI's, in words."""
    names = _object(settings).get(UNLIKE)
    names = names if isinstance(names, list) else []
    return ", ".join(f"{name} {_plain(settings.get(name))}" for name in names)


def _object(value: Any) -> Mapping[str, Any]:
    """Returns settings from a file, empty if they are no JSON object."""
    return value if isinstance(value, Mapping) else {}


def settings_noted(protocol: FeatureProtocol) -> dict[str, Any]:
    """Returns an encoder's settings, with defaults for files of older versions.

    Older versions used OpenAI's normalisation and didn't store the activation.
    """
    if protocol.encoder_settings or not hash_of(protocol.encoder):
        return dict(protocol.encoder_settings)

    # None: the activation is unknown, not OpenAI's.
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
    values = value if isinstance(value, list) else [value]
    return " ".join(f"{x:.6g}" if isinstance(x, float) else str(x) for x in values)


def clip_note(
    protocol: FeatureProtocol, tower: Mapping[str, Any] | None = None
) -> str | None:
    """Returns `training_notes.clip_note` of features and prompts.

    Args:
      protocol: protocol of the features.
      tower: text tower, with `clip` (a name) and `settings`; None without prompts.
    """
    prompts = (str(tower.get("clip", "")), tower.get("settings")) if tower else None
    features = protocol.encoder, protocol.encoder_settings
    return training_notes.clip_note(features, prompts)
