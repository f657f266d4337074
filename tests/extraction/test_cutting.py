"""Parts of videos as files of their own: the same frames at the same times."""

import functools
import itertools

import av
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
    run,
    turned,
)

from wsvad_jax.extraction import cutting, mp4_writer
from wsvad_jax.extraction.cutting import Cutter
from wsvad_jax.utils.errors import InputError

pytestmark = needs_ffmpeg
COUNT, RATE = 60, 10
GOP = "-g", "10", "-keyint_min", "10", "-sc_threshold", "0"
SINE = "-f", "lavfi", "-i", f"sine=frequency=440:duration={COUNT / RATE}"
VP9 = (
    "-c:v",
    "libvpx-vp9",
    "-b:v",
    "0",
    "-crf",
    "10",
    "-deadline",
    "realtime",
    "-g",
    "10",
)
# Codecs and containers by the name of the file; those that are copied first.
COPIED = {
    "baseline.mp4": (*H264, *GOP, "-bf", "0"),
    "reordered.mp4": (*H264, *GOP, "-bf", "3"),
    "open_groups.mp4": (*H264, *GOP, "-bf", "3", "-x264-params", "open-gop=1"),
    "reordered.mkv": (*H264, *GOP, "-bf", "3"),
    "reordered.ts": (*H264, *GOP, "-bf", "3"),
    "late.mkv": (*H264, *GOP, "-output_ts_offset", "7.5"),
    "hevc.mp4": ("-c:v", "libx265", "-x265-params", "keyint=10:log-level=none",
                 "-pix_fmt", "yuv420p"),
    "vp9.mkv": VP9,
    "xvid.avi": ("-c:v", "mpeg4", "-vtag", "XVID", "-q:v", "2", "-g", "10", "-bf", "0"),
    "pictures.mov": ("-c:v", "mjpeg", "-q:v", "2"),
}  # fmt: skip
ENCODED = {
    "reordered.avi": ("-c:v", "mpeg4", "-q:v", "2", "-g", "10", "-bf", "2"),
    "vp8.webm": ("-c:v", "libvpx", "-b:v", "2M", "-g", "10"),
    "lossless.mkv": ("-c:v", "ffv1"),
    "raw.h264": (*H264, *GOP),
}
PARTS = {
    "start": (-2.0, 1.2),
    "middle": (2.45, 3.3),
    "end": (5.3, 9.0),
    "all": (0.0, 9.0),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Makes each video once."""
    folder, found = tmp_path_factory.mktemp("videos"), {}

    def make(name):
        if name not in found:
            options = (COPIED | ENCODED)[name]
            found[name] = numbered_video(
                folder / name, *options, count=COUNT, rate=RATE
            )
        return found[name]

    return make


def packets(path, kind="video"):
    """The packets of a file by their times in milliseconds, in the order of storage."""
    with av.open(str(path)) as container:
        stream = container.streams.best(kind)
        return [
            (round(1000 * float(packet.pts * packet.time_base)), bytes(packet))
            for packet in container.demux(stream)
            if packet.size and packet.pts is not None
        ]


def at_of(times, seconds):
    return int(np.argmin(np.abs(times - seconds)))


# The parts of one video are checked one after the other.
read_whole = functools.lru_cache(maxsize=1)(as_read)


def check_frames(source, cut, start, end, worst=0.0):
    """Compares all frames of a part with the video's at the same times."""
    frames, times, _ = read_whole(source)
    part, part_times, video = as_read(cut.path)
    assert not video.damage and not video.remark
    assert cut.start <= max(start, times[0]) + 1e-3

    within = (times >= cut.start - 1e-3) & (times < end)
    wanted = [
        number(frame) for frame, inside in zip(frames, within, strict=True) if inside
    ]
    found = [number(frame) for frame in part]
    # Frames shown after the end may be needed to decode those before it.
    assert found[: len(wanted)] == wanted
    assert len(found) <= len(wanted) + 8
    rest = [number(frame) for frame in frames[at_of(times, cut.start) :]]
    assert found == rest[: len(found)]  # without a hole
    at = np.flatnonzero(within)
    np.testing.assert_allclose(part_times[: len(at)] + cut.start, times[at], atol=2e-3)
    for k, frame in zip(at, part, strict=False):
        difference = np.abs(frame.astype(int) - frames[k].astype(int)).mean()
        assert difference <= worst, f"frame {k}"


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", COPIED)
def test_packets_are_copied_where_mp4_holds_them(made, tmp_path, name, part):
    source, (start, end) = made(name), PARTS[part]
    cut = Cutter(source).cut(tmp_path / "part.mp4", start, end)
    assert cut.copied and not cut.remark, cut.remark
    check_frames(source, cut, start, end)
    # Key frames are a second apart.
    assert max(start, 0) - cut.start < 1.1

    # Transport streams separate their units in another way.
    if not name.endswith(".ts"):
        whole = [data for _, data in packets(source)]
        data = [data for _, data in packets(cut.path)]
        assert all(each in whole for each in data)


@pytest.mark.parametrize("name", ENCODED)
def test_others_are_encoded_again_with_the_reason(made, tmp_path, name):
    source, (start, end) = made(name), PARTS["middle"]
    cut = Cutter(source).cut(tmp_path / "part.mp4", start, end)
    assert not cut.copied and cut.remark.startswith("encoded again: ")
    frames, times, _ = as_read(source)
    part, part_times, _ = as_read(cut.path)
    # The first frame is the one that is on the screen at the start.
    shown = np.flatnonzero((times > start - 0.1) & (times < end))
    assert [number(frame) for frame in part] == [number(frames[k]) for k in shown]
    assert cut.start == start and part_times[0] == 0
    np.testing.assert_allclose(part_times[1:] + start, times[shown[1:]], atol=2e-3)


def test_sound_is_kept_where_mp4_holds_it(tmp_path):
    video = numbered_video(tmp_path / "v.mp4", *H264, *GOP, count=COUNT, rate=RATE)
    for name, codec in (("a.mp4", "aac"), ("b.mkv", "libopus"), ("c.avi", "mp3")):
        options = "-c:v", "copy", "-bsf:v", "h264_mp4toannexb", "-c:a", codec
        if name == "c.avi":
            options = "-c:v", "mpeg4", "-g", "10", "-c:a", codec
        both = run("-i", video, *SINE, *options, tmp_path / name)
        cut = Cutter(both).cut(tmp_path / f"{name}.mp4", 2.5, 4.0)
        assert cut.copied and not cut.remark
        check_frames(both, cut, 2.5, 4.0)

        # The sound plays together with the same pictures.
        source = {data: at for at, data in packets(both, "audio")}
        sound = packets(cut.path, "audio")
        assert len(sound) > 30
        for at, data in sound[::8]:
            assert abs(at + 1000 * cut.start - source[data]) < 30

    other = run(
        "-i", video, *SINE, "-c:v", "copy", "-c:a", "libvorbis", tmp_path / "d.mkv"
    )
    cut = Cutter(other).cut(tmp_path / "d.mp4", 2.5, 4.0)
    assert cut.copied and "the sound (vorbis) is left out" in cut.remark
    with av.open(str(cut.path)) as container:
        assert not container.streams.audio


def test_encoded_parts_keep_the_sound(tmp_path):
    video = numbered_video(tmp_path / "v.mkv", "-c:v", "ffv1", count=COUNT, rate=RATE)
    both = run("-i", video, *SINE, "-c:v", "copy", "-c:a", "aac", tmp_path / "a.mkv")
    cut = Cutter(both).cut(tmp_path / "a.mp4", 2.55, 4.0)
    assert not cut.copied and cut.remark == "encoded again: mp4 doesn't hold ffv1"
    source = {data: at for at, data in packets(both, "audio")}
    sound = packets(cut.path, "audio")
    assert len(sound) > 50
    for at, data in sound[::8]:
        assert abs(at + 2550 - source[data]) < 30


def test_variable_frame_rates_keep_their_times(tmp_path):
    video = numbered_video(tmp_path / "v.mp4", *H264, *GOP, count=COUNT, rate=RATE)
    select = "select='not(between(mod(n,10),3,7))'"
    again = (*H264, "-g", "5", "-fps_mode", "vfr")
    varied = run("-i", video, "-vf", select, *again, tmp_path / "w.mp4")
    assert len(set(np.diff(as_read(varied)[1]).round(3))) > 1
    cut = Cutter(varied).cut(tmp_path / "part.mp4", 2.2, 4.4)
    assert cut.copied
    check_frames(varied, cut, 2.2, 4.4)


@pytest.mark.parametrize("matrix", ORIENTATIONS[1:])
def test_orientation_is_kept(made, tmp_path, matrix):
    source = turned(made("reordered.mp4"), tmp_path / "turned.mp4", matrix)
    cut = Cutter(source).cut(tmp_path / "part.mp4", 2.0, 3.0)
    assert cut.copied
    wanted = as_ffmpeg(source)[0]
    found = as_ffmpeg(cut.path)[0]
    k = round(cut.start * RATE)
    np.testing.assert_array_equal(found[:8], wanted[k : k + 8])


def test_encoded_parts_are_upright(tmp_path):
    plain = numbered_video(
        tmp_path / "plain.mov", "-c:v", "prores", count=COUNT, rate=RATE
    )
    source = turned(plain, tmp_path / "turned.mov", ORIENTATIONS[1])
    cut = Cutter(source).cut(tmp_path / "part.mp4", 2.0, 3.0)
    assert not cut.copied
    upright, shown = as_read(source)[0][20], as_read(cut.path)[0][0]
    assert shown.shape == upright.shape
    assert np.abs(shown.astype(int) - upright).mean() < 6


def test_a_distant_key_frame_is_no_beginning(tmp_path, monkeypatch):
    monkeypatch.setattr(cutting, "LEAD", 2.0)
    source = numbered_video(
        tmp_path / "v.mp4",
        *H264,
        "-g",
        "99",
        "-sc_threshold",
        "0",
        count=COUNT,
        rate=RATE,
    )
    cut = Cutter(source).cut(tmp_path / "part.mp4", 4.0, 5.0)
    assert not cut.copied and cut.start == 4.0
    assert cut.remark == "encoded again: the key frame before is 4 s away"
    assert [number(frame) for frame in as_read(cut.path)[0]] == [*range(40, 50)]


def test_nothing_is_left_of_what_cannot_be_cut(made, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="no such file"):
        Cutter(tmp_path / "none.mp4")
    monkeypatch.setattr(mp4_writer, "ENCODERS", ("libnone",))
    with pytest.raises(InputError, match=r"no encoder for H.264 \(libnone\)"):
        Cutter(made("vp8.webm")).cut(tmp_path / "part.mp4", 1.0, 2.0)
    assert not list(tmp_path.iterdir())


def test_decoding_stamps_are_derived_where_there_are_none():
    stamps = mp4_writer.DecodingStamps()
    shown = [0, 40, 20, 10, 30, 80, 60, 50, 70]
    found = [stamps.next(pts, None, 10) for pts in shown]
    assert all(a < b for a, b in itertools.pairwise(found))
    assert all(dts <= pts for dts, pts in zip(found, shown, strict=True))


REAL = [
    ("Normal_Videos009_x264.mp4", True),  # with sound and a cover picture
    ("Fighting033_x264_570_841.mp4", True),
    ("demo.mp4", True),
    ("hockey/fight/fi0.avi", True),
    ("test.avi", False),  # Xvid that packs two pictures into a packet
]


@pytest.mark.parametrize(("name", "copied"), REAL)
def test_real_videos(shared, tmp_path, name, copied):
    source = shared(f"videos/{name}")
    frames, times, read = as_read(source)
    start, end = 0.4 * read.end, 0.7 * read.end
    cut = Cutter(source).cut(tmp_path / "part.mp4", start, end)
    assert cut.copied == copied
    part, part_times, video = as_read(cut.path)
    assert not video.damage and not video.remark

    # The frame on the screen in the middle, in both.
    for seconds in (start + 0.02, (start + end) / 2, end - 0.1):
        k = np.flatnonzero(times <= seconds + 1e-3)[-1]
        j = np.flatnonzero(part_times + cut.start <= seconds + 1e-3)[-1]
        difference = np.abs(part[j].astype(int) - frames[k].astype(int)).mean()
        assert difference == 0 if copied else difference < 5

    if copied:
        whole = {data for _, data in packets(source)}
        assert all(data in whole for _, data in packets(cut.path))
    with av.open(str(source)) as a, av.open(str(cut.path)) as b:
        assert len(a.streams.audio) == len(b.streams.audio)
