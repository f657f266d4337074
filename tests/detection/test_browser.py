"""The page in a real browser: headless Chromium, driven through Selenium."""

import contextlib
import dataclasses
import functools
import http.server
import json
import math
import threading

import numpy as np
import pytest
from chromium import HEAD, NOW
from report_samples import detection_result, write_video

from wsvad_jax.detection.report import page
from wsvad_jax.evaluation.bumps import Bump, Explanation
from wsvad_jax.evaluation.event_rules import EventRules
from wsvad_jax.evaluation.events import Event

EVIL = "</script><script>window.hacked=1</script><img src=x onerror=hacked=1>\"'.mp4"
TRUTH = (Event(2.5, 6.0, "Fighting", math.nan, 4.0),)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("footage")


@pytest.fixture(scope="module")
def results(folder):
    mp4 = write_video(folder / "clip.mp4")
    avi = write_video(folder / "old.avi", 4, codec="mpeg4")
    return [
        detection_result("clip", mp4, ground_truth=TRUTH),
        dataclasses.replace(
            detection_result("old", avi, T=4, spans=((1, 3),)), ground_truth=()
        ),
    ]


@pytest.fixture(scope="module")
def report(folder, results):
    path = folder / "report.html"
    page.write_report(path, results, title="Report", settings={"high": 0.5})
    return path


@pytest.fixture
def opened(browser, report):
    browser.open(report)
    browser.wait("document.querySelector('video').readyState >= 1")
    return browser


def test_chromium_plays_the_embedded_video(opened):
    video = opened.one("video")
    assert opened.run("return arguments[0].videoWidth", video) == 128
    assert opened.run("return arguments[0].duration", video) == pytest.approx(10, 0.01)
    assert not opened.errors()


def test_the_events_are_those_of_the_answers(opened, results):
    articles = opened.all("article.video")
    assert len(articles) == len(results)
    for article, expected in zip(articles, results, strict=True):
        items = article.find_elements("css selector", "li.event")
        found = [
            (
                float(item.get_attribute("data-start")),
                float(item.get_attribute("data-end")),
                item.find_element("css selector", ".what").text,
                item.find_element("css selector", ".value").text,
            )
            for item in items
        ]
        assert found == [
            (e.start, e.end, e.category, f"score {e.score:.2f}")
            for e in expected.events
        ]


@pytest.mark.parametrize("share", [0.25, 0.84])
def test_a_click_on_the_curve_seeks(opened, share):
    opened.click("article .scrub", share)
    opened.wait(f"Math.abs({NOW} - {10 * share}) < 0.1 && {HEAD} > 1")
    assert opened.run(f"return {HEAD}") == pytest.approx(100 * share, abs=1)
    text = opened.one("article .scrub").get_attribute("aria-valuetext")
    # One of the events is short, so times have tenths.
    assert text.startswith(f"0:0{int(10 * share)}.")
    assert " of 0:10.0, score" in text
    assert not opened.errors()


def test_the_playhead_follows_and_events_light_up(opened):
    (fighting, arson) = opened.all("article:first-of-type li.event .jump")
    fighting.click()  # seeks and plays
    opened.wait(f"{NOW} > 2.3")
    first = opened.run(f"return {HEAD}")
    assert first >= 20
    opened.wait(f"{HEAD} > {first + 3}")
    assert opened.all("li.event")[0].get_attribute("aria-current") == "true"
    opened.run("document.querySelector('video').pause()")
    time, head = opened.run(f"return [{NOW}, {HEAD}]")
    assert head == pytest.approx(10 * time, abs=1.5)
    arson.click()
    opened.wait(f"{NOW} >= 7 && document.querySelectorAll('li.event')[1].ariaCurrent")
    assert opened.all("li.event")[0].get_attribute("aria-current") is None
    assert not opened.errors()


def test_key_frames_seek(opened):
    opened.all("article:first-of-type .frame")[1].click()
    opened.wait(f"{NOW} >= 2.4")
    assert not opened.errors()


def test_keys_are_for_the_whole_page(opened, results):
    """N, P and Space move the video in view, though nothing was clicked before."""
    from selenium.webdriver.common.keys import Keys

    assert opened.run("return document.activeElement === document.body")
    first, second = (e.start for e in results[0].events)
    for key, wanted in (("n", first), ("N", second), ("p", first)):
        opened.press(key)
        opened.wait(f"Math.abs({NOW} - {wanted}) < 0.05 && {HEAD} > 1")
    opened.press(Keys.SPACE)
    opened.wait(f"{NOW} > {first + 0.2}")
    opened.press(Keys.SPACE)
    opened.wait("document.querySelector('video').paused")
    assert not opened.errors()


def test_keys_move_the_video_that_is_in_view(opened, results):
    scrub = "document.querySelectorAll('.scrub')[1]"
    opened.run(f"{scrub}.scrollIntoView({{block: 'start', behavior: 'instant'}})")
    before = opened.run(f"return {NOW}")
    opened.press("n")
    start = results[1].events[0].start
    opened.wait(f"Math.abs({scrub}.ariaValueNow - {start}) < 0.05")
    assert opened.run(f"return {NOW}") == before
    opened.click("article .scrub", 0.5)  # from here on it is the first that is used
    opened.press("p")
    opened.wait(f"Math.abs({NOW} - {results[0].events[0].start}) < 0.05")


