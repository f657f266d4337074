"""Live scores are those of the same windows offline; sources come and go."""

import contextlib
import json
import pathlib
import pickle
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from live_watch import of, served, watch
from sample_videos import write_video
from untrained import write_model

from wsvad_jax.detection.causal import Window
from wsvad_jax.detection.detector import Detector
from wsvad_jax.detection.hysteresis import Hysteresis
from wsvad_jax.evaluation import events
from wsvad_jax.evaluation.categories import snippet_class
from wsvad_jax.evaluation.event_rules import EventRules
from wsvad_jax.extraction.live_stream import SnippetStream, StreamSnippet, StreamStatus
from wsvad_jax.utils.errors import InputError

CLASSES = ("Normal", "Fire", "Fight")
REPOSITORY = pathlib.Path(__file__).parent.parent.parent
SNIPPETS = 45  # more than a window, and a last one of 5 frames


@pytest.fixture(scope="module")
def detectors(tiny, tmp_path_factory):
    """Models for windows and for whole videos, with their image tower."""
    root = tmp_path_factory.mktemp("models")
    frames = {"dsanet": "mean", "mil_ranking": "middle"}
    return {
        model: Detector(
            write_model(tiny, model, root / model, frame=frame), clip=str(tiny.clip)
        )
        for model, frame in frames.items()
    }


@pytest.fixture(scope="module")
def video_file(tmp_path_factory):
    """A video of 16 frames a second in a container that can be cut anywhere."""
    path = tmp_path_factory.mktemp("videos") / "video.ts"
    return write_video(path, 16 * (SNIPPETS - 1) + 5)


def test_the_first_line_notes_another_precision(tiny, tmp_path, video_file):
    made = {"frame": "middle", "dtype": "float32"}
    model = write_model(tiny, "mil_ranking", tmp_path / "model", **made)
    detector = Detector(model, clip=str(tiny.clip), dtype="bfloat16")
    start = watch(detector, video_file, pace=0.0)[0]
    assert start["dtype"] == "bfloat16 instead of float32 (the training)"


@pytest.mark.parametrize("model", ["dsanet", "mil_ranking"])
def test_live_scores_are_offline_scores_of_the_same_windows(
    detectors, video_file, model
):
    detector = detectors[model]
    lines = watch(detector, video_file, pace=0.0)
    video = detector.extractor(video_file)
    N, T, D = *video.features.shape[:2], detector.T
    assert T == SNIPPETS > D
    windows = np.zeros((T, N, D, detector.width), np.float16)
    length = np.minimum(np.arange(T) + 1, D).astype(np.int32)
    for k, n in enumerate(length):
        windows[k, :, :n] = video.features[:, k + 1 - n : k + 1]
    wanted = detector.score_windows(windows, length)
    last = np.arange(T), length - 1
    found = of(lines, "snippet")
    assert [s["dropped"] for s in found] == [0] * T
    # A picture's feature may differ in its last bit between batches of the tower.
    scores = [s["anomaly"] for s in found]
    np.testing.assert_allclose(scores, wanted["anomaly"][last], atol=2e-3)
    assert np.ptp(scores) > 0.02
    times = [s["time"] for s in found]
    np.testing.assert_allclose(times, video.seconds, atol=1e-3)
    assert found[-1]["end"] == pytest.approx(video.duration, abs=1e-3)
    if model == "dsanet":
        names, low = detector.class_names, lines[0]["low"]
        best = [
            snippet_class(float(score), classes, names, low)
            for score, classes in zip(
                wanted["anomaly"][last], wanted["classes"][last], strict=True
            )
        ]
        assert (
            np.mean([s["class"] == b for s, b in zip(found, best, strict=True)]) > 0.95
        )
    assert lines[0]["type"] == "start" and "both" not in lines[0]["source"]
    assert f"last {D}" in lines[0]["causal"]
    end = {"type": "end", "reason": "the source ended", "snippets": T, "dropped": 0}
    assert lines[-1] == end
    # The first full window is also what `detect` scores first.
    first = detector.score_windows(video.features[None, :, :D], np.array([D]))
    assert scores[D - 1] == pytest.approx(first["anomaly"][0, -1], abs=2e-3)


