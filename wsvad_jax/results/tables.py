"""Tables of finished runs as Markdown and CSV, one row per recipe."""

import csv
import dataclasses
import io
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from wsvad_jax.results.published import PUBLISHED, Published
from wsvad_jax.results.results_table import without_truth
from wsvad_jax.results.runs import Run
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import write_text
from wsvad_jax.utils.text import mean_and_std, percent

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"


MODELS = ("mil_ranking", "clip_tsa", "vadclip", "dsanet")  # the order of rows


BENCHMARKS = ("ucf", "xd", "shanghaitech")


COLUMNS = {
    "auc": "frame AUC",
    "ano_auc": "Ano-AUC",
    "ap": "AP",
    "ap_trapezoid": "AP, trapezoidal",
    "ap_align": "AP, alignment branch",
    "video_auc": "video AUC",
    "map_avg": "mAP AVG",
    "map_avg_clean": "mAP AVG, clean",
}


INTERVAL = "95 % interval"  # of the dataset's headline metric


HEADS = ("model", "weights", "seeds", *COLUMNS.values(), INTERVAL, "steps", "device")


OPTIONAL = ("ap_trapezoid", "ap_align")  # shown where a published number is of them


NOTE = (
    "In %, mean ± sample standard deviation over the seeds; the interval, of frame AUC "
    "(xd: AP), is a 95 % bootstrap interval of that mean over test videos. *clean*: the "
    "test set is scored once, after training; *selected on test*: the test set picked "
    "the weights, as it did for the published numbers, so that such a row doesn't "
    "compare with a clean one. *Without place*: scores are rid of what they owe to a "
    "snippet's place in the window, which is ours (wsvad_jax.evaluation.position_bias). mAP AVG is the "
    "released procedure, *clean* its mean over the anomaly classes alone."
)


@dataclasses.dataclass(frozen=True)
class SeedGroup:
    """Runs that differ by seed alone: one row."""

    runs: tuple[Run, ...]  # by seed
    variant: str = ""  # what sets its recipe apart from another row's
    summary: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def intervals(self) -> dict[str, Sequence[float]]:
        """Returns the bootstrap intervals [low, high] of metrics."""
        found = self.summary.get("metrics", {})
        return {k: m["interval"] for k, m in found.items() if m.get("interval")}

    @property
    def resamples(self) -> dict[str, list[float]]:
        """Returns the metrics' means over seeds on each resample of the videos."""
        values = self.summary.get("bootstrap", {}).get("values", {})
        return {name: list(map(float, text.split())) for name, text in values.items()}

    @property
    def first(self) -> Run:
        return self.runs[0]

    @property
    def seeds(self) -> list[int]:
        return [run.seed for run in self.runs]

    def spread(self, key: str) -> tuple[float | None, float | None]:
        """Returns mean and standard deviation of a metric."""
        return mean_and_std([run.values().get(key) for run in self.runs])

    def steps(self) -> str:
        """Returns '1000', or '600–1000' where seeds stopped at different ones."""
        steps = sorted({s for r in self.runs if (s := r.results.get("step"))})
        return "–".join(map(str, dict.fromkeys([steps[0], steps[-1]]))) if steps else ""

    def devices(self) -> str:
        return "; ".join(dict.fromkeys(str(r.results.get("device")) for r in self.runs))


def group_by_recipe(
    runs: Sequence[Run], summaries: Sequence[Mapping[str, Any]] = ()
) -> list[SeedGroup]:
    """Puts runs that differ by seed alone together, in the order of the tables.

    Runs of one dataset, model and protocol with different recipes stay apart, and their
    rows say by what they differ. So do runs of datasets that share a name alone: `data`
    is the start of the content's hash.

    Raises:
      InputError: two runs of one recipe have one seed.
    """
    contents: dict[str, set[str]] = {}
    for run in runs:
        contents.setdefault(run.dataset, set()).update({run.content} - {""})
    kinds: dict[tuple[str, ...], dict[str, list[Run]]] = {}
    for run in sorted(runs, key=_order):
        kind = (run.dataset, run.model, run.weights_description)
        settings = run.settings()
        if len(contents[run.dataset]) > 1:
            settings["data"] = run.content[:8] or "unknown"
        recipe = json.dumps(settings, sort_keys=True)
        same = kinds.setdefault(kind, {}).setdefault(recipe, [])
        if same and same[-1].seed == run.seed:
            raise InputError(
                f"{same[-1].source} and {run.source} are both seed {run.seed} of one "
                "recipe; pass one of them"
            )
        same.append(run)
    groups = []
    for recipes in kinds.values():
        each_of = [json.loads(recipe) for recipe in recipes]
        differing = [
            key
            for key in sorted({k for s in each_of for k in s})
            if key == "data" or any(s.get(key) != each_of[0].get(key) for s in each_of)
        ]
        for each, members in zip(each_of, recipes.values(), strict=True):
            variant = ", ".join(f"{k}={each.get(k)}" for k in differing)
            summary = _summary(members, summaries)
            groups.append(SeedGroup(tuple(members), variant, summary))
    return groups


def _order(run: Run) -> tuple:
    return (*_sort_rank(run.dataset, run.model), run.weights_description, run.seed)


def _sort_rank(dataset: str, model: str) -> tuple:
    """Sorts own datasets first, then benchmarks; models as they were published."""
    rank = BENCHMARKS.index(dataset) + 1 if dataset in BENCHMARKS else 0
    return rank, dataset, MODELS.index(model) if model in MODELS else len(MODELS), model


