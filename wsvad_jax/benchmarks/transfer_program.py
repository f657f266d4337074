"""The command `benchmark transfer`: its flags, and what it runs."""

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
from wsvad_jax.utils.errors import InputError

COMMAND = "transfer"
MODELS = ("mil_ranking", "clip_tsa", "vadclip", "dsanet")


def add_command(commands: Any) -> None:
    """Adds the command with its flags.

    Args:
      commands: sub-parsers of the program.
    """
    parser = commands.add_parser(COMMAND, help="train on some datasets, test on others")
    parser.add_argument("--models", default="all", help="as dsanet,vadclip, or all")

    # Not required with --check, which reads the results alone.
    for flag, what in (("--train", "to train on"), ("--test", "whose test sets count")):
        parser.add_argument(flag, metavar="A,B", help=f"datasets {what}")

    program_flags.add_run_flags(parser, "runs/transfer")
    program_flags.add_page_flags(parser)
    flags.add_output_flags(parser)


def run(known: argparse.Namespace, changes: Sequence[str]) -> tuple[dict, bool]:
    """Runs the command; returns the value of --json, and whether a check passed.

    Args:
      known: parsed flags.
      changes: flags --config.KEY=VALUE of every run.

    Raises:
      InputError: flags that don't fit together, or as in `transfer.transfer`.
    """
    from wsvad_jax.benchmarks import result_files, transfer_table
    from wsvad_jax.results.write import update_markdown

    program_flags.check_page(known)
    models = parse_names(known.models, MODELS, "--models")
    if not known.check:
        _measure(models, known, changes)

    # The tables show all results in the folder, like those of `text`.
    rows = result_files.read_results(
        known.output, transfer_table.TransferRow, COMMAND, "MODEL/TRAINING_SET.json"
    )
    print(transfer_table.plain(rows))
    passed = True
    if known.markdown:
        table = transfer_table.markdown(rows)
        passed = update_markdown(known.markdown, table, check=known.check)
    return {"results": [row.model_dump() for row in rows]}, passed


def _measure(
    models: Sequence[str], known: argparse.Namespace, changes: Sequence[str]
) -> None:
    from wsvad_jax.benchmarks import transfer

    options = transfer.TransferOptions(
        seeds=parse_seed_flag(known.seeds),
        output=known.output,
        runs=known.runs,
        data_dir=known.data_dir,
        changes=changes,
        together=known.together,
    )
    for flag in ("train", "test"):
        if not getattr(known, flag):
            raise InputError(
                f"--{flag} is missing; expected names or prepared folders, as in "
                f"--{flag} demo_twin,demo_stamp"
            )
    train = dataset_names(known.train, "--train")
    test = dataset_names(known.test, "--test")
    transfer.transfer(models, train, test, options)
