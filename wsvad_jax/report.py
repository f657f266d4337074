"""Tables of finished runs, generated from their results.

  python -m wsvad_jax.report runs --output report
  python -m wsvad_jax.report runs --html report.html
  python -m wsvad_jax.report runs --collect results
  python -m wsvad_jax.report results --readme README.md --published
  python -m wsvad_jax.report results --readme README.md --published --check

Inputs: workdirs that training left, folders of them, or what --collect wrote. Outputs:
DIR/report.md and DIR/report.csv, a row for each dataset, model and protocol with mean ±
standard deviation over its seeds; with --readme, the same tables between the lines
<!-- results:begin --> and <!-- results:end --> of FILE; with --html, one page with the
tables, curves and comparisons of models; with --collect, copies of the runs'
results.json and config.json in one file each, DIR/DATASET/MODEL/PROTOCOL/seedN.json,
without paths of this machine, and of their curves.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

from wsvad_jax.results.runs import collect, find_runs
from wsvad_jax.results.tables import (
    HEADS,
    NOTE,
    SeedGroup,
    group_by_recipe,
    markdown,
    tables,
    with_table,
    write_csv,
)
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
    add("--readme", metavar="FILE", type=pathlib.Path, help="gets the tables, too")
    add("--collect", metavar="DIR", type=pathlib.Path, help="for copies of the results")
    add("--html", metavar="FILE", type=pathlib.Path, help="gets a page with curves")
    add("--published", action="store_true", help="list benchmarks without a run, too")
    add(
        "--check", action="store_true", help="write nothing; exit 1 if --readme differs"
    )
    known = parser.parse_args(argv)
    if not (known.output or known.readme or known.collect or known.html):
        parser.error("pass --output DIR, --readme FILE, --html FILE or --collect DIR")
    others = known.output or known.collect or known.html
    if known.check and (others or not known.readme):
        parser.error("--check goes with --readme alone, as it writes nothing")
    if not (known.output or known.readme or known.html):
        flags.refuse(flags.given(parser, argv), ("published",), "--collect alone")
    runs, summaries, unfinished = find_runs(known.runs)
    for path in unfinished:
        print(f"{path} is not finished and left out", file=sys.stderr)
    groups = group_by_recipe(runs, summaries)
    return write(groups, summaries, known)


def write(groups: Sequence[SeedGroup], summaries, known: argparse.Namespace) -> int:
    """Writes what was asked for; returns the exit code."""
    found = tables(groups, known.published)
    text = markdown(found)
    if known.readme:
        try:
            old = known.readme.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise InputError(f"{known.readme}: expected a text file in UTF-8") from None
        new = with_table(old, text, str(known.readme))
        if known.check:
            if new == old:
                return 0
            print(
                f"{known.readme}: its table of results differs from what the runs "
                "give; run the same command without --check",
                file=sys.stderr,
            )
            return 1
        if new != old:
            write_text(known.readme, new)
    if known.output:
        write_text(known.output / "report.md", f"# Results\n\n{text}")
        write_csv(known.output / "report.csv", groups)
        print(f"report.md and report.csv are in {known.output}")
    if known.html:
        from wsvad_jax.results import html_report

        html_report.write(known.html, groups, found, HEADS, NOTE)
        print(known.html)
    if known.collect:
        used = [s for s in summaries if any(g.summary is s for g in groups)]
        runs = [run for g in groups for run in g.runs]
        for path in collect(runs, known.collect, used):
            print(path)
    return 0


if __name__ == "__main__":
    program.run(main)
