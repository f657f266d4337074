"""Tables of `benchmark flips`, from the files that it wrote."""

from collections.abc import Sequence
from typing import Any

from wsvad_jax.utils.json_shapes import Number, PrintableText, Shape
from wsvad_jax.utils.text import aligned, count, percent

FLIPPED = "flipped"  # k is the number of flipped labels
NOTE = (
    "Share of flipped labels among the k most disputed, in %: mean ± sample standard "
    "deviation over the seeds, each of which draws other flips. *Chance* is the share of "
    "flipped labels among all."
)


class Precision(Shape):
    """Precision at k over the seeds."""

    mean: Number
    std: Number | None


class FlipSeed(Shape):
    """One draw of flips, and what the audit says of it."""

    seed: int
    flipped: int
    video_auc: Number


class FlipResults(Shape):
    """A file of `benchmark flips`."""

    model: PrintableText
    dataset: PrintableText
    videos: int
    folds: int
    overrides: dict[PrintableText, Any]  # of the recipe
    seeds: list[FlipSeed]
    precision: dict[PrintableText, Precision]


def plain(result: FlipResults) -> str:
    """Returns the table of one result for a terminal."""
    return "\n".join([f"{_title(result)}, in %", *aligned(_rows(result))])


def markdown(results: Sequence[FlipResults]) -> str:
    """Returns the tables of all results as Markdown."""
    sections = [NOTE]
    for result in results:
        head, cells = _rows(result)
        lines = [head, [":--", *["--:"] * (len(head) - 1)], cells]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        sections.append(f"**{result.dataset}**: {_title(result)}\n\n{table}")
    return "\n\n".join(sections) + "\n"


def _title(result: FlipResults) -> str:
    """Words what was measured; all seeds flip the same number of labels."""
    overrides = [f"{key}={value}" for key, value in result.overrides.items()]
    changed = f" with {', '.join(overrides)}" if overrides else ""
    auc = sum(seed.video_auc for seed in result.seeds) / len(result.seeds)
    return (
        f"{result.seeds[0].flipped} of {result.videos} labels flipped, "
        f"{count(result.folds, 'fold')}, {count(len(result.seeds), 'seed')}{changed}; "
        f"mean video AUC of the judgements {auc:.3f}"
    )


def _rows(result: FlipResults) -> list[list[str]]:
    flipped = result.seeds[0].flipped
    names = [f"first {flipped if k == FLIPPED else k}" for k in result.precision]
    found = [percent(p.mean, p.std) for p in result.precision.values()]
    return [
        ["model", *names, "chance"],
        [result.model, *found, percent(flipped / result.videos)],
    ]
