"""A decoded frame as a picture: colours, orientation, and pixels that are square.

Players turn and mirror a frame by the container's display matrix, and stretch it where
its pixels are not square. `to_rgb` does the first, `to_display_rgb` both.

Colours are converted with the matrix that the film is tagged with. One that the scaler
doesn't know (BT.2020 with constant luminance, YCgCo, ICtCp, reserved values) is
replaced by that which the ffmpeg program falls back to.
"""

import dataclasses
import fractions
from typing import Any

import numpy as np
from jaxtyping import UInt8

BT709, BT601, BT2020 = 1, 5, 9
SCALED = {1, 2, 4, 5, 6, 7, 9}  # matrices that the scaler knows, as H.273 counts them
# What others are converted as; None of them is BT.601.
INSTEAD = {0: BT709, 10: BT2020}
STRETCH = 10.0  # a pixel that is longer than this is a wrong tag


@dataclasses.dataclass(frozen=True)
class FrameGeometry:
    """What `film.Film` notes in a frame, as `opaque`: how its picture is shown.

    Each frame needs its own; PyAV keeps one of several frames no longer than the first.
    """

    aspect: fractions.Fraction | None  # a pixel's width by its height, None if square
    matrix: tuple[float, float, float, float] | None  # of the display


def to_rgb(frame: Any) -> UInt8[np.ndarray, "H W 3"]:
    """Converts an `av.VideoFrame` to RGB, upright as players show it.

    Pixels stay as they are stored, see `to_display_rgb`.
    """
    return apply_display_matrix(_converted(frame), display_matrix(frame))


def to_display_rgb(frame: Any) -> UInt8[np.ndarray, "H W 3"]:
    """Converts a frame to RGB, upright and with square pixels.

    The side that has too few pixels is enlarged.
    """
    picture, aspect = to_rgb(frame), pixel_aspect(frame)
    if aspect == 1:
        return picture
    from PIL import Image

    matrix = display_matrix(frame)
    if matrix is not None and _transposed(matrix):
        aspect = 1 / aspect
    H, W = picture.shape[:2]
    size = (round(W * aspect), H) if aspect > 1 else (W, round(H / aspect))
    image = Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC)
    return np.asarray(image)


def valid_aspect(aspect: fractions.Fraction | None) -> fractions.Fraction | None:
    """Returns a pixel's width by its height, None where it is square or nonsense."""
    if not aspect or aspect < 0 or not 1 / STRETCH <= aspect <= STRETCH:
        return None
    return None if aspect == 1 else aspect


def pixel_aspect(frame: Any) -> fractions.Fraction:
    """Returns a pixel's width by its height, as `film.Film` noted it in the frame."""
    noted = frame.opaque
    aspect = noted.aspect if isinstance(noted, FrameGeometry) else None
    return aspect or fractions.Fraction(1)


def display_matrix(frame: Any) -> tuple[float, float, float, float] | None:
    """Returns a, b, c, d of a frame's display matrix, None without one.

    A pixel at x, y is shown at ax + cy, bx + dy. A matrix counts until the next one, so
    that `film.Film` may have noted that of an earlier frame.
    """
    noted = frame.opaque
    return (
        noted.matrix if isinstance(noted, FrameGeometry) else read_display_matrix(frame)
    )


def read_display_matrix(frame: Any) -> tuple[float, float, float, float] | None:
    """Returns the display matrix that comes with a frame, None without one."""
    try:
        matrix = np.frombuffer(frame.side_data["DISPLAYMATRIX"], np.int32)
    except KeyError:
        return None
    except ValueError:
        # Beside data of a kind that PyAV can't name, only the angle can be read.
        turned = np.deg2rad(-frame.rotation)
        c, s = float(np.cos(turned)), float(np.sin(turned))
        return (c, s, -s, c) if frame.rotation else None
    a, b, _, c, d = (float(v) / 65536 for v in matrix[:5])
    return (a, b, c, d) if a or b or c or d else None


def apply_display_matrix(
    picture: UInt8[np.ndarray, "H W 3"],
    matrix: tuple[float, float, float, float] | None,
) -> UInt8[np.ndarray, "h w 3"]:
    """Turns and mirrors a picture as its display matrix says.

    Angles other than right ones turn it within its frame, on black.
    """
    if matrix is None:
        return picture
    a, b, c, d = matrix
    angle = np.rad2deg(np.arctan2(b, a))  # clockwise
    if abs(angle - 90 * round(angle / 90)) >= 1:
        from PIL import Image

        return np.asarray(
            Image.fromarray(picture).rotate(-angle, Image.Resampling.BILINEAR)
        )
    if _transposed(matrix):
        picture = picture.transpose(1, 0, 2)[:: _sign(b), :: _sign(c)]
    else:
        picture = picture[:: _sign(d), :: _sign(a)]
    return np.ascontiguousarray(picture)


def _transposed(matrix: tuple[float, float, float, float]) -> bool:
    a, b, c, d = map(abs, matrix)
    return max(b, c) > max(a, d)


def _sign(value: float) -> int:
    return -1 if value < 0 else 1


def _converted(frame: Any) -> UInt8[np.ndarray, "H W 3"]:
    """Returns RGB in the orientation in which it is stored."""
    matrix = int(frame.colorspace)
    if matrix in SCALED or "rgb" in frame.format.name or "gbr" in frame.format.name:
        return frame.to_ndarray(format="rgb24")
    instead = INSTEAD.get(matrix, BT601)
    return frame.to_ndarray(
        format="rgb24", src_colorspace=instead, dst_colorspace=instead
    )
