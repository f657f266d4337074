"""Shows the progress of reading videos: in frames for a few videos, else in videos.

A single long video would otherwise stand at 0 of 1 until its end.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

from wsvad_jax.extraction.decoding.containers import open_file
from wsvad_jax.extraction.decoding.reader import VideoReader
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.progress import Progress

FEW = 16  # most videos whose frames are counted in advance, since each is opened


class FrameProgress(Progress):
    """Progress of reading videos and feature files, as a context manager.

    Args:
      label: progress-bar label.
      videos: video files that are read.
      others: number of inputs without frames, such as feature files.
    """

    def __init__(self, label: str, videos: Sequence[pathlib.Path], others: int = 0):
        self.num_inputs, self.num_done = len(videos) + others, 0
        frames = expected_frames(videos) if videos and len(videos) <= FEW else 0
        self.in_frames = bool(frames)
        total, unit = (frames, "frame") if frames else (self.num_inputs, "video")
        super().__init__(label, total, unit=unit)

    def __enter__(self) -> "FrameProgress":  # noqa: PYI034 (beartype refuses Self here)
        return self

    def __exit__(self, *exc) -> None:
        # Containers may state other numbers of frames than they have.
        if self.in_frames and exc[0] is None:
            self._set_total(self.count)
        super().__exit__(*exc)

    def frames(self, n: int, **info: Any) -> None:
        """Counts `n` further decoded frames."""
        if not self.in_frames:
            known = self.info.get("frames", 0) + n
            self.update(0, **({"frames": known} if known else {}), **info)
            return

        # A video that is longer than stated must not count beyond the total.
        if self.count + n > self.total:
            self._set_total(self.count + n)
        self.update(n, videos=f"{self.num_done}/{self.num_inputs}", **info)

    def done(self, n: int = 1, **info: Any) -> None:
        """Counts `n` finished inputs; `info` is shown after the count."""
        self.num_done += n
        if self.in_frames:
            self.frames(0, **info)
        else:
            self.update(n, **info)

    def _set_total(self, total: int) -> None:
        self.total = total
        if self.bar is not None:
            self.bar.total = total


def expected_frames(videos: Sequence[pathlib.Path]) -> int:
    """Returns the number of frames that videos state; 0 if one of them states none.

    Files that can't be read are left out: reading them reports the error.
    """
    total = 0
    for path in videos:
        try:
            with open_file(pathlib.Path(path)) as container:
                frames = VideoReader(container, str(path)).expected_frames
        except InputError:
            continue
        if not frames:
            return 0
        total += frames
    return total
