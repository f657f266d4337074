"""The page as a file: what it says, that it is inert, and where videos come from."""

import dataclasses
import json
import math
import re
import urllib.parse

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parsed_page import Page, write
from report_samples import detection_result, write_video

from wsvad_jax.detection.report import page, svg_timeline, text
from wsvad_jax.evaluation.events import Event

EVIL = "<script>alert('x')</script>\"'&</title><img src=x onerror=alert(1)> ü.mp4"
NAN = math.nan


@pytest.fixture(scope="module")
def mp4(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("footage") / "clip.mp4")


def test_one_video_says_what_when_and_which_score(tmp_path, mp4):
    found, written = write(
        tmp_path, [detection_result(path=mp4)], settings={"high": 0.5}
    )
    assert written == [tmp_path / "report.html"]
    assert "Fighting, 0:02–0:05, score 0.87, and 1 more event" in found.text
    items = found.all("li", class_="event")
    assert [(i["data-start"], i["data-end"]) for i in items] == [
        ("2.000", "5.000"),
        ("7.000", "8.000"),
    ]
    assert len(found.all("button", class_="frame")) == 6
    assert found.all("svg", class_="curve") and found.all("path", class_="threshold")
    (video,) = found.all("video")
    assert video["src"].startswith("data:video/mp4;base64,")
    assert "high 0.5" in found.text


def test_nothing_is_loaded_from_elsewhere(tmp_path, mp4):
    found, _ = write(tmp_path, [detection_result(path=mp4), detection_result("other")])
    for _, attributes in found.elements:
        for name in ("src", "poster"):
            assert attributes.get(name, "data:").startswith("data:")
        link = attributes.get("href", "")
        assert link.startswith("data:text/csv") or "//" not in link
        assert "style" not in attributes  # the policy would ignore it
        assert not [name for name in attributes if name.startswith("on")]
    (policy,) = found.all("meta", http_equiv="Content-Security-Policy") or [
        a for a in found.all("meta") if "http-equiv" in a
    ]
    assert "default-src 'none'" in policy["content"]
    assert "unsafe" not in policy["content"]


def test_the_page_holds_many_videos_in_order_of_their_events(tmp_path, mp4):
    quiet = detection_result("quiet", spans=())
    weak = detection_result("weak", spans=((1, 2),))
    weak = dataclasses.replace(
        weak, events=(dataclasses.replace(weak.events[0], score=0.6),)
    )
    found, _ = write(tmp_path, [quiet, weak, detection_result("strong", mp4)])
    assert "3 events in 2 of 3 videos" in found.text
    articles = found.all("article", class_="video")
    assert [a["aria-label"] for a in articles] == ["strong", "weak", "quiet"]
    links = [a["href"] for a in found.all("a") if a["href"].startswith("#")]
    assert links == ["#" + a["id"] for a in articles]
    assert "No event; the highest score is 0.10, at 0:00" in found.text


def test_names_labels_and_settings_are_inert(tmp_path, mp4):
    evil = tmp_path / EVIL.replace("/", "\u2215")
    evil.write_bytes(mp4.read_bytes())
    given_ = detection_result(
        EVIL, evil, ground_truth=(Event(0.0, 3.0, EVIL, NAN, 1.5),)
    )
    given_ = dataclasses.replace(
        given_,
        class_names=("Normal", EVIL, "Arson"),
        events=(Event(2.0, 5.0, EVIL, 0.9, 3.0), *given_.events),
        damage=EVIL,
    )
    for limit in (10**9, 0):
        found, written = write(
            tmp_path, [given_], title=EVIL, settings={EVIL: EVIL}, embed_limit=limit
        )
        assert len(found.all("script")) == 2 and not found.all("img", src="x")
        data, _ = found.scripts
        assert json.loads(data)["names"][1] == EVIL
        assert EVIL in found.text.replace("  ", " ")
        assert written[0].read_text().count("</script>") == 2


def test_a_big_video_is_linked(tmp_path, mp4):
    found, _ = write(mp4.parent, [detection_result(path=mp4)], embed_limit=100)
    assert [v["src"] for v in found.all("video")] == ["clip.mp4"]
    assert "not part of this page" in found.text
    elsewhere, _ = write(
        tmp_path / "a" / "b", [detection_result(path=mp4)], embed_limit=100
    )
    (video,) = elsewhere.all("video")
    assert video["src"] == mp4.as_uri()


def test_a_page_carries_five_times_the_limit(tmp_path, mp4):
    limit = mp4.stat().st_size + 1
    found, _ = write(
        tmp_path, [detection_result(str(i), mp4) for i in range(7)], embed_limit=limit
    )
    embedded = [v["src"].startswith("data:") for v in found.all("video")]
    assert embedded == [True] * 5 + [False] * 2


