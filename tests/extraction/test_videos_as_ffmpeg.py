"""Numbered videos in many containers, read as the ffmpeg program reads them."""

import itertools

import numpy as np
import pytest
from numbered_videos import (
    H264,
    ORIENTATIONS,
    as_ffmpeg,
    as_read,
    needs_ffmpeg,
    number,
    numbered_video,
    pictures,
    run,
    turned,
)

from wsvad_jax.extraction.decoding import forward_reader

pytestmark = needs_ffmpeg
X265 = ("-c:v", "libx265", "-x265-params", "log-level=none", "-crf", "10")
MPEG2, MPEG4 = ("-c:v", "mpeg2video", "-q:v", "2"), ("-c:v", "mpeg4", "-q:v", "2")
MJPEG = ("-c:v", "mjpeg", "-q:v", "2")
VP8 = ("-c:v", "libvpx", "-b:v", "3M", "-auto-alt-ref", "1", "-lag-in-frames", "10")
FILES = {
    "mp4": H264, "mkv": H264, "ts": H264, "vob": MPEG2, "avi": MPEG4, "webm": VP8,
}  # fmt: skip
MORE = [
    *itertools.product(("mov", "flv", "m2ts", "nut"), [H264]),
    *itertools.product(("mp4", "mkv", "ts"), [X265]),
    *itertools.product(("mpg", "ts", "mkv"), [MPEG2]),
    *itertools.product(("mp4", "mkv"), [MPEG4]),
    *itertools.product(("avi", "mov", "mkv"), [MJPEG]),
    ("wmv", ("-c:v", "wmv2", "-q:v", "2")), ("avi", ("-c:v", "ffv1")),
    ("webm", ("-c:v", "libvpx-vp9", "-b:v", "3M")), ("ogv", ("-c:v", "libtheora", "-q:v", "10")),
    ("mp4", (*H264, "-movflags", "frag_keyframe+empty_moov")), ("mkv", ("-c:v", "ffv1")),
    ("mov", ("-c:v", "qtrle")), ("mov", ("-c:v", "prores")), ("ts", (*H264, "-bf", "0")),
    ("ts", (*H264, "-x264-params", "open-gop=1:bframes=3")),
    ("mp4", (*H264, "-flags", "+ilme+ildct")), ("mkv", (*H264, "-pix_fmt", "gray")),
    ("mkv", (*H264, "-pix_fmt", "yuv444p10le")), ("mkv", ("-c:v", "png", "-pix_fmt", "rgba")),
]  # fmt: skip


def late(path, source, seconds=1.4):
    """The same picture, `seconds` after the sound."""
    sound = "mp2" if path.suffix in (".vob", ".mpg") else "aac"
    codec = "libvorbis" if path.suffix == ".webm" else sound
    return run(
        "-itsoffset", seconds, "-i", source, "-f", "lavfi", "-i", "sine=d=3",
        "-map", "0:v", "-map", "1:a", "-c:v", "copy", "-c:a", codec, path,
    )  # fmt: skip


def check(path, monkeypatch):
    """Compares frames, times, orientation, damage and key frames."""
    expected, times = as_ffmpeg(path)
    frames, seconds, video = as_read(path)
    assert [number(f) for f in frames] == [number(f) for f in expected]
    assert len(frames) >= 28
    np.testing.assert_allclose(seconds, times, atol=2e-3)
    for ours, theirs in zip(frames, expected, strict=True):
        assert ours.shape == theirs.shape
        assert np.abs(ours.astype(int) - theirs).mean() < 4
    assert video.damage == ""

    # Far apart, so that the decoder seeks between them, and in the middle of frames.
    monkeypatch.setattr(forward_reader, "NEAR", 0.15)
    chosen = [0, 3, 11, 12, 20, 27]
    shown = pictures(path, list(seconds[chosen] + 0.05))
    for i, picture in zip(chosen, shown, strict=True):
        assert picture.shape == frames[i].shape
        assert number(picture) == number(frames[i])
    return video


@pytest.mark.parametrize("ending", FILES)
def test_frames_times_and_key_frames(tmp_path, monkeypatch, ending):
    path = numbered_video(tmp_path / f"a.{ending}", *FILES[ending], "-g", 6)
    check(path, monkeypatch)


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
def test_a_picture_that_starts_after_the_sound(tmp_path, monkeypatch, ending):
    source = numbered_video(tmp_path / f"source.{ending}", *FILES[ending], "-g", 6)
    path = late(tmp_path / f"a.{ending}", source)
    check(path, monkeypatch)
    assert as_read(path)[1][0] == pytest.approx(1.4, abs=0.2)


@pytest.mark.parametrize("matrix", ORIENTATIONS)
def test_orientations(tmp_path, monkeypatch, matrix):
    """Of mirrored pictures the number is mirrored too, which the pictures show."""
    source = numbered_video(tmp_path / "source.mp4", *H264, "-g", 6, count=8)
    path = turned(source, tmp_path / "a.mp4", matrix)
    expected, _ = as_ffmpeg(path)
    frames, seconds, _ = as_read(path)
    (shown,) = pictures(path, [float(seconds[5])])
    for ours in (frames[5], shown):
        assert ours.shape == expected[5].shape
        assert np.abs(ours.astype(int) - expected[5]).mean() < 5


@pytest.mark.slow
@pytest.mark.parametrize("gop", [1, 6, 12, 300])
@pytest.mark.parametrize(("ending", "codec"), [*FILES.items(), *MORE])
def test_the_grid(tmp_path, monkeypatch, ending, codec, gop):
    path = numbered_video(tmp_path / f"source.{ending}", *codec, "-g", gop)
    check(path, monkeypatch)
    if ending in ("wmv", "ogv", "flv", "vob", "mpg"):
        return
    check(late(tmp_path / f"late.{ending}", path), monkeypatch)
    if ending in ("mp4", "mov"):
        for i, matrix in enumerate(ORIENTATIONS[:4]):
            path = turned(path, tmp_path / f"{i}.{ending}", matrix)
            expected, frames = as_ffmpeg(path)[0], as_read(path)[0]
            assert len(frames) == len(expected)
            assert np.abs(frames[9].astype(int) - expected[9]).mean() < 5
