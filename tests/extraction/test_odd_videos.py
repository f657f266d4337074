"""Videos with faults that leave them whole: stray stamps, odd lengths, late tracks."""

import itertools
import struct
import subprocess

import numpy as np
import pytest
from numbered_videos import (
    H264,
    as_read,
    copied,
    needs_ffmpeg,
    number,
    numbered_video,
    pictures,
    run,
)

from wsvad_jax.datasets.validation.stated_length import stated_length
from wsvad_jax.extraction.video import Video, to_display_rgb

pytestmark = needs_ffmpeg


# Time stamps that are wrong -----------------------------------------------------------


@pytest.mark.parametrize("ending", ["mkv", "ts"])
@pytest.mark.parametrize("offset", [1, 1000])
@pytest.mark.parametrize("at", [0, 15, 29])
def test_one_stray_time_stamp_moves_no_other(tmp_path, ending, offset, at):
    source = numbered_video(tmp_path / "source.mp4", *H264, "-bf", 0)
    astray = f"setts=pts=PTS+eq(N\\,{at})*{offset}/TB:dts=DTS"
    path = copied(source, tmp_path / f"a.{ending}", "-bsf:v", astray)
    frames, seconds, seen = as_read(path)
    assert [number(f) for f in frames] == list(range(30)) and seen.damage == ""
    good = np.arange(30) != at
    np.testing.assert_allclose(seconds[good], good.nonzero()[0] / 10, atol=0.02)
    if at == 15:
        assert seconds[at] == pytest.approx(1.5, abs=0.01)
        assert "1 of 30 time stamps are far ahead of those around" in seen.remark
    if at == 29:  # no stamp follows it
        assert seconds[at] > 3
    assert [number(p) for p in pictures(path, [2.65])] == [26]


# Shapes that only some frames state ----------------------------------------------------


def test_all_frames_have_the_pixel_aspect(tmp_path):
    source = numbered_video(tmp_path / "source.mp4", *H264, "-vf", "setsar=1", count=60)
    path = copied(source, tmp_path / "a.mp4", "-aspect", "3:1")
    frames = list(itertools.islice(Video(path).frames(), 6))
    del frames[0]  # and what only that one noted
    assert {to_display_rgb(frame).shape for frame in frames} == {(64, 192, 3)}


@pytest.mark.parametrize("ending", ["mp4", "ts"])
def test_an_orientation_counts_for_all_frames_after_it(tmp_path, ending):
    source = numbered_video(tmp_path / "source.mp4", *H264, "-g", 10)
    turn = "h264_metadata=display_orientation=insert:rotate=90"
    path = copied(source, tmp_path / f"a.{ending}", "-bsf:v", turn)
    upright = as_read(source)[0]
    for frame, expected in zip(as_read(path)[0], upright, strict=True):
        np.testing.assert_array_equal(np.rot90(frame, -1), expected)
    assert [p.shape for p in pictures(path, [0.1, 2.75])] == [(96, 64, 3)] * 2


# Whole videos whose stated lengths mislead ------------------------------------------------


def test_sound_that_lasts_longer_is_no_damage(tmp_path):
    source = numbered_video(tmp_path / "source.avi", "-c:v", "msmpeg4v3", "-q:v", 2)
    path, sound = tmp_path / "a.wmv", ("-f", "lavfi", "-i", "sine=d=9")
    run("-i", source, *sound, "-c:v", "copy", "-c:a", "wmav2", path)
    frames, _, seen = as_read(path)
    assert len(frames) == 30 and seen.damage == ""


def test_an_avi_from_a_pipe_is_whole(tmp_path):
    source = numbered_video(tmp_path / "source.avi", "-c:v", "mjpeg", "-q:v", 2)
    command = ["ffmpeg", "-v", "error", "-i", source, "-c", "copy", "-f", "avi", "-"]
    done = subprocess.run(command, check=True, capture_output=True)
    path = tmp_path / "a.avi"
    path.write_bytes(done.stdout)
    frames, _, seen = as_read(path)
    assert len(frames) == 30 and seen.damage == ""
    assert stated_length(path)[:2] == (0, 0.0)