def _summary(runs: Sequence[Run], summaries) -> Mapping[str, Any]:
    """Returns the summary that is of these very runs, if any is."""
    for summary in summaries:
        seeds, metrics = summary["seeds"], summary["metrics"]
        if sorted(seeds) != [r.seed for r in runs] or "auc" not in metrics:
            continue
        values = dict(zip(seeds, metrics["auc"]["seeds"], strict=True))
        if all(values[r.seed] == r.results["auc"] for r in runs):
            return summary
    return {}


Row = dict[str, str]


def tables(
    groups: Sequence[SeedGroup], published: bool = False
) -> dict[str, list[Row]]:
    """Returns the rows of each dataset, as {column: text}; published rows first.

    Args:
      groups: of `group`.
      published: whether benchmarks that no run is of are listed, too.
    """
    found: dict[str, list[Row]] = {g.first.dataset: [] for g in groups}
    if published:
        found |= {name: [] for name in BENCHMARKS if name not in found}
    for dataset, rows in found.items():
        numbers = [p for p in PUBLISHED if p.dataset == dataset]
        here = [g for g in groups if g.first.dataset == dataset]
        optional = {k for p in numbers for k in p.values} & set(OPTIONAL)
        keys = [k for k in COLUMNS if k not in OPTIONAL or k in optional]
        models = {x.model for x in numbers} | {g.first.model for g in here}
        for model in sorted(models, key=lambda m: _sort_rank(dataset, m)):
            rows += [published_row(p) for p in numbers if p.model == model]
            ours = [g for g in here if g.first.model == model]
            rows += [trained_row(g, keys) for g in ours]
            if not ours:
                rows.append({"model": model, "weights": "trained here: not run"})
    return dict(sorted(found.items(), key=lambda item: _sort_rank(item[0], "")))


def trained_row(group: SeedGroup, keys: Sequence[str]) -> Row:
    """Returns the cells of runs; `keys` are the metrics."""
    first = group.first
    headline = "ap" if first.dataset == "xd" else "auc"
    row = {
        "model": first.model + (f" ({group.variant})" if group.variant else ""),
        "weights": first.weights_description,
        "seeds": str(len(group.runs)),
    }
    known = {k: group.spread(k)[0] for k in ("auc", "ap", "far", "video_auc")}
    unknown = without_truth(known)
    for key in keys:
        row[COLUMNS[key]] = percent(*group.spread(key))
        if key == "auc" and unknown:
            row[COLUMNS[key]] = "no ground truth"
        if key == headline:
            interval = group.intervals.get(key, ())
            row[INTERVAL] = "–".join(f"{100 * x:.2f}" for x in interval)
    return row | {"steps": group.steps(), "device": group.devices()}


def published_row(numbers: Published) -> Row:
    """Returns the cells of published numbers."""
    words, source = numbers.weights_description, numbers.source
    row = {"model": numbers.model, "weights": f"[{words}]({source})"}
    return row | {COLUMNS[k]: f"{v:.2f}" for k, v in numbers.values.items()}


def markdown(found: Mapping[str, Sequence[Row]]) -> str:
    """Returns the tables as Markdown, a heading in bold above each."""
    parts = [NOTE]
    for dataset, rows in found.items():
        columns = [c for c in HEADS if any(row.get(c) for row in rows)]
        lines = [
            columns,
            ["---" if c in ("model", "weights") else "---:" for c in columns],
        ]
        lines += [[_cell(row.get(c, "")) for c in columns] for row in rows]
        table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
        parts.append(f"**{_cell(dataset)}**\n\n{table}")
    return "\n\n".join(parts) + "\n"


def _cell(text: str) -> str:
    """Names come from files of others: they are to be neither columns nor markup."""
    return text.replace("|", "\\|").replace("<", "&lt;")


def write_csv(path: pathlib.Path, groups: Sequence[SeedGroup]) -> None:
    """Writes a line for each group and published row, every metric as a fraction.

    Columns KEY and KEY_std hold mean and standard deviation, KEY_low and KEY_high the
    interval where a study's summary gives one.
    """
    rows: list[dict[str, Any]] = []
    for g in groups:
        run = g.first
        row: dict[str, Any] = {"dataset": run.dataset, "model": run.model}
        row |= {
            "variant": g.variant,
            "weights": run.weights_description,
            "protocol": run.protocol,
        }
        row |= {"n": len(g.runs), "seeds": " ".join(map(str, g.seeds))}
        row |= {"step": g.steps(), "device": g.devices()}
        for key in run.values():
            row[key], row[f"{key}_std"] = g.spread(key)
            if key in g.intervals:
                row[f"{key}_low"], row[f"{key}_high"] = g.intervals[key]
        rows.append(row)
    for p in PUBLISHED:
        if p.dataset in {g.first.dataset for g in groups}:
            row = {
                "dataset": p.dataset,
                "model": p.model,
                "weights": p.weights_description,
            }
            values = {k: round(v / 100, 6) for k, v in p.values.items()}
            rows.append(row | values | {"source": p.source})
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(dict.fromkeys(k for row in rows for k in row)))
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def with_table(text: str, table: str, path: str) -> str:
    """Returns `text` with what lies between the two markers replaced.

    Raises:
      InputError: `text`, from the file `path`, doesn't have each marker once, in order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in before + after:
        raise InputError(
            f"{path}: expected one line {BEGIN} and below it one line {END}; the table "
            "goes between them"
        )
    return f"{before}{BEGIN}\n{table}{END}{after}"
