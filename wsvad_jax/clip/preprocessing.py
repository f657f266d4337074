"""Reads the picture preprocessing of a CLIP snapshot from its files.

  preprocessor_config.json     transformers' image processor
  processor_config.json        the same under "image_processor" (transformers 5)
  open_clip_config.json        OpenCLIP's settings under "preprocess_cfg"

Several files must agree. Without any, OpenAI's settings apply. Unsupported settings are
an error that names them: features of another preprocessing look right but are wrong.
"""

import dataclasses
import math
import pathlib
from collections.abc import Mapping
from typing import Any

from wsvad_jax.utils import files
from wsvad_jax.utils.errors import InputError

FILE, NESTED, OPEN_CLIP = (
    "preprocessor_config.json",
    "processor_config.json",
    "open_clip_config.json",
)
# Mean and deviation of [0, 1] RGB in all of OpenAI's models.
IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)

KINDS = (
    "CLIPImageProcessor", "CLIPImageProcessorFast", "CLIPImageProcessorPil",
    "CLIPFeatureExtractor",
)  # fmt: skip
INTERPOLATIONS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
# Keys that change nothing: pictures of frames are RGB arrays already.
NEUTRAL = frozenset((
    "image_processor_type", "feature_extractor_type", "processor_class", "do_convert_rgb",
    "data_format", "input_data_format", "device", "return_tensors", "disable_grouping",
    "_valid_processor_keys",
))  # fmt: skip
READ = frozenset((
    "do_resize", "do_center_crop", "do_rescale", "do_normalize", "size", "crop_size",
    "resample", "interpolation", "rescale_factor", "image_mean", "image_std",
    "default_to_square",
))  # fmt: skip
OPEN_CLIP_KEYS = frozenset((
    "size", "mode", "mean", "std", "interpolation", "resize_mode", "fill_color",
))  # fmt: skip
Triple = tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Preprocessing of a picture: resize, crop, scale, normalise."""

    size: int | tuple[int, int]  # shorter side, or height and width
    crop: int  # pixels of a side of the centre crop: the tower's image size
    interpolation: str = "bicubic"
    scale: float = 1 / 255  # factor of a pixel's value
    mean: Triple = IMAGE_MEAN
    std: Triple = IMAGE_STD
    source: str = dataclasses.field(default="", compare=False)  # file, "" for defaults

    def normalise(self, pictures: Any) -> Any:
        """Returns the values that the image tower takes.

        Args:
          pictures: [B, S, S, 3] RGB crops of NumPy or JAX, from 0 to 255.
        """
        import numpy as np

        pixels = pictures.astype("float32")
        # Division, since a product with 1 / 255 rounds differently.
        pixels = pixels / 255 if self.scale == 1 / 255 else pixels * self.scale

        # JAX may be set to refuse arrays of unequal rank.
        mean, std = (
            np.array(x, np.float32).reshape(1, 1, 1, 3) for x in (self.mean, self.std)
        )
        return (pixels - mean) / std

    def settings(self) -> dict[str, Any]:
        """Returns the settings that change features, as JSON values."""
        size = self.size if isinstance(self.size, int) else list(self.size)
        return {
            "size": size,
            "crop": self.crop,
            "interpolation": self.interpolation,
            "scale": self.scale,
            "mean": list(self.mean),
            "deviation": list(self.std),
        }


def read_preprocessing(folder: pathlib.Path, image_size: int) -> Preprocessing:
    """Reads the preprocessing of a snapshot's image tower.

    Args:
      folder: folder of the snapshot.
      image_size: side of the tower's input in pixels.

    Raises:
      InputError: a value is not supported, or files contradict each other.
    """
    results: list[Preprocessing] = []
    for name, (section, parse) in READERS.items():
        path = folder / name
        value = files.read_json(path) if path.exists() else {}
        if not isinstance(value, dict):
            raise InputError(f"{path}: expected a JSON object, found {value!r:.60}")

        # The file may be there for another purpose, without this section.
        if section:
            value = {} if value.get(section) is None else value[section]
        if not isinstance(value, dict):
            raise InputError(f"{path}: {section} is {value!r:.60}; expected an object")
        if value:
            results.append(parse(value, str(path), image_size))

    for other in results[1:]:
        if other != results[0]:
            raise InputError(
                f"{results[0].source} and {other.source} ask for different pictures "
                f"({_differ(results[0], other)}); remove the file that is wrong"
            )
    return results[0] if results else Preprocessing(image_size, image_size)


def _differ(one: Preprocessing, other: Preprocessing) -> str:
    a, b = one.settings(), other.settings()
    return ", ".join(f"{key} {a[key]} and {b[key]}" for key in a if a[key] != b[key])


def _transformers(value: Mapping[str, Any], where: str, S: int) -> Preprocessing:
    """Reads the settings of transformers' CLIPImageProcessor, with its defaults."""
    # Another class may convert pictures by other steps under the same keys.
    for key in ("image_processor_type", "feature_extractor_type"):
        if value.get(key) is not None and value[key] not in KINDS:
            raise _wrong(where, key, value[key], f"{KINDS[0]} in a CLIP model's folder")
    _check_keys(value, NEUTRAL | READ, where)

    # Geometry: the tower's input size determines the crop.
    if not _flag(value, "do_resize", where):
        raise _wrong(where, "do_resize", False, "true, since frames have any size")
    size = _size(value, where, S)

    if _flag(value, "do_center_crop", where):
        crop = value.get("crop_size")
        if crop is not None and _pair(crop) != (S, S):
            raise _wrong(where, "crop_size", crop, f"{S}, config.json's image_size")

        # A crop that is larger than the picture would be padded with black.
        if (size if isinstance(size, int) else min(size)) < S:
            raise _wrong(
                where, "size", value["size"], f"at least the crop's {S} pixels"
            )
    elif size != (S, S):
        raise _wrong(
            where, "do_center_crop", False, f"true, or height and width {S} as size"
        )

    # Numbers: pixel · scale, then − mean, then / deviation.
    mean, std, scale = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 1.0
    if _flag(value, "do_rescale", where):
        scale = value.get("rescale_factor")
        scale = 1 / 255 if scale is None else scale
        if not _is_number(scale) or scale <= 0:
            raise _wrong(where, "rescale_factor", scale, "a number above 0")

    if _flag(value, "do_normalize", where):
        mean = _triple(value.get("image_mean"), IMAGE_MEAN, where, "image_mean")
        std = _triple(value.get("image_std"), IMAGE_STD, where, "image_std")

    # A rounded 1/255 is the same preprocessing, and must have the same hash.
    scale = 1 / 255 if math.isclose(scale, 1 / 255, rel_tol=1e-6) else float(scale)
    return Preprocessing(size, S, _interpolation(value, where), scale, mean, std, where)


