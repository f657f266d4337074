"""Key frames: the right picture at any time, and files that have none."""

import io

import numpy as np
import pytest
from PIL import Image
from report_samples import FPS, write_video

from wsvad_jax.detection.report.key_frames import key_frames, shrink, unplayable_format


def level(jpeg):
    return np.asarray(Image.open(io.BytesIO(jpeg))).mean()


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "libx264"), ("avi", "mpeg4")])
@pytest.mark.parametrize("gop", [8, 1000])
def test_the_picture_on_screen_at_each_time(tmp_path, suffix, codec, gop):
    path = write_video(tmp_path / f"a.{suffix}", codec=codec, gop=gop)
    seconds = [9.3, 0.0, 4.03, 4.0, 0.5, 7.99]
    for t, jpeg in zip(seconds, key_frames(path, seconds), strict=True):
        assert level(jpeg) == pytest.approx(20 * int(t * FPS + 1e-6) / FPS, abs=2.5)


def test_behind_the_end_is_the_last_frame(tmp_path):
    path = write_video(tmp_path / "a.mp4", 3)
    late, later = key_frames(path, [2.99, 1e6])
    assert level(later) == pytest.approx(level(late), abs=0.5)


def test_pictures_are_as_wide_as_asked_for_at_most(tmp_path):
    path = write_video(tmp_path / "a.mp4", 1)
    for width, expected in ((64, (64, 48)), (320, (128, 96))):
        (jpeg,) = key_frames(path, [0.5], width=width)
        assert Image.open(io.BytesIO(jpeg)).size == expected
    assert Image.open(io.BytesIO(shrink(jpeg, 32))).size == (32, 24)


def test_a_cut_file_gives_what_is_readable(tmp_path):
    import av

    source = write_video(tmp_path / "a.mkv", 10)
    whole = source.read_bytes()
    source.write_bytes(whole[: len(whole) // 2])
    first, last = key_frames(source, [0.5, 9.9])
    assert level(first) == pytest.approx(10, abs=2.5)
    assert level(last) < 190
    with av.open(str(source)) as container:
        assert container.streams.video  # it is a video still


def test_no_picture_of_what_is_no_video(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    assert key_frames(tmp_path / "text.mp4", [0.0, 1.0]) == [None, None]
    assert key_frames(tmp_path / "absent.mp4", [0.0]) == [None]
    assert key_frames(tmp_path / "absent.mp4", []) == []


@pytest.mark.parametrize(
    ("name", "codec", "reason"),
    [
        ("a.mp4", "libx264", ""),
        ("a.mkv", "libx264", ""),
        ("a.avi", "mpeg4", "AVI"),
        ("a.mp4", "mpeg4", "MPEG-4 Part 2 (DivX, Xvid)"),
    ],
)
def test_what_browsers_play(tmp_path, name, codec, reason):
    assert unplayable_format(write_video(tmp_path / name, 0.5, codec=codec)) == reason


def test_what_cannot_be_opened_is_damaged(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    assert unplayable_format(tmp_path / "text.mp4") == "damaged"
