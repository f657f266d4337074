"""Tables of `benchmark transfer`, from the files that it wrote."""

from collections.abc import Sequence

from wsvad_jax.results.published_transfer import published_cells
from wsvad_jax.results.results_table import metric_title
from wsvad_jax.utils.json_shapes import (
    Count,
    Number,
    PrintableText,
    Shape,
)
from wsvad_jax.utils.text import (
    aligned,
    change_in_points,
    count,
    markdown_table,
    percent,
)

NOT_RUN = "not run"
VIDEO_AUC = "video_auc"  # the metric of the labels that training sees
NOTE = (
    "In %, mean ± sample standard deviation over the seeds, with the 95 % bootstrap "
    "interval of the mean over test videos. Metric: frame AUC; on xd, AP. Each row is "
    "trained once per seed and scored on every test set, with the class words of the test "
    "set's card. Test sets of the training's own dataset are in *italics*."
)
DROP_NOTE = (
    "Change from the model's own test set to the others, in percentage points, with its "
    "95 % interval over test videos and seeds. **Bold**: the interval leaves out 0."
)
DIFFERENCE_NOTE = (
    "Difference to the model that was trained on the test set's own training videos, on "
    "the same test videos, in percentage points. **Bold**: the interval leaves out 0."
)
VIDEO_NOTE = "Video AUC, the metric of the labels that training sees."
VIDEO_DROP_NOTE = "Change of video AUC from the own test set, as above."
PUBLISHED_NOTE = (
    "Published numbers, in %, beside ours. A source that we could not open is marked."
)
PUBLISHED_HEADS = (
    *("model", "trained on", "tested on", "metric"),
    *("published", "ours", "source of the published number"),
)


class TransferChange(Shape):
    """A difference of a metric between two cells."""

    mean: Number | None
    interval: list[Number] | None


class TransferMetric(Shape):
    """A metric of a model on a test set, over the seeds."""

    mean: Number | None
    std: Number | None
    interval: list[Number] | None
    drop: TransferChange | None = None
    difference: TransferChange | None = None


class TransferTest(Shape):
    """A test set that a model was scored on."""

    headline: PrintableText
    videos: Count
    note: PrintableText | None = None
    metrics: dict[PrintableText, TransferMetric]


class TransferRow(Shape):
    """A file of `benchmark transfer`: a model, and what it was trained on."""

    model: PrintableText
    train: PrintableText
    protocol: PrintableText
    seeds: list[int]
    videos: Count
    clip_note: PrintableText | None = None
    tests: dict[PrintableText, TransferTest]


def markdown(rows: Sequence[TransferRow]) -> str:
    """Returns all tables as Markdown."""
    sections = [NOTE]
    for note in dict.fromkeys(row.clip_note for row in rows if row.clip_note):
        sections.append(f"Note: {note}.")
    sections.append(markdown_table(_score_rows(rows, bold=True), left=2))
    for note in _notes(rows):
        sections.append(f"Note: {note}.")

    for words, key in ((DROP_NOTE, "drop"), (DIFFERENCE_NOTE, "difference")):
        if any(_changes(rows, key)):
            table = _change_rows(rows, key, bold=True)
            sections += [words, markdown_table(table, left=2)]

    if _have_video_auc(rows):
        table = _score_rows(rows, VIDEO_AUC, bold=True)
        sections += [VIDEO_NOTE, markdown_table(table, left=2)]
        if any(_changes(rows, "drop", VIDEO_AUC)):
            table = _change_rows(rows, "drop", VIDEO_AUC, bold=True)
            sections += [VIDEO_DROP_NOTE, markdown_table(table, left=2)]
    sections += [PUBLISHED_NOTE, markdown_table(_published_rows(rows), left=4)]
    return "\n\n".join(sections) + "\n"


def plain(rows: Sequence[TransferRow]) -> str:
    """Returns all tables for a terminal."""
    lines = ["scores in %", *aligned(_score_rows(rows), left=(0, 1))]
    titles = {
        "drop": "change from the own test set, in points",
        "difference": "difference to the model of the test set's own training videos",
    }
    for key, title in titles.items():
        if any(_changes(rows, key)):
            lines += ["", title, *aligned(_change_rows(rows, key), left=(0, 1))]

    if _have_video_auc(rows):
        lines += ["", *aligned(_score_rows(rows, VIDEO_AUC), left=(0, 1))]
        if any(_changes(rows, "drop", VIDEO_AUC)):
            table = _change_rows(rows, "drop", VIDEO_AUC)
            lines += [
                "",
                "change of video AUC, in points",
                *aligned(table, left=(0, 1)),
            ]
    lines += ["", "published", *aligned(_published_rows(rows), left=(0, 1, 2, 3, 6))]
    return "\n".join([*lines, *(f"note: {note}" for note in _notes(rows))])


