"""Progress of long videos: it moves with the frames, and knows how many are left."""

import re

import pytest
from report_samples import write_video

from wsvad_jax.extraction.frame_progress import FrameProgress, expected_frames
from wsvad_jax.utils import progress


@pytest.fixture
def each_line(monkeypatch):
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)


def counts(err):
    return [tuple(map(int, pair)) for pair in re.findall(r"read (\d+)/(\d+), ", err)]


def test_one_video_counts_frames_with_the_time_left(tmp_path, capsys, each_line):
    clip = write_video(tmp_path / "a.mp4", 10)
    assert expected_frames([clip]) == 160
    with FrameProgress("read", [clip]) as shown:
        for _ in range(10):
            shown.frames(16)
        shown.done(events=2)
    err = capsys.readouterr().err
    assert counts(err)[:2] == [(16, 160), (32, 160)]
    assert counts(err)[-1] == (160, 160)
    assert "frame/s" in err and "s left" in err
    assert "videos 0/1" in err and "videos 1/1, events 2" in err


@pytest.mark.parametrize("decoded", [150, 170])
def test_another_number_of_frames_than_stated(tmp_path, capsys, each_line, decoded):
    clip = write_video(tmp_path / "a.mp4", 10)
    with FrameProgress("read", [clip]) as shown:
        for _ in range(decoded // 10):
            shown.frames(10)
        shown.done()
    found = counts(capsys.readouterr().err)
    assert all(count <= total for count, total in found)
    assert found[-1] == (decoded, decoded)


def test_many_videos_and_features_are_counted_one_by_one(tmp_path, capsys, each_line):
    clip = write_video(tmp_path / "a.mp4", 1)
    for videos, others, total in (([clip] * 17, 0, 17), ([], 3, 3)):
        with FrameProgress("read", videos, others) as shown:
            shown.frames(16)
            shown.done()
        err = capsys.readouterr().err
        assert counts(err)[-1] == (1, total) and "video/s" in err
        assert "frames 16" in err


def test_what_cant_be_read_is_left_to_the_reader(tmp_path):
    clip, broken = write_video(tmp_path / "a.mp4", 1), tmp_path / "b.mp4"
    broken.write_bytes(b"\0" * 100)
    assert expected_frames([clip, broken, tmp_path / "missing.mp4"]) == 16
    assert expected_frames([broken]) == 0
