"""Writes finished runs as one HTML page: tables, curves, comparisons of models.

The numbers are those of the tables that `wsvad_jax.report` writes. The curves are means
over the seeds. The page loads nothing and runs no script.
"""

import dataclasses
import itertools
import pathlib
import re
import statistics
from collections.abc import Mapping, Sequence

from wsvad_jax.results import svg_charts
from wsvad_jax.results.mean_curves import GRID, MeanCurves, mean_curves
from wsvad_jax.results.runs import NOT_TRAINED
from wsvad_jax.results.seed_groups import SeedGroup
from wsvad_jax.results.svg_charts import Chart, LegendEntry
from wsvad_jax.results.tables import (
    EVENT_HEADS,
    EVENT_NOTE,
    HEADS,
    NOTE,
    Row,
    event_tables,
)
from wsvad_jax.utils.html import write_document

UNKNOWN = (
    "There is no ground truth of frames, so there are no curves and no histograms."
)
COMPARED = ("model", "compared with", "of", "difference", "95 % interval", "higher in")
KINDS = {  # words in a row's description → CSS class
    "published": "published",
    "trained here: not run": "none",
    "scored here": "imported",
    "selected on test": "selected",
    "trained here": "trained",
    NOT_TRAINED: "imported",
}
LINK = re.compile(r"\[(.+)\]\((https://[^)]+)\)")  # as Markdown

Titled = list[tuple[str, Chart]]  # charts with their titles


@dataclasses.dataclass(frozen=True)
class Cell:
    """A cell of the results table."""

    text: str
    link: str = ""
    kind: str = ""  # CSS class of a description of weights; "" for numbers


@dataclasses.dataclass(frozen=True)
class ResultRow:
    """A row of the results table."""

    published: bool
    cells: list[Cell]


@dataclasses.dataclass(frozen=True)
class ResultTable:
    """The results table of one dataset."""

    columns: list[str]
    rows: list[ResultRow]


@dataclasses.dataclass(frozen=True)
class PlainTable:
    """A table of texts."""

    columns: Sequence[str]
    rows: list[list[str]]


@dataclasses.dataclass(frozen=True)
class DatasetSection:
    """All that the page shows of one dataset."""

    name: str
    table: ResultTable
    notes: list[str]  # on what the CLIP models were trained
    events: ResultTable  # without rows, if no run has event-level metrics
    comparisons: PlainTable
    models: list[LegendEntry]
    without_ground_truth: list[str]  # models whose curves aren't known
    curves: Titled
    class_ap: PlainTable
    kinds: list[LegendEntry]  # of frames
    histograms: Titled


def write(
    path: pathlib.Path,
    groups: Sequence[SeedGroup],
    tables: Mapping[str, Sequence[Row]],
) -> None:
    """Writes the page.

    Args:
      path: file to write.
      groups: runs by recipe, of `seed_groups.group_by_recipe`.
      tables: dataset → rows, of `tables.tables`.

    Raises:
      InputError: a curves.json has another shape than `evaluate` writes.
    """
    # One section per dataset: numbers of different test sets aren't comparable.
    sections, events = [], event_tables(groups)
    for dataset, rows in tables.items():
        own = [g for g in groups if g.first.dataset == dataset]
        own_events = events.get(dataset, [])
        sections.append(_dataset_section(dataset, own, rows, own_events))

    runs = sum(len(g.runs) for g in groups)
    values = {
        "title": "Results",
        "facts": [f"{len(groups)} recipes", f"{runs} runs", ", ".join(tables)],
        "note": NOTE.replace("`", ""),
        "event_note": EVENT_NOTE.replace("`", ""),
        "datasets": sections,
        "unknown": UNKNOWN,
    }

    styles = ("report.css", "results.css")
    write_document(path, "results.html", values, styles=styles, script="")


def _dataset_section(
    name: str,
    groups: Sequence[SeedGroup],
    rows: Sequence[Row],
    events: Sequence[Row],
) -> DatasetSection:
    # Groups without curves.json are only in the table.
    means = {_name(g): curves for g in groups if (curves := mean_curves(g))}

    known = {n: m for n, m in means.items() if m.has_ground_truth}

    return DatasetSection(
        name=name,
        table=_result_table(rows, HEADS),
        notes=_clip_notes(groups),
        events=_result_table(events, EVENT_HEADS),
        comparisons=PlainTable(COMPARED, _compare_models(groups)),
        models=_curve_legend(means),
        without_ground_truth=[n for n in means if n not in known],
        # Without true events no frame is known to be anomalous, so neither curves nor
        # histograms mean anything.
        curves=_curve_charts(means) if known else [],
        class_ap=_class_ap_table(means),
        kinds=svg_charts.legend(("normal", "anomalous"), "b"),
        histograms=[(n, _score_histogram(n, m)) for n, m in known.items()],
    )


