"""Formats results as Markdown and CSV tables, one row per recipe."""

import csv
import io
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from wsvad_jax.results.event_table import NORMAL_RATE, amount
from wsvad_jax.results.published import PUBLISHED, Published
from wsvad_jax.results.results_table import without_truth
from wsvad_jax.results.runs import NOT_TRAINED, Run
from wsvad_jax.results.seed_groups import (
    BENCHMARKS,
    UNTRAINED,
    SeedGroup,
    row_order,
)
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import write_text
from wsvad_jax.utils.text import percent

# Lines of a Markdown file between which the tables are written.
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"

COLUMNS = {  # key of results.json → column
    "auc": "frame AUC",
    "ano_auc": "Ano-AUC",
    "ap": "AP",
    "ap_trapezoid": "AP, trapezoidal",
    "ap_align": "AP, alignment branch",
    "video_auc": "video AUC",
    "map_avg": "mAP AVG",
    "map_avg_clean": "mAP AVG, anomaly classes",
}
OPTIONAL = ("ap_trapezoid", "ap_align")  # shown where a published number is of them
INTERVAL = "95 % interval"  # of the dataset's headline metric
HEADS = ("model", "weights", "seeds", *COLUMNS.values(), INTERVAL, "steps", "device")
TEXT_COLUMNS = ("model", "dataset", "metric", "weights")  # aligned left

NOTE = (
    "Values are in %, mean ± sample standard deviation over the seeds. The interval is a "
    "95 % bootstrap interval over test videos, of the mean frame AUC (xd: AP). *clean*: "
    "the test set is scored once, after training. *selected on test*: the test set "
    "picked the weights, as for the published numbers; such rows don't compare with "
    "clean ones. *not trained*: zero-shot CLIP, the floor; it has one run and no seed. "
    "*position bias removed*: scores are corrected for a snippet's position in its "
    "window, which is our addition (`wsvad_jax.evaluation.position_bias`). *mAP AVG* "
    "follows the released procedure; *anomaly classes* is the mean over these alone."
)

# Columns of the short table, by protocol of the runs.
ENSEMBLE = "ensemble"
SHORT_COLUMNS = {
    "clean": "trained here, clean",
    "paper": "trained here, selected on test",
    "quick": "quick look, not trained fully",
    "": "released weights, scored here",
    NOT_TRAINED: "zero-shot, not trained",
    ENSEMBLE: "rank ensemble",
}
SHORT_HEADS = ("model", "dataset", "metric", *SHORT_COLUMNS.values(), "published")
SHORT_NOTE = (
    "In %, mean ± sample standard deviation over the seeds. *clean*: the test set is "
    "scored once, after training. *selected on test*: the test set picked the weights, "
    "as for the published numbers. *not trained*: one run, without a seed."
)

# Columns of the table of events: key of `Run.event_values` → column.
EVENT_COLUMNS = {
    "event_f1@0.1": "F1, IoU 0.1",
    "event_f1@0.3": "F1, IoU 0.3",
    "event_f1@0.5": "F1, IoU 0.5",
    "event_precision@0.1": "precision",
    "event_recall@0.1": "recall",
    "event_false_alarms_per_hour@0.1": "false alarms per hour",
    f"event_{NORMAL_RATE}": "per hour of normal video",
    "event_delay_median@0.1": "delay (s)",
}
RULES = "event rules"
EVENT_HEADS = ("model", "weights", "seeds", *EVENT_COLUMNS.values(), RULES)
EVENT_NOTE = (
    "Events, found by the rules of `detect` (`wsvad_jax.metrics.event_level`). F1, "
    "precision and recall are in %. Precision, recall, false alarms and the median delay "
    "are those at IoU 0.1."
)
MIXED_RULES = "differ between seeds"

Row = dict[str, str]  # column → text


def headline_metric(dataset: str) -> str:
    """Returns the metric that papers report first: AP on XD-Violence, else frame AUC."""
    return "ap" if dataset == "xd" else "auc"


def tables(
    groups: Sequence[SeedGroup], published: bool = False
) -> dict[str, list[Row]]:
    """Returns each dataset's rows; published rows come first.

    Args:
      groups: runs by recipe, of `seed_groups.group_by_recipe`.
      published: whether benchmarks without a run are listed, too.
    """
    result: dict[str, list[Row]] = {}
    for dataset in _datasets(groups, published):
        papers = [p for p in PUBLISHED if p.dataset == dataset]
        trained = [g for g in groups if g.first.dataset == dataset]

        # Columns of variants of AP would be empty on most datasets.
        optional = {k for p in papers for k in p.values} & set(OPTIONAL)
        keys = [k for k in COLUMNS if k not in OPTIONAL or k in optional]

        # Published numbers stand above the runs that are compared with them.
        rows = result.setdefault(dataset, [])
        for model in _models(dataset, papers, trained):
            rows += [published_row(p) for p in papers if p.model == model]
            own = [g for g in trained if g.first.model == model]
            rows += [trained_row(g, keys) for g in own]
            if not own:
                words = "not run" if model in UNTRAINED else "trained here: not run"
                rows.append({"model": model, "weights": words})
    return result


