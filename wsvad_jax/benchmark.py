"""Measures speed and text, reproduces the tables of results, and compiles for TPUs.

  python -m wsvad_jax.benchmark speed --models dsanet,vadclip --output speed.json
  python -m wsvad_jax.benchmark repro --models all --datasets demo --seeds 5 \\
      --protocol clean,paper --output results
  python -m wsvad_jax.benchmark text --models vadclip,dsanet --datasets demo --seeds 5 \\
      --together --output results/text
  python -m wsvad_jax.benchmark position runs/dsanet-demo-0 runs/vadclip-demo-0
  python -m wsvad_jax.benchmark aot --topology v5e:2x4 --output aot.json

speed: times each recipe on synthetic features. Workloads: training, scoring, evaluating a
test set, reading batches from an uncached file, training from such a file, the delay of
live detection, feature extraction, image towers, and the start of every program.
  Inputs: models and sizes (--batch_size, --length, --width). The default sizes are those
  of UCF-Crime's recipe.
  Outputs: tables, and with --output a JSON file. --profile DIR writes traces of training.
  A matrix product, timed in the same run, is the unit of --check FILE: it compares each
  time but those of start_up, divided by the product's, with an earlier file.

repro: trains or resumes every model on every dataset, with every seed and protocol.
  --models all,zero_shot adds the floor: zero-shot CLIP, scored once without a seed.
  Outputs: workdirs in the folder --runs; in the folder --output, one file per run,
  DATASET/MODEL/PROTOCOL/seedN.json, and a summary of the seeds beside them.
  `python -m wsvad_jax.report DIR` makes tables of these files. --ablations also runs the
  papers' ablations, in DIR/ROW/DATASET/….

text: measures what the class words contribute to VadCLIP and DSANet. It trains each
seed with its prompts, with permuted prompts, with a random text tower, and without each
class. It tests with paraphrased and permuted prompts, and adds the left-out class by its
words.
  Outputs: workdirs in the folder --runs; in the folder --output, one file per model,
  DATASET/MODEL.json, with paired intervals of the differences. --markdown FILE writes the
  tables between two marked lines of FILE. With --check, nothing is trained, and the exit
  code is 1 if FILE differs from the files in --output.

open_vocabulary: trains models on base classes alone, and scores base and novel classes
(`--config.data.base_classes` of `train`). It then exchanges the words at test time, to
show which scores depend on them.
  python -m wsvad_jax.benchmark open_vocabulary --dataset demo \\
      --base Explosion,RoadAccidents --output results/open_vocabulary
  Outputs and flags: as text; --base published takes the papers' split of ucf and xd.

position: measures the positional bias of finished runs, without labels of frames. It
scores the normal training videos, and takes the variance over position of the mean logit.
  Outputs: a table with the variance, and its share of the variance of all logits; with
  --output a JSON file, which has the mean logit per position too.

transfer: trains each model once per dataset of --train and seed, and scores it on the
test set of each dataset of --test, with the class words of that set's card.
  python -m wsvad_jax.benchmark transfer --models mil_ranking,vadclip \\
      --train demo_twin,demo_stamp --test demo_twin,demo_stamp --output results/transfer
  Outputs and flags: as text, with one file MODEL/TRAINING_SET.json per training set.

flips: flips a share of the training labels, audits them as `prepare --audit` does, and
counts the flipped ones among the first k. Outputs and flags: as text.
  python -m wsvad_jax.benchmark flips --datasets demo --output results/flips

compare: compares two recipes seed by seed on the same test videos, from the scores of
finished runs. It says whether a gain is larger than what videos and seeds make of it.
  python -m wsvad_jax.benchmark compare --base runs/plain/vadclip-demo-clean \\
      --changed runs/cross_pseudo/vadclip-demo-clean --output results/cross_pseudo
  Outputs: as text, with one file DATASET/MODEL.json per comparison.

aot: compiles training and scoring of each recipe at the published batch size. No TPU is
needed: the package libtpu contains the compiler.
  Outputs: a table of memory, FLOPs and communication per chip, for each topology; with
  --output a JSON file. The exit code is 1 if a program does not fit a chip.
"""

import argparse
import importlib.util
import pathlib
from collections.abc import Sequence

from wsvad_jax.benchmarks import (
    compare_program,
    label_flips_program,
    open_vocabulary_program,
    program_flags,
    transfer_program,
)
from wsvad_jax.benchmarks.grid import dataset_names, parse_names, parse_seed_flag, repro
from wsvad_jax.benchmarks.suite import TPU_DATASETS, WORKLOADS, speed_benchmark
from wsvad_jax.results.seed_groups import UNTRAINED
from wsvad_jax.utils import flags, program
from wsvad_jax.utils.errors import InputError

MODELS = ("mil_ranking", "clip_tsa", "vadclip", "dsanet")
TEXT_MODELS = ("vadclip", "dsanet")
SIZES = ("batch_size", "length", "width")
# Commands whose flags and work are in files of their own.
OWN_PROGRAMS = {
    each.COMMAND: each.run
    for each in (
        open_vocabulary_program,
        transfer_program,
        label_flips_program,
        compare_program,
    )
}
# Flags of one workload alone.
WORKLOAD_OF_FLAG = {
    "videos": "evaluation",
    "video_file": "extraction",
    "profile": "training",
}