def _size(value: Mapping[str, Any], where: str, S: int) -> int | tuple[int, int]:
    """Returns the shorter side, or height and width; the default is the tower's."""
    size = value.get("size")
    if size is None:
        return S

    # Some files have every form of a size, with null in the unused ones.
    if isinstance(size, dict):
        size = {k: v for k, v in size.items() if v is not None}
        if set(size) == {"shortest_edge"} and _is_count(size["shortest_edge"]):
            return size["shortest_edge"]

    pair = _pair(size)
    if pair is None:
        raise _wrong(
            where, "size", size, 'pixels, {"shortest_edge"} or {"height", "width"}'
        )

    # A plain number is the shorter side, unless another key says square.
    square = isinstance(size, dict | list) or value.get("default_to_square")
    return pair if square else pair[0]


def _pair(size: Any) -> tuple[int, int] | None:
    """Returns height and width, None if `size` is something else or ambiguous."""
    if isinstance(size, dict) and set(size) == {"height", "width"}:
        size = [size["height"], size["width"]]
    elif isinstance(size, list) and len(size) == 2 and size[0] != size[1]:
        return None  # either may be the height
    elif not isinstance(size, list):
        size = [size, size]
    return tuple(size) if len(size) == 2 and all(map(_is_count, size)) else None