def test_space_after_a_click_on_an_event_is_the_player_s(opened):
    from selenium.webdriver.common.keys import Keys

    opened.one("article:first-of-type li.event .jump").click()  # seeks and plays
    opened.wait(f"{NOW} > 2.1")
    opened.press(Keys.SPACE)
    opened.wait("document.querySelector('video').paused")


def test_the_keyboard_does_it_all(opened):
    from selenium.webdriver.common.keys import Keys

    scrub = opened.one("article .scrub")
    assert scrub.get_attribute("role") == "slider"
    opened.run("arguments[0].focus()", opened.one("video"))
    for _ in range(12):  # the player's own controls come first
        opened.press(Keys.TAB)
        if opened.run("return document.activeElement === arguments[0]", scrub):
            break
    assert opened.run("return document.activeElement === arguments[0]", scrub)
    style = "return getComputedStyle(arguments[0]).outlineStyle"
    assert opened.run(style, scrub) == "solid"
    for key, expected in [
        (Keys.ARROW_RIGHT, 1),
        (Keys.ARROW_UP, 2),
        (Keys.ARROW_LEFT, 1),
        ("n", 2),
        ("n", 7),
        ("p", 2),
        (Keys.PAGE_UP, 10),
        (Keys.HOME, 0),
        (Keys.END, 10),
        (Keys.HOME, 0),
    ]:
        opened.press(key)
        opened.wait(f"Math.abs({NOW} - {expected}) < 0.1")
        assert float(scrub.get_attribute("aria-valuenow")) == pytest.approx(
            expected, abs=0.1
        )
    opened.press(Keys.SPACE)
    opened.wait(f"{NOW} > 0.2")
    opened.press(Keys.SPACE)
    opened.wait("document.querySelector('video').paused")
    opened.press(Keys.TAB)
    opened.press(Keys.ENTER)  # the first event's button
    opened.wait(f"{NOW} >= 2")
    assert not opened.errors()


def test_without_a_playable_video_the_timeline_still_works(opened):
    old = "document.querySelectorAll('article')[1]"
    assert opened.run(f"return {old}.querySelector('video')") is None
    opened.run(f"{old}.querySelector('.scrub').focus()")
    opened.press("n")
    head = opened.run(f"return {old}.querySelector('.playhead').style.left")
    assert head == "25%"
    assert "score 0.87" in opened.run(
        f"return {old}.querySelector('.readout').textContent"
    )
    assert not opened.errors()


def test_reasons_are_shown_on_hover_and_at_the_playhead(browser, tmp_path):
    bump = Bump(8.0, 9.0, 0.6, 8.5, 0.6, "short")
    explanation = Explanation(EventRules(), 0.17, 0.05, (bump,))
    result = dataclasses.replace(
        detection_result(spans=((2, 5),)), explanation=explanation
    )
    low = dataclasses.replace(result.events[0], score=0.3)
    result = dataclasses.replace(result, events=(low,))
    path = tmp_path / "report.html"
    page.write_report(path, [result], title="", settings={"high": 0.5})
    for width in (390, 1280):
        browser.open(path, width=width)
        for share, words in (
            (0.85, "no event: it lasts 1.0 s, and an event lasts 1.5 s"),
            (0.3, "event: below the dashed line (0.30 < 0.50)"),
        ):
            browser.click(".scrub", share)
            assert words in browser.one(".readout").text
            assert words in browser.one(".scrub").get_attribute("aria-valuetext")
            if width > 600:  # a finger doesn't hover
                assert words in browser.one(".tip").text
        browser.click(".scrub", 0.7)
        assert "event:" not in browser.one(".readout").text
        wide = "return document.documentElement.scrollWidth"
        assert browser.run(wide) <= width
    assert not browser.errors()


def test_headings_keep_times_whole_on_a_narrow_screen(browser, tmp_path):
    name = "Cam-07_north-entrance_2026-11-29_18-05-00_segment-0001_final_copy" * 2
    result = detection_result(name)
    for results in ([result], [result, detection_result("b")]):
        path = tmp_path / "report.html"
        page.write_report(path, results, title=name, settings={})
        browser.open(path, width=390)
        wide = "return document.documentElement.scrollWidth"
        assert browser.run(wide) <= 390
        lines = "return [...document.querySelectorAll('.unbroken')].map(e => e.getClientRects().length)"
        counts = browser.run(lines)
        assert len(counts) >= 2 and set(counts) == {1}