def _datasets(groups: Iterable[SeedGroup], published: bool) -> list[str]:
    names = {g.first.dataset for g in groups} | set(BENCHMARKS if published else ())
    return sorted(names, key=lambda name: row_order(name, ""))


def _models(
    dataset: str, papers: Iterable[Published], groups: Iterable[SeedGroup]
) -> list[str]:
    names = {p.model for p in papers} | {g.first.model for g in groups}
    return sorted(names, key=lambda name: row_order(dataset, name))


def trained_row(group: SeedGroup, keys: Sequence[str]) -> Row:
    """Returns the cells of a group; `keys` are the metrics to show."""
    first = group.first
    row = {
        "model": first.model + (f" ({group.variant})" if group.variant else ""),
        "weights": first.weights_description,
        "seeds": str(len(group.runs)) if _has_seeds(first) else "–",
    }

    # Without ground truth, an empty cell would look like a missing run.
    means = {k: group.mean_and_std(k)[0] for k in ("auc", "ap", "far", "video_auc")}
    no_truth = without_truth(means)
    for key in keys:
        row[COLUMNS[key]] = percent(*group.mean_and_std(key))
        if key == "auc" and no_truth:
            row[COLUMNS[key]] = "no ground truth"

        if key == headline_metric(first.dataset):
            interval = group.intervals.get(key, ())
            row[INTERVAL] = "–".join(f"{100 * x:.2f}" for x in interval)

    return row | {"steps": group.steps(), "device": group.devices()}


def _has_seeds(run: Run) -> bool:
    return run.is_trained and not run.is_ensemble


def published_row(numbers: Published) -> Row:
    """Returns the cells of published numbers."""
    link = f"[{numbers.weights_description}]({numbers.source})"
    row = {"model": numbers.model, "weights": link}
    return row | {COLUMNS[k]: f"{v:.2f}" for k, v in numbers.values.items()}


def event_tables(groups: Sequence[SeedGroup]) -> dict[str, list[Row]]:
    """Returns each dataset's rows of event-level metrics, of runs that have them."""
    result: dict[str, list[Row]] = {}
    for group in groups:
        # Results of older versions have no events.
        first = group.first
        if not all(run.event_values() for run in group.runs):
            continue

        # Events of other rules are other events: there is no mean over both.
        rules = {_event_rules(run) for run in group.runs}
        row = trained_row(group, ())
        row[RULES] = rules.pop() if len(rules) == 1 else MIXED_RULES
        if row[RULES] != MIXED_RULES:
            for key, column in EVENT_COLUMNS.items():
                rate = "hour" in key or "delay" in key
                row[column] = (amount if rate else percent)(*group.mean_and_std(key))
        result.setdefault(first.dataset, []).append(row)
    return result


def _event_rules(run: Run) -> str:
    rules = run.results["events"]["rules"]
    return ", ".join(f"{name} {value:g}" for name, value in rules.items())


def short_table(groups: Sequence[SeedGroup], published: bool = False) -> list[Row]:
    """Returns one row per model and dataset, with its headline metric.

    Args:
      groups: runs by recipe, of `seed_groups.group_by_recipe`.
      published: whether benchmarks without a run are listed, too.
    """
    rows: list[Row] = []
    for dataset in _datasets(groups, published):
        key = headline_metric(dataset)
        papers = [p for p in PUBLISHED if p.dataset == dataset]
        trained = [g for g in groups if g.first.dataset == dataset]

        for model in _models(dataset, papers, trained):
            own = [g for g in trained if g.first.model == model]
            names = {"dataset": dataset, "metric": COLUMNS[key]}
            number = {"published": _short_published(papers, model, key)}
            if not own:
                column = NOT_TRAINED if model in UNTRAINED else "clean"
                cells = {SHORT_COLUMNS[column]: "not run"}
                rows.append({"model": model, **names, **cells, **number})

            # Recipes that differ by more than the protocol have rows of their own.
            for variant in dict.fromkeys(g.variant for g in own):
                cells = _short_cells([g for g in own if g.variant == variant], key)
                title = model + (f" ({variant})" if variant else "")
                rows.append({"model": title, **names, **cells, **number})

    return rows


def _short_cells(groups: Iterable[SeedGroup], key: str) -> Row:
    """Returns a metric of each group, in the column of its protocol."""
    cells: dict[str, list[str]] = {}
    for group in groups:
        text = percent(*group.mean_and_std(key))
        column = group.first.protocol if group.first.is_trained else NOT_TRAINED
        if group.first.is_ensemble:
            column = ENSEMBLE
        cells.setdefault(SHORT_COLUMNS[column], []).append(text)
    return {column: "; ".join(filter(None, texts)) for column, texts in cells.items()}