def _interpolation(value: Mapping[str, Any], where: str) -> str:
    """Returns the filter's name; files have the name, or its number in Pillow."""
    result = "bicubic"
    keys = [key for key in ("resample", "interpolation") if value.get(key) is not None]
    for key in keys:
        name = value[key]
        if type(name) is int and 0 <= name < len(INTERPOLATIONS):
            name = INTERPOLATIONS[name]
        name = name.lower() if isinstance(name, str) else name

        if name not in INTERPOLATIONS:
            raise _wrong(where, key, value[key], f"one of {', '.join(INTERPOLATIONS)}")
        # Programs differ in the key that they read: both must have one filter.
        if key != keys[0] and name != result:
            raise _wrong(where, key, value[key], f"{result}, as {keys[0]} says")
        result = name
    return result


def _open_clip(value: Mapping[str, Any], where: str, S: int) -> Preprocessing:
    """Reads OpenCLIP's settings of validation pictures."""
    # Its own defaults are OpenAI's numbers.
    _check_keys(value, OPEN_CLIP_KEYS, where)
    if value.get("size") is not None and _pair(value["size"]) != (S, S):
        raise _wrong(where, "size", value["size"], f"{S}, config.json's image_size")
    if value.get("mode") not in (None, "RGB"):
        raise _wrong(where, "mode", value["mode"], "RGB")

    mode = value.get("resize_mode") or "shortest"
    if mode not in ("shortest", "squash"):
        raise _wrong(where, "resize_mode", mode, "shortest or squash")

    return Preprocessing(
        S if mode == "shortest" else (S, S),
        S,
        _interpolation({"interpolation": value.get("interpolation")}, where),
        1 / 255,
        _triple(value.get("mean"), IMAGE_MEAN, where, "mean"),
        _triple(value.get("std"), IMAGE_STD, where, "std"),
        where,
    )


def _triple(value: Any, default: Triple, where: str, key: str) -> Triple:
    """Returns one number per channel; OpenAI's, if they equal those but for rounding."""
    if value is None:
        return default

    numbers = value if isinstance(value, list) else [value] * 3
    if len(numbers) != 3 or not all(map(_is_number, numbers)):
        raise _wrong(where, key, value, "three numbers, of red, green and blue")
    if key.endswith("std") and min(numbers) <= 0:
        raise _wrong(where, key, value, "numbers above 0")

    # Files round these numbers differently, but mean the same preprocessing.
    if all(math.isclose(a, b, abs_tol=1e-6) for a, b in zip(numbers, default, strict=True)):  # fmt: skip
        return default
    return float(numbers[0]), float(numbers[1]), float(numbers[2])


def _check_keys(value: Mapping[str, Any], known: frozenset[str], where: str) -> None:
    """Raises InputError for an unknown key, which may change pictures."""
    # A key with an empty or false value has no effect.
    for key in sorted(value.keys() - known):
        if value[key]:
            raise InputError(
                f"{where}: {key} is {value[key]!r:.80}, which isn't supported: "
                "features would differ from the model's; remove the key if it changes "
                "nothing"
            )


def _flag(value: Mapping[str, Any], key: str, where: str) -> bool:
    """Returns a switch; without a value it is on, as in transformers."""
    flag = value.get(key)
    if not isinstance(flag, bool | None):
        raise _wrong(where, key, flag, "true or false")
    return flag is not False


def _is_number(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 < value < 2**16


def _wrong(where: str, key: str, value: Any, expected: str) -> InputError:
    return InputError(f"{where}: {key} is {value!r:.80}; expected {expected}")


# Per file: key of its section about pictures ("" for the whole file), and reader.
READERS = {
    FILE: ("", _transformers),
    NESTED: ("image_processor", _transformers),
    OPEN_CLIP: ("preprocess_cfg", _open_clip),
}
