"""Measures speed, and makes the tables of numbers that anyone can make again.

  python -m wsvad_jax.benchmark speed --models dsanet,vadclip --output speed.json
  python -m wsvad_jax.benchmark repro --models all --datasets demo --seeds 5 \\
      --protocol clean,paper --output results
  python -m wsvad_jax.benchmark aot --topology v5e:2x4 --output aot.json

speed: times of each recipe, on synthetic features, training, scoring, the evaluation of
a test set, the reading of batches from a cold file and training from that file, and of
the image tower the way from a video file to features, beside a matrix product in the
same run. Inputs: the recipes' models and sizes (--batch_size, --length, --width; by
default those of UCF-Crime's recipe). Outputs: tables, and with --output one JSON file;
--profile DIR writes traces of training; --check FILE compares with an earlier file, by
the ratio to the matrix product.

repro: runs or resumes every model on every dataset, with every seed and protocol.
Outputs: workdirs in --runs, and DIR/DATASET/MODEL/PROTOCOL/seedN.json with a summary of
the seeds beside them, which `python -m wsvad_jax.report DIR` turns into tables. With
--ablations, the rows of the papers' ablations too, in DIR/ROW/DATASET/….

aot: compiles training and scoring of each recipe, at the published batch, for TPUs that
need not be there (package libtpu). Outputs: a table of memory, work and messages a chip
for each topology, and with --output one JSON file; the exit code is 1 if a program does
not fit a chip.
"""

import argparse
import importlib.util
import itertools
import os
import pathlib
from collections.abc import Sequence

from wsvad_jax.benchmarks.grid import parse_names, repro
from wsvad_jax.benchmarks.suite import TPU_DATASETS, WORKLOADS, compare, speed, table
from wsvad_jax.utils import flags, program
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import read_json, write_json
from wsvad_jax.utils.processes import run_in_subprocess

MODELS = ("mil_ranking", "clip_tsa", "vadclip", "dsanet")


def _parser() -> argparse.ArgumentParser:
    parser = flags.Parser(
        prog="python -m wsvad_jax.benchmark",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parts = parser.add_subparsers(dest="part", required=True)
    one = parts.add_parser("speed", help="time training and scoring")
    one.add_argument("--models", default="all", help="as dsanet,vadclip, or all")
    for size in ("batch_size", "length", "width"):
        one.add_argument(
            f"--{size}", type=flags.count, help="the recipe's where left out"
        )
    one.add_argument("--steps", type=flags.count, default=10, help="timed steps")
    one.add_argument(
        "--workloads",
        "--works",
        default="all",
        help=f"of {','.join(WORKLOADS)}, or all",
    )
    one.add_argument("--videos", type=flags.count, help="of the test set (290)")
    one.add_argument(
        "--video_file", "--film", default="", metavar="FILE", help="video to extract"
    )
    one.add_argument("--output", type=pathlib.Path, metavar="FILE", help="JSON")
    one.add_argument("--profile", default="", metavar="DIR", help="for traces")
    one.add_argument("--check", type=pathlib.Path, metavar="FILE", help="earlier JSON")
    flags.add_output_flags(one)
    two = parts.add_parser("repro", help="run a grid of recipes")
    two.add_argument("--models", default="all", help="as dsanet,vadclip, or all")
    two.add_argument("--datasets", default="demo", help="names or prepared folders")
    two.add_argument("--seeds", default="5", help="how many, or which: 0,1,2 or 0..4")
    two.add_argument("--protocol", default="clean", help="clean, paper or both")
    two.add_argument("--output", type=pathlib.Path, required=True, metavar="DIR")
    two.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs/repro"))
    two.add_argument(
        "--data_dir", help="folder of prepared datasets (default: the cache)"
    )
    two.add_argument("--together", action="store_true", help="the seeds as one program")
    two.add_argument("--ablations", action="store_true", help="the papers' rows too")
    three = parts.add_parser("aot", help="compile ahead of time for TPU topologies")
    three.add_argument("--topology", default="v5e:2x4", help="as v5e:2x4,v4:2x2x2")
    three.add_argument("--models", default="all", help="as dsanet,vadclip, or all")
    three.add_argument("--datasets", default="all", help="ucf, xd or all")
    three.add_argument("--output", type=pathlib.Path, metavar="FILE", help="JSON")
    flags.add_output_flags(three)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    parser = _parser()
    known, rest = parser.parse_known_args(argv)
    models = parse_names(known.models, MODELS, "--models")
    if known.part == "repro":
        from wsvad_jax.experiment.validation import PROTOCOLS

        protocols = parse_names(known.protocol, PROTOCOLS, "--protocol")
        places = known.datasets.split(","), known.seeds, protocols
        repro(
            models,
            *places,
            known.output,
            known.runs,
            data_dir=known.data_dir,
            changes=rest,
            together=known.together,
            ablations=known.ablations,
        )
        place = known.output.absolute()
        print(f"tables: {flags.command('report', place, '--output', place / 'report')}")
        return 0
    if known.part == "aot" and rest:
        parser.error(f"unexpected argument {rest[0]!r}")

    with program.output(quiet=known.quiet, json_only=known.json) as output:
        if known.part == "speed":
            code, output.value = _speed(models, known, rest)
        else:
            code, output.value = _aot(models, known)
    return code


def _speed(
    models: Sequence[str], known: argparse.Namespace, changes: Sequence[str]
) -> tuple[int, dict]:
    sizes = ("batch_size", "length", "width")
    workloads = parse_names(known.workloads, WORKLOADS, "--workloads")
    of = {"videos": "evaluation", "video_file": "extraction", "profile": "training"}
    unread = {
        k: f"--{k}" for k, w in of.items() if getattr(known, k) and w not in workloads
    }
    flags.refuse(unread, unread, f"--workloads {known.workloads}")
    earlier = read_json(known.check) if known.check else None
    given = {k: v for k in sizes if (v := getattr(known, k)) is not None}
    found = speed(
        models,
        given,
        known.steps,
        workloads=workloads,
        videos=known.videos or 290,
        video=known.video_file,
        profile=known.profile,
        changes=changes,
    )
    print(table(found))
    if known.output:
        write_json(known.output, found)
    if earlier is None:
        return 0, found
    slower = compare(found, earlier, str(known.check))
    print("\n".join(slower) or "as fast as before")
    return int(bool(slower)), found


def _aot(models: Sequence[str], known: argparse.Namespace) -> tuple[int, list]:
    named = [name.strip() for name in known.topology.split(",")]
    if not all(named):
        raise InputError("--topology has an empty name; expected a name like v5e:2x4")
    if importlib.util.find_spec("libtpu") is None:
        raise InputError(f"aot needs the TPU compiler: {flags.install('aot')}")
    from wsvad_jax.benchmarks import tpu_compile

    workloads = ("training", "scoring")
    grid = models, parse_names(known.datasets, TPU_DATASETS, "--datasets"), workloads
    cases = [tpu_compile.Case(*names) for names in itertools.product(*grid)]
    # In processes of their own: the compiler stays in one that it was loaded into.
    os.environ.update(tpu_compile.ENVIRONMENT)
    found = []
    for topology in named:
        found.append(run_in_subprocess(tpu_compile.compile_all, topology, cases))
        print("\n".join(tpu_compile.table(found[-1])), flush=True)
    if known.output:
        write_json(known.output, found)
    fitting = all(map(tpu_compile.fits_in_memory, found))
    print("every program fits a chip" if fitting else "not every program fits a chip")
    return int(not fitting), found


if __name__ == "__main__":
    program.run(main)
