"""Event-level metrics in tables, and results without them, which older versions wrote."""

import csv

import numpy as np
import pytest
from finished import recipe, write_run

from wsvad_jax import report
from wsvad_jax.evaluation.event_rules import EventRules
from wsvad_jax.metrics.event_level import VideoEvents, event_metrics
from wsvad_jax.results import tables
from wsvad_jax.results.event_table import event_table
from wsvad_jax.results.runs import find_runs, read_run
from wsvad_jax.results.seed_groups import group_by_recipe
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json, write_json


def events(start: int = 0, *, fps: float | None = 10.0, **rules: float):
    """The metrics of one hit, found `start` frames late, and one false alarm."""
    found = np.array([(start, 100), (900, 1000)])
    truth, scores = np.array([(0, 100)]), np.array([0.9, 0.6])
    nothing = np.zeros((0, 2), np.int64)
    videos = [
        VideoEvents(found, scores, truth, 18000, fps, True),
        VideoEvents(nothing, np.zeros(0), nothing, 18000, fps, False),
    ]
    named = EventRules(**rules).as_dict()
    remark = {} if fps else {"remark": "the frame rate is unknown"}
    return {"rules": named, "videos": 2, **event_metrics(videos), **remark}


def write(folder, model, seed, **changes):
    config = recipe(model, f"{folder}/data/small/1.0.0", seed)
    return write_run(folder / f"{model}-{seed}", config, **changes)


def rows_of(folder):
    runs, summaries, _ = find_runs([folder])
    return tables.event_tables(group_by_recipe(runs, summaries))


def test_the_printed_table():
    lines = event_table(events(20)).splitlines()
    assert lines[0].split() == ["events", "IoU", "0.1", "IoU", "0.3", "IoU", "0.5"]
    cells = {line.split("  ")[0]: line.split()[-3:] for line in lines[2:-1]}
    assert cells["precision, %"] == ["50.00"] * 3 and cells["F1, %"] == ["66.67"] * 3
    assert cells["recall, %"] == ["100.00"] * 3
    assert cells["false alarms per hour"] == ["1.00"] * 3
    assert cells["delay, median, s"] == ["2.00"] * 3
    assert lines[-1] == (
        "2 events found, 1 true, 2 videos; 0.00 false alarms per hour of normal video "
        "(0.50 h of 1.00 h)"
    )


def test_without_known_events_only_false_alarms_are_counted():
    line = event_table(events(20) | {"true": 0}).splitlines()[-1]
    assert line.startswith(
        "2 events found in 2 videos whose truth is known, all without events; 0.00 false"
    )


def test_an_unknown_rate_is_a_dash_with_its_reason():
    lines = event_table(events(fps=None)).splitlines()
    cells = {line.split("  ")[0]: line.split()[-3:] for line in lines[2:-2]}
    assert cells["delay, mean, s"] == cells["false alarms per hour"] == ["-"] * 3
    assert cells["recall, %"] == ["100.00"] * 3
    assert lines[-2:] == [
        "2 events found, 1 true, 2 videos",
        "remark: the frame rate is unknown",
    ]


def test_a_row_is_the_mean_over_its_seeds(tmp_path):
    for seed, start in enumerate((0, 40)):
        write(tmp_path, "vadclip", seed, events=events(start))
    (row,) = rows_of(tmp_path)["small"]
    assert row["seeds"] == "2" and row["recall"] == "100.00 ± 0.00"
    assert row["F1, IoU 0.5"] == "66.67 ± 0.00"
    assert row["delay (s)"] == "2.00 ± 2.83"

    # The same numbers are in the Markdown table and the CSV file.
    assert report.main([str(tmp_path), "--output", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "report.md").read_text()
    assert "**small, events**: high 0.5, min_prominence" in text
    assert tables.RULES not in text and "| 2.00 ± 2.83 |" in text
    with open(tmp_path / "out" / "report.csv", newline="") as file:
        (numbers,) = csv.DictReader(file)
    assert float(numbers["event_delay_median@0.1"]) == 2
    assert float(numbers["event_false_alarms_per_hour@0.1"]) == 1


def test_the_page_has_the_table(tmp_path):
    write(tmp_path, "vadclip", 0, events=events())
    write(tmp_path, "mil_ranking", 0)
    page = tmp_path / "report.html"
    assert report.main([str(tmp_path), "--html", str(page)]) == 0
    assert page.read_text().count("<h3>Events</h3>") == 1


def test_results_of_older_versions_have_no_events(tmp_path):
    run = write(tmp_path, "vadclip", 0)
    assert read_run(run).event_values() == {} and rows_of(tmp_path) == {}
    rows = {"small": [{"model": "vadclip", "weights": "w"}]}
    assert tables.markdown(rows, {}) == tables.markdown(rows)

    # A mean over some of the seeds would be that of another recipe.
    write(tmp_path, "vadclip", 1, events=events())
    assert rows_of(tmp_path) == {}


def test_events_of_other_rules_are_told_apart(tmp_path):
    write(tmp_path, "vadclip", 0, events=events())
    write(tmp_path, "mil_ranking", 0, events=events(max_gap=1.0))
    rows = {row["model"]: row for row in rows_of(tmp_path)["small"]}
    assert "max_gap 1" in rows["mil_ranking"][tables.RULES]
    assert "max_gap 1" not in rows["vadclip"][tables.RULES]

    # Seeds of different rules have no mean.
    write(tmp_path, "vadclip", 1, events=events(max_gap=1.0))
    rows = {row["model"]: row for row in rows_of(tmp_path)["small"]}
    assert rows["vadclip"][tables.RULES] == tables.MIXED_RULES
    assert "recall" not in rows["vadclip"]
    assert f"| {tables.RULES} |" in tables.markdown({}, rows_of(tmp_path))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("found", -1, "events.found must be a whole number of at least 0, found -1"),
        ("iou", {"0.1": {}}, "the key events.iou.0.1.precision is missing"),
        ("hours", "one", "events.hours must be a finite number, found 'one'"),
        ("rules", None, "events.rules must be an object, found None"),
    ],
)
def test_damaged_events_are_one_sentence(tmp_path, key, value, words):
    run = write(tmp_path, "vadclip", 0, events=events() | {key: value})
    with pytest.raises(InputError, match=words):
        read_run(run)


def test_events_are_collected(tmp_path):
    run = write(tmp_path / "runs", "vadclip", 0, events=events())
    report.main([str(tmp_path / "runs"), "--collect", str(tmp_path / "results")])
    assert rows_of(tmp_path / "results") == rows_of(tmp_path / "runs") != {}
    write_json(run / "results.json", read_json(run / "results.json") | {"events": None})
    assert rows_of(tmp_path / "runs") == {}
