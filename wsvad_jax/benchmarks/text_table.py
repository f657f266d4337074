"""Tables of `benchmark text`, from the files that it wrote."""

from collections.abc import Sequence

from wsvad_jax.utils.json_shapes import Number, PrintableText, Shape
from wsvad_jax.utils.text import (
    aligned,
    change_in_points,
    count,
    markdown_table,
    percent,
)

NOTE = (
    "In %. Row *trained*: mean ± sample standard deviation over the seeds. Other rows: "
    "difference to *trained* in percentage points, with its 95 % interval over test "
    "videos and seeds. **Bold**: the interval leaves out 0."
)
COLUMNS = {
    "auc": "frame AUC",
    "ano_auc": "Ano-AUC",
    "ap": "AP",
    "auc_align": "frame AUC, alignment branch",
    "map_avg_clean": "mAP AVG, anomaly classes",
    "naming": "event frames named rightly",
}
CLASS_ROWS = {
    "class_ap": "AP of the class",
    "class_naming": "event frames named rightly",
    "class_ano_auc": "Ano-AUC in its videos",
}


class PairedShape(Shape):
    """Difference of a metric to the trained models'."""

    mean: Number | None
    interval: list[Number] | None


class TextMetric(Shape):
    """A metric of a condition, over the seeds."""

    mean: Number | None
    std: Number | None
    difference: PairedShape | None = None


class TextRow(Shape):
    """A condition; metrics of a class are named METRIC/CLASS."""

    held_out: PrintableText
    metrics: dict[PrintableText, TextMetric]


class TextResults(Shape):
    """A file of `benchmark text`."""

    model: PrintableText
    dataset: PrintableText
    protocol: PrintableText
    seeds: list[int]
    clip_note: PrintableText | None = None
    conditions: dict[PrintableText, TextRow]


def markdown(results: Sequence[TextResults]) -> str:
    """Returns the tables of all results as Markdown."""
    sections = [NOTE]
    for result in results:
        title = f"**{result.model} on {result.dataset}**, {_seeds(result)}"
        note = f"\n\nNote: {result.clip_note}." if result.clip_note else ""
        sections.append(f"{title}{note}\n\n{markdown_table(_condition_rows(result))}")
        if len(rows := _class_rows(result)) > 1:
            sections.append(markdown_table(rows, left=2))
    return "\n\n".join(sections) + "\n"


def plain(result: TextResults) -> str:
    """Returns the tables of one result for a terminal."""
    title = f"{result.model} on {result.dataset}, {_seeds(result)}, in %"
    lines = [title, *aligned(_condition_rows(result, bold=False))]
    if len(rows := _class_rows(result, bold=False)) > 1:
        lines += ["", *aligned(rows, left=(0, 1))]
    return "\n".join(lines)


def _seeds(result: TextResults) -> str:
    return f"protocol {result.protocol}, {count(len(result.seeds), 'seed')}"


def _condition_rows(result: TextResults, *, bold: bool = True) -> list[list[str]]:
    known = next(iter(result.conditions.values())).metrics
    names = [name for name in COLUMNS if name in known]
    rows = [["condition", *(COLUMNS[name] for name in names)]]
    for condition, row in result.conditions.items():
        cells = [_cell(row.metrics[name], bold) for name in names]
        rows.append([condition.replace("_", " "), *cells])
    return rows


def _class_rows(result: TextResults, *, bold: bool = True) -> list[list[str]]:
    """Rows of the classes that were held out, beside the trained models' numbers."""
    rows = [["class", "metric", "trained", "held out", "difference"]]
    trained = next(iter(result.conditions.values())).metrics
    for row in result.conditions.values():
        if not row.held_out:
            continue
        for key, label in CLASS_ROWS.items():
            name = f"{key}/{row.held_out}"
            found, own = row.metrics[name], trained[name]
            values = [percent(m.mean, m.std, undefined="-") for m in (own, found)]
            rows.append([row.held_out, label, *values, _cell(found, bold)])
    return rows


def _cell(metric: TextMetric, bold: bool) -> str:
    """Formats a mean, or the difference with its interval where there is one."""
    difference = metric.difference
    if difference is None:
        return percent(metric.mean, metric.std, undefined="-")
    return change_in_points(difference.mean, difference.interval, bold=bold)
