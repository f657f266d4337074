"""Flags and steps that several commands of the program `benchmark` share."""

import argparse
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from wsvad_jax.utils import flags
from wsvad_jax.utils.errors import InputError

# Flags of a command beside --check.
READ_BY_CHECK = ("output", "markdown", "check", "quiet", "json")


def add_run_flags(
    parser: argparse.ArgumentParser, runs: str, *, together: bool = True
) -> None:
    """Adds which seeds are trained, where data is read, and where results go.

    Args:
      parser: parser of the command.
      runs: default folder of the workdirs.
      together: whether seeds can be trained as one program.
    """
    parser.add_argument(
        "--seeds", default="5", help="how many, or which: 0,1,2 or 0..4"
    )
    add_folder_flags(parser)
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path(runs))

    if together:
        parser.add_argument(
            "--together", action="store_true", help="the seeds as one program"
        )


def add_folder_flags(parser: argparse.ArgumentParser) -> None:
    """Adds where data is read, and where results go."""
    parser.add_argument("--output", type=pathlib.Path, required=True, metavar="DIR")
    parser.add_argument(
        "--data_dir", help="folder of prepared datasets (default: the cache)"
    )


def add_page_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the page that gets the tables, and its comparison with the results."""
    parser.add_argument(
        "--markdown", type=pathlib.Path, metavar="FILE", help="gets the tables"
    )
    parser.add_argument(
        "--check", action="store_true", help="train nothing; compare --markdown"
    )


def check_page(known: argparse.Namespace) -> None:
    """Checks page and folder before any training: what can't be written must cost none.

    Raises:
      InputError: --check without --markdown, a page without the lines around tables, or
        an --output that is a file.
    """
    from wsvad_jax.results.write import check_markdown

    if known.output.is_file():
        raise InputError(f"--output {known.output} is a file; expected a folder")
    if known.check and not known.markdown:
        raise InputError("--check requires --markdown FILE")
    if known.markdown and not known.check:
        check_markdown(known.markdown)


def refuse_measuring(
    parser: flags.Parser, known: argparse.Namespace, rest: Sequence[str]
) -> None:
    """Refuses flags of a measurement beside --check, which reads results alone.

    Args:
      parser: parser of the program `benchmark`, which has read the words.
      known: flags of the command.
      rest: words that the command doesn't know, as --config.KEY=VALUE.

    Raises:
      InputError: a flag that would have no effect.
    """
    words = list(parser.seen)
    words.remove(known.part)
    subparsers: list[Any] = [a.choices for a in parser._actions if a.dest == "part"]
    passed = flags.given(subparsers[0][known.part], words)

    measuring = [name for name in passed if name not in READ_BY_CHECK]
    passed |= {word: word for word in rest}
    flags.refuse(
        passed,
        [*measuring, *rest],
        f"--check, which compares the results in {known.output} with --markdown",
    )


def show_results(
    known: argparse.Namespace,
    results: Sequence[Any],
    plain: Callable[[Any], str],
    markdown: Callable[[Any], str],
) -> tuple[dict[str, Any], bool]:
    """Prints all results of a folder, and writes or compares the page.

    Args:
      known: flags of the command.
      results: results in the folder of --output.
      plain: text of one result.
      markdown: tables of all results.

    Returns:
      The value of --json, and whether --check passed.
    """
    from wsvad_jax.results.write import update_markdown

    for result in results:
        print(f"{plain(result)}\n")

    passed = True
    if known.markdown:
        table = markdown(results)
        passed = update_markdown(known.markdown, table, check=known.check)
    return {"results": [result.model_dump() for result in results]}, passed
