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
from typing import Any

from wsvad_jax.data.records import FeatureProtocol
from wsvad_jax.utils import files
from wsvad_jax.utils.errors import InputError

BLOCK, BLOCKS = 1 << 16, 16  # bytes and number of the parts that stand for a video


@dataclasses.dataclass(frozen=True)
class Sidecar:
    """How one video's features were made, and when each snippet is."""

    video: str  # file name
    encoder: str  # as `FeatureProtocol.encoder`
    weights_hash: str  # of the CLIP model: weights, activation, preprocessing
    stride: int  # frames per snippet
    frame: str  # which of them are encoded: first, middle, mean
    crops: int
    resize: str  # stretch or clip
    image_size: int  # pixels of a crop's side
    fps: float  # average rate that the container states, 0 unknown
    num_frames: int  # decoded
    seconds: tuple[float, ...]  # presentation time of each snippet's first frame
    duration: float  # end of the last frame, seconds
    damage: str = ""  # what could not be read
    source: dict[str, Any] = dataclasses.field(default_factory=dict)  # `fingerprint`
    # What `weights_hash` covers, by name; empty in sidecars of older versions.
    encoder_settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    remark: str = ""  # what the reader decided, such as counted time stamps

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


def read(path: str | os.PathLike) -> Sidecar:
    """Reads a sidecar.

    Raises:
      InputError: no such file, or one that `Sidecar.write` did not write.
    """
    try:
        value = files.read_json(path)
    except OSError as e:
        raise InputError(f"{path}: can't be read ({e.strerror})") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a sidecar of features, found {value!r:.60}")
    fields = {}
    for field in dataclasses.fields(Sidecar):
        if field.name in value:
            fields[field.name] = _checked(path, field, value[field.name])
        elif field.name not in ("damage", "source", "encoder_settings", "remark"):
            raise InputError(
                f"{path}: not a sidecar of features ({field.name} is missing); "
                "extract the video again"
            )
    return Sidecar(**fields)


def _checked(path: str | os.PathLike, field: dataclasses.Field, value: Any) -> Any:
    if field.name == "seconds":
        good = isinstance(value, list) and all(_is_number(s) for s in value)
        result = tuple(map(float, value)) if good else ()
    elif field.type is float:
        good = _is_number(value)
        result = float(value) if good else 0.0
    else:
        kind = {int: int, str: str}.get(field.type, dict)  # pyright: ignore
        good, result = type(value) is kind, value
        if kind is int:
            least = 1 if field.name in ("stride", "crops") else 0
            good = good and least <= value < 1e15
    if not good:
        raise InputError(
            f"{path}: {field.name} is {value!r:.60}, which no sidecar of features has; "
            "extract the video again"
        )
    return result


def _is_number(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) < 1e15  # finite, and still exact in seconds


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
