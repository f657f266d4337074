"""Clips of live events: the pictures before an event come from memory."""

import json
import os
import pathlib
import threading

import av
import numpy as np
import pytest
from live_watch import of, served, watch
from numbered_videos import H264, as_read, needs_ffmpeg, number, numbered_video, run
from untrained import write_model

from wsvad_jax.detection import event_clips
from wsvad_jax.detection.detector import Detector
from wsvad_jax.detection.event_clips import ClipFolder
from wsvad_jax.detection.live import Listener
from wsvad_jax.detection.live_clips import LiveClips
from wsvad_jax.detection.live_sources import LiveSource
from wsvad_jax.evaluation.event_rules import EventRules
from wsvad_jax.extraction.decoding.containers import open_file
from wsvad_jax.extraction.decoding.reader import VideoReader
from wsvad_jax.extraction.packet_ring import PacketRing

pytestmark = needs_ffmpeg
RATE, COUNT = 16, 192  # a snippet is a second
GOP = "-g", "16", "-sc_threshold", "0"
ALWAYS = EventRules(high=1e-4, low=1e-4, min_length=0.0)


@pytest.fixture(scope="module")
def detector(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "m"
    return Detector(write_model(tiny, "mil_ranking", folder), clip=str(tiny.clip))


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Twelve seconds with sound."""
    folder = tmp_path_factory.mktemp("videos")
    silent = numbered_video(folder / "silent.mp4", *H264, *GOP, count=COUNT, rate=RATE)
    sine = "-f", "lavfi", "-i", "sine=frequency=440:duration=12"
    return run("-i", silent, *sine, "-c:v", "copy", "-c:a", "aac", folder / "door.mp4")


@pytest.fixture(scope="module")
def peak(detector, video):
    """Rules with which the highest snippet behind the fourth is an event, and its number."""
    scores = [
        line["anomaly"] for line in of(watch(detector, video, pace=0.0), "snippet")
    ]
    best = 4 + int(np.argmax(scores[4:]))
    level = scores[best] - 1e-6
    return EventRules(high=level, low=level, min_length=0.0, max_gap=0.0), best


def clipped(detector, source, folder, rules, margin=1.0, **options):
    """The lines about a source whose events get clips."""
    with LiveClips(ClipFolder(folder, margin)) as clips:
        return watch(detector, source, rules=rules, clips=clips, **options)


def fed(path, source, *options):
    """Writes a video into a pipe as a program would."""
    os.mkfifo(path)
    thread = threading.Thread(
        target=run, args=("-i", source, "-c", "copy", *options, path), daemon=True
    )
    thread.start()
    return thread


def check_clip(line, video, event):
    """A clip has the same pictures as the video at the same times."""
    frames, times, _ = as_read(video)
    part, part_times, read = as_read(line["path"])
    assert not read.damage and not read.remark
    first = int(np.argmin(np.abs(times - line["start"])))
    assert abs(times[first] - line["start"]) < 0.01
    found = [number(frame) for frame in part]
    # Behind the margin, there may be pictures on which earlier ones depend.
    least = round((min(event["end"] + 1, times[-1]) - line["start"]) * RATE)
    wanted = [number(frame) for frame in frames[first : first + least]]
    assert found[:least] == wanted
    assert line["start"] + line["event_at"] == pytest.approx(event["start"], abs=0.01)
    at = int(np.argmin(np.abs(part_times - line["event_at"])))
    assert found[at] == round(event["start"] * RATE) % 64
    return found


def test_a_clip_begins_before_its_event(detector, video, peak, tmp_path):
    rules, best = peak
    lines = clipped(detector, video, tmp_path / "clips", rules, pace=0.0)
    start = of(lines, "start")[0]["clips"]
    assert start["margin"] == 1.0 and start["bytes_in_memory"] == 128 << 20

    event = next(e for e in of(lines, "closed") if e["start"] == best)
    clip = next(c for c in of(lines, "clip") if c["id"] == event["id"])
    assert clip["copied"] and not clip["remark"]
    assert event["clip"] == {k: clip[k] for k in ("path", "start", "event_at")}
    assert pathlib.Path(clip["path"]).name == f"door_0h00m{best:04.1f}s_anomaly.mp4"
    # From the last key frame a margin before, to a margin behind.
    assert best - 2 - 1e-3 <= clip["start"] <= best - 1
    assert clip["end"] >= min(event["end"] + 1, 12) - 0.01
    check_clip(clip, video, event)
    with av.open(clip["path"]) as container:
        assert container.streams.audio and container.streams.video

    # The lines of a source end with its last clip.
    assert lines[-1]["type"] == "end"
    listed = (tmp_path / "clips" / "clips.jsonl").read_text().splitlines()
    assert [json.loads(line)["file"] for line in listed] == [
        pathlib.Path(c["path"]).name for c in of(lines, "clip")
    ]
    assert not list((tmp_path / "clips").glob(".rec*"))


def test_a_pipe_has_clips_that_no_later_run_replaces(detector, video, peak, tmp_path):
    found = []
    for name in ("one", "two"):
        pipe = tmp_path / name / "camera"
        pipe.parent.mkdir()
        thread = fed(pipe, video, "-f", "mpegts")
        lines = clipped(detector, pipe, tmp_path / "clips", peak[0], when_behind="wait")
        thread.join()
        event = next(e for e in of(lines, "closed") if abs(e["start"] - peak[1]) < 0.5)
        clip = next(c for c in of(lines, "clip") if c["id"] == event["id"])
        assert clip["copied"]
        frames = as_read(clip["path"])[0]
        numbers = [number(frame) for frame in frames]
        assert peak[1] * RATE % 64 in numbers
        assert numbers == [(numbers[0] + i) % 64 for i in range(len(numbers))]
        # Named by the time of day, since seconds begin again with each run.
        assert "T" in pathlib.Path(clip["path"]).name
        found += [c["path"] for c in of(lines, "clip")]
    assert len(set(found)) == len(found)
    assert all(pathlib.Path(path).is_file() for path in found)


def test_uncompressed_pictures_are_encoded(detector, tmp_path):
    raw = numbered_video(tmp_path / "raw.nut", "-c:v", "rawvideo", count=64, rate=RATE)
    pipe = tmp_path / "camera"
    thread = fed(pipe, raw, "-f", "nut")
    lines = clipped(detector, pipe, tmp_path / "clips", ALWAYS, when_behind="wait")
    thread.join()
    (clip,) = of(lines, "clip")
    assert not clip["copied"]
    assert clip["remark"] == "encoded again: mp4 doesn't hold rawvideo"
    assert [number(frame) for frame in as_read(clip["path"])[0]] == list(range(64))
    assert not list((tmp_path / "clips").glob(".rec*"))


@pytest.mark.parametrize("reordered", [0, 2])
def test_a_stream_without_time_stamps(detector, tmp_path, reordered):
    raw = numbered_video(
        tmp_path / "raw.h264", *H264, *GOP, "-bf", reordered, count=64, rate=25
    )
    pipe = tmp_path / "camera"
    thread = fed(pipe, raw, "-f", "h264")
    lines = clipped(detector, pipe, tmp_path / "clips", ALWAYS, when_behind="wait")
    thread.join()
    if reordered:
        remark = of(lines, "remark")[-1]["remark"]
        assert remark.endswith("it has no time stamps, and its pictures are reordered")
        assert not of(lines, "clip") and of(lines, "closed")[0]["clip"] is None
        return
    (clip,) = of(lines, "clip")
    assert clip["copied"] and clip["end"] == pytest.approx(64 / 25)
    frames, times, _ = as_read(clip["path"])
    assert [number(frame) for frame in frames] == list(range(64))
    np.testing.assert_allclose(times, np.arange(64) / 25, atol=1e-3)


def test_a_clip_ends_where_its_source_is_lost(detector, video, tmp_path):
    stream = run("-i", video, "-c", "copy", tmp_path / "video.ts")
    with served(stream.read_bytes(), lost=(0,)) as (address, _):
        lines = clipped(
            detector, address, tmp_path / "clips", ALWAYS, pauses=(0.1, 0.1), pace=0.0
        )
    kinds = [line["type"] for line in lines if line["type"] != "snippet"]
    assert kinds.count("lost") == 1 and kinds.count("clip") == 2
    first, second = of(lines, "clip")
    assert 3 < first["end"] < 9
    lost = first["end"] - first["start"]
    assert len(as_read(first["path"])[0]) == pytest.approx(lost * RATE, abs=2)
    # The second begins where the source is back.
    assert second["start"] >= first["end"] - 0.2
    assert number(as_read(second["path"])[0][0]) == 0


def test_sources_have_their_own_clips_and_listeners_get_them(
    detector, video, peak, tmp_path
):
    class Kept(Listener):
        def __init__(self):
            self.lines = []

        def line(self, source, line):
            self.lines.append((source, line))

    kept = Kept()
    sources = [LiveSource(str(video), name) for name in ("front", "back")]
    lines = clipped(
        detector, sources, tmp_path / "c", peak[0], pace=0.0, listeners=[kept]
    )
    assert [line for _, line in kept.lines] == lines
    for name in ("front", "back"):
        clips = [line for line in of(lines, "clip") if line["source"] == name]
        closed = [line for line in of(lines, "closed") if line["source"] == name]
        assert [c["path"] for c in clips] == [e["clip"]["path"] for e in closed]
        assert all(pathlib.Path(c["path"]).name.startswith(name) for c in clips)


def test_long_events_are_cut_short(detector, video, tmp_path, monkeypatch):
    monkeypatch.setattr(event_clips, "LONGEST_EVENT", 4.0)
    lines = clipped(detector, video, tmp_path / "clips", ALWAYS, pace=0.0)
    (clip,) = of(lines, "clip")
    assert 5.0 <= clip["end"] < 5.5
    wanted = "the event lasts 0:12, of which the clip shows the first 0:04"
    assert clip["remark"] == wanted


def test_a_clip_that_cannot_be_written_is_a_remark(detector, video, tmp_path):
    folder = tmp_path / "clips"
    clips = LiveClips(ClipFolder(folder, 1.0))
    # The temporary file's name is taken.
    (folder / ".recording-1.mp4").mkdir()
    with clips:
        lines = watch(detector, video, rules=ALWAYS, clips=clips, pace=0.0)
    assert not of(lines, "clip") and lines[-1]["type"] == "end"
    (remark,) = of(lines, "remark")
    assert remark["remark"].startswith("no clip of the event at 0.0 s: ")


def test_files_of_a_killed_run_are_removed(tmp_path):
    (tmp_path / ".recording-3.mp4").write_bytes(b"half")
    (tmp_path / ".recording.mp4").write_bytes(b"mine")
    LiveClips(ClipFolder(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == [".recording.mp4"]


@pytest.mark.parametrize(("seconds", "most"), [(2.0, 1 << 30), (99.0, 30_000)])
def test_memory_is_bounded(video, seconds, most):
    ring, largest, span = PacketRing(seconds, most_bytes=most), 0, 0.0
    with open_file(video) as container:
        reader = VideoReader(container, video, container.streams.audio[0])
        ring.opened(reader, 100.0)
        reader.on_packet.append(ring.packet)
        for _ in reader.frames():
            largest = max(largest, sum(len(p.data) for _, p in ring.packets))
            span = max(span, ring.packets[-1][0] - ring.packets[0][0])
    assert 0 < largest <= most and span <= seconds + 0.5

    # Without the wished key frame, a recording begins with the first one that is left.
    recording = ring.record(100.0, 999.0)
    assert recording is not None and 108 < recording.begin < 112
    assert ring.take(recording)[0][0].is_key
    ring.finish()
    assert ring.take(recording) == ([], True)


def test_a_slow_disk_ends_a_recording(video, monkeypatch):
    monkeypatch.setattr("wsvad_jax.extraction.packet_ring.MOST_BYTES", 4000)
    ring = PacketRing(99.0)
    with open_file(video) as container:
        reader = VideoReader(container, video)
        ring.opened(reader, 0.0)
        reader.on_packet.append(ring.packet)
        frames = reader.frames()
        next(frames)
        recording = ring.record(0.0, 99.0)
        for _ in frames:
            pass
    assert recording is not None and recording.over
    assert recording.remark == "the clip ends early, since the disk is too slow"
    assert sum(len(packet.data) for packet in recording.waiting) < 40_000


def test_scoring_does_not_wait_for_the_clips(detector, video, tmp_path, monkeypatch):
    """With a disk that stands still, snippets are scored all the same."""
    from wsvad_jax.detection import live_clips

    gate = threading.Event()
    step = live_clips.ClipJob.step
    monkeypatch.setattr(
        live_clips.ClipJob, "step", lambda job: step(job) if gate.wait(20) else None
    )

    class Opens(Listener):
        """Lets the disk move with the last snippet."""

        count = 0

        def line(self, source, line):
            self.count += line["type"] == "snippet"
            if self.count == 12:
                gate.set()

    lines = clipped(
        detector, video, tmp_path / "clips", ALWAYS, pace=0.0, listeners=[Opens()]
    )
    assert len(of(lines, "snippet")) == 12
    assert len(of(lines, "clip")) == 1
