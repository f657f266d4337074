"""Tables of finished runs, generated from their results.

  python -m wsvad_jax.report runs --output report
  python -m wsvad_jax.report runs --html report.html
  python -m wsvad_jax.report runs --collect results
  python -m wsvad_jax.report results --markdown docs/results.md --published
  python -m wsvad_jax.report results --markdown README.md --short --published --check

Inputs: workdirs that training wrote, folders of them, or files that --collect wrote.

Outputs:
  --output DIR     DIR/report.md and DIR/report.csv: one row per dataset, model and
                   protocol, with mean ± standard deviation over its seeds
  --markdown FILE  the same tables, between the lines <!-- results:begin --> and
                   <!-- results:end --> of FILE; with --short, one row per model and
                   dataset instead
  --html FILE      one page with the tables, curves and comparisons of models
  --collect DIR    each run's results.json and config.json in one file,
                   DIR/DATASET/MODEL/PROTOCOL/seedN.json, without paths of this
                   machine, and its curves
"""

import argparse
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from wsvad_jax.results import tables
from wsvad_jax.results.runs import collect, find_runs
from wsvad_jax.results.seed_groups import SeedGroup, group_by_recipe
from wsvad_jax.utils import flags, program
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import write_text


def main(argv: Sequence[str] | None = None) -> int:
    parser = flags.Parser(
        prog="python -m wsvad_jax.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUN", help="a workdir, or a folder of them")
    add("--output", metavar="DIR", type=pathlib.Path, help="for report.md, report.csv")
    add(
        "--markdown",
        "--readme",
        metavar="FILE",
        type=pathlib.Path,
        help="gets the tables between two marked lines",
    )
    add("--short", action="store_true", help="write one row per model and dataset")
    add("--collect", metavar="DIR", type=pathlib.Path, help="for copies of the results")
    add("--html", metavar="FILE", type=pathlib.Path, help="gets a page with curves")
    add("--published", action="store_true", help="list benchmarks without a run, too")
    add(
        "--check",
        action="store_true",
        help="write nothing; exit 1 if --markdown differs",
    )
    known = parser.parse_args(argv)
    if not (known.output or known.markdown or known.collect or known.html):
        parser.error("pass --output DIR, --markdown FILE, --html FILE or --collect DIR")
    others = known.output or known.collect or known.html
    if known.check and (others or not known.markdown):
        parser.error("--check requires --markdown and no other output")
    if known.short and not known.markdown:
        parser.error("--short requires --markdown")
    if not (known.output or known.markdown or known.html):
        flags.refuse(flags.given(parser, argv), ("published",), "--collect alone")
    runs, summaries, unfinished = find_runs(known.runs)
    for path in unfinished:
        print(f"{path} is not finished and left out", file=sys.stderr)
    groups = group_by_recipe(runs, summaries)
    return write(groups, summaries, known)


def write(
    groups: Sequence[SeedGroup],
    summaries: Sequence[Mapping[str, Any]],
    known: argparse.Namespace,
) -> int:
    """Writes the outputs that the flags name; returns the exit code."""
    rows = tables.tables(groups, known.published)
    text = tables.markdown(rows)

    if known.markdown:
        short = tables.short_markdown(tables.short_table(groups, known.published))
        code = fill_markdown(
            known.markdown, short if known.short else text, check=known.check
        )
        if known.check:
            return code

    if known.output:
        write_text(known.output / "report.md", f"# Results\n\n{text}")
        tables.write_csv(known.output / "report.csv", groups)
        print(f"report.md and report.csv are in {known.output}")

    if known.html:
        from wsvad_jax.results import html_report

        html_report.write(known.html, groups, rows, tables.HEADS, tables.NOTE)
        print(known.html)

    if known.collect:
        # A summary without its runs would be shown as the summary of others.
        used = [s for s in summaries if any(g.summary is s for g in groups)]
        for path in collect([r for g in groups for r in g.runs], known.collect, used):
            print(path)
    return 0


def fill_markdown(path: pathlib.Path, table: str, *, check: bool) -> int:
    """Writes a table between the two marked lines of a Markdown file.

    Args:
      path: Markdown file.
      table: Markdown to write.
      check: whether to compare only; the exit code is 1 if the file differs.

    Raises:
      InputError: the file is no text in UTF-8, or lacks the lines.
    """
    try:
        old = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{path}: expected a text file in UTF-8") from None

    new = tables.with_table(old, table, str(path))
    if new == old:
        return 0
    if check:
        print(
            f"{path}: its table of results differs from what the runs give; run the "
            "same command without --check",
            file=sys.stderr,
        )
        return 1
    write_text(path, new)
    return 0


if __name__ == "__main__":
    program.run(main)