def test_a_window_is_the_last_snippets_padded_behind():
    window = Window(2, 4, 3)
    history = np.random.RandomState(0).standard_normal((11, 2, 3)).astype(np.float16)
    for k, feature in enumerate(history, 1):
        window.push(feature)
        n = min(k, 4)
        assert window.length == n
        features = window.features()
        assert features.shape == (1, 2, 4, 3)
        expected = history[k - n : k].transpose(1, 0, 2)
        np.testing.assert_array_equal(features[0, :, :n], expected)
        assert not features[0, :, n:].any()


scores = st.lists(st.sampled_from([0.0, 0.2, 0.4, 0.6, 0.8]), max_size=40)
gaps, lengths = st.sampled_from([0.0, 1.0, 2.5]), st.sampled_from([0.0, 1.5, 3.0])


@settings(max_examples=200, deadline=None)
@given(scores, gaps, lengths, st.integers(0, 99))
def test_events_are_those_found_offline(scores, max_gap, min_length, seed):
    rules = {"high": 0.6, "low": 0.3, "max_gap": max_gap, "min_length": min_length}
    classes = np.random.RandomState(seed).dirichlet(np.ones(3), len(scores))
    edges = np.arange(len(scores) + 1.0)
    anomaly = np.array(scores, float)
    rules = EventRules(**rules)
    wanted = events.find_events(anomaly, classes, edges, CLASSES, rules)
    machine, lines = Hysteresis(CLASSES, rules), []
    for k, score in enumerate(scores):
        lines += machine.add(edges[k], edges[k + 1], score, classes[k])
    lines += machine.close()
    found = [
        events.Event(e["start"], e["end"], e["class"], e["score"], e["peak"])
        for e in of(lines, "closed")
    ]
    assert found == wanted
    assert [e["type"] for e in lines] == ["opened", "closed"] * len(wanted)
    for opened, event in zip(of(lines, "opened"), wanted, strict=True):
        assert opened["start"] == event.start
        assert opened["time"] <= event.end


def test_an_event_opens_before_it_is_over():
    rules = EventRules(high=0.6, low=0.3, min_length=2.0, max_gap=0.0)
    machine = Hysteresis(CLASSES, rules)
    kinds = []
    for k, score in enumerate([0.1, 0.4, 0.7, 0.7, 0.4, 0.1, 0.7, 0.1]):
        kinds.append([e["type"] for e in machine.add(float(k), k + 1.0, score, None)])
    assert kinds == [[], [], ["opened"], [], [], ["closed"], [], []]


def test_memory_does_not_grow_with_time():
    window, machine = Window(1, 8, 4), Hysteresis(CLASSES)
    sizes = []
    for k in range(3000):
        window.push(np.full((1, 4), k % 7, np.float16))
        list(machine.add(float(k), k + 1.0, 0.9, np.full(3, 1 / 3, np.float32)))
        if k in (100, 2999):
            sizes.append(len(pickle.dumps((window, machine))))
    assert abs(sizes[1] - sizes[0]) < 16  # a longer number


def takes(stream, pause=0.0):
    """What a stream gives to one that takes `pause` seconds for each, until its end."""
    while True:
        item = stream.take(5.0)
        assert item is not None, "nothing for five seconds"
        yield item, time.monotonic()
        if isinstance(item, StreamStatus) and item.kind in ("ended", "failed"):
            return
        time.sleep(pause)


def open_stream(source, **kwargs):
    picture = np.zeros((1, 1, 1, 3), np.uint8)
    return SnippetStream(
        str(source), frame="first", stride=16, preprocess=lambda _: picture, **kwargs
    )


def test_a_source_that_is_faster_loses_snippets_and_falls_no_further_behind(video_file):
    waited = []
    with open_stream(video_file, pace=20.0) as stream:  # a snippet each 0.05 s
        for item, now in takes(stream, pause=0.2):
            assert sum(isinstance(i, StreamSnippet) for i in stream.waiting) <= 1
            if isinstance(item, StreamSnippet):
                waited.append(now - item.ready)
        dropped = stream.dropped
    assert dropped > SNIPPETS / 3
    assert len(waited) + dropped == SNIPPETS
    assert np.median(waited) < 0.1  # one stride, and what a busy machine adds


def test_without_a_pace_the_source_waits(video_file):
    with open_stream(video_file, pace=0.0) as stream:
        items = [item for item, _ in takes(stream, pause=0.01)]
    assert items.pop(0) == StreamStatus("open")
    assert [i.snippet.index for i in items[:-1]] == list(range(SNIPPETS))
    assert stream.dropped == 0 and items[-1] == StreamStatus("ended")


