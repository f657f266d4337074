"""Compares how features were made: one rule, wherever features meet a model or others.

A feature protocol (`records.FeatureProtocol`) has an encoder, frames, resize, crops and
stride. What is not known ("unknown", or an encoder without a name) fits anything. An
encoder NAME@HASH is compared by its hash, since one model has many names; what its hash
covers is compared setting by setting where both sides note it. Older versions noted the
hash of the weights alone, which stands for a model used as OpenAI's are.

Crops: a model that scores whole videos takes the mean over all crops, so their number
must be that of the training. A model for windows scores one crop, the card's
`test_crop`, so that one must be there; the others don't count.
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
    """Returns the protocol that JSON holds; what it leaves out is not known.

    A number of 0 stands for one that is not known.
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
    """Returns what is known of features that a CLIP snapshot would make.

    Args:
      snapshot: a `clip.load.Snapshot`.
      resize: how frames are to be cut; unknown is the released `stretch`.
    """
    resize = "stretch" if resize in UNKNOWN else resize
    name, _, settings = snapshot.encoder(resize)
    return FeatureProtocol(name, 0, 0, encoder_settings=settings)


def difference(
    found: FeatureProtocol, wanted: FeatureProtocol, *, crop: int | None = None
) -> str:
    """Returns in words how two protocols differ; "" where they don't.

    Args:
      found: the features at hand.
      wanted: what they are to be like.
      crop: number of the one crop that is scored; None: their numbers must be equal.
    """
    said = [encoder_difference(found, wanted)]
    for name in ("frame", "resize"):
        a, b = getattr(found, name), getattr(wanted, name)
        if a != b and a not in UNKNOWN and b not in UNKNOWN:
            said.append(f"{name} {a} instead of {b}")
    if 0 not in (found.stride, wanted.stride) and found.stride != wanted.stride:
        said.append(f"stride {found.stride} instead of {wanted.stride}")
    if crop is not None and 0 < found.crops <= crop:
        said.append(f"crops {found.crops}, without number {crop} that is scored")
    known = crop is None and 0 not in (found.crops, wanted.crops)
    if known and found.crops != wanted.crops:
        said.append(f"crops {found.crops} instead of {wanted.crops}")
    return "; ".join(part for part in said if part)


def encoder_difference(found: FeatureProtocol, wanted: FeatureProtocol) -> str:
    """Returns in words how two encoders differ; "" where they don't."""
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
    """Whether two names NAME@HASH are of one encoder; unknown is any.

    The hash decides, since one model has many names.
    """
    if found in UNKNOWN or wanted in UNKNOWN:
        return True
    if "@" in found and "@" in wanted:
        return hash_of(found) == hash_of(wanted)
    return found.partition("@")[0] == wanted.partition("@")[0]


def hash_of(encoder: str) -> str:
    """Returns the hash in NAME@HASH, "" where there is none."""
    return encoder.rpartition("@")[2] if "@" in encoder else ""


def settings_difference(
    found: Mapping[str, Any],
    wanted: Mapping[str, Any],
    hashes: tuple[str, str] = ("", ""),
) -> str:
    """Returns in words how a tower's settings differ; "" where they don't.

    Args:
      found: settings, see `clip.identity`; empty where an older version noted none.
      wanted: what they are to be.
      hashes: of both towers, of which a part will do.
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
    """Returns the settings that are not OpenAI's, in words."""
    names = _object(settings).get(UNLIKE)
    names = names if isinstance(names, list) else []
    return ", ".join(f"{name} {_plain(settings.get(name))}" for name in names)


def _object(value: Any) -> Mapping[str, Any]:
    """Returns settings of a file, which others may have written."""
    return value if isinstance(value, Mapping) else {}


def settings_noted(protocol: FeatureProtocol) -> dict[str, Any]:
    """Returns an encoder's settings; of older versions, what is known of them.

    They normalised every picture as for OpenAI's models and didn't note the activation.
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
    """Returns a setting's value as in a sentence: lists without brackets."""
    parts = value if isinstance(value, list) else [value]
    return " ".join(f"{x:.6g}" if isinstance(x, float) else str(x) for x in parts)


def is_random(protocol: FeatureProtocol) -> bool:
    """Whether features come from a tower whose weights were never trained."""
    if protocol.encoder_settings:
        return bool(_object(protocol.encoder_settings).get(RANDOM))
    known = hash_of(protocol.encoder).startswith(RANDOM_HASHES)
    return known or bool(RANDOM_NAMES.fullmatch(protocol.encoder))


def random_note(
    protocol: FeatureProtocol, tower: Mapping[str, Any] | None = None
) -> str:
    """Returns a sentence about towers of random weights; "" where there are none.

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
