"""Tables of finished runs, generated from their results.

  python -m wsvad_jax.report runs --output report
  python -m wsvad_jax.report runs --html report.html
  python -m wsvad_jax.report runs/dsanet-demo-0 --output report --figures
  python -m wsvad_jax.report runs --collect results
  python -m wsvad_jax.report results --markdown docs/results.md --published
  python -m wsvad_jax.report results --markdown README.md --short --published --check

Inputs: workdirs that training wrote, folders of them, or files that --collect wrote.

Outputs:
  --output DIR     DIR/report.md and DIR/report.csv: one row per dataset, model and
                   protocol, with mean ± standard deviation over its seeds
  --figures        with --output: DIR/figures/RUN/ with figures for papers, each as PNG,
                   SVG and PDF: snippets before and after the model by t-SNE or UMAP,
                   curves of each class, and the points of both as CSV
  --markdown FILE  the same tables, between the lines <!-- results:begin --> and
                   <!-- results:end --> of FILE; with --short, one row per model and
                   dataset instead
  --html FILE      one page with the tables, curves and comparisons of models
  --collect DIR    each run's results.json and config.json in one file,
                   DIR/DATASET/MODEL/PROTOCOL/seedN.json, without paths of this
                   machine, and its curves
  --json           the rows of report.csv as one JSON object on standard output
"""

import argparse
import pathlib
import sys
from collections.abc import Mapping, Sequence

from wsvad_jax.results.runs import Run, find_runs
from wsvad_jax.results.seed_groups import group_by_recipe
from wsvad_jax.results.tables import number_rows
from wsvad_jax.results.write import (
    ReportOutputs,
    markdown_table,
    update_markdown,
    write_outputs,
)
from wsvad_jax.utils import flags, program
from wsvad_jax.utils.errors import InputError

SNIPPETS, MAX_SNIPPETS = 2000, 20_000  # of a figure; more would take an hour
OF_FIGURES = ("embedding", "snippets", "data_dir")  # flags that --figures reads


def _parser() -> flags.Parser:
    parser = flags.Parser(
        prog="python -m wsvad_jax.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument

    add("runs", nargs="+", metavar="RUN", help="a workdir, or a folder of them")

    # One run of the program may write several of these.
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

    add("--figures", action="store_true", help="write figures of each run, too")
    add(
        "--embedding",
        choices=("tsne", "umap"),
        default="tsne",
        help="how snippets are placed in figures (default: tsne)",
    )
    add(
        "--snippets",
        metavar="N",
        type=flags.count,
        default=SNIPPETS,
        help=f"snippets per figure, at most (default: {SNIPPETS})",
    )
    add("--data_dir", help="folder of prepared datasets, for figures")

    add("--published", action="store_true", help="list benchmarks without a run, too")
    add(
        "--check",
        action="store_true",
        help="write nothing; exit 1 if --markdown differs",
    )
    flags.add_output_flags(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit code."""
    parser = _parser()
    known = parser.parse_args(argv)

    # Flags that leave nothing to write, or that nothing would read.
    writes = known.output or known.markdown or known.collect or known.html
    if known.figures and not known.output:
        parser.error("--figures requires --output DIR")
    if not (writes or known.json):
        parser.error(
            "pass --output DIR, --markdown FILE, --html FILE, --collect DIR or --json"
        )
    others = known.output or known.collect or known.html
    if known.check and (others or not known.markdown):
        parser.error("--check requires --markdown and no other output")
    if known.short and not known.markdown:
        parser.error("--short requires --markdown")
    passed = flags.given(parser, argv)
    if not known.figures:
        flags.refuse(passed, OF_FIGURES, "no --figures", "pass --figures, too")
    if known.snippets > MAX_SNIPPETS:
        raise InputError(
            f"--snippets is {known.snippets}; expected {MAX_SNIPPETS} or less"
        )
    if not (known.output or known.markdown or known.html):
        alone = "--collect alone" if known.collect else "--json alone"
        flags.refuse(passed, ("published",), alone)

    runs, summaries, unfinished = find_runs(known.runs)
    for path in unfinished:
        print(f"{path} is not finished and left out", file=sys.stderr)
    groups = group_by_recipe(runs, summaries)

    with program.output(quiet=known.quiet, json_only=known.json) as output:
        output.value = {"rows": number_rows(groups)}
        if known.check:
            table = markdown_table(groups, published=known.published, short=known.short)
            return 0 if update_markdown(known.markdown, table, check=True) else 1

        # What figures lack is said before the tables are written.
        folders = _plan_figures(known, runs)

        write_outputs(
            groups,
            summaries,
            ReportOutputs(known.output, known.markdown, known.html, known.collect),
            published=known.published,
            short=known.short,
        )
        if folders:
            _write_figures(known, folders)
            output.value["figures"] = [str(folder) for folder in folders]
    return 0


def _plan_figures(
    known: argparse.Namespace, runs: Sequence[Run]
) -> dict[pathlib.Path, Run]:
    """Returns the runs that get figures, by folder; {} without --figures."""
    if not known.figures:
        return {}
    # Figures need libraries that the tables don't.
    from wsvad_jax.evaluation.figures.write import plan_figures

    return plan_figures(runs, known.output, known.embedding, known.data_dir)


def _write_figures(
    known: argparse.Namespace, folders: Mapping[pathlib.Path, Run]
) -> None:
    from wsvad_jax.evaluation.figures.write import write_all

    write_all(
        folders,
        method=known.embedding,
        count=known.snippets,
        data_dir=known.data_dir,
    )


if __name__ == "__main__":
    program.run(main, resumes=False)
