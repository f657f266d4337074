"""Videos whose frames show their number and orientation, and ffmpeg's view of them."""

import io
import json
import pathlib
import re
import shutil
import struct
import subprocess

import numpy as np
import pytest
from PIL import Image

W, H = 96, 64
CORNERS = ((200, 40, 40), (40, 190, 40), (50, 60, 210), (220, 210, 50))
H264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "10")
# a, b, c, d of the display matrices that turn by right angles, mirrored and not.
ORIENTATIONS = [
    (1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0),
    (-1, 0, 0, 1), (0, 1, 1, 0), (1, 0, 0, -1), (0, -1, -1, 0),
]  # fmt: skip

needs_ffmpeg = pytest.mark.skipif(
    not (shutil.which("ffmpeg") and shutil.which("ffprobe")),
    reason="videos are compared with the ffmpeg program, which is not installed",
)


def draw(i, w=W, h=H):
    """Frame number i: its bits as six columns of a grey picture with four corners."""
    picture = np.full((h, w, 3), 110, np.uint8)
    for bit in range(6):
        left = w * (bit + 1) // 8
        level = 230 if i >> bit & 1 else 25
        picture[h * 2 // 5 : h * 3 // 5, left : left + w // 8] = level
    y, x = h // 4, w // 4
    picture[:y, :x], picture[:y, -x:] = CORNERS[:2]
    picture[-y:, :x], picture[-y:, -x:] = CORNERS[2:]
    return picture


def number(picture):
    """The number of an upright frame of any size."""
    h, w = picture.shape[:2]
    bits = [
        picture[h * 9 // 20 : h * 11 // 20, w * (4 * bit + 5) // 32 : w * (4 * bit + 7) // 32]
        for bit in range(6)
    ]  # fmt: skip
    return sum((part.mean() > 128) << bit for bit, part in enumerate(bits))


def run(*arguments, data=b""):
    """Calls ffmpeg, which may warn."""
    command = ["ffmpeg", "-v", "error", "-y", *map(str, arguments)]
    subprocess.run(command, input=data, check=True, capture_output=True)
    return pathlib.Path(arguments[-1])


def numbered_video(path, *arguments, count=30, rate=10, w=W, h=H):
    """Writes a video of numbered frames; `arguments` name its codec."""
    data = b"".join(draw(i, w, h).tobytes() for i in range(count))
    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{w}x{h}", "-r", rate)
    return run(*raw, "-i", "-", *(arguments or H264), path, data=data)


def copied(source, path, *arguments):
    """Writes the same packets into another file."""
    return run("-i", source, "-map", "0", "-c", "copy", *arguments, path)


def turned(source, path, matrix):
    """Copies an MP4 and gives its first track a display matrix."""
    data = bytearray(source.read_bytes())
    at = data.index(b"tkhd") + 44
    a, b, c, d = (round(value * 65536) for value in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def as_ffmpeg(path):
    """Frames and times, from the container's start on, as the ffmpeg program has
    them."""
    done = subprocess.run(
        ["ffmpeg", "-v", "info", "-copyts", "-i", f"file:{path}", "-map", "0:V:0",
         "-vf", "showinfo", "-fps_mode", "passthrough", "-pix_fmt", "rgb24",
         "-f", "rawvideo", "-"],
        capture_output=True, check=True,
    )  # fmt: skip
    said = done.stderr.decode(errors="replace")
    times = [float(t) for t in re.findall(r"pts_time:\s*(-?[\d.]+)", said)]
    size = re.findall(r"Video: rawvideo.*?, (\d+)x(\d+)[ ,\[]", said)[-1]
    frames = np.frombuffer(done.stdout, np.uint8).reshape(
        -1, int(size[1]), int(size[0]), 3
    )
    shown = subprocess.run(
        ["ffprobe", "-v", "error", "-of", "json", "-show_entries", "format=start_time",
         str(path)],
        capture_output=True, check=True,
    )  # fmt: skip
    start = float(json.loads(shown.stdout)["format"].get("start_time", 0))
    return frames, np.array(times) - start


def as_read(path):
    """Frames, times and the pass, as the package reads them."""
    from wsvad_jax.extraction.video import Video, to_rgb

    video, frames, times = Video(path), [], []
    for frame in video.frames():
        frames.append(to_rgb(frame))
        times.append(video.seconds)
    return frames, np.array(times), video


def numbers(path):
    """Numbers of all frames, as the package reads them."""
    return [number(frame) for frame in as_read(path)[0]]


def pictures(path, seconds, **options):
    """Key frames of a video at these times, decoded."""
    from wsvad_jax.detection.report import key_frames

    images = key_frames.key_frames(path, seconds, **options)
    return [np.asarray(Image.open(io.BytesIO(jpeg))) for jpeg in images]