def test_a_linked_video_plays_and_a_missing_one_is_said(browser, tmp_path):
    clip = write_video(tmp_path / "a #1?.mp4", 3)
    path = tmp_path / "report.html"
    page.write_report(
        path, [detection_result(path=clip, T=3)], title="", settings={}, embed_limit=1
    )
    browser.open(path)
    browser.wait("document.querySelector('video').readyState >= 1")
    assert not browser.errors()
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with serving(handler) as address:
        browser.open(f"{address}/report.html")
        browser.wait("document.querySelector('video').readyState >= 1")
    clip.unlink()
    browser.open(path)
    browser.wait("document.querySelector('video').hidden")
    assert "can't play the file" in browser.one(".unplayable").text
    browser.click("article .scrub", 0.5)
    assert browser.one(".scrub").get_attribute("aria-valuetext").startswith("0:01")


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A server of files that says nothing."""

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(handler):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_malicious_names_are_inert(browser, tmp_path):
    clip = tmp_path / EVIL.replace("/", "|")
    write_video(clip)
    evil = detection_result(
        EVIL, clip, ground_truth=(Event(1.0, 2.0, EVIL, math.nan, 1.5),)
    )
    evil = dataclasses.replace(
        evil,
        class_names=("Normal", EVIL, "Arson"),
        events=(Event(2.0, 5.0, EVIL, 0.9, 3.5),),
        damage=EVIL,
    )
    path = tmp_path / "report.html"
    page.write_report(
        path, [evil, detection_result()], title=EVIL, settings={EVIL: EVIL}
    )
    browser.open(path)
    browser.wait("document.querySelector('video').readyState >= 1")
    browser.one(".jump").click()
    assert not browser.run("return window.hacked")
    assert not browser.all("img[src=x]")
    assert browser.one("h2").text == EVIL
    assert browser.one("li.event .what").text == EVIL
    said = "document.querySelector('article .readout').textContent"
    browser.wait(f"{said}.includes({json.dumps(EVIL)})")
    assert not browser.errors()


def test_the_policy_stops_what_would_get_in(browser, report, tmp_path):
    inside = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
    text = report.read_text().replace("<main>", "<main>" + inside)
    (tmp_path / "report.html").write_text(text)
    browser.open(tmp_path / "report.html")
    assert not browser.run("return window.hacked")
    assert any("Content Security Policy" in e for e in browser.errors())


def test_without_scripts_all_is_readable(browser, report):
    browser.open(report, scripts=False)
    try:
        assert browser.one("h1").text == "3 events in all 2 videos"
        for selector, count in [
            ("svg.curve path.line", 2),
            ("li.event", 3),
            ("li.event img", 9),
            ("svg.band", 4),
        ]:
            elements = browser.all(selector)
            assert len(elements) == count
            assert all(e.is_displayed() for e in elements)
            assert all(e.size["width"] > 50 for e in elements)
        assert not browser.one(".hint").is_displayed()
        # Nothing that would need a script looks as if it worked without.
        assert browser.one(".scrub").get_attribute("role") is None
    finally:
        browser.command("Emulation.setScriptExecutionDisabled", value=False)


@pytest.mark.parametrize("width", [390, 800, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_light_dark_small_and_large(browser, report, width, dark):
    browser.open(report, width=width, dark=dark)
    wide = "return document.documentElement.scrollWidth"
    assert browser.run(wide) <= width
    shot = browser.screenshot()
    assert shot.shape == (900, width)
    background = np.median(shot)
    assert background < 60 if dark else background > 200
    # The rows and what is clicked in them have the same left and right.
    boxes = [
        browser.run(
            "const b = document.querySelector(arguments[0]).getBoundingClientRect();"
            "return [b.left, b.right]",
            selector,
        )
        for selector in (".scrub", "svg.curve", "svg.lane", "svg.band", "svg.axis")
    ]
    assert np.ptp(boxes, axis=0) == pytest.approx([0, 0], abs=0.5)


def test_the_index_filters_and_leads_to_pages(browser, tmp_path):
    clip = write_video(tmp_path / "clip.mp4")
    many = [detection_result(f"quiet {i}", spans=()) for i in range(25)]
    written = page.write_report(
        tmp_path / "report.html",
        [*many, detection_result("it's <b>#1?", clip)],
        title="Many",
        settings={},
    )
    assert len(written) == 27
    browser.open(written[0])
    assert browser.one("h1").text == "2 events in 1 of 26 videos"
    assert browser.one(".overview .name").text == "it's <b>#1?"
    browser.one("input").send_keys("FIGHT")
    shown = [e for e in browser.all(".overview li") if e.is_displayed()]
    assert len(shown) == 1 and browser.one(".filter span").text == "1 of 26"
    browser.one("input").send_keys(" zebra")
    assert "No name or class of the 26 videos has fight and zebra" == (
        browser.one(".filter span").text
    )
    assert not browser.one(".overview").is_displayed()
    for _ in range(6):
        browser.press("\ue003")  # backspace
    browser.one(".overview li.has a").click()
    browser.wait("document.querySelector('video')?.readyState >= 1")
    assert browser.one("h1").text == "Fighting, 0:02–0:05, score 0.87, and 1 more event"
    browser.one("nav a[rel=next]").click()
    browser.wait("!document.querySelector('video')")
    browser.one("nav a").click()
    browser.wait("document.querySelector('.overview')")
    assert not browser.errors()