def _curve_legend(means: Mapping[str, MeanCurves]) -> list[LegendEntry]:
    """Returns the models that have a curve, and the diagonal."""
    # Colours follow the order of all models.
    entries = svg_charts.legend(list(means))
    drawn = [e for e in entries if means[e.name].has_ground_truth]
    diagonal = "diagonal: chance in ROC, scores that are true rates in reliability"
    return [*drawn, LegendEntry("diagonal", diagonal)]


def _clip_notes(groups: Sequence[SeedGroup]) -> list[str]:
    """Returns the runs' different lines on the training of their CLIP models."""
    notes = (run.results.get("clip_note") for group in groups for run in group.runs)
    return sorted({note for note in notes if isinstance(note, str) and note})


def _result_table(rows: Sequence[Row], columns: Sequence[str]) -> ResultTable:
    # Columns that are empty in all rows would only widen the table.
    shown = [c for c in columns if any(row.get(c) for row in rows)]

    return ResultTable(
        shown,
        [
            ResultRow(
                published=row["weights"].startswith("[published"),
                cells=[_cell(column, row.get(column, "")) for column in shown],
            )
            for row in rows
        ],
    )


def _cell(column: str, text: str) -> Cell:
    if column != "weights":
        return Cell(text)
    link = LINK.fullmatch(text)
    words = link[1] if link else text
    kind = next((kind for start, kind in KINDS.items() if start in words), "none")
    return Cell(words, link[2] if link else "", kind)


def _compare_models(groups: Sequence[SeedGroup]) -> list[list[str]]:
    """Returns the paired bootstrap of each two models, one row per metric."""
    rows = []
    for a, b in itertools.combinations(groups, 2):
        # Only models with the same protocol and test videos can be compared.
        contents = {g.first.content for g in (a, b)} - {""}
        if a.first.protocol != b.first.protocol or len(contents) > 1:
            continue

        for metric in sorted(a.resamples.keys() & b.resamples.keys()):
            first, second = a.resamples[metric], b.resamples[metric]
            if len(first) == len(second):
                rows.append([_name(a), _name(b), metric, *_difference(first, second)])
    return rows


def _difference(first: Sequence[float], second: Sequence[float]) -> list[str]:
    """Words mean and interval of the differences, and how often they are positive."""
    points = sorted(100 * (x - y) for x, y in zip(first, second, strict=True))

    # The middle 95 % of the resamples.
    low, high = (points[round(q * (len(points) - 1))] for q in (0.025, 0.975))

    positive = sum(d > 0 for d in points) / len(points)
    return [
        f"{statistics.fmean(points):+.2f}",
        f"{low:+.2f} to {high:+.2f}",
        f"{100 * positive:.1f} % of resamples",
    ]


def _name(group: SeedGroup) -> str:
    name = group.first.model + (f" ({group.variant})" if group.variant else "")
    protocol = group.first.protocol
    return name + (f", {protocol}" if protocol in ("paper", "quick") else "")


def _curve_charts(means: Mapping[str, MeanCurves]) -> Titled:
    # ROC and precision-recall are on one grid, so that seeds could be averaged.
    # A model without a curve stays in the series, since colours follow their order.
    roc = {n: (GRID, m.roc) if m.roc else ([], []) for n, m in means.items()}
    pr = {n: (GRID, m.pr) if m.pr else ([], []) for n, m in means.items()}

    # Bins of the score with few frames say nothing.
    reliability = {
        n: m.reliability if m.has_ground_truth else ([], []) for n, m in means.items()
    }

    roc_chart = svg_charts.line_chart(
        roc,
        label="ROC",
        x="false positive rate",
        y="true positive rate",
        diagonal=True,
    )

    pr_chart = svg_charts.line_chart(
        pr, label="Precision and recall", x="recall", y="precision"
    )

    reliability_chart = svg_charts.line_chart(
        reliability,
        label="Reliability: how often is a frame of this score anomalous",
        x="score",
        y="fraction anomalous",
        diagonal=True,
    )

    return [
        ("ROC", roc_chart),
        ("Precision and recall", pr_chart),
        ("Reliability", reliability_chart),
    ]


def _score_histogram(name: str, means: MeanCurves) -> Chart:
    return svg_charts.histogram(
        {"normal": means.normal, "anomalous": means.anomalous},
        label=f"Scores of {name}: normal and anomalous frames",
        x="score",
        y="fraction of frames",
    )


def _class_ap_table(means: Mapping[str, MeanCurves]) -> PlainTable:
    known = {
        name: m.class_ap
        for name, m in means.items()
        if any(v is not None for v in m.class_ap.values())
    }
    classes = list(dict.fromkeys(c for ap in known.values() for c in ap))

    # A model may lack a class that another has.
    rows = []
    for name, ap in known.items():
        values = [ap.get(c) for c in classes]
        rows.append([name, *("" if v is None else f"{100 * v:.1f}" for v in values)])
    return PlainTable(["model", *classes], rows)
