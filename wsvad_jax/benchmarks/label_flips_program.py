"""The command `benchmark flips`: its flags, and its run.

It flips a share of the training labels, audits them as `prepare --audit` does, and counts
the flipped ones among the first k.
"""

import argparse
import pathlib
from collections.abc import Sequence
from typing import Any

from wsvad_jax.benchmarks.grid import parse_names, parse_seed_flag
from wsvad_jax.utils import flags
from wsvad_jax.utils.errors import InputError

COMMAND = "flips"
MODELS = ("mil_ranking", "clip_tsa", "vadclip", "dsanet")


def add_command(commands: "argparse._SubParsersAction") -> None:
    """Adds the command to the program `benchmark`."""
    parser = commands.add_parser(COMMAND, help="flip training labels, and audit them")
    parser.add_argument(
        "--models", default="mil_ranking", help="as dsanet,vadclip, or all"
    )
    parser.add_argument("--datasets", default="demo", help="names or prepared folders")
    parser.add_argument(
        "--seeds", default="5", help="how many, or which: 0,1,2 or 0..4"
    )

    # What is flipped, and how it is looked for.
    parser.add_argument(
        "--flips", type=float, default=0.1, metavar="SHARE", help="of the labels (0.1)"
    )
    parser.add_argument("--folds", type=flags.count, metavar="K", help="(default: 5)")

    # Where data is read and results go.
    parser.add_argument("--output", type=pathlib.Path, required=True, metavar="DIR")
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs/flips"))
    parser.add_argument(
        "--data_dir", help="folder of prepared datasets (default: the cache)"
    )
    parser.add_argument(
        "--markdown", type=pathlib.Path, metavar="FILE", help="gets the tables"
    )
    parser.add_argument(
        "--check", action="store_true", help="train nothing; compare --markdown"
    )
    flags.add_output_flags(parser)


def run(
    known: argparse.Namespace, changes: Sequence[str]
) -> tuple[dict[str, Any], bool]:
    """Runs the command; returns the value of --json, and whether --check passes.

    Args:
      known: flags of the command.
      changes: flags --config.KEY=VALUE of every training.

    Raises:
      InputError: as `label_flips.flip_benchmark`.
    """
    from wsvad_jax.audit.folds import DEFAULT_FOLDS
    from wsvad_jax.benchmarks import label_flips, label_flips_table
    from wsvad_jax.results.write import update_markdown

    if known.check and not known.markdown:
        raise InputError("--check requires --markdown FILE")
    if not known.check:
        options = label_flips.FlipOptions(
            parse_seed_flag(known.seeds),
            known.output,
            known.runs,
            known.flips,
            known.folds or DEFAULT_FOLDS,
            known.data_dir,
            changes,
        )
        models = parse_names(known.models, MODELS, "--models")
        label_flips.flip_benchmark(models, known.datasets.split(","), options)

    # The tables show all results in the folder.
    results = label_flips_table.read_results(known.output)
    for result in results:
        print(f"{label_flips_table.plain(result)}\n")
    passed = True
    if known.markdown:
        table = label_flips_table.markdown(results)
        passed = update_markdown(known.markdown, table, check=known.check)
    return {"results": [result.model_dump() for result in results]}, passed