def test_a_file_is_played_at_its_pace(video_file):
    begin = time.monotonic()  # not after opening, which takes as long as it likes
    with open_stream(video_file, pace=32.0) as stream:  # 44.3 s in 1.4
        for item, now in takes(stream):
            if isinstance(item, StreamSnippet):
                assert now - begin > (item.end - 1 / 16) / 32 - 0.01
        assert now - begin > 1.3


def test_a_lost_connection_is_opened_again(detectors, video_file):
    content = video_file.read_bytes()
    rules = {"high": 1e-6, "low": 1e-6}  # everything is an event
    with served(content, lost=(0,)) as (address, requests):
        lines = watch(
            detectors["mil_ranking"],
            address,
            pace=0.0,
            pauses=(0.05, 0.1),
            rules=EventRules(**rules),
        )
    assert len(requests) == 2
    kinds = [line["type"] for line in lines]
    lost, back = kinds.index("lost"), kinds.index("back")
    assert kinds[lost - 1] == "closed" and back == lost + 1
    assert lines[lost]["again_in"] == 0.05 and lines[lost]["reason"]
    half, rest = (of(part, "snippet") for part in (lines[:lost], lines[lost:]))
    assert SNIPPETS / 4 < len(half) < SNIPPETS
    assert len(rest) == SNIPPETS
    times = [s["time"] for s in half + rest]
    assert np.all(np.diff(times) > 0)
    assert kinds[-2:] == ["closed", "end"] and kinds.count("opened") == 2


def test_pauses_grow_while_a_source_stays_away(video_file):
    """The server goes after the first connection, and nothing takes its place."""
    with served(video_file.read_bytes(), lost=(0,)) as (address, _):
        stream = open_stream(address, pace=0.0, pauses=(0.02, 0.05)).__enter__()
        items = takes(stream)
        while not (
            isinstance(item := next(items)[0], StreamStatus) and item.kind == "lost"
        ):
            pass
    found = [item]
    for item, _ in items:
        found += (
            [item] if isinstance(item, StreamStatus) and item.kind == "lost" else []
        )
        if len(found) == 5:
            break
    stream.__exit__()
    assert [n.wait for n in found] == [0.02, 0.04, 0.05, 0.05, 0.05]


def test_a_stream_on_standard_input_and_a_signal(detectors, tiny, video_file):
    """An mpegts stream that goes on, until SIGTERM ends the watch."""
    folder = detectors["dsanet"].folder
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "wsvad_jax.detect", "--live", "-", "--pace", "0"),
            *("--checkpoint", str(folder), "--clip", str(tiny.clip)),
            *("--high", "0.000001", "--low", "0.000001"),
        ],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        with contextlib.suppress(BrokenPipeError):  # the assertion below says why
            process.stdin.write(video_file.read_bytes())
            process.stdin.flush()  # and stays open
        lines = []
        while len(of(lines, "snippet")) < 20:
            line = process.stdout.readline()
            assert line, process.stderr.read().decode()
            lines.append(json.loads(line))
        process.send_signal(signal.SIGTERM)
        lines += map(json.loads, process.stdout)
        assert process.wait(30) == 0, process.stderr.read().decode()
    finally:
        process.kill()
    wanted = of(watch(detectors["dsanet"], video_file, pace=0.0), "snippet")
    found = [s["anomaly"] for s in of(lines, "snippet")]
    np.testing.assert_allclose(
        found, [s["anomaly"] for s in wanted][: len(found)], atol=2e-3
    )
    assert [line["type"] for line in lines[-2:]] == ["closed", "end"]
    assert lines[-1]["reason"] == "stopped"


def test_sources_that_are_none_are_refused(detectors, video_file, tmp_path):
    def refused(source, match, **kwargs):
        with pytest.raises(InputError, match=match):
            watch(detectors["mil_ranking"], source, **kwargs)

    refused(tmp_path / "missing.mp4", "no such file")
    (tmp_path / "words.mp4").write_text("no video" * 100)
    refused(tmp_path / "words.mp4", "can't be read as a video")
    refused("http://127.0.0.1:9/video.ts", "can't be opened")
    refused("nosuch://camera", "can't be opened")
    refused("/dev/null", "can't be opened")
    refused(video_file, "--pace must be 0 or more", pace=-1.0)
