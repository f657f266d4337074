"""Frames of video files, and the crops of a frame that an image tower sees.

Frames are counted in presentation order, as decoded. The rate and length that the
container states are ignored, so a snippet has exactly `stride` consecutive frames even
at a variable frame rate. `extraction.decoding.reader` chooses track, time and
orientation.

Crops follow the released CLIP features (of VadCLIP, also used by DSANet). A frame of any
aspect is stretched to 340 x 256, then 224 x 224 pixels are cut. Here 224 is replaced by
the tower's image size S, and 340 x 256 scales with it.

  0 centre (for 224: rows 16:240, columns 58:282)   1 top left      2 top right
  3 bottom left                                     4 bottom right  5-9 mirror of 0-4

The stretch samples bilinearly at half-pixel centres without a low-pass filter. It
agrees with OpenCV's INTER_LINEAR within rounding; Pillow's BILINEAR filters when it
shrinks and differs. `resize="clip"` selects CLIP's own preprocessing instead: the
snapshot's settings (`clip.preprocessing`), by default Pillow's bicubic to S on the
shorter side, then a centre crop.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float32, Int, UInt8

from wsvad_jax.data.records import FRAMES_PER_SNIPPET
from wsvad_jax.extraction.decoding.containers import no_frame_error, open_file
from wsvad_jax.extraction.decoding.picture import to_display_rgb, to_rgb
from wsvad_jax.extraction.decoding.reader import VideoReader
from wsvad_jax.utils.errors import InputError

__all__ = ["CROPS", "FRAMES", "RESIZES", "Snippet", "Video", "check_crops", "check_snippet_options",
           "crop", "resize_bilinear", "snippets",
           "to_display_rgb", "to_rgb"]  # fmt: skip

CROPS = (1, 5, 10)
FRAMES = ("first", "middle", "mean")
RESIZES = ("stretch", "clip")
STRETCHED = (256, 340)  # rows and columns in the released code, for crops of 224
RELEASED_SIZE = 224
ROWS_AT_ONCE = 32  # of a resized picture


class Video:
    """One pass over a video file; its counts are final after the pass."""

    def __init__(self, path: str | pathlib.Path):
        """Stores the path of a file that FFmpeg reads; `frames` opens it."""
        self.path = pathlib.Path(path)
        self.num_frames = 0  # decoded so far
        self.stated_frames = 0  # count stated by the container, 0 unknown
        self.fps = 0.0  # rate stated by the container, 0 unknown
        self.seconds = 0.0  # presentation time of the current frame
        self.end = 0.0  # seconds at which the current frame ends
        self.position = 0  # bytes read from the source
        self.damage = ""  # unreadable content, in words
        self.remark = ""  # decision that may surprise the user

    def frames(self) -> Iterator[Any]:
        """Yields `av.VideoFrame`s in presentation order.

        Damaged frames are skipped and noted in `damage`. Times count from the
        container's start, as in a player, and never decrease.

        Raises:
          InputError: the file is missing, is no video, or has no readable frame.
        """
        with self._open() as container:
            sound, threads = self._sound(container), self._threads
            reader = VideoReader(container, self._name, sound, threads=threads)
            self.stated_frames, self.fps = reader.stream.frames, reader.rate
            self.remark = reader.remark
            self._begin(reader)

            # State is copied per frame, so a consumer may stop at any frame.
            for frame in reader.frames():
                self.num_frames, self.position = reader.num_frames, reader.position
                self.seconds, self.end = reader.clock.seconds, reader.clock.end
                self.damage = reader.damage
                yield frame

            self.damage, self.remark = reader.damage, reader.remark
            self._close(reader)

    @property
    def _name(self) -> str:
        return str(self.path)

    @property
    def _threads(self) -> int:
        """Number of threads that decode, 0 for one per core."""
        return 0

    def _open(self) -> Any:
        return open_file(self.path)

    def _sound(self, container: Any) -> Any:
        """Returns the sound track whose packets are read, too; None for none."""
        return None

    def _begin(self, reader: VideoReader) -> None:
        """Does nothing; called before the first frame is decoded."""

    def _close(self, reader: VideoReader) -> None:
        if not self.num_frames:
            raise no_frame_error(self.path, self.damage)
        self.damage = reader.missing_end or self.damage


@dataclasses.dataclass(frozen=True)
class Snippet:
    """Consecutive frames of a video, of which some are encoded."""

    index: int
    seconds: float  # presentation time of the first frame
    num_frames: int  # the stride; fewer in a video's last snippet
    pictures: tuple[UInt8[np.ndarray, "..."], ...]  # results of `preprocess`


def snippets(
    video: Video,
    *,
    frame: str = "middle",
    stride: int = FRAMES_PER_SNIPPET,
    preprocess: Callable[[Any], np.ndarray] | None = None,
) -> Iterator[Snippet]:
    """Yields a video's snippets of `stride` frames; the last one may be shorter.

    Args:
      video: pass that has not begun.
      frame: frames that are converted to pictures: the `first`, the `middle` (index
        n // 2 of n), or all of them for `mean`, whose features are averaged.
      stride: frames per snippet.
      preprocess: turns a chosen `av.VideoFrame` into the picture that is kept, at once, so
        that no more full frames are held than it takes; None is `to_display_rgb`.

    Raises:
      InputError: `frame` is unknown, the stride is below 1, or `Video.frames` fails.
    """
    check_snippet_options(frame, stride)
    preprocess = preprocess or to_display_rgb

    held, first, index, count = [], 0.0, 0, 0
    for decoded in video.frames():
        if count == 0:
            first = video.seconds

        # Frames stay decoded until the snippet's length tells which one is the middle.
        if frame == "mean":
            held.append(preprocess(decoded))
        elif count <= (stride // 2 if frame == "middle" else 0):
            held.append(decoded)
        count += 1

        if count == stride:
            yield Snippet(
                index, first, count, _pictures(held, count, frame, preprocess)
            )
            held, index, count = [], index + 1, 0

    # The rest of the video is a shorter snippet.
    if count:
        yield Snippet(index, first, count, _pictures(held, count, frame, preprocess))


def check_snippet_options(frame: str, stride: int) -> None:
    """Raises InputError if `snippets` does not support these options."""
    if frame not in FRAMES:
        raise InputError(f"frame must be one of {', '.join(FRAMES)}, found {frame!r}")
    if stride < 1:
        raise InputError(f"stride must be at least 1 frame per snippet, found {stride}")


def _pictures(
    held: list, count: int, frame: str, preprocess: Callable[[Any], np.ndarray]
) -> tuple[np.ndarray, ...]:
    if frame == "mean":
        return tuple(held)
    return (preprocess(held[count // 2 if frame == "middle" else 0]),)


def crop(
    picture: UInt8[np.ndarray, "H W 3"],
    size: int,
    *,
    crops: int = 1,
    resize: str = "stretch",
    shape: int | tuple[int, int] | None = None,
    interpolation: str = "bicubic",
) -> UInt8[np.ndarray, "N S S 3"]:
    """Returns the crops of a frame for an image tower.

    Args:
      picture: RGB picture of any size.
      size: the tower's image size S, in pixels.
      crops: number of crops N: 1, 5 or 10, in the released order (see the module).
      resize: `stretch`, the released geometry, or `clip`, CLIP's own preprocessing.
      shape: for `clip`, pixels of the shorter side before the crop, or height and
        width; None is `size`.
      interpolation: for `clip`, name of a Pillow filter.

    Raises:
      InputError: the number of crops is not supported.
    """
    plan = crop_plan(
        picture.shape[0],
        picture.shape[1],
        size,
        crops=crops,
        resize=resize,
        shape=shape,
    )
    if resize == "clip":
        resized = _resize_pillow(picture, plan.height, plan.width, interpolation)
        top = left = 0
    else:
        # One crop needs no pixel outside of it.
        top, left = (min(cut[axis] for cut in plan.cuts) for axis in (0, 1))
        bottom, right = (max(cut[axis] for cut in plan.cuts) + size for axis in (0, 1))
        resized = _resize_part(
            picture, (plan.height, plan.width), slice(top, bottom), slice(left, right)
        )

    cuts = [(y - top, x - left, step) for y, x, step in plan.cuts]
    return np.stack(
        [resized[y : y + size, x : x + size][:, ::step] for y, x, step in cuts]
    )


@dataclasses.dataclass(frozen=True)
class CropPlan:
    """Size to which a frame is resized, and the crops that are cut from it."""

    height: int
    width: int
    cuts: tuple[tuple[int, int, int], ...]  # top, left, and -1 for a mirror image or 1


def crop_plan(
    H: int,
    W: int,
    size: int,
    *,
    crops: int = 1,
    resize: str = "stretch",
    shape: int | tuple[int, int] | None = None,
) -> CropPlan:
    """Returns how `crop` cuts frames of H x W pixels; see there.

    Raises:
      InputError: the number of crops is not supported.
    """
    check_crops(crops, resize)
    if resize == "clip":
        h, w = _clip_size(H, W, size if shape is None else shape)
        return CropPlan(h, w, ((round((h - size) / 2), round((w - size) / 2), 1),))

    # Centre and corners first; ten crops add their mirror images.
    h, w = (round(n * size / RELEASED_SIZE) for n in STRETCHED)
    bottom, right = h - size, w - size
    corners = (
        (bottom // 2, right // 2),
        (0, 0),
        (0, right),
        (bottom, 0),
        (bottom, right),
    )
    steps = (1, -1) if crops == 10 else (1,)
    cuts = [(y, x, step) for step in steps for y, x in corners[: min(crops, 5)]]
    return CropPlan(h, w, tuple(cuts))


def check_crops(crops: int, resize: str) -> None:
    """Raises InputError if `crop` does not support this combination."""
    if crops not in CROPS:
        raise InputError(f"crops must be one of 1, 5, 10, found {crops}")
    if resize not in RESIZES:
        raise InputError(f"resize must be stretch or clip, found {resize!r}")
    if resize == "clip" and crops != 1:
        raise InputError(
            f"resize 'clip' requires crops=1, CLIP's centre crop, found crops={crops}; "
            "use resize 'stretch' for more crops"
        )


def resize_bilinear(
    picture: UInt8[np.ndarray, "H W 3"], height: int, width: int
) -> UInt8[np.ndarray, "h w 3"]:
    """Resizes a picture bilinearly, at half-pixel centres and without a filter."""
    return _resize_part(picture, (height, width), slice(0, height), slice(0, width))


def _resize_part(
    picture: UInt8[np.ndarray, "H W 3"],
    shape: tuple[int, int],
    rows: slice,
    columns: slice,
) -> UInt8[np.ndarray, "h w 3"]:
    """Returns a part of what `resize_bilinear` makes; other pixels aren't computed.

    Args:
      picture: RGB picture.
      shape: height and width of the whole resized picture, in pixels.
      rows: rows of the resized picture.
      columns: columns of the resized picture.
    """
    upper, lower, dy = (x[rows] for x in bilinear_taps(picture.shape[0], shape[0]))
    left, right, dx = (x[columns] for x in bilinear_taps(picture.shape[1], shape[1]))
    out = np.empty((len(dy), len(dx), 3), np.uint8)
    first, last = left[0], right[-1] + 1

    # A few rows at a time stay in the cache. Only pixels that are read are converted, so
    # a 4K frame costs as much as a small one.
    for start in range(0, len(out), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        above, below = picture[upper[part]], picture[lower[part]]
        down = dy[part, None, None]
        if last - first <= 2 * len(dx):
            # Most columns are read twice.
            mixed = _mix(above[:, first:last], below[:, first:last], down)
            before, after = mixed.take(left - first, 1), mixed.take(right - first, 1)
        else:
            before = _mix(above.take(left, 1), below.take(left, 1), down)
            after = _mix(above.take(right, 1), below.take(right, 1), down)
        out[part] = _mix(before, after, dx[:, None]) + 0.5
    return out


def _mix(a: np.ndarray, b: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Returns a + weight (b - a) in float32; overwrites b if that is its type."""
    a, b = (x.astype(np.float32, copy=False) for x in (a, b))
    b -= a
    b *= weight
    b += a
    return b


@functools.lru_cache(maxsize=64)
def bilinear_taps(
    n: int, m: int
) -> tuple[Int[np.ndarray, "{m}"], Int[np.ndarray, "{m}"], Float32[np.ndarray, "{m}"]]:
    """Returns, of m samples of n pixels, the lower and the upper pixel.

    The third array is the weight of the upper one.
    """
    position = np.clip((np.arange(m) + 0.5) * n / m - 0.5, 0, n - 1)
    lower = position.astype(np.int64)
    weight = (position - lower).astype(np.float32)
    return lower, np.minimum(lower + 1, n - 1), weight


def _clip_size(H: int, W: int, shape: int | tuple[int, int]) -> tuple[int, int]:
    """Returns height and width of a frame before CLIP's centre crop."""
    if not isinstance(shape, int):
        return shape
    # Integer arithmetic of torchvision, which CLIP's preprocessing uses.
    if H <= W:
        return shape, int(shape * W / H)
    return int(shape * H / W), shape


def _resize_pillow(
    picture: UInt8[np.ndarray, "H W 3"], height: int, width: int, interpolation: str
) -> UInt8[np.ndarray, "h w 3"]:
    from PIL import Image

    resampling = Image.Resampling[interpolation.upper()]
    image = Image.fromarray(picture).resize((width, height), resampling)
    return np.asarray(image)
