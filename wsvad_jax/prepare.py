"""Prepares a dataset: features, labels and ground truth in one folder.

  python -m wsvad_jax.prepare my_videos --clip openai/clip-vit-base-patch16
  python -m wsvad_jax.prepare my_videos --check     lists problems, writes nothing
  python -m wsvad_jax.prepare ucf --features DIR --annotations DIR --data_dir DIR
  python -m wsvad_jax.prepare my_videos --audit RUN   ranks labels that models dispute
  python -m wsvad_jax.prepare my_videos --runner=DirectRunner \\
      --direct_num_workers=8 --direct_running_mode=multi_processing

Inputs, one of:
  a folder of your own with videos/ or features/, and optionally
    train.csv and test.csv; without them, labels are the names of the folders in videos/
      and a random split is written to split/
    test_segments.json and card.json
  ucf, xd, shanghaitech, msad or ubnormal, with the folders of the released features and
    annotations
  demo, or another demo world (demo_twin, demo_plaza, demo_dusk, demo_camera,
    demo_stamp, demo_all_stamped); --clip NAME makes its features with another CLIP model
    than the package's
The CLIP model of --clip extracts the features of videos/ into features/. If you run the
command again, it extracts only new and changed videos.

Output: DATA_DIR/NAME/1.0.0, a TFDS dataset. NAME is --name, else the card's name, else
the folder's. The program prints its path and the command that trains on it.

A missing or unreadable file is an error. --skip-bad leaves out its video instead, and
lists it in report.txt beside the data. With --runner NAME, Apache Beam writes the shards
(extra beam). Unknown flags are then passed to Beam.

--audit RUN prepares nothing. It trains the recipe of RUN, a workdir of training, once per
fold on the other folds, and ranks the training videos by how much the models dispute
their labels. Output: audit.csv, audit.json and audit.html in RUN/audit. No label is
changed. An interrupted audit resumes.
"""

import argparse
import dataclasses
import itertools
import os
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from wsvad_jax.datasets.list_options import ListOptions
from wsvad_jax.datasets.prepare import (
    check_arguments,
    check_folder,
    custom_folder,
    prepare,
)
from wsvad_jax.experiment import suggestion
from wsvad_jax.parallel import precision
from wsvad_jax.utils import flags, program
from wsvad_jax.utils.errors import InputError

__all__ = ["check_folder", "prepare"]
# Flags that only a preparation reads.
UNCHECKED = ("clip", "crops", "frame", "resize", "dtype", "skip_bad", "runner")
# Flags that only an audit reads, and all that it reads.
AUDIT_ONLY = ("folds", "videos", "unlabelled", "fps", "output")
AUDIT_READS = {"audit", "data_dir", "clip", "quiet", "json", *AUDIT_ONLY}


def _parser() -> flags.Parser:
    parser = flags.Parser(
        prog="python -m wsvad_jax.prepare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    # What is prepared, and where it goes.
    parser.add_argument(
        "folder",
        metavar="NAME|FOLDER",
        help="a folder, or ucf, xd, shanghaitech, msad, ubnormal, demo",
    )
    parser.add_argument(
        "--features", help="folder of the features (default: NAME/features)"
    )
    parser.add_argument(
        "--annotations", help="folder of a public set's lists and ground truth"
    )
    parser.add_argument(
        "--data_dir", help="folder of prepared datasets (default: the cache)"
    )
    parser.add_argument(
        "--name",
        help="the dataset's name (default: the card's, else the folder's own)",
    )

    # How faults of single videos are treated.
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave bad videos out and list them"
    )
    parser.add_argument(
        "--slack",
        type=int,
        default=0,
        help="snippets by which features and ground truth may differ in length (0 or 1)",
    )

    _add_list_flags(parser)
    _add_video_flags(parser)
    _add_audit_flags(parser)
    parser.add_argument(
        "--check",
        action="store_true",
        help="list what is wrong with your own folder and write nothing; exit code 0 if "
        "it can be used, else 2",
    )
    parser.add_argument(
        "--runner", metavar="NAME", help=program.RUNNER_HELP, default=""
    )
    flags.add_output_flags(parser)
    return parser


def _add_list_flags(parser: flags.Parser) -> None:
    lists = parser.add_argument_group("lists and labels of your own folder")

    # Without lists, folder names are labels and a part of the videos is the test.
    lists.add_argument(
        "--normal_folder",
        metavar="NAME",
        help="without train.csv: the folder of ordinary videos (default: Normal)",
    )
    lists.add_argument(
        "--split_seed",
        type=int,
        metavar="SEED",
        help="without test.csv: seed of the random split (default: 0)",
    )
    lists.add_argument(
        "--test_share",
        type=float,
        metavar="SHARE",
        help="without test.csv: share of each class for the test list (default: 0.25)",
    )

    # Lists of other programs have other columns.
    lists.add_argument(
        "--video_column",
        metavar="NAME",
        help="column of the CSV files (default: video)",
    )
    lists.add_argument(
        "--label_column",
        metavar="NAME",
        help="column of the CSV files (default: label)",
    )


def _list_options(known: argparse.Namespace) -> ListOptions:
    names = (field.name for field in dataclasses.fields(ListOptions))
    return ListOptions(**{name: getattr(known, name) for name in names})


def _add_video_flags(parser: flags.Parser) -> None:
    videos = parser.add_argument_group("features of your own folder's videos")
    videos.add_argument(
        "--clip", help="CLIP model: name on the Hugging Face hub, or its folder"
    )
    videos.add_argument(
        "--crops", type=int, help="pictures per frame: 1 (default), 5 or 10"
    )
    videos.add_argument(
        "--frame", help="frame of a snippet: first, middle (default) or mean of all"
    )
    videos.add_argument(
        "--resize", help="stretch (default; the released geometry) or clip (CLIP's own)"
    )
    videos.add_argument(
        "--dtype",
        choices=precision.DTYPES,
        help="precision of the image tower: float32 (default), bfloat16, or auto for the "
        "faster one",
    )


