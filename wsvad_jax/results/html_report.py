"""Finished runs as one HTML page: tables, curves, calibration, comparisons of models.

The numbers are those of `report`'s tables; the curves are the means over the seeds of
what `evaluate` left beside them (`wsvad_jax.metrics.curves`). Names come from files and are
escaped; the page loads nothing and runs no script.
"""

import html
import itertools
import pathlib
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wsvad_jax.results import svg_charts
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json
from wsvad_jax.utils.html import write_document

if TYPE_CHECKING:
    from wsvad_jax.results.tables import Row, SeedGroup

SIZES = {
    "roc": 101,
    "pr": 101,
    "normal": 20,
    "anomalous": 20,
    "accuracy": 10,
    "frames": 10,
}
UNKNOWN = "No ground truth of single frames: there are no curves of them."
GRID = [i / 100 for i in range(101)]
FEWEST = 50  # frames that a bin of the reliability diagram needs
OPTIONAL = ("roc", "pr", "normal", "anomalous", "accuracy", "frames")  # may be null
KINDS = (  # of a row, by the beginning of its words
    ("published", "published"),
    ("trained here: not run", "none"),
    ("scored here", "imported"),
    ("selected on test", "selected"),
    ("trained here", "trained"),
)


def write(
    path: pathlib.Path,
    groups: Sequence["SeedGroup"],
    tables: Mapping[str, Sequence["Row"]],
    columns: Sequence[str],
    note: str,
) -> None:
    """Writes the page.

    Args:
      path: of the file.
      groups: of `report.group`.
      tables: of `report.tables`.
      columns: of the tables, in order.
      note: what the numbers are, as Markdown.

    Raises:
      InputError: curves that `evaluate` didn't write.
    """
    runs = sum(len(g.runs) for g in groups)
    facts = [f"{len(groups)} recipes", f"{runs} runs", ", ".join(tables)]
    listed = "".join(f"<li>{html.escape(fact)}</li>" for fact in facts)
    parts = [
        f'<header class="top"><h1>Results</h1><ul class="facts">{listed}</ul></header>',
        f'<p class="note">{_emphasised(note)}</p>',
    ]
    for dataset, rows in tables.items():
        own = [g for g in groups if g.first.dataset == dataset]
        found = _table(rows, columns) + _compared(own) + _charts(own)
        parts.append(f"<section><h2>{html.escape(dataset)}</h2>{found}</section>")
    styles = ("report.css", "results.css")
    write_document(path, "Results", "".join(parts), styles, script="")


def _emphasised(text: str) -> str:
    return re.sub(r"\*(.+?)\*", r"<em>\1</em>", html.escape(text))


