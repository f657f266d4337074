"""What is noted beside extracted features: how they were made, and their time.

VIDEO.npy, or VIDEO__0.npy, VIDEO__1.npy ... (one file a crop), has VIDEO.json beside it.
It is written after the features, so features with a sidecar are whole.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import re
from typing import Annotated, Any

from pydantic import Field

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

BLOCK, BLOCKS = 1 << 16, 16  # bytes and number of the parts that stand for a video


@dataclasses.dataclass(frozen=True)
class Sidecar:
    """How one video's features were made, and when each snippet is."""

    video: Text  # file name
    encoder: Text  # as `FeatureProtocol.encoder`
    weights_hash: Text  # of the CLIP model: weights, activation, preprocessing
    stride: PositiveCount  # frames per snippet
    frame: Text  # which of them are encoded: first, middle, mean
    crops: PositiveCount
    resize: Text  # stretch or clip
    image_size: Count  # pixels of a crop's side
    fps: Number  # average rate that the container states, 0 unknown
    num_frames: Count  # decoded
    # Presentation time of each snippet's first frame; JSON has it as a list.
    seconds: Annotated[tuple[Number, ...], Field(strict=False)]
    duration: Number  # end of the last frame, seconds
    damage: Text = ""  # what could not be read
    source: dict[str, Any] = dataclasses.field(default_factory=dict)  # `fingerprint`
    # What `weights_hash` covers, by name; empty in sidecars of older versions.
    encoder_settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    remark: Text = ""  # what the reader decided, such as counted time stamps

    @property
    def protocol(self) -> FeatureProtocol:
        """The part that all videos of a dataset share."""
        return FeatureProtocol(
            self.encoder,
            self.stride,
            self.crops,
            self.frame,
            self.resize,
            self.encoder_settings,
        )

    def write(self, path: str | os.PathLike) -> None:
        """Writes the sidecar, one line a field, atomically."""
        lines = [
            f" {json.dumps(key)}: {json.dumps(value)}"
            for key, value in dataclasses.asdict(self).items()
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
    """Returns where the sidecar of a feature file lies, whether or not it is there.

    VIDEO.json for VIDEO.npy; for VIDEO__0.npy, a crop, it is VIDEO.json too, unless
    there is a VIDEO__0.json or a VIDEO.npy: then VIDEO__0 is a video of its own.
    """
    path = pathlib.Path(path)
    name = path.name.removesuffix(".npy")
    own = path.with_name(f"{name}.json")
    crop = re.fullmatch(r"(.+)__[0-9]+", name, re.DOTALL)
    # os.path, since a name may be too long for the file system.
    if not crop or os.path.exists(own):
        return own
    if os.path.exists(path.with_name(f"{crop[1]}.npy")):
        return own
    return path.with_name(f"{crop[1]}.json")


def fingerprint(path: str | os.PathLike) -> dict[str, Any]:
    """Returns what tells a video from another: its size, and a hash of parts of it.

    The parts are spread over the file, so a film of any length costs one MiB of
    reading; copying the file changes nothing.
    """
    size = os.path.getsize(path)
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        if size <= BLOCK * BLOCKS:
            digest.update(file.read())
        else:
            for i in range(BLOCKS):
                file.seek(i * (size - BLOCK) // (BLOCKS - 1))
                digest.update(file.read(BLOCK))
    return {"size": size, "hash": digest.hexdigest()}
