"""Frames in memory, or from an iterator, in the place of a video file."""

import math
import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from jaxtyping import UInt8

from wsvad_jax.extraction.video import Video
from wsvad_jax.utils.errors import InputError

WITHOUT_FRAMES = (str, bytes, bytearray, dict, set)  # iterable, but never of frames
EXPECTED = "uint8 frames of shape [F, H, W, 3], RGB"


class FrameSequence(Video):
    """One pass over frames at a constant rate; an iterator's frames are not kept."""

    def __init__(self, frames: Any, fps: Any, name: str = "frames"):
        """Checks the rate, and an array's type and shape.

        Args:
          frames: uint8 array [F, H, W, 3], or an iterable of uint8 arrays [H, W, 3].
          fps: frames per second.
          name: name for messages.

        Raises:
          InputError: something else.
        """
        super().__init__(name)
        if hasattr(frames, "shape"):
            frames = np.asarray(frames)
            check_array(frames)
        elif not isinstance(frames, Iterable) or isinstance(frames, WITHOUT_FRAMES):
            what = type(frames).__name__
            raise InputError(
                f"expected the path of a video or {EXPECTED}, found {what}"
            )

        if fps is None:
            raise InputError(
                "fps isn't given; frames need their number per second, such as "
                "detector(frames, fps=25)"
            )
        self.source, self.fps = frames, checked_rate(fps)

    def frames(self) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        """Yields the frames.

        Raises:
          InputError: no frame, or one of another type, shape or size.
        """
        first: tuple[int, ...] = ()
        for i, item in enumerate(self.source):
            frame = _as_frame(item, i)
            first = first or frame.shape
            if frame.shape != first:
                raise InputError(
                    f"frame {i} is of shape {frame.shape}, and the first of {first}; "
                    "expected frames of one size"
                )
            self.num_frames = i + 1
            self.seconds, self.end = i / self.fps, (i + 1) / self.fps
            yield frame
        if not self.num_frames:
            raise InputError(f"no frame was given; expected {EXPECTED}")


def checked_rate(fps: Any) -> float:
    """Returns a frame rate; raises InputError for what is none."""
    number = isinstance(fps, int | float | np.number) and not isinstance(fps, bool)
    if not number or not 0 < fps < math.inf:
        raise InputError(f"fps is {fps!r}; expected frames per second, such as fps=25")
    return float(fps)


def check_array(frames: np.ndarray) -> None:
    """Raises InputError unless an array holds frames."""
    shape = frames.shape
    what = f"an array of shape {list(shape)} and type {frames.dtype}"
    if frames.ndim == 4 and shape[-1] == 3 and frames.dtype == np.uint8:
        if 0 in shape:
            raise InputError(f"expected {EXPECTED}, found {what}, which is empty")
        return

    # What the array is likely to be, and how to pass it.
    hint = "features in memory go to Detector.score or Detector.detect"
    if frames.ndim == 4 and shape[-1] == 3:
        hint = "convert its values to uint8, from 0 to 255"
    elif frames.ndim == 4 and shape[1] == 3:
        hint = "move the channels to the end: frames.transpose(0, 2, 3, 1)"
    elif frames.ndim == 3 and shape[-1] == 3 and frames.dtype == np.uint8:
        hint = "pass one frame as frames[None]"
    elif frames.ndim == 4 and shape[-1] in (1, 4):
        hint = "convert its colours to RGB"
    raise InputError(
        f"expected the path of a video or {EXPECTED}, found {what}; {hint}"
    )


def _as_frame(item: Any, i: int) -> UInt8[np.ndarray, "H W 3"]:
    """Returns an iterator's item as a frame."""
    if isinstance(item, str | os.PathLike):
        raise InputError(
            f"expected frames, found the path {os.fspath(item)!r} in their place; pass "
            "one video per call"
        )
    shape = getattr(item, "shape", None)
    frame = None if shape is None else np.asarray(item)
    fits = frame is not None and frame.ndim == 3 and frame.shape[-1] == 3
    if frame is None or not fits or frame.dtype != np.uint8 or 0 in frame.shape:
        what = type(item).__name__
        if frame is not None:
            what = f"an array of shape {list(frame.shape)} and type {frame.dtype}"
        raise InputError(f"frame {i} is {what}; expected uint8 of shape [H, W, 3], RGB")
    return frame
