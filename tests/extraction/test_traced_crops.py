"""Crops inside a program are those of the package, pixel by pixel."""

import jax
import numpy as np
import pytest
from PIL import Image

from wsvad_jax.clip.preprocessing import Preprocessing
from wsvad_jax.clip.towers import VisionConfig
from wsvad_jax.extraction import video
from wsvad_jax.extraction.extractor import Extractor
from wsvad_jax.extraction.traced_crops import traced_crops

S = 96
SIZES = [(120, 160), (288, 360), (38, 58), (96, 96), (97, 400)]


def an_extractor(resize, shape=S, interpolation="bicubic", crops=1):
    """What the crops of an extractor depend on."""
    made = object.__new__(Extractor)
    made.config = VisionConfig(S, 16, 16, 32, 1, 2, 16)
    made.preprocessing = Preprocessing(shape, S, interpolation)
    made.resize, made.crops = resize, crops
    return made


def frames(H, W):
    """Noise, and black and white noise, which overshoots most."""
    noise = np.random.RandomState(H).randint(0, 256, (2, H, W, 3)).astype(np.uint8)
    noise[1] = (noise[1] > 128) * 255
    return noise


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "options",
    [
        {"resize": "stretch", "crops": 10},
        {"resize": "clip"},
        {"resize": "clip", "shape": (100, 120), "interpolation": "lanczos"},
        {"resize": "clip", "shape": 110, "interpolation": "nearest"},
        {"resize": "clip", "interpolation": "bilinear"},
    ],
)
def test_pixels_are_those_of_the_package(size, options):
    made, pictures = an_extractor(**options), frames(*size)
    crop = jax.jit(traced_crops(made, *size, slice(0, made.crops)))
    wanted = [
        video.crop(
            picture,
            S,
            crops=made.crops,
            resize=made.resize,
            shape=made.preprocessing.size,
            interpolation=made.preprocessing.interpolation,
        )
        for picture in pictures
    ]
    np.testing.assert_array_equal(crop(pictures), wanted)


def test_pixels_that_are_not_square_are_made_so_first():
    pictures, square = frames(120, 160), (120, 213)
    made = an_extractor("clip", interpolation="lanczos")
    found = traced_crops(made, 120, 160, slice(0, 1), square)(pictures)
    for picture, crop in zip(pictures, found, strict=True):
        shown = Image.fromarray(picture).resize(square[::-1], Image.Resampling.BICUBIC)
        wanted = video.crop(
            np.asarray(shown), S, resize="clip", shape=S, interpolation="lanczos"
        )
        np.testing.assert_array_equal(crop, wanted)
