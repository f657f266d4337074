"""What a camera's recorder adds to a picture: lens, sensor and a time stamp.

The demo's own recorder adds nothing. Other worlds have other recorders (`worlds`), so
that a change of the camera can be measured apart from one of the street or the light.
"""

import dataclasses
import datetime
import zlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

Picture = UInt8[np.ndarray, "H W 3"]

# Digits and signs, 3 x 5 pixels each: one bit per pixel, from top left.
GLYPHS = {
    "0": 0b111101101101111, "1": 0b010110010010111, "2": 0b111001111100111,
    "3": 0b111001111001111, "4": 0b101101111001001, "5": 0b111100111001111,
    "6": 0b111100111101111, "7": 0b111001001001001, "8": 0b111101111101111,
    "9": 0b111101111001111, "-": 0b000000111000000, ":": 0b000010000010000,
}  # fmt: skip
GLYPH_ROWS, GLYPH_COLUMNS = 5, 3
FIRST_DAY = datetime.datetime(2024, 1, 1)
DAYS = 365  # in which recordings begin
STAMP_ROW, STAMP_MARGIN = 3, 2  # pixels: top of the box, and space around a line
STAMP_SCALE = 2  # pixels per glyph pixel; at 1, the demo's CLIP hardly sees it


@dataclasses.dataclass(frozen=True)
class Recorder:
    """A camera's traces in its pictures; the default leaves them as they are."""

    contrast: float = 1.0  # factor around middle grey
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)  # factor of each colour
    blur: int = 0  # passes of a 3 x 3 filter
    noise: float = 0.0  # standard deviation in grey levels
    time_stamp: bool = False  # date, and time below it, at the upper edge

    def record(
        self, picture: Picture, frame: int, fps: int, video: str, seed: int
    ) -> Picture:
        """Returns the recorded picture, a pure function of the arguments.

        Args:
          picture: picture of the scene.
          frame: number of the frame.
          fps: frames per second.
          video: name of the video.
          seed: seed of the noise and of the clock.
        """
        if self == PLAIN:
            return picture
        key = zlib.crc32(video.encode())

        # Lens and sensor, in the order in which light meets them.
        x = picture.astype(np.float32)
        for _ in range(self.blur):
            x = _smoothed(x)
        x = (x - 128) * self.contrast + 128
        x *= np.array(self.tint, np.float32)
        if self.noise:
            rng = np.random.default_rng([seed, key, frame, 3])
            x += self.noise * rng.standard_normal(x.shape, np.float32)
        x = x.clip(0, 255).astype(np.uint8)

        if self.time_stamp:
            rng = np.random.default_rng([seed, key, 4])
            begin = int(rng.integers(DAYS * 24 * 3600))
            now = FIRST_DAY + datetime.timedelta(seconds=begin + frame // fps)
            _write(x, (f"{now:%Y-%m-%d}", f"{now:%H:%M:%S}"))
        return x


PLAIN = Recorder()


def _smoothed(x: np.ndarray) -> np.ndarray:
    """Returns a picture after the filter 1 2 1 in rows and columns."""
    for axis in (0, 1):
        width = [(1, 1) if a == axis else (0, 0) for a in range(3)]
        padded = np.pad(x, width, mode="edge")
        n = x.shape[axis]
        before, after = (np.take(padded, range(i, i + n), axis) for i in (0, 2))
        x = (before + 2 * x + after) / 4
    return x


def _write(picture: Picture, lines: Sequence[str]) -> None:
    """Writes white lines on a black box, centred at the upper edge."""
    masks = [np.pad(_line_mask(text), STAMP_MARGIN) for text in lines]
    width = max(mask.shape[1] for mask in masks)
    box = np.concatenate([_widened(mask, width) for mask in masks])

    # Image towers see the centre crop alone, so the box stands in its middle.
    left = (picture.shape[1] - width) // 2
    rows = slice(STAMP_ROW, STAMP_ROW + box.shape[0])
    picture[rows, left : left + width] = np.where(box, 235, 16)[..., None]


def _line_mask(text: str) -> np.ndarray:
    """Returns which pixels of a line of text are white."""
    mask = np.zeros((GLYPH_ROWS, (GLYPH_COLUMNS + 1) * len(text) - 1), bool)
    for i, letter in enumerate(text):
        bits = f"{GLYPHS[letter]:0{GLYPH_ROWS * GLYPH_COLUMNS}b}"
        glyph = np.array([bit == "1" for bit in bits])
        left = i * (GLYPH_COLUMNS + 1)
        mask[:, left : left + GLYPH_COLUMNS] = glyph.reshape(GLYPH_ROWS, -1)
    return mask.repeat(STAMP_SCALE, axis=0).repeat(STAMP_SCALE, axis=1)


def _widened(mask: np.ndarray, width: int) -> np.ndarray:
    """Returns a line in the middle of a wider one."""
    before = (width - mask.shape[1]) // 2
    return np.pad(mask, ((0, 0), (before, width - mask.shape[1] - before)))