def test_a_cut_off_avi_says_how_many_seconds_it_lacks(tmp_path):
    path = numbered_video(tmp_path / "a.avi", "-c:v", "mjpeg", "-q:v", 2)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    frames, _, seen = as_read(path)
    assert 10 < len(frames) < 20
    assert f"{len(frames) / 10:.1f} of 3.0 seconds can be read" in seen.damage


def with_edits(source, path, edits):
    """Replaces the one edit of an MP4 whose index is at its end."""
    data = bytearray(source.read_bytes())
    at = data.index(b"elst")
    body = struct.pack(">I", len(edits))
    body += b"".join(struct.pack(">IiI", *edit, 1 << 16) for edit in edits)
    for name in (b"elst", b"edts", b"trak", b"moov"):
        (size,) = struct.unpack_from(">I", data, data.index(name) - 4)
        struct.pack_into(">I", data, data.index(name) - 4, size + 12 * (len(edits) - 1))
    data[at + 8 : at + 24] = body
    path.write_bytes(data)
    return path


def test_a_gap_before_a_trim_is_counted_once(tmp_path):
    source = numbered_video(tmp_path / "source.mp4", *H264, "-g", 10)
    path = with_edits(source, tmp_path / "a.mp4", [(1000, -1), (1500, 12288)])
    frames, _, seen = as_read(path)
    assert [number(f) for f in frames] == list(range(10, 25)) and seen.damage == ""


def test_only_counted_frames_are_exact(tmp_path):
    source = numbered_video(tmp_path / "source.mp4", *H264, "-g", 10)
    parts = ("-movflags", "frag_keyframe+default_base_moof")
    parts = copied(source, tmp_path / "parts.mp4", *parts)
    avi = numbered_video(tmp_path / "a.avi", "-c:v", "mjpeg", "-q:v", 2)
    assert stated_length(source) == stated_length(avi) == (30, 3.0, True)
    assert stated_length(parts)[0] == 30

    joined = tmp_path / "joined.avi"
    joined.write_bytes(avi.read_bytes() * 2)
    stream = copied(source, tmp_path / "a.ts")
    stuck = copied(source, tmp_path / "stuck.mkv", "-bsf:v", "setts=ts=0")
    assert not any(stated_length(path)[2] for path in (joined, stream, stuck))


# Tracks that start late ------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("late", [3, 15])
def test_the_first_video_may_start_late(tmp_path, ending, late):
    first = numbered_video(tmp_path / "first.mp4", *H264, count=60)
    other = numbered_video(
        tmp_path / "other.mp4", *H264, count=60, rate=10, w=128, h=96
    )
    if late > 6:  # which no look at the first packets can wait for
        run("-stream_loop", 3, "-i", other, "-c", "copy", tmp_path / "long.mp4")
        other = tmp_path / "long.mp4"
    path = tmp_path / f"a.{ending}"
    maps = ("-map", "0:v", "-map", "1:v", "-c", "copy")
    run("-itsoffset", late, "-i", first, "-i", other, *maps, path)
    frames, seconds, seen = as_read(path)
    assert frames[0].shape == (64, 96, 3) and len(frames) == 60 and seen.damage == ""
    assert seconds[0] == pytest.approx(late, abs=0.3)
    assert seen.remark.startswith("the file has 2 video tracks; the first is read")


def test_key_frames_of_a_file_that_breaks_off(tmp_path):
    """Those before the break are there, however many are asked for."""
    path = numbered_video(tmp_path / "a.nut", *H264, "-g", 10, count=60)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 90 // 100])
    assert as_read(path)[2].damage
    shown = pictures(path, [0.05, 2.45, 4.85])
    assert [number(picture) for picture in shown] == [0, 24, 48]
