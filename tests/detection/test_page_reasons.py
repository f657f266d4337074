"""The page's words: why something is no event, legends, data, times."""

import base64
import json
import math
import re

import numpy as np
from parsed_page import Page, write
from report_samples import detection_result

from wsvad_jax.detection.result import (
    events_csv,
    find_result,
    write_events_csv,
    write_events_json,
)
from wsvad_jax.evaluation.event_rules import EventRules
from wsvad_jax.evaluation.events import Event
from wsvad_jax.models.scores import SnippetScores
from wsvad_jax.utils.html import unbroken
from wsvad_jax.utils.text import clock

NAN = math.nan


def explained(rules=None, settings=None, tmp_path=None, **fields):
    """Returns a page about real events and bumps of one curve, and its result."""
    scores = np.concatenate(
        [
            np.full(n, s)
            for n, s in (
                (9, 0.05),
                (1, 0.9),
                (9, 0.05),
                (3, 0.14),
                (9, 0.05),
                (4, 0.3),
                (9, 0.05),
            )
        ]
    )
    T = len(scores)
    made = find_result(
        "street",
        SnippetScores(scores.astype(np.float32), None, {}),
        None,
        np.arange(T + 1.0),
        ("Normal",),
        rules or EventRules(),
        **fields,
    )
    return write(tmp_path, [made], settings=settings or {"high": 0.5})[0], made


def test_the_highest_score_has_its_reason_where_no_event_is(tmp_path):
    found, _ = explained(EventRules(low=0.4), tmp_path=tmp_path)
    assert "the highest score is 0.90, at 0:09 (too short for an event)" in found.text
    found, _ = explained(EventRules(high=0.95, low=0.95), tmp_path=tmp_path)
    assert "the highest score is 0.90, at 0:09 (too low for an event)" in found.text


def test_bumps_and_low_events_have_their_reasons(tmp_path):
    found, made = explained(tmp_path=tmp_path)
    assert [(e.start, e.end) for e in made.events] == [(31, 35)]
    assert (
        "It is below the dashed line (0.30 < 0.50), but above 0.17, which a peak needs "
        "in this video: 0.12 (min_prominence) more than its usual level of 0.05."
    ) in found.text
    assert "2 bumps that are no events" in found.text
    assert (
        "No event: it lasts 1.0 s, and an event lasts 1.5 s or more (min_length)."
    ) in found.text
    assert "No event: its score of 0.14 is below 0.17, which a peak needs" in found.text

    # The script shows the same words.
    notes = json.loads(found.scripts[0])["notes"]
    assert [note[:2] for note in notes] == [[31, 35], [9, 10], [19, 22]]
    for _, _, words in notes:
        assert words.partition(": ")[2] in found.text


def test_a_calibration_s_threshold_is_a_reason(tmp_path):
    found, _ = explained(
        EventRules(min_length=0.0),
        {
            "high": 0.5,
            "threshold": 0.31,
            "calibration": "folder",
            "false alarms per day": "1",
            "calibrated on": "2 h of ordinary recordings",
        },
        tmp_path,
        counts=lambda score: score > 0.31,
    )
    assert (
        "No event: its score of 0.30 isn't above the calibration's threshold of 0.31."
    ) in found.text
    assert "calibration's threshold, 0.31" in found.text  # of the dashed line


def legend(found):
    return [
        a["class"].removeprefix("key ")
        for a in found.all("span")
        if a.get("class", "").startswith("key ")
    ]


def test_the_legend_lists_what_is_drawn(tmp_path):
    found, _ = explained(tmp_path=tmp_path)
    assert legend(found) == ["line", "dashed", "event", "bump"]
    found, _ = write(tmp_path, [detection_result(spans=(), ground_truth=())])
    assert legend(found) == ["line"]
    truth = (Event(3.0, 6.0, "Fighting", NAN, 4.5),)
    found, _ = write(tmp_path, [detection_result(ground_truth=truth)])
    assert legend(found) == ["line", "event", "truth", "heat"]
    kinds = {a.get("class") for t, a in found.elements if t in ("path", "rect")}
    assert {"line", "event", "truth", "heat"} <= kinds
    assert not {"threshold", "bump"} & kinds


def test_the_data_are_linked_and_the_events_are_in_the_page(tmp_path):
    given_ = [detection_result("a"), detection_result("ü,b")]
    found, _ = write(tmp_path, given_, json_file="events.json")
    (csv,) = [a["href"] for a in found.all("a") if a.get("download") == "events.csv"]
    content = base64.b64decode(csv.partition("base64,")[2]).decode()
    write_events_csv(tmp_path / "events.csv", given_)
    assert content == (tmp_path / "events.csv").read_bytes().decode()
    assert found.all("a", href="events.json")
    many = [detection_result(str(i)) for i in range(25)]
    _, written = write(tmp_path, many, json_file="events.json")
    below = Page(written[1].read_text())
    assert below.all("a", href="../events.json")
    found, _ = write(tmp_path, given_)
    assert "JSON" not in found.text


SURE = re.compile(r"%|\bsure\b|\bcertain|\bconfiden|\bprobabl[ey]\b", re.IGNORECASE)


def test_without_a_calibration_a_score_is_a_score(tmp_path):
    """Neither page, nor events.json, nor events.csv promises how often it is right."""
    found, made = explained(tmp_path=tmp_path)
    assert "score 0.30" in found.text
    assert not SURE.search(found.text)
    notes = json.loads(found.scripts[0])["notes"]
    titles = [
        v
        for _, a in found.elements
        for k, v in a.items()
        if k in ("aria-label", "title", "alt", "data-label")
    ]
    assert not SURE.search(" ".join([*titles, *(words for *_, words in notes)]))
    write_events_json(tmp_path / "events.json", [made], {"high": 0.5})
    written = (tmp_path / "events.json").read_text() + events_csv([made])
    assert '"score"' in written and not SURE.search(written)
    assert "false_alarm" not in written


def test_times_and_scores_stay_on_one_line():
    assert str(unbroken("Fire, 0:59–1:02:00, score 0.50 <b>")) == (
        'Fire, <span class="unbroken">0:59–1:02:00</span>, '
        '<span class="unbroken">score 0.50</span> &lt;b&gt;'
    )
    assert str(unbroken("cam_07_b")) == "cam_<wbr>07_<wbr>b"


def test_times_are_cut_off_as_players_do():
    assert clock(59.96) == "0:59" and clock(59.96, tenths=True) == "0:59.9"
    assert clock(0.1 * 3 * 10) == "0:03" and clock(2.9999999) == "0:03"
    assert clock(0.7 + 0.1, tenths=True) == "0:00.8"