def _table(rows: Sequence["Row"], columns: Sequence[str]) -> str:
    shown = [c for c in columns if any(row.get(c) for row in rows)]
    heads = "".join(_head(column) for column in shown)
    body = []
    for row in rows:
        cells = "".join(_td(column, row.get(column, "")) for column in shown)
        kind = "published" if row["weights"].startswith("[published") else "ours"
        body.append(f'<tr class="{kind}">{cells}</tr>')
    return (
        f'<div class="scroll"><table><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _head(column: str) -> str:
    text = ' class="text"' if column == "weights" else ""
    return f"<th{text}>{html.escape(column)}</th>"


def _td(column: str, text: str) -> str:
    if column != "weights":
        return f"<td>{html.escape(text)}</td>"
    link = re.fullmatch(r"\[(.+)\]\((https://[^)]+)\)", text)
    words = link[1] if link else text
    name = next((kind for start, kind in KINDS if start in words), "none")
    label = html.escape(words)
    if link:
        label = f'<a href="{html.escape(link[2])}">{label}</a>'
    return f'<td class="text"><span class="kind {name}">{label}</span></td>'


def _compared(groups: Sequence["SeedGroup"]) -> str:
    """Returns the paired bootstrap between models that were selected alike."""
    rows = []
    for a, b in itertools.combinations(groups, 2):
        for metric in sorted(a.resamples.keys() & b.resamples.keys()):
            pairs = list(zip(a.resamples[metric], b.resamples[metric], strict=False))
            alike = len(a.resamples[metric]) == len(b.resamples[metric])
            contents = {g.first.content for g in (a, b)} - {""}
            alike = alike and len(contents) < 2  # the same videos
            if not alike or a.first.protocol != b.first.protocol:
                continue
            cells = [_name(a), _name(b), metric, *_difference(pairs)]
            rows.append("".join(f"<td>{html.escape(cell)}</td>" for cell in cells))
    if not rows:
        return ""
    heads = ("model", "compared with", "of", "difference", "95 % interval", "higher in")
    head = "".join(f"<th>{name}</th>" for name in heads)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return (
        "<h3>Paired bootstrap over test videos</h3>"
        '<p class="note">Points by which the first model is ahead on the same 1000 '
        "resamples of test videos, means over seeds; an interval without 0 is a "
        "difference that the choice of videos doesn't explain.</p>"
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _difference(pairs: Sequence[tuple[float, float]]) -> tuple[str, str, str]:
    ahead = sorted(100 * (x - y) for x, y in pairs)
    low, high = (ahead[round(q * (len(ahead) - 1))] for q in (0.025, 0.975))
    share = sum(d > 0 for d in ahead) / len(ahead)
    return (
        f"{statistics.fmean(ahead):+.2f}",
        f"{low:+.2f} to {high:+.2f}",
        f"{100 * share:.1f} % of resamples",
    )


def _name(group: "SeedGroup") -> str:
    name = group.first.model + (f" ({group.variant})" if group.variant else "")
    return name + (", paper" if group.first.protocol == "paper" else "")


def _charts(groups: Sequence["SeedGroup"]) -> str:
    found = {_name(g): means for g in groups if (means := _means(g))}
    if not found:
        return ""
    names = list(found)
    figures = []
    for key, title, x, y in (
        ("roc", "ROC", "false positive rate", "true positive rate"),
        ("pr", "Precision and recall", "recall", "precision"),
    ):
        series = {n: (GRID, m[key]) for n, m in found.items() if m[key]}
        if not series:
            continue
        diagonal = key == "roc"
        drawn = svg_charts.lines(series, label=title, x=x, y=y, diagonal=diagonal)
        figures.append(_figure(title, drawn))
    # Without true events no frame is known to be anomalous, so that neither the curves
    # nor the scores of frames mean anything.
    true = {n: m for n, m in found.items() if m["roc"] and m["accuracy"]}
    if not true:
        return _classes(found) + f'<p class="note">{UNKNOWN}</p>'
    sure = {n: _reliability(m) if n in true else ([], []) for n, m in found.items()}
    label = "Reliability: how often is a frame of this score anomalous"
    drawn = svg_charts.lines(
        sure, label=label, x="score", y="anomalous share", diagonal=True
    )
    figures.append(_figure("Reliability", drawn))
    scores = []
    for name, m in true.items():
        bins = {"normal": m["normal"], "anomalous": m["anomalous"]}
        label = f"Scores of {name}: normal and anomalous frames"
        drawn = svg_charts.bars(bins, label=label, x="score", y="share of frames")
        scores.append(_figure(name, drawn))
    without = [html.escape(n) for n in names if n not in true]
    note = f'<p class="note">{", ".join(without)}: {UNKNOWN}</p>' if without else ""
    return (
        f"<h3>Curves, means over seeds</h3>{note}{svg_charts.legend(names)}"
        f'<div class="charts">{"".join(figures)}</div>{_classes(found)}'
        "<h3>Scores of frames</h3>"
        f"{svg_charts.legend(('normal', 'anomalous'), 'b')}"
        f'<div class="charts">{"".join(scores)}</div>'
    )


def _figure(title: str, drawn: str) -> str:
    caption = f"<figcaption>{html.escape(title)}</figcaption>"
    return f'<figure class="card">{caption}{drawn}</figure>'


def _reliability(means: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    """Returns the middles of well filled bins, and the anomalous share in them."""
    used = [i for i, n in enumerate(means["frames"]) if n >= FEWEST]
    return [(i + 0.5) / 10 for i in used], [means["accuracy"][i] for i in used]


def _classes(found: Mapping[str, Mapping[str, Any]]) -> str:
    with_classes = {
        n: m["class_ap"]
        for n, m in found.items()
        if any(v is not None for v in m["class_ap"].values())
    }
    if not with_classes:
        return ""
    names = list(dict.fromkeys(c for ap in with_classes.values() for c in ap))
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ("model", *names))
    rows = []
    for name, ap in with_classes.items():
        each = (ap.get(c) for c in names)
        cells = "".join(
            f"<td>{'' if v is None else f'{100 * v:.1f}'}</td>" for v in each
        )
        rows.append(f"<tr><td>{html.escape(name)}</td>{cells}</tr>")
    return (
        "<h3>Average precision of each class, over all frames</h3>"
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _means(group: "SeedGroup") -> dict[str, Any]:
    """Returns the curves' means over the seeds that have them, {} where none has."""
    each = [_read(r.curves_path) for r in group.runs if r.curves_path.is_file()]
    if not each:
        return {}
    means: dict[str, Any] = {}
    for key in SIZES:
        known = [c[key] for c in each if c[key]]
        columns = zip(*known, strict=True) if known else ()
        means[key] = [statistics.fmean(column) for column in columns]
    aps = [c["class_ap"] for c in each if c["class_ap"]]
    names = dict.fromkeys(name for ap in aps for name in ap)
    values = {
        name: [v for ap in aps if (v := ap.get(name)) is not None] for name in names
    }
    means["class_ap"] = {
        n: statistics.fmean(v) if v else None for n, v in values.items()
    }
    return means


def _read(path: pathlib.Path) -> dict[str, Any]:
    value = read_json(path)
    good = isinstance(value, dict)
    for key, size in SIZES.items():
        part = value.get(key) if good else None
        optional = key in OPTIONAL and part is None and key in value
        good = good and (optional or _numbers(part, size))
    ap = value.get("class_ap") if good else None
    if not good or not (
        ap is None or (isinstance(ap, dict) and _numbers([v or 0 for v in ap.values()]))
    ):
        raise InputError(f"{path}: not the curves of scoring; score again")
    return value


def _numbers(value: Any, size: int | None = None) -> bool:
    if not isinstance(value, list) or size not in (None, len(value)):
        return False
    return all(type(v) in (int, float) and 0 <= v < 1e15 for v in value)
