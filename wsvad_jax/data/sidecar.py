"""Reads and writes sidecars: the protocol and times of one video's features.

VIDEO.npy, or VIDEO__0.npy, VIDEO__1.npy … (one file per crop), has the sidecar
VIDEO.json. It is written after the features, so features with a sidecar are complete.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import re
from typing import Annotated, Any

from pydantic import Field

from wsvad_jax.data import feature_protocols
from wsvad_jax.data.records import FeatureProtocol
from wsvad_jax.utils import files
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.json_shapes import (
    Count,
    Number,
    PositiveCount,
    Text,
    check_shape,
    dataclass_shape,
)

BLOCK, BLOCKS = 1 << 16, 16  # bytes and number of a video's blocks that are hashed


@dataclasses.dataclass(frozen=True)
class Sidecar:
    """Protocol of one video's features, and times of its snippets."""

    video: Text  # file name
    encoder: Text  # as `FeatureProtocol.encoder`
    weights_hash: Text  # hash of the CLIP model: weights, activation, preprocessing
    stride: PositiveCount  # frames per snippet
    frame: Text  # encoded frames: first, middle, mean
    crops: PositiveCount
    resize: Text  # stretch or clip
    image_size: Count  # pixels of a crop's side
    fps: Number  # average rate that the container states, 0 unknown
    num_frames: Count  # decoded
    # Presentation time of each snippet's first frame; JSON has it as a list.
    seconds: Annotated[tuple[Number, ...], Field(strict=False)]
    duration: Number  # end of the last frame, seconds
    damage: Text = ""  # unreadable content
    source: dict[str, Any] = dataclasses.field(default_factory=dict)  # `fingerprint`
    # Settings in `weights_hash`, by name; empty in sidecars of older versions.
    encoder_settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    remark: Text = ""  # reader's decision to report, such as counted time stamps
    # Precision of the tower's activations; older versions had float32 alone.
    dtype: feature_protocols.Precision = "float32"

    @property
    def protocol(self) -> FeatureProtocol:
        """Feature protocol, which all videos of a dataset share."""
        return FeatureProtocol(
            self.encoder,
            self.stride,
            self.crops,
            self.frame,
            self.resize,
            self.encoder_settings,
            self.dtype,
        )

    @property
    def mean_fps(self) -> float:
        """Frames per second over the whole video, 0 unknown."""
        return self.num_frames / self.duration if self.duration > 0 else 0.0

    def write(self, path: str | os.PathLike) -> None:
        """Writes the sidecar, one line per field, atomically.

        `clip_note` is added where the CLIP model has one, see `clip.training_notes`.
        """
        note = feature_protocols.clip_note(self.protocol)
        fields = dataclasses.asdict(self) | ({"clip_note": note} if note else {})
        lines = [
            f" {json.dumps(key)}: {json.dumps(value)}" for key, value in fields.items()
        ]
        files.write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")


SHAPE = dataclass_shape(Sidecar)


def read(path: str | os.PathLike) -> Sidecar:
    """Reads a sidecar.

    Raises:
      InputError: the file is missing, or `Sidecar.write` did not write it.
    """
    try:
        value = files.read_json(path)
    except OSError as e:
        raise InputError(f"{path}: can't be read ({e.strerror})") from None
    advice = "expected a sidecar of features; extract the video again"
    return Sidecar(**check_shape(SHAPE, value, path, advice).fields())


def sidecar_path(path: str | os.PathLike) -> pathlib.Path:
    """Returns the path of a feature file's sidecar, which need not exist.

    It is VIDEO.json for VIDEO.npy and for a crop VIDEO__0.npy. If VIDEO__0.json or
    VIDEO.npy exists, VIDEO__0 is a separate video with a separate sidecar.
    """
    path = pathlib.Path(path)
    name = path.name.removesuffix(".npy")
    separate = path.with_name(f"{name}.json")

    # A video's name may end like a crop's: its neighbours decide.
    crop = re.fullmatch(r"(.+)__[0-9]+", name, re.DOTALL)

    # os.path, since a name may be too long for the file system.
    if not crop or os.path.exists(separate):
        return separate
    if os.path.exists(path.with_name(f"{crop[1]}.npy")):
        return separate

    return path.with_name(f"{crop[1]}.json")


def fingerprint(path: str | os.PathLike) -> dict[str, Any]:
    """Returns a video's size and a hash of blocks of its content.

    The blocks are spread over the file, so one MiB is read at any length. A copy has the
    same fingerprint.
    """
    size = os.path.getsize(path)

    # The first and the last block are always included.
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        if size <= BLOCK * BLOCKS:
            digest.update(file.read())
        else:
            for i in range(BLOCKS):
                file.seek(i * (size - BLOCK) // (BLOCKS - 1))
                digest.update(file.read(BLOCK))

    return {"size": size, "hash": digest.hexdigest()}