def _add_audit_flags(parser: flags.Parser) -> None:
    audit = parser.add_argument_group("audit of the training labels")

    # What is audited, and how.
    audit.add_argument(
        "--audit",
        metavar="RUN",
        help="rank training videos whose labels cross-validated models dispute; RUN is a "
        "workdir of training on this dataset",
    )
    audit.add_argument(
        "--folds", type=flags.count, metavar="K", help="number of folds (default: 5)"
    )

    # What is shown and ranked beside the training features.
    audit.add_argument(
        "--videos",
        metavar="FOLDER",
        help="the training videos, for pictures (default: where they were prepared from)",
    )
    audit.add_argument(
        "--unlabelled",
        nargs="+",
        metavar="FOLDER|VIDEO|FEATURES",
        help="also rank these by how uncertain the models are about them; --clip names "
        "the CLIP model of videos",
    )
    audit.add_argument(
        "--fps", type=float, help="frames per second of --unlabelled features (30)"
    )

    audit.add_argument(
        "--output", type=flags.output_folder, metavar="DIR", help="(default: RUN/audit)"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit code."""
    parser = _parser()
    known, rest = parser.parse_known_args(argv)

    # With --runner, unknown flags are Beam's.
    if rest and not known.runner:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")

    # Flags without an effect on what was asked for are refused.
    passed = flags.given(parser, argv)
    if known.audit is not None:
        return _audit(known, passed)
    flags.refuse(passed, AUDIT_ONLY, "a preparation", "they belong to --audit RUN")

    if known.check:
        flags.refuse(passed, UNCHECKED, "--check, which writes nothing")
        check_arguments(known.folder, slack=known.slack)
        if known.annotations:
            custom_folder(known.folder, known.annotations)  # says whose they are
        with program.output(quiet=known.quiet, json_only=known.json) as output:
            usable, output.value = _check(known)
        return 0 if usable else program.EXIT_INPUT

    from wsvad_jax.datasets import registry  # with pydantic, which --help does without

    if registry.demo_world(known.folder) is not None:
        read = {"data_dir", "clip", "runner", "quiet", "json"}
        flags.refuse(passed, passed.keys() - read, known.folder)

    with program.output(quiet=known.quiet, json_only=known.json) as output:
        path = prepare(
            known.folder,
            features=known.features,
            annotations=known.annotations,
            data_dir=known.data_dir,
            skip_bad=known.skip_bad,
            slack=known.slack,
            runner=known.runner,
            options=rest,
            rename=known.name,
            clip=known.clip,
            crops=known.crops,
            frame=known.frame,
            resize=known.resize,
            dtype=known.dtype,
            lists=_list_options(known),
        )

        # The next step, as a command to copy.
        command, why = suggestion.train_command(path, known.data_dir)
        print(path)
        if why:
            print(f"remark: {why}")
        print(f"first look: {command} --quick")
        print(f"train: {command}")
        output.value = {"path": str(path), "train": command, "remark": why}
    return 0


def _audit(known: argparse.Namespace, passed: Mapping[str, str]) -> int:
    """Audits the labels of a dataset; returns the program's exit code."""
    from wsvad_jax.audit.folds import DEFAULT_FOLDS
    from wsvad_jax.audit.result import AuditOptions
    from wsvad_jax.audit.run import audit_labels

    mode = "--audit, which prepares nothing"
    flags.refuse(passed, sorted(passed.keys() - AUDIT_READS), mode)
    if not known.audit.strip():
        raise InputError("--audit is empty; pass the workdir of a training run")
    flags.check_fps(known.fps)
    if not known.unlabelled:
        flags.refuse(passed, ("clip", "fps"), "--audit without --unlabelled")

    options = AuditOptions(
        pathlib.Path(known.audit).expanduser(),
        known.output,
        known.data_dir,
        DEFAULT_FOLDS if known.folds is None else known.folds,
        known.videos,
        known.unlabelled or (),
        known.clip,
        known.fps,
    )
    # Unlabelled videos that can't be read are left out.
    errors: list[InputError] = []
    with program.output(quiet=known.quiet, json_only=known.json) as output:
        output.value = audit_labels(known.folder, options, errors)
        for error in errors:
            print(f"skipped: {error}", file=sys.stderr)
    return program.EXIT_SKIPPED if errors else 0


def _check(known: argparse.Namespace) -> tuple[bool, dict[str, Any]]:
    """Prints what is wrong with a folder; returns whether it can be used, and --json."""
    report = check_folder(
        known.folder,
        known.features,
        data_dir=known.data_dir,
        rename=known.name,
        slack=known.slack,
        lists=_list_options(known),
    )
    suggestion.advise(report)

    # The command that the report prints must find the folders from anywhere.
    folders = {"--features": known.features, "--data_dir": known.data_dir}
    words = [
        (flag, os.path.abspath(os.path.expanduser(folder)))
        for flag, folder in folders.items()
        if folder
    ]
    words += [("--name", known.name)] if known.name else []
    asked = dataclasses.asdict(_list_options(known))
    words += [(f"--{name}", str(v)) for name, v in asked.items() if v is not None]
    words += [("--slack", str(known.slack))] if known.slack else []
    report.options = tuple(itertools.chain.from_iterable(words))

    print(report.text())
    return report.usable, {
        "usable": report.usable,
        "problems": report.problems,
        "remarks": report.remarks,
    }


if __name__ == "__main__":
    program.run(main)
