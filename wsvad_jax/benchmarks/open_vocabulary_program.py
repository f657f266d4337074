"""The command `benchmark open_vocabulary`: its flags, and its run."""

import argparse
import pathlib
from collections.abc import Sequence

from wsvad_jax.benchmarks import program_flags
from wsvad_jax.benchmarks.grid import parse_names, parse_seed_flag
from wsvad_jax.utils import flags
from wsvad_jax.utils.errors import InputError

COMMAND = "open_vocabulary"
MODELS = ("vadclip", "dsanet", "zero_shot")
MOST_SHUFFLES = 100


def add_command(commands: "argparse._SubParsersAction") -> None:
    """Adds the command to the program `benchmark`."""
    parser = commands.add_parser(
        COMMAND, help="train on base classes, and test novel classes and other words"
    )
    parser.add_argument(
        "--models", default="all", help=f"of {','.join(MODELS)}, or all"
    )
    parser.add_argument("--dataset", default="demo", help="name or prepared folder")
    parser.add_argument(
        "--base",
        default="published",
        metavar="CLASS,…",
        help="classes to train on; published: those of ucf's and xd's papers, or the "
        "demo's",
    )

    # What is compared with models that were trained on base classes.
    parser.add_argument(
        "--all_classes", action="store_true", help="train on all classes, too"
    )
    parser.add_argument(
        "--shuffles", type=flags.count, default=5, help="shuffles that are averaged"
    )
    parser.add_argument(
        "--paraphrases",
        type=pathlib.Path,
        metavar="CARD",
        help="card.json with other words (default: the demo's)",
    )

    program_flags.add_run_flags(parser, "runs/open_vocabulary")
    program_flags.add_page_flags(parser)
    flags.add_output_flags(parser)


def run(known: argparse.Namespace, changes: Sequence[str]) -> tuple[dict, bool]:
    """Runs the command; returns the value of --json, and whether checks passed.

    Args:
      known: flags of the command.
      changes: flags --config.KEY=VALUE of every run.

    Raises:
      InputError: a flag that doesn't fit, or as `open_vocabulary.open_vocabulary`.
    """
    from wsvad_jax.benchmarks import (
        open_vocabulary,
        open_vocabulary_table,
        result_files,
    )

    models = parse_names(known.models, MODELS, "--models")
    program_flags.check_page(known)
    if known.shuffles > MOST_SHUFFLES:
        raise InputError(
            f"--shuffles is {known.shuffles}; expected at most {MOST_SHUFFLES}"
        )
    # A recipe without a dataset would take its default.
    if not known.dataset.strip():
        raise InputError("--dataset is empty; pass a name or a prepared folder")
    if not known.base.strip():
        raise InputError("--base names no class; pass CLASS,… or published")

    if not known.check:
        # What can't be written must not cost the trainings.
        open_vocabulary_table.check_output(known.output)
        options = open_vocabulary.OpenVocabularyOptions(
            base=known.base,
            seeds=parse_seed_flag(known.seeds),
            output=known.output,
            runs=known.runs,
            all_classes=known.all_classes,
            shuffles=known.shuffles,
            paraphrases=known.paraphrases,
            data_dir=known.data_dir,
            changes=changes,
            together=known.together,
        )
        open_vocabulary.open_vocabulary(models, known.dataset, options)

    # The tables show all results in the folder, like those of `report`.
    table = open_vocabulary_table
    results = result_files.read_results(
        known.output, table.OpenVocabularyResults, COMMAND
    )
    return program_flags.show_results(known, results, table.plain, table.markdown)
