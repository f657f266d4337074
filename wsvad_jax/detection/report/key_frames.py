"""Decodes single pictures of a video file, small enough for a page.

The decoder seeks from picture to picture, so the time depends on their number and not
on the video's length. Where a seek can't be trusted, all frames are decoded.
"""

import io
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from wsvad_jax.extraction.decoding.containers import open_file
from wsvad_jax.extraction.decoding.forward_reader import ForwardReader
from wsvad_jax.extraction.decoding.picture import to_display_rgb
from wsvad_jax.extraction.decoding.reader import VideoReader
from wsvad_jax.utils.errors import InputError

QUALITY = 78  # JPEG quality
# No current browser plays these. For others, only the browser itself can tell.
UNPLAYABLE_CONTAINERS = {
    "asf": "WMV",
    "avi": "AVI",
    "flv": "FLV",
    "mpeg": "MPEG",
    "mpegts": "MPEG transport stream",
    "mpegvideo": "MPEG",
    "rm": "RealMedia",
}
UNPLAYABLE_CODECS = {
    "ffv1": "FFV1",
    "mjpeg": "Motion JPEG",
    "mpeg1video": "MPEG-1",
    "mpeg2video": "MPEG-2",
    "mpeg4": "MPEG-4 Part 2 (DivX, Xvid)",
    "msmpeg4v3": "Microsoft MPEG-4",
    "prores": "ProRes",
    "rawvideo": "uncompressed video",
    "wmv2": "Windows Media Video",
    "wmv3": "Windows Media Video",
}


def key_frames(
    path: str | os.PathLike, seconds: Sequence[float], *, width: int = 320
) -> list[bytes | None]:
    """Returns the pictures of a video at the given times, as JPEGs.

    Args:
      path: video file.
      seconds: times in the video, in any order.
      width: largest width of the pictures in pixels; smaller videos keep their size.

    Returns:
      One JPEG per time, in the order of `seconds`; None where nothing can be read. A
      time after the end shows the last frame.
    """
    jpegs: list[bytes | None] = [None] * len(seconds)
    if not seconds or not pathlib.Path(path).is_file():
        return jpegs

    reader = ForwardReader(pathlib.Path(path))
    try:
        # In the order of time, so that the reader never has to go back.
        for i in np.argsort(seconds, kind="stable").tolist():
            frame = reader.at(float(seconds[i]))
            if frame is not None:
                jpegs[i] = to_jpeg(to_display_rgb(frame), width)
    except Exception:  # noqa: BLE001 a page with fewer pictures is better than none
        return jpegs
    finally:
        reader.close()
    return jpegs


def shrink(jpeg: bytes, width: int) -> bytes:
    """Returns a JPEG that is at most `width` pixels wide."""
    from PIL import Image

    return to_jpeg(np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")), width)


def to_jpeg(picture: np.ndarray, width: int) -> bytes:
    """Returns an RGB picture as a JPEG that is at most `width` pixels wide."""
    from PIL import Image

    image = Image.fromarray(picture)
    if image.width > width:
        height = max(round(image.height * width / image.width), 1)
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY, optimize=True)
    return out.getvalue()


def unplayable_format(path: str | os.PathLike) -> str:
    """Returns the format that no browser plays, such as "AVI"; "" if there is none.

    A file that can't be opened is "damaged".
    """
    try:
        with open_file(pathlib.Path(path)) as container:
            video = VideoReader(container, os.fspath(path))
    except InputError:
        return "damaged"
    for name in video.formats:
        if name in UNPLAYABLE_CONTAINERS:
            return UNPLAYABLE_CONTAINERS[name]
    return UNPLAYABLE_CODECS.get(video.codec, "")
