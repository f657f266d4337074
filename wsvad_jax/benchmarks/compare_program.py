"""The command `benchmark compare`: its flags, and its run."""

import argparse
import pathlib
from collections.abc import Sequence
from typing import Any

from wsvad_jax.utils import flags
from wsvad_jax.utils.errors import InputError

COMMAND = "compare"


def add_command(commands: "argparse._SubParsersAction") -> None:
    """Adds the command to the program `benchmark`."""
    parser = commands.add_parser(COMMAND, help="compare two recipes seed by seed")
    for name, what in (("base", "one recipe"), ("changed", "the other recipe")):
        parser.add_argument(
            f"--{name}",
            type=pathlib.Path,
            required=True,
            metavar="DIR",
            help=f"finished runs of {what}, which differ by seed",
        )
    parser.add_argument(
        "--data_dir", help="folder of prepared datasets (default: the cache)"
    )
    parser.add_argument("--output", type=pathlib.Path, metavar="FILE", help="JSON")
    flags.add_output_flags(parser)


def run(
    known: argparse.Namespace, changes: Sequence[str]
) -> tuple[dict[str, Any], bool]:
    """Runs the command; returns the value of --json, and True.

    Args:
      known: flags of the command.
      changes: words that it doesn't know.

    Raises:
      InputError: an unknown word, a file that can't be written, or as `compare.compare`.
    """
    from wsvad_jax.benchmarks import compare
    from wsvad_jax.utils.files import write_json

    if changes:
        raise InputError(
            f"unexpected argument {changes[0]!r}: benchmark compare trains nothing"
        )
    if known.output and known.output.is_dir():
        raise InputError(f"--output {known.output} is a folder; expected a JSON file")

    found = compare.compare(known.base, known.changed, known.data_dir)
    if known.output:
        write_json(known.output, found)
    print(compare.table(found))
    return found, True