def _parser() -> flags.Parser:
    parser = flags.Parser(
        prog="python -m wsvad_jax.benchmark",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="part", required=True)

    _add_speed(commands)
    _add_repro(commands)
    _add_text(commands)
    open_vocabulary_program.add_command(commands)
    _add_position(commands)
    transfer_program.add_command(commands)
    label_flips_program.add_command(commands)
    compare_program.add_command(commands)
    _add_aot(commands)
    return parser


def _add_speed(commands: "argparse._SubParsersAction") -> None:
    parser = commands.add_parser("speed", help="time training and scoring")
    parser.add_argument("--models", default="all", help="as dsanet,vadclip, or all")

    # What is timed, and at which sizes.
    for size in ("batch_size", "length", "width"):
        parser.add_argument(
            f"--{size}", type=flags.count, help="the recipe's where left out"
        )
    parser.add_argument("--steps", type=flags.count, default=10, help="timed steps")
    parser.add_argument(
        "--workloads",
        "--works",
        default="all",
        help=f"of {','.join(WORKLOADS)}, or all",
    )

    # Inputs of single workloads.
    parser.add_argument("--videos", type=flags.count, help="of the test set (290)")
    parser.add_argument(
        "--video_file", "--film", default="", metavar="FILE", help="video to extract"
    )

    parser.add_argument("--output", type=pathlib.Path, metavar="FILE", help="JSON")
    parser.add_argument("--profile", default="", metavar="DIR", help="for traces")
    parser.add_argument(
        "--check", type=pathlib.Path, metavar="FILE", help="earlier JSON"
    )
    flags.add_output_flags(parser)


def _add_repro(commands: "argparse._SubParsersAction") -> None:
    parser = commands.add_parser("repro", help="run a grid of recipes")

    parser.add_argument("--protocol", default="clean", help="clean, paper or both")
    _add_grid(parser, runs="runs/repro")
    parser.add_argument("--ablations", action="store_true", help="the papers' rows too")
    flags.add_output_flags(parser)


def _add_grid(parser: argparse.ArgumentParser, runs: str) -> None:
    """Adds the flags of a grid: every model on every dataset, with every seed."""
    parser.add_argument("--models", default="all", help="as dsanet,vadclip, or all")
    parser.add_argument("--datasets", default="demo", help="names or prepared folders")
    program_flags.add_run_flags(parser, runs)


def _add_text(commands: "argparse._SubParsersAction") -> None:
    parser = commands.add_parser("text", help="measure what the class words contribute")
    _add_grid(parser, runs="runs/text")

    # What is compared with the trained models.
    parser.add_argument(
        "--conditions",
        default="all",
        help="as permuted,paraphrased, or all: permuted, permuted_at_test, "
        "paraphrased, random_tower, held_out",
    )
    parser.add_argument(
        "--held_out", default="all", help="classes to leave out: all, none, or names"
    )
    parser.add_argument(
        "--paraphrases",
        type=pathlib.Path,
        metavar="CARD",
        help="card.json with paraphrased prompts (default: the demo's)",
    )

    program_flags.add_page_flags(parser)
    flags.add_output_flags(parser)


def _add_position(commands: "argparse._SubParsersAction") -> None:
    parser = commands.add_parser("position", help="measure the positional bias of runs")
    parser.add_argument("runs", nargs="+", type=pathlib.Path, metavar="RUN")
    parser.add_argument(
        "--data_dir", help="folder of prepared datasets (default: the cache)"
    )
    parser.add_argument("--output", type=pathlib.Path, metavar="FILE", help="JSON")
    flags.add_output_flags(parser)


