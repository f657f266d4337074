"""Opens video files as `av` containers, and words the errors of unreadable ones."""

import pathlib
from typing import Any

from wsvad_jax.extraction.decoding.packets import ffmpeg_reason
from wsvad_jax.utils.errors import InputError


def any_tags() -> dict[str, Any]:
    """Returns arguments with which `av.open` accepts tags that aren't UTF-8."""
    import av

    # PyAV 19 and later accept any tags, and have no such argument.
    major = int(av.__version__.partition(".")[0])
    return {"metadata_errors": "replace"} if major < 19 else {}


def open_file(path: pathlib.Path) -> Any:
    """Opens a file as an `av` container.

    Raises:
      InputError: the file is missing, or FFmpeg can't read it as a video.
    """
    import av
    import av.error

    if not path.is_file():
        what = "is a folder" if path.is_dir() else "no such file"
        raise InputError(f"{path}: {what}; expected a video file")

    try:
        # "file:" keeps FFmpeg from taking a colon in the name for a protocol. Recorders
        # write titles in various code pages; nothing here needs them.
        container = av.open(f"file:{path}", **any_tags())
    except (av.error.FFmpegError, ValueError) as e:
        raise _not_a_video(path, ffmpeg_reason(e)) from None

    # FFmpeg renders text files as a video.
    if container.format.name == "tty":
        container.close()
        raise _not_a_video(path, "it is a text file")
    return container


def unexpected_error(name: str | pathlib.Path, error: Exception) -> InputError:
    """Returns the error of a file that fails in an unexpected way."""
    return InputError(
        f"{name}: can't be read as a video ({type(error).__name__}: {error}); convert "
        "it to H.264 in mp4, for example with ffmpeg"
    )


def no_frame_error(name: str | pathlib.Path, damage: str) -> InputError:
    """Returns the error of a file without a decodable frame."""
    cause = f" ({damage})" if damage else ""
    return InputError(
        f"{name}: not one frame can be decoded{cause}; expected a video that FFmpeg "
        "can decode"
    )


def _not_a_video(path: pathlib.Path, cause: str) -> InputError:
    return InputError(
        f"{path}: can't be read as a video ({cause}); expected a whole mp4, "
        "avi, mkv or other file that FFmpeg knows"
    )
