"""The one reader of videos: which track, what time, which shape, what is damaged."""

import struct

import av
import numpy as np
import pytest
from numbered_videos import (
    H264,
    as_ffmpeg,
    as_read,
    copied,
    needs_ffmpeg,
    number,
    numbered_video,
    numbers,
    pictures,
    run,
    turned,
)

from wsvad_jax.data import sidecar
from wsvad_jax.datasets.validation.stated_length import stated_length
from wsvad_jax.detection.report import key_frames
from wsvad_jax.extraction import video
from wsvad_jax.extraction.decoding.containers import open_file
from wsvad_jax.extraction.decoding.reader import VideoReader
from wsvad_jax.extraction.extractor import Extractor
from wsvad_jax.extraction.live_stream import SnippetStream
from wsvad_jax.utils.errors import InputError

pytestmark = needs_ffmpeg


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A video of 40 numbered frames, 10 per second, a key frame per second."""
    folder = tmp_path_factory.mktemp("plain")
    return numbered_video(folder / "plain.mp4", *H264, "-g", 10, count=40)


def still(path, codec="png", rate=1, seconds=1):
    source = f"color=magenta:s=72x72:d={seconds}:r={rate}"
    return run("-f", "lavfi", "-i", source, "-c:v", codec, "-q:v", 2, path)


# Which track ---------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("marked", [True, False])
def test_a_still_picture_is_never_the_video(tmp_path, plain, ending, order, marked):
    picture, path = still(tmp_path / "cover.mkv"), tmp_path / f"a.{ending}"
    first = order == "before"
    files = (picture, plain) if first else (plain, picture)
    flag = (f"-disposition:v:{0 if first else 1}", "attached_pic") if marked else ()
    run("-i", files[0], "-i", files[1], "-map", 0, "-map", 1, "-c", "copy", *flag, path)
    assert numbers(path) == list(range(40))
    assert key_frames.unplayable_format(path) == ""
    (shown,) = pictures(path, [2.05])
    assert shown.shape == (64, 96, 3) and number(shown) == 20
    assert stated_length(path)[0] == 40
    with SnippetStream(
        str(path), frame="first", stride=40, preprocess=video.to_rgb, pace=0.0
    ) as stream:
        assert stream.take(20.0).kind == "open"
        assert stream.take(20.0).snippet.num_frames == 40


def test_a_track_of_thumbnails_is_not_the_video(tmp_path, plain):
    slides = still(tmp_path / "slides.mkv", "mjpeg", rate=0.5, seconds=6)
    path = tmp_path / "a.mkv"
    run("-i", slides, "-i", plain, "-map", 0, "-map", 1, "-c", "copy", path)
    assert numbers(path) == list(range(40))


def test_the_first_of_two_videos_is_read_and_said(tmp_path, plain):
    other = numbered_video(tmp_path / "other.mp4", *H264, count=20, w=128, h=96)
    path = tmp_path / "two.mp4"
    run("-i", other, "-i", plain, "-map", 0, "-map", 1, "-c", "copy", path)
    frames, _, seen = as_read(path)
    assert frames[0].shape == (96, 128, 3) and len(frames) == 20
    assert (
        seen.remark
        == "the file has 2 video tracks; the first is read, of 128 x 96 pixels"
    )


def test_sound_with_a_picture_is_no_video(tmp_path):
    picture, path = still(tmp_path / "cover.png"), tmp_path / "song.mkv"
    sound = ("-f", "lavfi", "-i", "sine=d=3", "-i", picture, "-map", 0, "-map", 1)
    for flag in ((), ("-disposition:v:0", "attached_pic")):
        run(*sound, "-c:a", "aac", "-c:v", "copy", *flag, path)
        with pytest.raises(InputError, match="song.mkv: has no video stream .only a"):
            as_read(path)
    with pytest.raises(InputError, match="cover.png: has no video stream .it is a"):
        as_read(picture)


# What time -----------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["mkv", "ts", "mp4"])
def test_equal_time_stamps_are_counted_and_said(tmp_path, plain, ending):
    path = copied(plain, tmp_path / f"a.{ending}", "-bsf:v", "setts=ts=0")
    frames, seconds, seen = as_read(path)
    assert [number(f) for f in frames] == list(range(40))
    np.testing.assert_allclose(seconds, np.arange(40) / 10, atol=1e-6)
    assert "counted at the stated 10 per second" in seen.remark and not seen.damage
    assert [number(p) for p in pictures(path, [0.05, 3.25])] == [0, 32]


def test_absent_time_stamps_are_counted_and_said(tmp_path, plain):
    path = copied(plain, tmp_path / "a.h264", "-f", "h264")
    frames, seconds, seen = as_read(path)
    assert len(frames) == 40
    np.testing.assert_allclose(seconds, np.arange(40) / 10, atol=1e-6)
    assert seen.remark.startswith("no time stamps, so frames are counted")


def test_time_stamps_that_get_stuck(tmp_path):
    path = numbered_video(
        tmp_path / "a.mkv", *H264, "-bf", 0, "-bsf:v", "setts=ts=min(TS\\,1000)"
    )
    _, seconds, seen = as_read(path)
    # The first three could have been duplicates.
    late = np.r_[0:11, 14:30]
    np.testing.assert_allclose(seconds[late], late / 10, atol=2e-3)
    assert "of 30 time stamps are missing or do not advance" in seen.remark


@pytest.mark.parametrize("ending", ["ts", "mpg"])
def test_seeks_that_end_late_are_made_earlier(tmp_path, ending):
    codec = H264 if ending == "ts" else ("-c:v", "mpeg2video", "-q:v", 2)
    path = numbered_video(tmp_path / f"a.{ending}", *codec, "-g", 25, count=64, rate=8)
    chosen = [1, 26, 45, 60]
    seconds = as_read(path)[1]
    shown = pictures(path, [float(seconds[i]) + 0.05 for i in chosen])
    assert [number(picture) for picture in shown] == chosen


def test_joined_recordings_are_counted_on(tmp_path, plain):
    part = copied(plain, tmp_path / "part.ts")
    path = tmp_path / "joined.ts"
    path.write_bytes(part.read_bytes() * 2)
    frames, seconds, seen = as_read(path)
    assert len(frames) == 80 and seen.damage == ""
    np.testing.assert_allclose(seconds, np.arange(80) / 10, atol=2e-3)
    shown = pictures(path, [3.05, 4.05, 7.55])
    assert [number(picture) for picture in shown] == [30, 0, 35]


def test_a_jump_ahead_is_said(tmp_path, plain):
    late = tmp_path / "late.ts"
    parts = [copied(plain, tmp_path / "part.ts"), late]
    run("-i", plain, "-c", "copy", "-output_ts_offset", 60, late)
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    frames, seconds, seen = as_read(path)
    assert len(frames) == 80 and seconds[40] - seconds[39] > 50
    assert "time stamps jump ahead" in seen.remark


# Which shape and colours -----------------------------------------------------------


def test_pixels_become_square(tmp_path, plain):
    """Half the rows with pixels twice as high: the same picture for CLIP and page."""
    half = tmp_path / "half.mp4"
    run("-i", plain, "-vf", "scale=96:32,setsar=1/2", *H264, half)
    seen = [
        next(video.snippets(video.Video(path), frame="first")).pictures[0]
        for path in (plain, half)
    ]
    cut = [video.crop(p, 48, resize="clip")[0].astype(float) for p in seen]
    assert np.abs(cut[0] - cut[1]).mean() < 8
    (shown,) = pictures(half, [1.05])
    assert shown.shape == (64, 96, 3) and number(shown) == 10
    assert pictures(half, [1.05], width=48)[0].shape == (32, 48, 3)

    aside = turned(half, tmp_path / "aside.mp4", (0, 1, -1, 0))
    assert pictures(aside, [1.05])[0].shape == (96, 64, 3)


def test_the_released_geometry_ignores_pixel_aspects(tmp_path, plain, clip):
    from wsvad_jax.clip.snapshot import load_snapshot

    wide = copied(plain, tmp_path / "wide.mkv", "-aspect", "3:1")
    frames = [next(iter(video.Video(path).frames())) for path in (plain, wide)]
    snapshot = load_snapshot(clip)
    as_stored, as_shown = (
        [
            Extractor(snapshot, resize=resize).preprocess(frame).astype(int)
            for frame in frames
        ]
        for resize in ("stretch", "clip")
    )
    np.testing.assert_array_equal(*as_stored)
    assert np.abs(as_shown[0] - as_shown[1]).mean() > 5


def test_a_nonsense_aspect_is_passed_over(tmp_path, plain):
    path = tmp_path / "a.mkv"
    run("-i", plain, "-vf", "setsar=250/1", *H264, path)
    assert pictures(path, [1.05])[0].shape == (64, 96, 3)


@pytest.mark.parametrize("matrix", [0, 1, 3, 8, 9, 10, 14, 15])
def test_colours_are_converted_as_ffmpeg_does(tmp_path, plain, matrix):
    tag = f"h264_metadata=matrix_coefficients={matrix}"
    path = copied(plain, tmp_path / "a.mp4", "-bsf:v", tag)
    expected, ours = as_ffmpeg(path)[0], as_read(path)[0]
    assert len(ours) == 40
    assert np.abs(ours[9].astype(int) - expected[9]).mean() < 3


@pytest.mark.parametrize("ending", ["avi", "mp4", "mkv"])
def test_tags_need_not_be_utf_8(tmp_path, ending):
    codec = ("-c:v", "mjpeg") if ending == "avi" else H264
    path = numbered_video(
        tmp_path / f"a.{ending}", *codec, "-metadata", "title=TITLETITLE"
    )
    data = path.read_bytes()
    assert b"TITLETITLE" in data
    path.write_bytes(data.replace(b"TITLETITLE", "현관카메라".encode("cp949")))
    assert len(numbers(path)) == 30
    assert stated_length(path)[0] == 30
    assert pictures(path, [1.0])[0].shape == (64, 96, 3)


# What is damaged --------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv"])
def test_a_lossless_trim_is_whole(tmp_path, ending):
    """An edit list hides the frames between the key frame and the cut."""
    source = numbered_video(
        tmp_path / f"source.{ending}", *H264, "-g", 60, count=60, rate=5
    )
    path = tmp_path / f"a.{ending}"
    run("-ss", 7, "-i", source, "-t", 2, "-c", "copy", path)
    frames, _, seen = as_read(path)
    assert seen.damage == "" and len(frames) == len(as_ffmpeg(path)[0])
    if ending != "mkv":
        assert seen.stated_frames > len(frames) + 16
    assert stated_length(path)[0] == pytest.approx(len(frames), abs=1)


def with_samples(source, path, payload):
    """Copies a video with a sample of `payload` before each of its own."""
    unit = struct.pack(">I", len(payload)) + payload
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        track = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.size:
                more = av.Packet(unit)
                more.stream, more.time_base = track, packet.time_base
                more.pts, more.dts = packet.pts, packet.dts - 256
                new.mux(more)
                packet.stream = track
                new.mux(packet)
    return path


@pytest.mark.parametrize(
    "payload", [b"\x09\xf0", b"\x06\x05\x10" + bytes(range(16)) + b"\x80"]
)
def test_samples_without_a_picture_are_no_frames(tmp_path, plain, payload):
    """Delimiters and messages stored apart; all frames are there, to the last."""
    path = with_samples(plain, tmp_path / "a.mp4", payload)
    frames, _, seen = as_read(path)
    assert seen.stated_frames == 80 and seen.damage == ""
    assert [number(f) for f in frames] == list(range(40))
    assert stated_length(path)[0] == pytest.approx(40, abs=1)

    cut = tmp_path / "cut.mp4"
    run("-ss", 1.5, "-i", path, "-c", "copy", cut)
    assert numbers(cut) == [number(f) for f in as_ffmpeg(cut)[0]]


@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi", "mxf", "flv"])
def test_a_file_that_was_cut_off_is_damaged(tmp_path, ending):
    codec = (
        H264 if ending in ("mp4", "mkv", "flv") else ("-c:v", "mpeg2video", "-q:v", 2)
    )
    front = ("-movflags", "faststart") if ending == "mp4" else ()
    path = numbered_video(tmp_path / f"a.{ending}", *codec, *front, count=60, rate=25)
    assert as_read(path)[2].damage == ""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    frames, _, seen = as_read(path)
    assert 10 < len(frames) < 58
    assert "can be read" in seen.damage or "packets are missing" in seen.damage


def test_a_hole_in_a_transport_stream_is_damage(tmp_path, plain):
    path = copied(plain, tmp_path / "a.ts")
    data = path.read_bytes()
    hole = len(data) // 188 // 2 * 188
    path.write_bytes(data[:hole] + data[hole + 40 * 188 :])
    assert as_read(path)[2].damage


def test_a_recording_that_starts_between_key_frames_is_whole(tmp_path):
    source = numbered_video(tmp_path / "source.ts", *H264, "-g", 10, "-bf", 0, count=40)
    data = source.read_bytes()
    path = tmp_path / "a.ts"
    path.write_bytes(data[: 3 * 188] + data[len(data) // 188 // 3 * 188 :])
    frames, _, seen = as_read(path)
    assert 15 < len(frames) < 30 and seen.damage == ""
    assert [number(f) for f in frames] == list(range(40 - len(frames), 40))


def test_dropped_frames_of_avi_end_nothing(tmp_path):
    """A recorder stores an empty chunk where the picture did not change."""
    path = numbered_video(tmp_path / "a.avi", "-c:v", "mjpeg", "-q:v", 2)
    data = path.read_bytes()
    begin, end = data.index(b"movi") + 4, data.index(b"idx1")
    chunks, index, at = b"", b"", begin
    for i in range(30):
        size = struct.unpack_from("<I", data, at + 4)[0]
        body = b"" if i % 5 == 4 else data[at + 8 : at + 8 + size + size % 2]
        index += b"00dc" + struct.pack("<III", 16, 4 + len(chunks), len(body))
        chunks += b"00dc" + struct.pack("<I", len(body)) + body
        at += 8 + size + size % 2
    head = bytearray(data[:begin])
    struct.pack_into("<I", head, begin - 8, len(chunks) + 4)
    whole = bytearray(head + chunks + b"idx1" + struct.pack("<I", len(index)) + index)
    struct.pack_into("<I", whole, 4, len(whole) - 8)
    path.write_bytes(whole)
    assert end > begin and numbers(path) == [i for i in range(30) if i % 5 != 4]
    assert as_read(path)[2].damage == ""
    np.testing.assert_allclose(as_read(path)[1][4], 0.5, atol=2e-3)


# One file and the others' run ---------------------------------------------------------


def test_one_odd_file_never_ends_the_others_run(tmp_path, plain, clip, monkeypatch):
    """Whatever a file makes fail, it is left out by name."""
    from wsvad_jax.clip.snapshot import load_snapshot

    odd = numbered_video(tmp_path / "odd.mp4", *H264, count=20, w=80, h=64)
    extractor = Extractor(load_snapshot(clip))
    preprocess = extractor.preprocess

    def fails(frame):
        if frame.width == 80:
            raise OSError("no picture can be like this")
        return preprocess(frame)

    monkeypatch.setattr(extractor, "preprocess", fails)
    errors: list[InputError] = []
    made = list(extractor.stream([plain, odd, plain], errors=errors))
    assert [found.num_frames for found in made] == [40, 40]
    (error,) = errors
    assert "odd.mp4: can't be read as a video (OSError: no picture" in str(error)
    with pytest.raises(InputError, match="odd.mp4: can't be read"):
        extractor(odd)


def test_odd_videos_among_others_are_extracted(tmp_path, plain, clip, capsys):
    """Colours that the scaler doesn't know, and a video without time stamps."""
    from wsvad_jax import extract

    folder, out = tmp_path / "videos", tmp_path / "out"
    folder.mkdir()
    tag = "h264_metadata=matrix_coefficients=10"
    copied(plain, folder / "a.mp4", "-bsf:v", tag)
    copied(plain, folder / "b.h264", "-f", "h264")
    copied(plain, folder / "c.mp4")
    assert extract.main([str(folder), "--clip", str(clip), "--output", str(out)]) == 0
    assert sorted(path.stem for path in out.glob("*.npy")) == ["a", "b", "c"]
    assert "warning: b: no time stamps, so frames" in capsys.readouterr().err
    assert "counted" in sidecar.read(out / "b.json").remark
    assert sidecar.read(out / "c.json").remark == ""


def test_the_reader_holds_its_rules_in_one_place(plain):
    """Frames, length and rate of the reader, which all programs use."""
    with open_file(plain) as container:
        found = VideoReader(container, plain)
        assert found.expected_frames == 40 and found.codec == "h264"
        assert found.length == pytest.approx(4.0, abs=0.01)
        assert found.rate == 10 and found.remark == ""
        assert len(list(found.frames())) == 40 and found.missing_end == ""
