"""The ways in which feature extractors turn a frame into the image tower's input.

A way is a geometry, an order of the colours and a normalisation. The list has those of
CLIP's own preprocessing, of the released features' code, and the usual mistakes and
shortcuts: OpenCV's blue-green-red, a picture squeezed to a square, ImageNet's
statistics, and no normalisation.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, UInt8

from wsvad_jax.extraction import video as videos

if TYPE_CHECKING:
    from wsvad_jax.clip.preprocessing import Preprocessing

CROPS = tuple(f"stretch {c}" for c in range(10))  # as `extract --crops 10` orders them
SINGLE = (*CROPS, "clip", "clip, bilinear", "squeeze, bicubic", "squeeze, bilinear")
# Features of several crops, averaged.
AVERAGES = {"mean of 5 crops": CROPS[:5], "mean of 10 crops": CROPS}
GEOMETRIES = {
    "clip": "CLIP's own: shorter side to the input size (bicubic), then the centre",
    "clip, bilinear": "shorter side to the input size (bilinear), then the centre",
    "squeeze, bicubic": "the whole frame squeezed to a square (bicubic, filtered)",
    "squeeze, bilinear": "the whole frame squeezed to a square (bilinear, unfiltered)",
    "mean of 5 crops": "the mean feature of the centre and the four corners",
    "mean of 10 crops": "the mean feature of ten crops",
}
CORNERS = ("centre", "top left", "top right", "bottom left", "bottom right")
COLOURS = ("rgb", "bgr")
NORMALISATIONS: dict[str, tuple[tuple[float, ...], tuple[float, ...]] | None] = {
    "clip": None,  # the snapshot's own
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "-1 to 1": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "0 to 1": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}


@dataclasses.dataclass(frozen=True)
class PictureChoice:
    """A way to turn a frame into pictures for the image tower."""

    geometry: str  # one of SINGLE or AVERAGES
    colour: str = "rgb"
    normalisation: str = "clip"

    @property
    def geometries(self) -> tuple[str, ...]:
        """Geometries of the pictures whose features are averaged."""
        return AVERAGES.get(self.geometry, (self.geometry,))

    def words(self) -> str:
        """Describes the choice to a reader."""
        text = GEOMETRIES.get(self.geometry, "")
        if self.geometry in CROPS:
            c = CROPS.index(self.geometry)
            mirrored = ", mirrored" if c >= 5 else ""
            text = f"stretched to 340 x 256, crop {c} ({CORNERS[c % 5]}{mirrored})"
        colour = {"rgb": "RGB", "bgr": "BGR (red and blue exchanged)"}[self.colour]
        names = {"clip": "the CLIP model's", "imagenet": "ImageNet's"}
        norm = names.get(self.normalisation, f"values {self.normalisation}, without")
        return f"{text}; {colour}; {norm} mean and deviation"


@functools.cache
def all_choices() -> tuple[PictureChoice, ...]:
    """Returns every choice, the most usual first."""
    geometries = (*SINGLE, *AVERAGES)
    return tuple(
        PictureChoice(geometry, colour, normalisation)
        for normalisation in NORMALISATIONS
        for colour in COLOURS
        for geometry in geometries
    )


class FramePictures:
    """Pictures of decoded frames by geometry, made once."""

    def __init__(self, frames: Mapping[int, Any]):
        """Stores the `av.VideoFrame`s by number."""
        self.frames = frames
        self.known: dict[tuple[int, str, int], UInt8[np.ndarray, "N S S 3"]] = {}

    def picture(
        self, frame: int, geometry: str, colour: str, size: int
    ) -> UInt8[np.ndarray, "S S 3"]:
        """Returns one picture of a frame.

        Args:
          frame: number of the frame.
          geometry: one of SINGLE.
          colour: one of COLOURS.
          size: the tower's image size S, in pixels.
        """
        # All crops of a frame are made at once.
        name = "stretch" if geometry in CROPS else geometry
        key = frame, name, size
        if key not in self.known:
            self.known[key] = _pictures(self.frames[frame], name, size)

        c = CROPS.index(geometry) if geometry in CROPS else 0
        pixels = self.known[key][c]
        return pixels[:, :, ::-1] if colour == "bgr" else pixels


def _pictures(frame: Any, name: str, size: int) -> UInt8[np.ndarray, "N S S 3"]:
    # CLIP's own preprocessing shows square pixels, as players do.
    to_picture = videos.to_display_rgb if name.startswith("clip") else videos.to_rgb
    whole = to_picture(frame)
    if name == "stretch":
        return videos.crop(whole, size, crops=10)
    if name == "squeeze, bilinear":
        return videos.resize_bilinear(whole, size, size)[None]
    if name == "squeeze, bicubic":
        return videos.crop(whole, size, resize="clip", shape=(size, size))
    filter_name = "bilinear" if name.endswith("bilinear") else "bicubic"
    return videos.crop(whole, size, resize="clip", interpolation=filter_name)


@functools.lru_cache
def statistics(
    normalisation: str, own: "Preprocessing"
) -> tuple[Float32[np.ndarray, "1 1 1 3"], ...]:
    """Returns mean and deviation of a normalisation, for values from 0 to 1.

    Args:
      normalisation: key of NORMALISATIONS.
      own: preprocessing of the CLIP snapshot.
    """
    mean, std = NORMALISATIONS[normalisation] or (own.mean, own.std)
    return tuple(np.reshape(x, (1, 1, 1, 3)).astype(np.float32) for x in (mean, std))
