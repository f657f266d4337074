"""The command `benchmark compare`: its flags, and its run."""

import argparse
import pathlib
from collections.abc import Sequence
from typing import Any

from wsvad_jax.benchmarks import program_flags
from wsvad_jax.utils import flags
from wsvad_jax.utils.errors import InputError

COMMAND = "compare"


def add_command(commands: "argparse._SubParsersAction") -> None:
    """Adds the command to the program `benchmark`."""
    parser = commands.add_parser(COMMAND, help="compare two recipes seed by seed")

    # Not required with --check, which reads the results alone.
    for name, what in (("base", "one recipe"), ("changed", "the other recipe")):
        parser.add_argument(
            f"--{name}",
            type=pathlib.Path,
            metavar="DIR",
            help=f"finished runs of {what}, which differ by seed",
        )
    program_flags.add_folder_flags(parser)
    program_flags.add_page_flags(parser)
    flags.add_output_flags(parser)


def run(
    known: argparse.Namespace, changes: Sequence[str]
) -> tuple[dict[str, Any], bool]:
    """Runs the command; returns the value of --json, and whether --check passes.

    Args:
      known: flags of the command.
      changes: words that it doesn't know.

    Raises:
      InputError: an unknown word, a missing flag, or as `compare.compare`.
    """
    from wsvad_jax.benchmarks import compare, compare_table, result_files

    if changes:
        raise InputError(
            f"unexpected argument {changes[0]!r}: benchmark compare trains nothing"
        )
    program_flags.check_page(known)
    if not known.check:
        for name in ("base", "changed"):
            if getattr(known, name) is None:
                raise InputError(f"--{name} is missing; expected a folder of runs")
        path = compare.write_comparison(
            known.base, known.changed, known.output, known.data_dir
        )
        print(path)

    # The tables show all results in the folder.
    results = result_files.read_results(known.output, compare_table.Comparison, COMMAND)
    return program_flags.show_results(
        known, results, compare_table.plain, compare_table.markdown
    )