def _short_published(papers: Iterable[Published], model: str, key: str) -> str:
    """Returns a model's published headline number as a link, '' if there is none."""
    numbers = [
        (p, name, value)
        for p in papers
        if p.model == model
        for name, value in p.values.items()
        if name in (key, f"{key}_trapezoid", f"{key}_align")
    ]
    if not numbers:
        return ""

    # The recipes use CLIP features; numbers of other features don't compare.
    p, name, value = min(numbers, key=lambda n: n[0].features != "CLIP")
    kind = COLUMNS[name].removeprefix(COLUMNS[key])
    return f"[{value:.2f}]({p.source}){kind}"


def markdown(
    rows_by_dataset: Mapping[str, Sequence[Row]],
    events_by_dataset: Mapping[str, Sequence[Row]] | None = None,
) -> str:
    """Returns the tables as Markdown, with the dataset in bold above each.

    Args:
      rows_by_dataset: result of `tables`.
      events_by_dataset: result of `event_tables`, shown below; None or {} shows none.
    """
    sections = [NOTE]
    for dataset, rows in rows_by_dataset.items():
        sections.append(f"**{_escape(dataset)}**\n\n{_markdown_table(rows, HEADS)}")

    if events_by_dataset:
        sections.append(EVENT_NOTE)
    for dataset, rows in (events_by_dataset or {}).items():
        # Rules that all rows share are named once.
        heading, heads = f"**{_escape(dataset)}, events**", EVENT_HEADS
        if len(rules := {row[RULES] for row in rows}) == 1:
            heading += f": {_escape(rules.pop())}"
            heads = [head for head in EVENT_HEADS if head != RULES]
        sections.append(f"{heading}\n\n{_markdown_table(rows, heads)}")
    return "\n\n".join(sections) + "\n"


def short_markdown(rows: Sequence[Row]) -> str:
    """Returns the short table as Markdown."""
    return f"{SHORT_NOTE}\n\n{_markdown_table(rows, SHORT_HEADS)}\n"


def _markdown_table(rows: Sequence[Row], heads: Sequence[str]) -> str:
    columns = [c for c in heads if any(row.get(c) for row in rows)]
    lines = [
        columns,
        ["---" if c in TEXT_COLUMNS else "---:" for c in columns],
        *([_escape(row.get(c, "")) for c in columns] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _escape(text: str) -> str:
    """Returns a name from somebody's file without what would be a column or markup."""
    return text.replace("|", "\\|").replace("<", "&lt;")


def write_csv(path: pathlib.Path, groups: Sequence[SeedGroup]) -> None:
    """Writes `number_rows` as a CSV file."""
    rows = number_rows(groups)

    # Columns are the union of the rows' keys, in the order of their appearance.
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(dict.fromkeys(k for row in rows for k in row)))
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def number_rows(groups: Sequence[SeedGroup]) -> list[dict[str, Any]]:
    """Returns one row per group and per published result; metrics are fractions.

    Keys KEY and KEY_std hold mean and standard deviation. KEY_low and KEY_high hold
    the interval where the seeds have a summary.
    """
    rows = [_number_row(group) for group in groups]
    datasets = {g.first.dataset for g in groups}
    for p in PUBLISHED:
        if p.dataset in datasets:
            names = {"dataset": p.dataset, "model": p.model}
            values = {k: round(v / 100, 6) for k, v in p.values.items()}
            weights = {"weights": p.weights_description}
            rows.append(names | weights | values | {"source": p.source})
    return rows


def _number_row(group: SeedGroup) -> dict[str, Any]:
    run = group.first
    row: dict[str, Any] = {
        "dataset": run.dataset,
        "model": run.model,
        "variant": group.variant,
        "weights": run.weights_description,
        "protocol": run.protocol,
        "n": len(group.runs),
        "seeds": " ".join(map(str, group.seeds)) if _has_seeds(run) else "",
        "step": group.steps(),
        "device": group.devices(),
    }

    # A metric has up to four columns: mean, deviation and the interval's bounds.
    for key in (*run.values(), *run.event_values()):
        row[key], row[f"{key}_std"] = group.mean_and_std(key)
        if key in group.intervals:
            row[f"{key}_low"], row[f"{key}_high"] = group.intervals[key]
    return row


def with_table(text: str, table: str, path: str) -> str:
    """Returns `text` with a new table between the lines BEGIN and END.

    Args:
      text: content of a Markdown file.
      table: Markdown that replaces what is between the lines.
      path: file, for messages.

    Raises:
      InputError: a line is missing, a duplicate, or in the wrong order.
    """
    # Text around the lines is the author's and stays as it is.
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in before + after:
        raise InputError(
            f"{path}: expected one line {BEGIN} and below it one line {END}; the table "
            "is written between them"
        )
    return f"{before}{BEGIN}\n{table}{END}{after}"
