"""The command `benchmark flips`: its flags, and its run.

It flips a share of the training labels, audits them as `prepare --audit` does, and counts
the flipped ones among the first k.
"""

import argparse
from collections.abc import Sequence
from typing import Any

from wsvad_jax.benchmarks import program_flags
from wsvad_jax.benchmarks.grid import (
    dataset_names,
    parse_names,
    parse_seed_flag,
)
from wsvad_jax.utils import flags

COMMAND = "flips"
MODELS = ("mil_ranking", "clip_tsa", "vadclip", "dsanet")


def add_command(commands: "argparse._SubParsersAction") -> None:
    """Adds the command to the program `benchmark`."""
    parser = commands.add_parser(COMMAND, help="flip training labels, and audit them")
    parser.add_argument(
        "--models", default="mil_ranking", help="as dsanet,vadclip, or all"
    )
    parser.add_argument("--datasets", default="demo", help="names or prepared folders")

    # What is flipped, and how it is looked for.
    parser.add_argument(
        "--flips", type=float, default=0.1, metavar="SHARE", help="of the labels (0.1)"
    )
    parser.add_argument("--folds", type=flags.count, metavar="K", help="(default: 5)")

    program_flags.add_run_flags(parser, "runs/flips", together=False)
    program_flags.add_page_flags(parser)
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
    from wsvad_jax.benchmarks import label_flips, label_flips_table, result_files

    program_flags.check_page(known)
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
        label_flips.flip_benchmark(models, dataset_names(known.datasets), options)

    # The tables show all results in the folder.
    table = label_flips_table
    results = result_files.read_results(known.output, table.FlipResults, COMMAND)
    return program_flags.show_results(known, results, table.plain, table.markdown)
