"""Several live sources in one process: the scores, names and losses of each."""

import os
import threading

import numpy as np
import pytest
from live_watch import of, served, watch
from sample_videos import write_video
from untrained import write_model

from wsvad_jax.detection import live
from wsvad_jax.detection.detector import Detector
from wsvad_jax.detection.live_sources import (
    LiveSource,
    derived_name,
    parse_source,
    with_names,
)
from wsvad_jax.evaluation.event_rules import EventRules
from wsvad_jax.extraction.live_video import without_password
from wsvad_jax.utils.errors import InputError

ALL = EventRules(high=1e-6, low=1e-6)  # everything is an event


@pytest.fixture(scope="module")
def detector(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "dsanet"
    write_model(tiny, "dsanet", folder, frame="mean")
    return Detector(folder, clip=str(tiny.clip))


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Videos of different lengths and pictures; the last snippets are partial."""
    folder = tmp_path_factory.mktemp("videos")
    return [
        write_video(folder / f"{name}.mp4", 16 * snippets + rest, size)
        for name, snippets, rest, size in (
            ("hall", 20, 5, (64, 48)),
            ("yard", 33, 0, (48, 64)),
            ("gate", 9, 1, (96, 32)),
        )
    ]


def by_source(lines):
    found = {}
    for line in lines:
        found.setdefault(line["source"], []).append(line)
    return found


def anomalies(lines):
    return [line["anomaly"] for line in of(lines, "snippet")]


def test_sources_together_have_the_scores_of_each_alone(detector, videos):
    together = by_source(watch(detector, [str(v) for v in videos], pace=0.0, rules=ALL))
    assert set(together) == {"hall", "yard", "gate"}
    for video in videos:
        alone = watch(detector, video, pace=0.0, rules=ALL)
        found = together[video.stem]
        assert [line["type"] for line in found] == [line["type"] for line in alone]
        assert np.ptp(anomalies(alone)) > 0.02
        # A picture's feature may differ in its last bit between batches of the tower.
        np.testing.assert_allclose(anomalies(found), anomalies(alone), atol=2e-3)
        for kind in ("snippet", "opened", "closed"):
            for one, other in zip(of(found, kind), of(alone, kind), strict=True):
                assert "source" not in other
                for key in one.keys() & {"time", "end", "start", "dropped", "class"}:
                    assert one[key] == other[key]
        start = found[0]
        assert start["address"] == str(video) == alone[0]["source"]
        assert start["when_behind"] == alone[0]["when_behind"] == "wait"


def test_what_is_ready_together_is_scored_in_one_call(detector, videos, monkeypatch):
    """No shape is new after the start, so nothing is compiled while sources run."""
    from wsvad_jax.detection.live_scorer import LiveScorer

    scorer = LiveScorer(detector, 3)
    compiled = detector.extractor.encode._cache_size()
    programs = detector.scorer.program._cache_size()
    size = detector.extractor.config.image_size
    blank = np.zeros((1, size, size, 3), np.uint8)
    calls = []
    monkeypatch.setattr(
        detector, "score_windows", _counted(detector.score_windows, calls)
    )
    for count in (1, 2, 3, 2, 1):
        windows = [scorer.new_window() for _ in range(count)]
        assert len(scorer.score(windows, [(blank,) * 16] * count)) == count
    assert calls == [1, 2, 3, 2, 1]
    assert detector.extractor.encode._cache_size() == compiled
    assert detector.scorer.program._cache_size() == programs


def _counted(function, calls):
    def counted(features, length):
        calls.append(len(length))
        return function(features, length)

    return counted


def test_one_lost_source_stops_no_other(detector, videos, tmp_path):
    stream = write_video(tmp_path / "stream.ts", 16 * 45)
    with served(stream.read_bytes(), lost=(0,)) as (address, requests):
        sources = [str(videos[1]), LiveSource(address, "door")]
        lines = by_source(
            watch(detector, sources, pace=0.0, pauses=(0.3, 0.3), rules=ALL)
        )
    assert len(requests) == 2
    kinds = [line["type"] for line in lines["door"]]
    lost = kinds.index("lost")
    assert kinds[lost - 1] == "closed" and kinds[lost + 1] == "back"
    assert kinds[-1] == "end" and lines["door"][0]["address"] == address
    assert not of(lines["yard"], "lost") and len(of(lines["yard"], "snippet")) == 33


def test_named_pipes_are_sources_and_wait_for_no_other(detector, videos, tmp_path):
    content = write_video(tmp_path / "stream.ts", 16 * 10).read_bytes()
    pipes = [tmp_path / "one", tmp_path / "two"]
    for pipe in pipes:
        os.mkfifo(pipe)
    wait = threading.Event()

    def write(pipe):
        if pipe == pipes[1]:
            wait.wait(60)  # until the other has ended
        with open(pipe, "wb") as file:
            file.write(content)

    class Listener(live.Listener):
        def line(self, source, line):
            if (source, line["type"]) == ("one", "end"):
                wait.set()

    threads = [threading.Thread(target=write, args=(p,), daemon=True) for p in pipes]
    for thread in threads:
        thread.start()
    lines = by_source(
        watch(detector, [str(p) for p in pipes], pace=0.0, listeners=[Listener()])
    )
    assert list(lines) == ["one", "two"]
    assert anomalies(lines["one"]) == pytest.approx(anomalies(lines["two"]), abs=2e-3)
    assert len(of(lines["two"], "snippet")) == 10


def test_a_source_that_is_none_is_named_and_starts_nothing(detector, videos, tmp_path):
    text = tmp_path / "words.mp4"
    text.write_text("no video" * 100)
    lines = []

    class Listener(live.Listener):
        def line(self, source, line):
            lines.append((source, line))

    def refused(source, match):
        lines.clear()
        with pytest.raises(InputError, match=match):
            watch(detector, [str(videos[1]), source], listeners=[Listener()], pace=2.0)
        assert {name for name, _ in lines} <= {"yard"}

    refused(str(tmp_path / "missing.mp4"), "missing.mp4: no such file")
    refused(str(text), "words.mp4: can't be read as a video")
    refused("http://127.0.0.1:9/video.ts", "127.0.0.1:9/video.ts: can't be opened")
    # Those that ran get their last line.
    assert not lines or lines[-1][1]["type"] == "end"


def test_a_source_that_fails_while_it_runs_stops_no_other(detector, videos):
    class Tap:
        packets = 0

        def opened(self, reader, offset):
            pass

        def packet(self, packet):
            self.packets += 1
            if self.packets == 100:
                raise ZeroDivisionError

    class Listener(live.Listener):
        def __init__(self):
            self.lines = []

        def line(self, source, line):
            self.lines.append(line)

        def tap(self, source):
            return Tap() if source == "gate" else None

    listener = Listener()
    with pytest.raises(InputError, match=r"gate\.mp4: ZeroDivisionError"):
        watch(detector, [str(v) for v in videos[1:]], pace=0.0, listeners=[listener])
    lines = by_source(listener.lines)
    assert "ZeroDivisionError" in lines["gate"][-1]["reason"]
    assert lines["yard"][-1]["reason"] == "the source ended"
    assert len(of(lines["yard"], "snippet")) == 33


def test_a_pipe_has_one_reader(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    sources = [LiveSource(str(tmp_path / "pipe"), name) for name in ("a", "b")]
    with pytest.raises(InputError, match="pipe: found twice"):
        with_names(sources)


def test_passwords_are_in_no_line(detector, videos, tmp_path):
    stream = write_video(tmp_path / "stream.ts", 16 * 4)
    with served(stream.read_bytes()) as (address, _):
        address = address.replace("://", "://admin:secret@")
        lines = watch(detector, address, pace=0.0)
    assert lines[0]["source"] == address.replace("secret", "***")
    assert "secret" not in str(lines) and len(of(lines, "snippet")) == 4
    with pytest.raises(InputError) as error:
        watch(detector, "http://admin:secret@127.0.0.1:9/video.ts")
    assert "secret" not in str(error.value)


def test_a_listener_gets_each_line_and_the_packets(detector, videos):
    class Tap:
        def __init__(self):
            self.times, self.offsets, self.base = [], [], None

        def opened(self, reader, offset):
            self.offsets.append(offset)
            self.base, self.start = reader.stream.time_base, reader.clock.start

        def packet(self, packet):
            self.times.append(float(packet.pts * self.base) - self.start)

    class Listener(live.Listener):
        def __init__(self):
            self.lines, self.taps = [], {}

        def line(self, source, line):
            self.lines.append((source, line))

        def tap(self, source):
            self.taps[source] = Tap()
            return self.taps[source]

    listener = Listener()
    printed = watch(detector, videos[2], pace=0.0, listeners=[listener])
    assert [line for _, line in listener.lines] == printed
    assert {source for source, _ in listener.lines} == {"gate"}
    (tap,) = listener.taps.values()
    assert tap.offsets == [0.0]
    np.testing.assert_allclose(sorted(tap.times), np.arange(145) / 16, atol=1e-3)


@pytest.mark.parametrize(
    "text, name, source",
    [
        ("door=rtsp://camera/stream", "door", "rtsp://camera/stream"),
        ("rtsp://camera/stream?channel=1", "", "rtsp://camera/stream?channel=1"),
        ("folder/a=b.mp4", "", "folder/a=b.mp4"),
        ("front door=/dev/video0", "front door", "/dev/video0"),
        ("옥상=a=b.mp4", "옥상", "a=b.mp4"),
        ("-", "", "-"),
        ("pipe=-", "pipe", "-"),
    ],
)
def test_a_name_stands_before_the_source(text, name, source):
    assert parse_source(text) == LiveSource(source, name)


def test_a_file_with_an_equals_sign_needs_no_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=b.mp4").touch()
    assert parse_source("a=b.mp4") == LiveSource("a=b.mp4")


def test_derived_names_are_unique_and_hold_no_password():
    sources = [
        "rtsp://admin:secret@camera:554/live/1?key=hidden",
        "one/lobby.mp4",
        "two/lobby.mp4",
        "/dev/video0",
        "-",
    ]
    given = [LiveSource("x.mp4", "lobby-2"), *map(LiveSource, sources)]
    names = [source.name for source in with_names(given)]
    assert names == [
        *("lobby-2", "camera-554-live-1", "lobby", "lobby-3", "video0", "stdin")
    ]


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("rtsp://u:hush@cam/x", "rtsp://u:***@cam/x"),
        ("rtsp://u:hu/s?h#@cam/x", "rtsp://u:***@cam/x"),
        ("rtsp://u:hu@sh@cam/x", "rtsp://u:***@cam/x"),
        ("rtsp://cam:554/a@b", "rtsp://cam:554/a@b"),
        ("rtsp://cam/a:b@c", "rtsp://cam/a:b@c"),
        (
            "rtsp://cam/user=u&password=hush&channel=1",
            "rtsp://cam/user=u&password=***&channel=1",
        ),
        ("http://cam/v.cgi?usr=u&PWD=hush#x", "http://cam/v.cgi?usr=u&PWD=***#x"),
        ("http://cam/s?access_token=hush", "http://cam/s?access_token=***"),
        ("token=1.mp4", "token=1.mp4"),
    ],
)
def test_passwords_and_tokens_are_not_shown(source, shown):
    assert without_password(source) == shown
    assert "hu" not in derived_name(source)
    with pytest.raises(InputError) as error:
        parse_source(f" door={source}")
    assert "hush" not in str(error.value) and "hu/s" not in str(error.value)


@pytest.mark.parametrize(
    "text", ["", " ", "=a.mp4", "name=", " name=a.mp4", "na\nme=a.mp4", "..=a.mp4"]
)
def test_careless_names_are_refused(text):
    with pytest.raises(InputError, match="^--live"):
        parse_source(text)


@pytest.mark.parametrize("pair", [["a=x.mp4", "a=y.mp4"], ["-", "-"], ["-", "b=-"]])
def test_sources_that_can_not_be_told_apart_are_refused(pair):
    with pytest.raises(InputError, match="two live sources|found twice"):
        with_names([parse_source(text) for text in pair])