def _add_aot(commands: "argparse._SubParsersAction") -> None:
    parser = commands.add_parser("aot", help="compile ahead of time for TPU topologies")
    parser.add_argument("--topology", default="v5e:2x4", help="as v5e:2x4,v4:2x2x2")
    parser.add_argument("--models", default="all", help="as dsanet,vadclip, or all")
    parser.add_argument("--datasets", default="all", help="ucf, xd or all")
    parser.add_argument("--output", type=pathlib.Path, metavar="FILE", help="JSON")
    flags.add_output_flags(parser)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit code."""
    parser = _parser()
    known, rest = parser.parse_known_args(argv)
    if known.part != "speed" and getattr(known, "check", False) and known.markdown:
        program_flags.refuse_measuring(parser, known, rest)
    if known.part in OWN_PROGRAMS:
        with program.output(quiet=known.quiet, json_only=known.json) as output:
            output.value, passed = OWN_PROGRAMS[known.part](known, rest)
        return 0 if passed else 1
    if known.part == "position":
        return _position(parser, known, rest)
    choices = TEXT_MODELS if known.part == "text" else MODELS
    # zero_shot has nothing to time or to compile.
    others = UNTRAINED if known.part == "repro" else ()
    models = parse_names(known.models, choices, "--models", others)

    # `speed` takes changes of the recipes; a compilation takes the published ones.
    if known.part == "aot" and rest:
        parser.error(f"unexpected argument {rest[0]!r}")

    with program.output(quiet=known.quiet, json_only=known.json) as output:
        if known.part == "repro":
            output.value, passed = _repro(models, known, rest), True
        elif known.part == "text":
            output.value, passed = _text(models, known, rest)
        elif known.part == "speed":
            output.value, passed = _speed(models, known, rest)
        else:
            output.value, passed = _aot(models, known)
    return 0 if passed else 1


def _repro(
    models: Sequence[str], known: argparse.Namespace, changes: Sequence[str]
) -> dict:
    from wsvad_jax.experiment.validation import PROTOCOLS
    from wsvad_jax.results.tables import number_rows

    groups = repro(
        models,
        dataset_names(known.datasets),
        known.seeds,
        parse_names(known.protocol, PROTOCOLS, "--protocol"),
        known.output,
        known.runs,
        data_dir=known.data_dir,
        changes=changes,
        together=known.together,
        ablations=known.ablations,
    )

    # The printed command must work from any folder.
    folder = known.output.absolute()
    command = flags.command("report", folder, "--output", folder / "report")
    print(f"tables: {command}")

    # This grid alone: the output folder may hold results of others.
    return {"rows": number_rows(groups)}


def _text(
    models: Sequence[str], known: argparse.Namespace, changes: Sequence[str]
) -> tuple[dict, bool]:
    from wsvad_jax.benchmarks import (
        result_files,
        text_benchmark,
        text_conditions,
        text_table,
    )

    program_flags.check_page(known)
    conditions = parse_names(known.conditions, text_conditions.NAMES, "--conditions")
    _check_conditions(conditions, known)
    if not known.check:
        options = text_benchmark.TextBenchmarkOptions(
            seeds=parse_seed_flag(known.seeds),
            output=known.output,
            runs=known.runs,
            conditions=conditions,
            held_out=[name.strip() for name in known.held_out.split(",")],
            paraphrases=known.paraphrases,
            data_dir=known.data_dir,
            changes=changes,
            together=known.together,
        )
        datasets = dataset_names(known.datasets)
        text_benchmark.text_benchmark(models, datasets, options)

    # The tables show all results in the folder, like those of `report`.
    results = result_files.read_results(known.output, text_table.TextResults, "text")
    return program_flags.show_results(
        known, results, text_table.plain, text_table.markdown
    )


def _check_conditions(conditions: Sequence[str], known: argparse.Namespace) -> None:
    """Raises InputError for flags of conditions that are not measured."""
    from wsvad_jax.benchmarks import text_conditions

    needs = {
        "--held_out": (known.held_out not in ("all", "none"), text_conditions.HELD_OUT),
        "--paraphrases": (known.paraphrases is not None, text_conditions.PARAPHRASED),
    }
    for flag, (passed, condition) in needs.items():
        if passed and condition not in conditions:
            raise InputError(
                f"{flag} has no effect without the condition {condition}; add it to "
                "--conditions, or leave the flag out"
            )


def _position(
    parser: flags.Parser, known: argparse.Namespace, rest: Sequence[str]
) -> int:
    from wsvad_jax.benchmarks.position import measure_runs

    # A run is measured with its own recipe.
    if rest:
        parser.error(f"unexpected argument {rest[0]!r}")
    with program.output(quiet=known.quiet, json_only=known.json) as output:
        output.value = measure_runs(known.runs, known.data_dir, known.output)
    return 0


def _speed(
    models: Sequence[str], known: argparse.Namespace, changes: Sequence[str]
) -> tuple[dict, bool]:
    workloads = parse_names(known.workloads, WORKLOADS, "--workloads")

    # A flag of a workload that isn't timed would have no effect.
    unread = {
        name: f"--{name}"
        for name, workload in WORKLOAD_OF_FLAG.items()
        if getattr(known, name) and workload not in workloads
    }
    flags.refuse(unread, unread, f"--workloads {known.workloads}")

    # Sizes that are left out are each recipe's.
    sizes = {name: v for name in SIZES if (v := getattr(known, name)) is not None}
    return speed_benchmark(
        models,
        sizes,
        known.steps,
        output=known.output,
        earlier_file=known.check,
        workloads=workloads,
        videos=known.videos or 290,
        video=known.video_file,
        profile=known.profile,
        changes=changes,
    )


def _aot(models: Sequence[str], known: argparse.Namespace) -> tuple[list[dict], bool]:
    topologies = [name.strip() for name in known.topology.split(",")]
    if not all(topologies):
        raise InputError("--topology has an empty name; expected a name like v5e:2x4")

    # Without the compiler, the error would be one about a topology.
    if importlib.util.find_spec("libtpu") is None:
        raise InputError(f"aot needs the TPU compiler: {flags.install('aot')}")

    from wsvad_jax.benchmarks import tpu_compile

    datasets = parse_names(known.datasets, TPU_DATASETS, "--datasets")
    return tpu_compile.compile_for_topologies(
        topologies, models, datasets, known.output
    )


if __name__ == "__main__":
    program.run(main)
