"""Frames of video files, and the crops of a frame that an image tower sees.

Frames are counted as they are decoded, in presentation order, whatever the container
says about rate or length, so a snippet is exactly `stride` consecutive frames also at
a variable frame rate. `data.film` decides which track, time and orientation they have.

Crops are those of the released CLIP features (VadCLIP's, used by DSANet too): the frame
is stretched to 340 x 256 whatever its aspect, then 224 x 224 pixels are cut. Here the
224 is the tower's image size S and 340 x 256 grows with it.

  0 centre (for 224: rows 16:240, columns 58:282)   1 top left      2 top right
  3 bottom left                                     4 bottom right  5-9 mirror of 0-4

The stretch samples bilinearly at half-pixel centres without low-pass filter, as
OpenCV's INTER_LINEAR does (it agrees within rounding); Pillow's BILINEAR filters first
when it shrinks, which gives other pictures. `resize="clip"` is CLIP's own
preprocessing instead: Pillow's bicubic to S on the shorter side, centre crop, or what the
model's own files say (`clip.preprocessing`).
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float32, Int, UInt8

from wsvad_jax.data.records import FRAMES_PER_SNIPPET
from wsvad_jax.extraction.decoding.picture import to_display_rgb, to_rgb
from wsvad_jax.extraction.decoding.reader import VideoReader, no_frame_error, open_file
from wsvad_jax.utils.errors import InputError

__all__ = ["CROPS", "FRAMES", "RESIZES", "Snippet", "Video", "check_crops", "check_snippet_options",
           "crop", "resize_bilinear", "snippets",
           "to_display_rgb", "to_rgb"]  # fmt: skip

CROPS = (1, 5, 10)
FRAMES = ("first", "middle", "mean")
RESIZES = ("stretch", "clip")
STRETCHED = (256, 340)  # rows, columns of the released code, for crops of 224
RELEASED_SIZE = 224


class Video:
    """One pass over a video file; the counts are known when the pass is over."""

    def __init__(self, path: str | pathlib.Path):
        """Opens nothing yet; `path` is a file that FFmpeg can read."""
        self.path = pathlib.Path(path)
        self.num_frames = 0  # decoded so far
        self.stated_frames = 0  # packets that the container promises, 0 unknown
        self.fps = 0.0  # rate that the container states, 0 unknown
        self.seconds = 0.0  # presentation time of the frame that was yielded last
        self.end = 0.0  # when that frame ends
        self.position = 0  # bytes of the source up to the packet that came last
        self.damage = ""  # what could not be read, for a message
        self.remark = ""  # what was decided that a user may not expect

    def frames(self) -> Iterator[Any]:
        """Yields `av.VideoFrame`s in presentation order.

        What is damaged is left out and noted in `damage`; the rest is yielded. Times
        count from the container's start, as a player's do, and never go back.

        Raises:
          InputError: no file, not a video, no video stream, or not one frame.
        """
        with self._open() as container:
            film = VideoReader(container, self._name)
            self.stated_frames, self.fps = film.stream.frames, film.rate
            self.remark = film.remark
            for frame in film.frames():
                self.num_frames, self.position = film.num_frames, film.position
                self.seconds, self.end = film.clock.seconds, film.clock.end
                self.damage = film.damage
                yield frame
            self.damage, self.remark = film.damage, film.remark
            self._close(film)

    @property
    def _name(self) -> str:
        return str(self.path)

    def _open(self) -> Any:
        return open_file(self.path)

    def _close(self, film: VideoReader) -> None:
        if not self.num_frames:
            raise no_frame_error(self.path, self.damage)
        self.damage = film.missing_end or self.damage


@dataclasses.dataclass(frozen=True)
class Snippet:
    """`stride` consecutive frames, and those of them that are encoded."""

    index: int
    seconds: float  # presentation time of the first frame
    num_frames: int  # fewer than the stride only for a video's last snippet
    pictures: tuple[UInt8[np.ndarray, "..."], ...]  # as `preprocess` made them


def snippets(
    video: Video,
    *,
    frame: str = "middle",
    stride: int = FRAMES_PER_SNIPPET,
    preprocess: Callable[[Any], np.ndarray] | None = None,
) -> Iterator[Snippet]:
    """Cuts a video into snippets of `stride` frames; the last one may be shorter.

    Args:
      video: a pass that has not begun.
      frame: which frames of a snippet are converted to pictures: the `first`, the
        `middle` (number n // 2 of n), or all of them for `mean` (of their features).
      stride: frames per snippet.
      preprocess: turns a chosen `av.VideoFrame` into the picture that is kept, at once, so
        that no more full frames are held than it takes; None is `to_display_rgb`.

    Raises:
      InputError: unknown `frame`, a stride below 1, or as `Video.frames`.
    """
    check_snippet_options(frame, stride)
    preprocess = preprocess or to_display_rgb
    held, first, number, count = [], 0.0, 0, 0
    for decoded in video.frames():
        if count == 0:
            first = video.seconds
        if frame == "mean":
            held.append(preprocess(decoded))
        elif count <= (stride // 2 if frame == "middle" else 0):
            held.append(decoded)  # which is the middle is known at the end only
        count += 1
        if count == stride:
            yield Snippet(number, first, count, _chosen(held, count, frame, preprocess))
            held, number, count = [], number + 1, 0
    if count:
        yield Snippet(number, first, count, _chosen(held, count, frame, preprocess))


def check_snippet_options(frame: str, stride: int) -> None:
    """Raises InputError for a choice of frames that `snippets` does not have."""
    if frame not in FRAMES:
        raise InputError(f"frame must be one of {', '.join(FRAMES)}, found {frame!r}")
    if stride < 1:
        raise InputError(f"stride must be at least 1 frame a snippet, found {stride}")


def _chosen(
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
    """Cuts a frame into the pictures that an image tower of `size` S pixels sees.

    Args:
      picture: RGB of any size.
      size: S, the tower's image size.
      crops: N, 1, 5 or 10 in the released order (see the module).
      resize: `stretch`, the released geometry, or `clip`, CLIP's own preprocessing.
      shape: of `clip`: pixels of the shorter side before the crop, or height and width;
        None is `size`.
      interpolation: of `clip`: one of Pillow's filters, by name.

    Raises:
      InputError: another number of crops, or `clip` with more than one.
    """
    check_crops(crops, resize)
    if resize == "clip":
        shape = size if shape is None else shape
        return _clip_resize(picture, size, shape, interpolation)[None]
    h, w = (round(n * size / RELEASED_SIZE) for n in STRETCHED)
    stretched = resize_bilinear(picture, h, w)
    top, left = (h - size) // 2, (w - size) // 2
    corners = [(top, left), (0, 0), (0, w - size), (h - size, 0), (h - size, w - size)]
    cut = [stretched[y : y + size, x : x + size] for y, x in corners[: min(crops, 5)]]
    if crops == 10:
        cut += [c[:, ::-1] for c in cut]
    return np.stack(cut)


def check_crops(crops: int, resize: str) -> None:
    """Raises InputError for a combination that `crop` does not have."""
    if crops not in CROPS:
        raise InputError(f"crops must be one of 1, 5, 10, found {crops}")
    if resize not in RESIZES:
        raise InputError(f"resize must be stretch or clip, found {resize!r}")
    if resize == "clip" and crops != 1:
        raise InputError(
            f"resize 'clip' is CLIP's centre crop and has 1 crop, found crops={crops}; "
            "choose resize 'stretch' for more"
        )


def resize_bilinear(
    picture: UInt8[np.ndarray, "H W 3"], height: int, width: int
) -> UInt8[np.ndarray, "h w 3"]:
    """Resamples at half-pixel centres between the four nearest pixels, unfiltered."""
    rows, below, dy = _taps(picture.shape[0], height)
    columns, right, dx = _taps(picture.shape[1], width)
    dy, dx = dy[:, None, None], dx[:, None]
    # Only the pixels that are read are converted: a 4K frame costs what a small one
    # does.
    upper = picture[rows].astype(np.float32)
    upper += dy * (picture[below].astype(np.float32) - upper)
    out = upper[:, columns]
    out += dx * (upper[:, right] - out)
    return (out + 0.5).astype(np.uint8)


@functools.lru_cache(maxsize=64)
def _taps(
    n: int, m: int
) -> tuple[Int[np.ndarray, "{m}"], Int[np.ndarray, "{m}"], Float32[np.ndarray, "{m}"]]:
    """Returns the two pixels between which each of m samples lies, and the weight."""
    position = np.clip((np.arange(m) + 0.5) * n / m - 0.5, 0, n - 1)
    lower = position.astype(np.int64)
    weight = (position - lower).astype(np.float32)
    return lower, np.minimum(lower + 1, n - 1), weight


def _clip_resize(
    picture: UInt8[np.ndarray, "H W 3"],
    size: int,
    shape: int | tuple[int, int],
    interpolation: str,
) -> UInt8[np.ndarray, "S S 3"]:
    from PIL import Image

    H, W = picture.shape[:2]
    if isinstance(shape, int):
        # torchvision's arithmetic, which CLIP's preprocessing is made of.
        h, w = (shape, int(shape * W / H)) if H <= W else (int(shape * H / W), shape)
    else:
        h, w = shape
    resampling = Image.Resampling[interpolation.upper()]
    image = Image.fromarray(picture).resize((w, h), resampling)
    top, left = round((h - size) / 2), round((w - size) / 2)
    return np.asarray(image)[top : top + size, left : left + size]
