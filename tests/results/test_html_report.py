"""The page of results: tables, curves and comparisons, and the curves themselves."""

import dataclasses
import re

import numpy as np
import pytest
from finished import CARD, recipe, scored, write_run, write_small
from sklearn import metrics as reference

from wsvad_jax import report
from wsvad_jax.metrics import curves
from wsvad_jax.metrics.frame_level import evaluate
from wsvad_jax.results import seeds, svg_charts
from wsvad_jax.results.results_table import results_table
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json, write_json


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three seeds each of two models, with their summaries."""
    folder = tmp_path_factory.mktemp("runs")
    dataset = write_small(folder / "data")
    for model, first in (("vadclip", 0), ("dsanet", 10)):
        configs = [recipe(model, str(dataset), seed) for seed in (first, first + 1)]
        dirs = [write_run(folder / f"{model}-{c.seed}", c) for c in configs]
        seeds.write_summary(folder / f"{model}-seeds.json", dirs)
    return folder


def test_each_series_has_its_own_look_and_the_legend_names_it(runs, tmp_path):
    looks = [entry.color for entry in svg_charts.legend([str(i) for i in range(12)])]
    assert len(set(looks)) == 12
    chart = svg_charts.line_chart(
        {str(i): ([0.0, 1.0], [0.0, 1.0]) for i in range(12)}, label="", x="", y=""
    )
    assert [curve.kind for curve in chart.curves] == [f"series {s}" for s in looks]

    file = tmp_path / "report.html"
    report.main([str(runs), "--html", str(file)])
    text = file.read_text()
    drawn = set(re.findall(r'<polyline class="(?:series )?([^"]+)"', text))
    legend = text.partition("Curves, means")[2].partition("</ul>")[0]
    assert set(re.findall(r'class="key ([^"]+)"', legend)) == drawn


def test_curves_are_those_of_repeated_frames():
    videos = scored(0)
    found = curves.curves(videos, CARD.class_names)
    truth = np.concatenate(
        [
            np.isin(np.arange(len(v.anomaly)), np.arange(*span))
            for v, span in spans(videos)
        ]
    )
    score = np.concatenate([v.anomaly for v in videos]).astype(np.float64)
    fpr, tpr, _ = reference.roc_curve(truth, score, drop_intermediate=False)
    np.testing.assert_allclose(
        found["roc"], np.interp(curves.GRID, fpr, tpr), atol=1e-5
    )
    area = np.trapezoid(found["roc"], curves.GRID)
    assert area == pytest.approx(reference.roc_auc_score(truth, score), abs=0.01)
    assert found["pr"][-1] == pytest.approx(truth.mean(), abs=0.3)
    assert sum(found["normal"]) == pytest.approx(1, abs=1e-3)
    assert sum(found["frames"]) == sum(
        16 * (v.anomaly <= 1).sum() for v in videos
    )  # a score above 1 is in no bin
    for c, name in ((1, "Fight"), (2, "Fire")):
        assert CARD.class_names[c] == name
        own = np.concatenate(
            [
                np.isin(np.arange(len(v.anomaly)), np.arange(*span)) & (c in v.label)
                for v, span in spans(videos)
            ]
        )
        probability = np.concatenate([v.classes[:, c] for v in videos])
        wanted = reference.average_precision_score(own, probability.astype(np.float64))
        assert found["class_ap"][name] == pytest.approx(wanted, abs=1e-4)


def spans(videos):
    for v in videos:
        s, e, _ = v.segments[0] if v.segments else (0, 0, 0)
        yield v, (s // 16, e // 16)


def test_a_page_has_tables_curves_and_comparisons(runs, tmp_path, capsys):
    page = tmp_path / "report.html"
    assert report.main([str(runs), "--html", str(page)]) == 0
    text = page.read_text()
    for part in ("ROC", "Reliability", "Paired bootstrap", "trained here", "Fire"):
        assert part in text
    assert text.count('class="chart"') == 3 + 2
    assert not re.search(r"<script|style=|(src|href)=\"(?!https://)", text)
    rows = re.findall(r"<td>(auc|ap)</td><td>([+-][\d.]+)</td>", text)
    assert [metric for metric, _ in rows] == ["ap", "auc"]


def test_without_truth_no_curve_of_frames_is_drawn(tmp_path, capsys):
    """Nor from the files of older runs, which counted unknown frames as normal."""
    videos = [dataclasses.replace(v, segments=()) for v in scored(0)]
    found = curves.curves(videos, CARD.class_names)
    normal = [v for v in videos if not v.abnormal]
    assert [k for k, v in found.items() if v] == ["normal", "class_ap"]
    assert found["normal"] == curves.curves(normal, CARD.class_names)["normal"]

    metrics = evaluate(videos, CARD.class_names)
    assert metrics["auc"] is None and metrics["video_auc"] is not None
    run = write_run(tmp_path / "run", recipe("dsanet", "ucf"), **metrics)
    old = found | {"anomalous": [0.0] * 20, "accuracy": [0.0] * 10, "frames": [99] * 10}
    for each in (found, old):
        write_json(run / "curves.json", each)
        page = tmp_path / "report.html"
        arguments = [str(run), "--html", str(page), "--output", str(tmp_path / "out")]
        assert report.main(arguments) == 0
        text = page.read_text()
        for part in ("Reliability", "ROC<", "Scores of frames", "<svg"):
            assert part not in text
        assert "no ground truth" in text
        assert "| no ground truth |" in (tmp_path / "out/report.md").read_text()
    assert "no ground truth" in results_table(read_json(run / "results.json"))


def test_collected_runs_give_the_same_page(runs, tmp_path):
    collected = tmp_path / "results"
    pages = [tmp_path / "a.html", tmp_path / "b.html"]
    report.main([str(runs), "--collect", str(collected), "--html", str(pages[0])])
    assert len(list(collected.rglob("*.curves.json"))) == 4
    report.main([str(collected), "--html", str(pages[1])])
    assert pages[0].read_text() == pages[1].read_text()


def test_a_model_against_itself_is_no_different(runs, tmp_path):
    summary = read_json(runs / "dsanet-seeds.json")
    values = summary["bootstrap"]["values"]["auc"].split()
    assert len(values) == seeds.RESAMPLES
    low, high = summary["metrics"]["auc"]["interval"]
    inside = [low <= float(v) <= high for v in values]
    assert 0.94 < np.mean(inside) < 0.96


def test_names_are_escaped(tmp_path):
    evil = '<img src=x onerror="alert(1)">'
    write_run(tmp_path / "run", recipe("dsanet", "ucf"), dataset=evil)
    broken = read_json(tmp_path / "run/curves.json")
    broken["class_ap"] = {evil: 0.5}
    write_json(tmp_path / "run/curves.json", broken)
    report.main([str(tmp_path / "run"), "--html", str(tmp_path / "a.html")])
    assert "<img" not in (tmp_path / "a.html").read_text()


@pytest.mark.parametrize("value", [[], {}, {"roc": 3}, {"class_ap": {"a": "b"}}])
def test_other_curves_are_refused(value, tmp_path):
    write_run(tmp_path / "run", recipe("dsanet", "ucf"))
    whole = read_json(tmp_path / "run/curves.json")
    if value and isinstance(value, dict):
        value = whole | value
    write_json(tmp_path / "run/curves.json", value)
    with pytest.raises(InputError, match=r"curves.json: .*score again"):
        report.main([str(tmp_path / "run"), "--html", str(tmp_path / "a.html")])
