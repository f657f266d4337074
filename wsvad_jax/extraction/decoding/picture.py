"""Converts decoded frames to RGB pictures: colours, orientation and pixel aspect.

Players rotate and mirror a frame by the container's display matrix, and stretch it if
its pixels are not square. `to_rgb` applies the matrix, `to_display_rgb` does both.

Colours are converted with the matrix that the video is tagged with. The scaler doesn't
know some matrices: BT.2020 with constant luminance, YCgCo, ICtCp, reserved values.
They are replaced by the fallback of the ffmpeg program.
"""

import dataclasses
import fractions
import threading
from typing import Any

import numpy as np
from jaxtyping import UInt8

BT709, BT601, BT2020 = 1, 5, 9
SUPPORTED = {1, 2, 4, 5, 6, 7, 9}  # matrices that the scaler knows, numbered by H.273
# Replacements of other matrices; those not listed become BT.601.
FALLBACKS = {0: BT709, 10: BT2020}
MAX_ASPECT = 10.0  # larger pixel aspects are wrong tags

_thread = threading.local()  # its `scaler` is the thread's


@dataclasses.dataclass(frozen=True)
class FrameGeometry:
    """Display geometry that `reader.VideoReader` stores in a frame's `opaque`.

    Each frame needs its own object: PyAV drops a shared one with the first frame.
    """

    aspect: fractions.Fraction | None  # pixel width / height, None if square
    matrix: tuple[float, float, float, float] | None  # display matrix


def to_rgb(frame: Any) -> UInt8[np.ndarray, "H W 3"]:
    """Converts an `av.VideoFrame` to upright RGB, as players show it.

    The pixel aspect is ignored, see `to_display_rgb`.
    """
    return apply_display_matrix(_converted(frame), display_matrix(frame))


def to_display_rgb(frame: Any) -> UInt8[np.ndarray, "H W 3"]:
    """Converts a frame to upright RGB with square pixels.

    The side with too few pixels is enlarged.
    """
    picture, aspect = to_rgb(frame), pixel_aspect(frame)
    if aspect == 1:
        return picture

    from PIL import Image

    # A quarter turn swaps the pixels' width and height, too.
    matrix = display_matrix(frame)
    if matrix is not None and _transposed(matrix):
        aspect = 1 / aspect

    H, W = picture.shape[:2]
    size = (round(W * aspect), H) if aspect > 1 else (W, round(H / aspect))
    image = Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC)
    return np.asarray(image)


def valid_aspect(aspect: fractions.Fraction | None) -> fractions.Fraction | None:
    """Returns the pixel aspect, None if it is 1, missing or invalid."""
    if not aspect or aspect < 0 or not 1 / MAX_ASPECT <= aspect <= MAX_ASPECT:
        return None
    return None if aspect == 1 else aspect


def pixel_aspect(frame: Any) -> fractions.Fraction:
    """Returns a frame's pixel width / height, as `reader.VideoReader` stored it."""
    stored = frame.opaque
    aspect = stored.aspect if isinstance(stored, FrameGeometry) else None
    return aspect or fractions.Fraction(1)


def display_matrix(frame: Any) -> tuple[float, float, float, float] | None:
    """Returns a, b, c, d of a frame's display matrix, None without one.

    A pixel at x, y is shown at ax + cy, bx + dy. A matrix holds until the next one, so
    `reader.VideoReader` may have stored that of an earlier frame.
    """
    stored = frame.opaque
    return (
        stored.matrix
        if isinstance(stored, FrameGeometry)
        else read_display_matrix(frame)
    )


def read_display_matrix(frame: Any) -> tuple[float, float, float, float] | None:
    """Returns the display matrix in a frame's side data, None without one."""
    from av.sidedata.sidedata import SideDataContainer

    # Not `frame.side_data`: the frame would keep it, and it keeps the frame. Memory of
    # decoded pictures would grow until Python looks for such cycles.
    try:
        container: Any = SideDataContainer  # PyAV's stub lacks the constructor
        matrix = np.frombuffer(container(frame)["DISPLAYMATRIX"], np.int32)
    except KeyError:
        return None
    except ValueError:
        # Other side data may have a type that PyAV doesn't know, which hides the
        # matrix; only its angle can be read then.
        angle = np.deg2rad(-frame.rotation)
        c, s = float(np.cos(angle)), float(np.sin(angle))
        return (c, s, -s, c) if frame.rotation else None
    a, b, _, c, d = (float(v) / 65536 for v in matrix[:5])
    return (a, b, c, d) if a or b or c or d else None


def apply_display_matrix(
    picture: UInt8[np.ndarray, "H W 3"],
    matrix: tuple[float, float, float, float] | None,
) -> UInt8[np.ndarray, "h w 3"]:
    """Rotates and mirrors a picture by its display matrix.

    Angles other than multiples of 90° rotate it within its frame, on black.
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

    # Multiples of 90° only move pixels, so nothing is interpolated.
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
    """Converts a frame to RGB in its stored orientation."""
    matrix = int(frame.colorspace)
    if matrix in SUPPORTED or "rgb" in frame.format.name or "gbr" in frame.format.name:
        return _to_rgb(frame)
    colorspace = FALLBACKS.get(matrix, BT601)
    return _to_rgb(frame, src_colorspace=colorspace, dst_colorspace=colorspace)


def _to_rgb(frame: Any, **colorspaces: int) -> UInt8[np.ndarray, "H W 3"]:
    """Converts a frame with the thread's scaler, which is set up once.

    PyAV 19 shares scalers by itself. Those before 17 may keep the colours of the frame
    before, so they set one up per frame.
    """
    import av

    if int(av.__version__.partition(".")[0]) not in (17, 18):
        return frame.to_ndarray(format="rgb24", **colorspaces)

    if not hasattr(_thread, "scaler"):
        from av.video.reformatter import VideoReformatter

        _thread.scaler = VideoReformatter()
    return _thread.scaler.reformat(frame, format="rgb24", **colorspaces).to_ndarray()
