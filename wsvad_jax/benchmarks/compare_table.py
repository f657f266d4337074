"""Tables of `benchmark compare`, from the files that it wrote."""

from collections.abc import Sequence
from typing import Any

from wsvad_jax.results.results_table import metric_title
from wsvad_jax.utils.json_shapes import Number, PrintableText, Shape
from wsvad_jax.utils.text import (
    aligned,
    change_in_points,
    count,
    markdown_table,
    percent,
)

NOTE = (
    "In %: mean ± sample standard deviation over the seeds. Differences are in percentage "
    "points, with their 95 % interval over test videos and seeds. **Bold**: the interval "
    "leaves out 0."
)
NAMING = "event frames named rightly"  # a metric that results.json doesn't have


class OneSide(Shape):
    """A metric of one recipe over the seeds."""

    mean: Number | None
    std: Number | None


class PairedChange(Shape):
    """The difference of the recipes."""

    mean: Number | None
    interval: list[Number] | None


class ComparedMetric(Shape):
    """A metric of both recipes."""

    base: OneSide
    changed: OneSide
    difference: PairedChange


class Comparison(Shape):
    """A file of `benchmark compare`."""

    models: list[PrintableText]  # of base and changed
    dataset: PrintableText
    videos: int
    seeds: list[int]
    differing: dict[PrintableText, list[Any]]  # key of the recipes → both values
    metrics: dict[PrintableText, ComparedMetric]


def plain(result: Comparison) -> str:
    """Returns the table of one comparison for a terminal."""
    return "\n".join([f"{_title(result)}, in %", *aligned(_rows(result), left=(0,))])


def markdown(results: Sequence[Comparison]) -> str:
    """Returns the tables of all comparisons as Markdown."""
    sections = [NOTE]
    for result in results:
        table = markdown_table(_rows(result, bold=True))
        sections.append(f"**{_title(result)}**\n\n{table}")
    return "\n\n".join(sections) + "\n"


def _title(result: Comparison) -> str:
    """Words what is compared; keys that one recipe lacks belong to a switch."""
    models = " and ".join(dict.fromkeys(result.models))
    keys = [
        f"{key} {old} and {new}"
        for key, (old, new) in result.differing.items()
        if old is not None and new is not None
    ]
    about = f"{models} on {result.dataset}, {count(result.videos, 'test video')}"
    about += f", {count(len(result.seeds), 'seed')}"
    return f"{about}: {', '.join(keys)}" if keys else about


def _rows(result: Comparison, *, bold: bool = False) -> list[list[str]]:
    rows = [["metric", "base", "changed", "difference"]]
    for name, metric in result.metrics.items():
        sides = (metric.base, metric.changed)
        change = metric.difference
        rows.append(
            [
                NAMING if name == "naming" else metric_title(name),
                *(percent(side.mean, side.std, undefined="-") for side in sides),
                change_in_points(change.mean, change.interval, bold=bold),
            ]
        )
    return rows
