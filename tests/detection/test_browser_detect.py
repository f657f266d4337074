"""From real videos to the page in a real browser."""

import pytest
from chromium import HEAD, NOW
from untrained import write_model

from wsvad_jax import detect
from wsvad_jax.clip.snapshot import load_snapshot
from wsvad_jax.utils.files import read_json


@pytest.mark.slow
def test_from_real_videos_to_the_page(browser, tiny, shared, tmp_path):
    """extract, detect, report: the page's events are those of events.json."""
    clip = load_snapshot(tiny.clip)
    model = write_model(
        tiny,
        "vadclip",
        tmp_path / "model",
        encoder=f"{clip.name}@{clip.weights_hash[:12]}",
        frame="middle",
        resize="clip",
    )
    names = ("Fighting033_x264_570_841.mp4", "RoadAccidents133_x264_270_451.mp4")
    videos = [str(shared(f"videos/{name}")) for name in names]
    options = ["--checkpoint", model, "--clip", tiny.clip, "--output", tmp_path / "out"]
    # The highest score is an event.
    rules = ["--rise", 1e-6, "--high", 1e-6, "--min_length", 0]
    assert detect.main([*videos, *map(str, [*options, *rules])]) == 0

    expected = {
        v["video"]: v for v in read_json(tmp_path / "out/events.json")["videos"]
    }
    browser.open(tmp_path / "out/report.html")
    browser.wait("[...document.querySelectorAll('video')].every(v => v.readyState)")
    assert not browser.errors()
    articles = browser.all("article.video")
    assert {a.get_attribute("aria-label") for a in articles} == set(expected)
    total = 0
    for article in articles:
        found = []
        for item in article.find_elements("css selector", "li.event"):
            start, end = (
                float(item.get_attribute(f"data-{k}")) for k in ("start", "end")
            )
            found.append((start, end, item.find_element("css selector", ".what").text))
        events = expected[article.get_attribute("aria-label")]["events"]
        assert [f[:2] for f in found] == [
            pytest.approx((e["start"], e["end"]), abs=2e-3) for e in events
        ]
        assert [f[2] for f in found] == [e["class"] for e in events]
        total += len(found)
    assert total
    start = float(browser.one("li.event").get_attribute("data-start"))
    browser.one("li.event .jump").click()
    browser.wait(f"{NOW} > {start + 0.2} && {HEAD} > 0")
    assert not browser.errors()