def _names(rows: Sequence[TransferRow]) -> tuple[list[str], list[str], list[str]]:
    """Returns models, training sets and test sets, in the order of the files."""
    models = dict.fromkeys(row.model for row in rows)
    trained = dict.fromkeys(row.train for row in rows)
    tested = dict.fromkeys(name for row in rows for name in row.tests)
    # Test sets stand in the order of the training sets, further ones behind them.
    order = [n for n in trained if n in tested] + [
        n for n in tested if n not in trained
    ]
    return list(models), list(trained), order


def _have_video_auc(rows: Sequence[TransferRow]) -> bool:
    return any(VIDEO_AUC in test.metrics for row in rows for test in row.tests.values())


def _score_rows(
    rows: Sequence[TransferRow], metric: str | None = None, *, bold: bool = False
) -> list[list[str]]:
    """Returns a table of `metric`; None is each test set's headline metric."""
    models, trained, tested = _names(rows)
    heads = {
        name: metric or test.headline
        for row in rows
        for name, test in row.tests.items()
    }
    columns = [f"{name}, {metric_title(heads[name])}" for name in tested]
    known = {(row.model, row.train): row for row in rows}

    table = [["model", "trained on", *columns]]
    for model in models:
        for train in trained:
            row = known.get((model, train))
            cells = [_score(row, name, heads[name], bold) for name in tested]
            about = f"{train}, {count(len(row.seeds), 'seed')}" if row else train
            table.append([model, about, *cells])
    return table


def _score(row: TransferRow | None, test: str, name: str, italics: bool) -> str:
    if row is None or test not in row.tests or name not in row.tests[test].metrics:
        return NOT_RUN
    metric = row.tests[test].metrics[name]
    text = percent(metric.mean, metric.std, undefined="-")
    if metric.interval:
        low, high = metric.interval
        text += f" [{100 * low:.1f}, {100 * high:.1f}]"
    return f"*{text}*" if italics and test == row.train else text


def _changes(
    rows: Sequence[TransferRow], key: str, metric: str | None = None
) -> list[TransferChange]:
    found = []
    for row in rows:
        for name in row.tests:
            if (change := _change(row, name, key, metric)) is not None:
                found.append(change)
    return found


def _change(
    row: TransferRow, test: str, key: str, metric: str | None
) -> TransferChange | None:
    """Returns a cell's change; a drop needs one metric on both test sets."""
    cell, own = row.tests[test], row.tests.get(row.train)
    if metric is not None:
        return getattr(cell.metrics[metric], key) if metric in cell.metrics else None
    if key == "drop" and (own is None or own.headline != cell.headline):
        return None
    return getattr(cell.metrics[cell.headline], key)


def _change_rows(
    rows: Sequence[TransferRow],
    key: str,
    metric: str | None = None,
    *,
    bold: bool = False,
) -> list[list[str]]:
    models, trained, tested = _names(rows)
    known = {(row.model, row.train): row for row in rows}
    table = [["model", "trained on", *tested]]
    for model in models:
        for train in trained:
            row = known.get((model, train))
            cells = [_change_cell(row, name, key, metric, bold) for name in tested]
            table.append([model, train, *cells])
    return table


def _change_cell(
    row: TransferRow | None, test: str, key: str, metric: str | None, bold: bool
) -> str:
    if row is None or test not in row.tests:
        return NOT_RUN
    change = _change(row, test, key, metric)
    if change is None:
        return "-"
    return change_in_points(change.mean, change.interval, digits=1, bold=bold)


def _published_rows(rows: Sequence[TransferRow]) -> list[list[str]]:
    known = {(row.model, row.train): row for row in rows}
    table = [list(PUBLISHED_HEADS)]
    for cell in published_cells():
        row = known.get((cell.model, cell.train))
        test = row.tests.get(cell.test) if row else None
        metric = test.metrics.get(cell.metric) if test else None
        ours = percent(metric.mean, metric.std, undefined="-") if metric else NOT_RUN
        names = [cell.model, cell.train, cell.test, metric_title(cell.metric)]
        table.append([*names, f"{cell.value:.2f}", ours, cell.source])
    return table


def _notes(rows: Sequence[TransferRow]) -> list[str]:
    notes = {
        f"{row.train} and {name}: {test.note}"
        for row in rows
        for name, test in row.tests.items()
        if test.note
    }
    return sorted(notes)
