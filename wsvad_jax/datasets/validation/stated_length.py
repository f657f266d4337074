"""Length of a video as its container states it, before any feature is extracted."""

import itertools
import pathlib

from wsvad_jax.extraction.decoding.containers import (
    no_frame_error,
    open_file,
    unexpected_error,
)
from wsvad_jax.extraction.decoding.reader import LOOK, SLACK, VideoReader
from wsvad_jax.extraction.decoding.timestamps import ASSUMED
from wsvad_jax.utils.errors import InputError


def stated_length(path: pathlib.Path) -> tuple[int, float, bool]:
    """Returns a video's stated number of frames and seconds, 0 if unknown.

    The third value says whether the number of frames is exact or an estimate.

    Raises:
      InputError: not one frame can be decoded.
    """
    try:
        with open_file(path) as container:
            video = VideoReader(container, path)
            frames = video.frames()
            if next(frames, None) is None:
                raise no_frame_error(path, video.damage)
            # If some packets hold no picture, more of them give their proportion.
            if video.pictureless:
                sum(1 for _ in itertools.islice(frames, LOOK))
            return video.expected_frames, video.seconds, _is_exact(video)
    except InputError:
        raise
    except Exception as e:
        raise unexpected_error(path, e) from e


def _is_exact(video: VideoReader) -> bool:
    """Whether the stated number of frames is a count rather than an estimate.

    A count comes from an index of the whole video, without cuts. An index of fragments,
    or of the first of several joined videos, names only some of the packets.
    """
    if not video.indexed or video.pictureless or video.empty[video.stream.index]:
        return False

    # The last indexed packet must be at the stated end.
    last = video.stream.index_entries[video.indexed - 1]
    end = float(last.timestamp * video.stream.time_base)
    late = video.length + video.clock.start - end

    whole = video.indexed == video.expected_frames and not video.clock.useless
    # An AVI file that goes far beyond its index consists of several joined videos.
    if "avi" in video.formats:
        whole = whole and video.container.size < 1.2 * last.pos
    return whole and abs(late) <= SLACK + 2 / (video.rate or ASSUMED)