@pytest.mark.parametrize("kind", ["none", "avi", "gone", "damaged"])
def test_without_a_playable_video_the_rest_is_there(tmp_path, kind):
    path = None if kind == "none" else tmp_path / f"a.{kind}"
    if kind == "avi":
        write_video(path, codec="mpeg4")
    if kind == "damaged":
        path.write_bytes(b"\0" * 100)
    found, _ = write(tmp_path, [detection_result(path=path)])
    assert not found.all("video")
    reason = {
        "none": "there is no video file",
        "avi": "can't play this file (it is AVI)",
        "gone": "doesn't exist any more",
        "damaged": "the file is damaged",
    }[kind]
    assert reason in found.text
    assert found.all("svg", class_="curve")
    assert len(found.all("li", class_="event")) == 2
    assert len(found.all("button", class_="frame")) == (6 if kind == "avi" else 0)


def test_truth_is_compared(tmp_path):
    truth = (Event(3.0, 6.0, "Fighting", NAN, 4.5), Event(8.5, 9.0, "Arson", NAN, 8.75))
    found, _ = write(tmp_path, [detection_result(ground_truth=truth)])
    assert "1 of 2 true events are detected" in found.text
    assert "1 false alarm" in found.text
    assert "missed" in found.text
    found, _ = write(tmp_path, [detection_result(spans=(), ground_truth=())])
    assert "The ground truth has no event; no false alarm." in found.text
    found, _ = write(tmp_path, [detection_result()])
    assert "Ground truth" not in found.text


def test_a_model_without_classes(tmp_path):
    plain = dataclasses.replace(
        detection_result(), classes=None, events=(Event(2.0, 5.0, "anomaly", 0.7, 3.0),)
    )
    found, _ = write(tmp_path, [plain])
    assert "anomaly, 0:02–0:05, score 0.70" in found.text
    assert not found.all("svg", class_="band")


def test_nothing_at_all(tmp_path):
    empty = dataclasses.replace(
        detection_result(spans=()),
        edges=np.zeros(1),
        anomaly=np.zeros(0),
        classes=np.zeros((0, 3)),
    )
    found, _ = write(tmp_path, [empty])
    assert "nothing could be scored" in found.text
    found, _ = write(tmp_path, [])
    assert "No events in 0 videos" in found.text


def test_many_videos_get_an_index_and_pages(tmp_path, mp4):
    names = [f"{i:02d}" for i in range(22)] + ["a/b", "a?b", "A-B", EVIL]
    results = [detection_result(n, spans=()) for n in names[:-1]] + [
        detection_result(EVIL, mp4)
    ]
    found, written = write(tmp_path, results, settings={"low": 0.3})
    assert len(written) == 27 and all(p.is_file() for p in written)
    assert len({p.name.casefold() for p in written[1:]}) == 26
    assert all(p.parent == tmp_path / "pages" for p in written[1:])
    links = [a["href"] for a in found.all("a") if "download" not in a]
    for link, file in zip(links, written[1:], strict=True):
        assert tmp_path / urllib.parse.unquote(link) == file
    assert not found.all("video") and len(found.all("script")) == 1
    first = Page(written[1].read_text())
    assert [a["aria-label"] for a in first.all("article")] == [EVIL]
    up = first.all("a")[0]["href"]
    assert (tmp_path / "pages" / up).resolve() == written[0]


def test_a_long_video_stays_small(tmp_path):
    T = 54_000  # snippets of an eight-hour video
    rng = np.random.default_rng(0)
    anomaly = rng.random(T)
    anomaly[31_234] = 1.0
    edges = np.arange(T + 1) * 16 / 30
    assert len(svg_timeline.curve(edges, anomaly)) < 60_000
    shades = svg_timeline.shades(edges, anomaly)
    assert sum(len(shade.path) for shade in shades) < 60_000
    bounds, peaks = svg_timeline.reduce_steps(edges, anomaly)
    assert len(peaks) <= svg_timeline.MAX_STEPS and peaks.max() == 1.0
    at = int(peaks.argmax())
    assert bounds[at] <= edges[31_234] < bounds[at + 1]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=3000), st.integers(1, 200))
@settings(max_examples=50, deadline=None)
def test_thinning_keeps_peaks_and_ends(values, most):
    values = np.array(values)
    edges = np.arange(len(values) + 1, dtype=float)
    bounds, peaks = svg_timeline.reduce_steps(edges, values, most)
    assert len(peaks) <= most and len(bounds) == len(peaks) + 1
    assert bounds[0] == 0 and bounds[-1] == len(values)
    for a, b, peak in zip(bounds[:-1], bounds[1:], peaks, strict=True):
        assert peak == values[int(a) : int(b)].max()


def test_short_events_have_tenths():
    assert text.time_span(Event(1.25, 2.0, "a", 0.5, 1.5)) == "0:01.2–0:02.0"


@given(st.lists(st.text(max_size=120), max_size=20))
@settings(max_examples=50, deadline=None)
def test_file_names_are_plain_and_different(names):
    found = page.file_names(names)
    assert len({n.casefold() for n in found}) == len(names)
    for name in found:
        assert re.fullmatch(r"[\w.-]+\.html", name) and not name.startswith((".", "-"))
