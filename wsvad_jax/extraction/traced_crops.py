"""The crops of frames as part of a JAX program: those of `extraction.video.crop`.

The size of the frames is fixed, so which pixels a filter reads, and their weights, are
constants. Pillow filters in whole numbers: 22 bits after the point, columns first, and
rounds to 8 bits between the two passes. Its weights are read from Pillow itself: it
resizes the identity matrix.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, UInt8

from wsvad_jax.extraction import video
from wsvad_jax.extraction.extractor import Extractor

BITS = 22  # behind the point of Pillow's weights
ROWS = 256  # of the identity matrix that Pillow resizes at once


def traced_crops(
    extractor: Extractor,
    H: int,
    W: int,
    chosen: slice,
    square: tuple[int, int] | None = None,
) -> Callable[[UInt8[jax.Array, "F H W 3"]], UInt8[jax.Array, "F N S S 3"]]:
    """Returns a function from frames to the crops that the tower encodes.

    Args:
      extractor: extractor whose crops these are.
      H: rows of a frame, in pixels.
      W: columns of a frame.
      chosen: crops to return, of those of the extractor.
      square: rows and columns with square pixels, which `clip` resizes to first, as
        `to_display_rgb` does; None if the pixels are square.
    """
    S, preprocessing = extractor.config.image_size, extractor.preprocessing
    first = square if square and extractor.resize == "clip" else (H, W)
    plan = video.crop_plan(
        *first,
        S,
        crops=extractor.crops,
        resize=extractor.resize,
        shape=preprocessing.size,
    )
    if extractor.resize == "clip":
        name = preprocessing.interpolation
        filters = [
            *_filters((H, W), first, "bicubic"),
            *_filters(first, (plan.height, plan.width), name),
        ]
        resize = functools.partial(_filtered, filters=filters)
    else:
        resize = functools.partial(_bilinear, height=plan.height, width=plan.width)

    def crop(pixels):
        resized = resize(pixels)
        pictures = [
            resized[:, y : y + S, x : x + S][:, :, ::step]
            for y, x, step in plan.cuts[chosen]
        ]
        return jnp.stack(pictures, 1)

    return crop


def _bilinear(pixels, height, width):
    """Resizes as `video.resize_bilinear` does."""
    rows, below, dy = video.bilinear_taps(pixels.shape[1], height)
    columns, right, dx = video.bilinear_taps(pixels.shape[2], width)

    x = _between(pixels, rows, below, dy[:, None, None], 1)
    x = _between(x, columns, right, dx[:, None], 2)
    return (x + 0.5).astype(jnp.uint8)


def _between(x, lower, upper, weight, axis):
    low, high = (
        jnp.take(x, jnp.asarray(i, jnp.int32), axis=axis, mode="clip").astype(
            jnp.float32
        )
        for i in (lower, upper)
    )
    weight = np.broadcast_to(weight, low.shape[1:])[None]
    # Compilers join a product and a sum into one rounding; NumPy has two. The maximum,
    # which changes nothing, keeps them apart.
    return low + jnp.maximum(weight * (high - low), -256.0)


def pillow_weights(n: int, m: int, interpolation: str) -> Int[np.ndarray, "m n"]:
    """Returns Pillow's weights of n pixels in m samples, in units of 2^-22.

    Args:
      n: pixels of a side before the filter.
      m: pixels after it.
      interpolation: name of a Pillow filter.
    """
    from PIL import Image

    # In a picture of 32-bit numbers, Pillow rounds sums of weighted pixels as it rounds
    # the weights for 8-bit pictures.
    filter_ = Image.Resampling[interpolation.upper()]
    parts = []
    for start in range(0, n, ROWS):
        identity = np.eye(min(ROWS, n - start), n, start, np.int32) << BITS
        rows = Image.fromarray(identity)
        parts.append(np.asarray(rows.resize((m, rows.height), filter_)))
    return np.concatenate(parts).T


def _filters(before, after, interpolation):
    """Returns the axis and the weights of Pillow's passes; it skips equal sides."""
    return [
        (axis + 1, pillow_weights(before[axis], after[axis], interpolation))
        for axis in (1, 0)
        if before[axis] != after[axis]
    ]


def _filtered(pixels, filters):
    for axis, weights in filters:
        pixels = _weighted_sum(pixels, weights, axis)
    return pixels


def _weighted_sum(pixels, weights, axis):
    # The pixels that a sample reads are neighbours.
    m, n = weights.shape
    read = weights != 0
    first = read.argmax(1)
    taps = int((n - read[:, ::-1].argmax(1) - first).max())

    rounding = 1 << (BITS - 1)
    total = jnp.full((), rounding, jnp.int32)
    shape = [1] * 4
    shape[axis] = m
    for tap in range(taps):
        index = np.minimum(first + tap, n - 1)
        weight = np.where(first + tap < n, weights[np.arange(m), index], 0)
        taken = jnp.take(pixels, jnp.asarray(index, jnp.int32), axis=axis, mode="clip")
        total = total + taken.astype(jnp.int32) * weight.reshape(shape).astype(np.int32)
    # A division, since ONNX has no shift of signed numbers.
    total = jnp.clip(total, 0, (256 << BITS) - 1)
    return jax.lax.div(total, jnp.int32(1 << BITS)).astype(jnp.uint8)
