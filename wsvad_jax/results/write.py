"""Writes tables of runs as files, into Markdown, as a page, or as copies of results."""

import dataclasses
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from wsvad_jax.results import tables
from wsvad_jax.results.runs import collect
from wsvad_jax.results.seed_groups import SeedGroup
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import write_text


@dataclasses.dataclass(frozen=True)
class ReportOutputs:
    """Where the tables go; None leaves an output out."""

    folder: pathlib.Path | None = None  # gets report.md and report.csv
    markdown: pathlib.Path | None = None  # file with two marked lines
    html: pathlib.Path | None = None  # file of the page
    collected: pathlib.Path | None = None  # folder of copies of the results


def write_outputs(
    groups: Sequence[SeedGroup],
    summaries: Sequence[Mapping[str, Any]],
    outputs: ReportOutputs,
    *,
    published: bool = False,
    short: bool = False,
) -> None:
    """Writes the outputs, and prints their paths.

    Args:
      groups: runs that differ by their seed alone.
      summaries: summaries of seeds beside the runs.
      outputs: files and folders to write.
      published: whether benchmarks without a run are listed, too.
      short: whether the Markdown file gets one row per model and dataset.

    Raises:
      InputError: as `update_markdown`.
    """
    rows = tables.tables(groups, published)

    if outputs.markdown:
        table = markdown_table(groups, published=published, short=short)
        update_markdown(outputs.markdown, table)

    if outputs.folder:
        text = tables.markdown(rows, tables.event_tables(groups))
        write_text(outputs.folder / "report.md", f"# Results\n\n{text}")
        tables.write_csv(outputs.folder / "report.csv", groups)
        print(f"report.md and report.csv are in {outputs.folder}")

    if outputs.html:
        # The page needs libraries that the tables don't.
        from wsvad_jax.results import html_report

        html_report.write(outputs.html, groups, rows)
        print(outputs.html)

    if outputs.collected:
        # A summary without its runs would be shown as the summary of others.
        used = [s for s in summaries if any(g.summary is s for g in groups)]
        runs = [run for group in groups for run in group.runs]
        for path in collect(runs, outputs.collected, used):
            print(path)


def markdown_table(
    groups: Sequence[SeedGroup], *, published: bool = False, short: bool = False
) -> str:
    """Returns the tables as Markdown; see `write_outputs` for the arguments."""
    if short:
        return tables.short_markdown(tables.short_table(groups, published))
    rows = tables.tables(groups, published)
    return tables.markdown(rows, tables.event_tables(groups))


def update_markdown(path: pathlib.Path, table: str, *, check: bool = False) -> bool:
    """Writes a table between the two marked lines of a Markdown file.

    Args:
      path: Markdown file.
      table: Markdown to write.
      check: whether the file is only compared; a difference is printed.

    Returns:
      Whether the file holds the table now.

    Raises:
      InputError: the file is no text in UTF-8, or lacks the lines.
    """
    old = _read_page(path)
    new = tables.with_table(old, table, str(path))
    if new == old:
        return True

    # A check may run where nothing must change, such as before a release.
    if check:
        print(
            f"{path}: its table of results differs from what the runs give; run the "
            "same command without --check",
            file=sys.stderr,
        )
        return False

    write_text(path, new)
    return True


def check_markdown(path: pathlib.Path) -> None:
    """Checks that `update_markdown` can write a table into a file.

    Raises:
      InputError: as `update_markdown`.
    """
    tables.with_table(_read_page(path), "", str(path))


def _read_page(path: pathlib.Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{path}: expected a text file in UTF-8") from None
