"""Makes a dataset on disk from features, labels and truth.

  python -m wsvad_jax.prepare my_videos --clip openai/clip-vit-base-patch16
  python -m wsvad_jax.prepare my_videos --check     says what is wrong, writes nothing
  python -m wsvad_jax.prepare ucf --features DIR --annotations DIR --data_dir DIR
  python -m wsvad_jax.prepare my_videos --runner=DirectRunner \\
      --direct_num_workers=8 --direct_running_mode=multi_processing

Input: a folder of your own (train.csv, test.csv, videos/ or features/, optionally
test_segments.json and card.json), or the name of a public dataset with the folders of
its released features and annotations (ucf, xd, shanghaitech), or demo. Features of
videos/ are extracted with the CLIP model that --clip names, into features/; run again,
only new and changed videos are. Output: DATA_DIR/NAME/1.0.0, a TFDS dataset; NAME is the
card's name, else the folder's, or --name. The program prints its path and the command
that trains on it. A file that is missing or bad is
an error that names it; with --skip-bad its video is left out and named in report.txt
beside the data. With --runner NAME the shards are written by a runner of Apache Beam
(extra beam), which takes all other flags.
"""

import argparse
import dataclasses
import functools
import itertools
import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from wsvad_jax.experiment import suggestion
from wsvad_jax.utils import files, flags, program
from wsvad_jax.utils.errors import InputError

if TYPE_CHECKING:
    from wsvad_jax.data.feature_files import ErrorCollector
    from wsvad_jax.data.tfds_builder import Writer
    from wsvad_jax.datasets.custom import SourceDataset
    from wsvad_jax.datasets.custom_videos import ExtractionOptions
    from wsvad_jax.datasets.validation.report import ValidationReport

REPORT = "report.txt"
# Flags that only a preparation reads.
UNCHECKED = ("clip", "crops", "frame", "resize", "skip_bad", "runner")


def prepare(
    name: str,
    *,
    features: str | None = None,
    annotations: str | None = None,
    data_dir: str | None = None,
    skip_bad: bool = False,
    slack: int = 0,
    runner: str = "",
    options: Sequence[str] = (),
    rename: str | None = None,
    **way: Any,
) -> pathlib.Path:
    """Makes a dataset and returns its version folder.

    Args:
      name: a folder, or 'ucf', 'xd', 'shanghaitech' or 'demo'.
      features: folder of released features, or of an own folder's elsewhere.
      annotations: folder of a public dataset's lists and truth.
      data_dir: folder of prepared datasets; None is the cache's.
      skip_bad: leaves bad videos out and lists them, where they would be an error.
      slack: snippets by which a test video's features and truth may differ in length.
      runner: of Apache Beam, with flags `options`; '': this process does the work.
      rename: the dataset's name, where it isn't to be the card's or the folder's.
      way: clip, crops, frame, resize of an own folder's videos, see `custom_videos.ExtractionOptions`.

    Raises InputError for the first bad file, or the arguments.
    """
    from wsvad_jax.data.feature_files import ErrorCollector
    from wsvad_jax.data.tfds_builder import write_dataset
    from wsvad_jax.datasets import custom_videos, registry

    base = registry.prepared_data_dir(data_dir)
    built_in = name in (registry.DEMO, *registry.PUBLIC_NAMES)
    own_only = (
        built_in and custom_videos.ExtractionOptions(**way).is_set,
        built_in and rename,
    )
    _check_arguments(name, *own_only, slack, runner)
    if name == registry.DEMO:
        return registry.resolve(name, data_dir)
    problems = ErrorCollector(skip_bad)
    if built_in:
        found, source = _public(name, features, annotations, problems, slack)
    else:
        source = _own_folder(name, annotations)
        check_name(base, source, rename)  # before hours of extraction
        found = _own(
            source,
            features,
            custom_videos.ExtractionOptions(**way),
            problems,
            slack,
            rename,
        )
    what = found.name, found.card, found.protocol, found.splits, base, found.about
    path = write_dataset(*what, source, _writer(runner, options))
    _report(path, found, problems)
    return path


def _writer(runner: str, options: Sequence[str]) -> "Writer | None":
    if not runner:
        return None
    from wsvad_jax.data import tfds_beam_writer

    return functools.partial(tfds_beam_writer.write, runner=runner, options=options)


def _check_arguments(
    name: str, unfit: bool, rename: str | bool | None, slack: int, runner: str
) -> None:
    if unfit:
        raise InputError(
            "--clip, --crops, --frame and --resize belong to a folder of your own with "
            f"videos; {name} brings its features"
        )
    if rename:
        raise InputError(f"--name {rename}: {name} keeps its name; leave the flag out")
    if slack not in (0, 1):
        raise InputError(f"--slack {slack}: expected 0 or 1 snippets")
    program.check_runner(runner)
    if name == "demo" and runner:
        raise InputError(f"--runner {runner}: the demo is made by one process")


def _public(
    name: str,
    features: str | None,
    annotations: str | None,
    problems: "ErrorCollector",
    slack: int,
) -> tuple["SourceDataset", str]:
    from wsvad_jax.datasets import public

    if features is None or annotations is None:
        raise InputError(
            f"{name} needs --features DIR, its released features, and --annotations "
            "DIR, its lists and truth"
        )
    found = public.load(name, features, annotations, problems, slack=slack)
    return found, str(pathlib.Path(features).absolute())


def _own(
    source: str,
    features: str | None,
    way: "ExtractionOptions",
    problems: "ErrorCollector",
    slack: int,
    rename: str | None,
) -> "SourceDataset":
    from wsvad_jax.datasets import custom, custom_videos

    root = pathlib.Path(features or f"{source}/features").expanduser().absolute()
    unusable = custom_videos.extract_missing(pathlib.Path(source), root, way, problems)
    found = custom.load(source, problems, features=root, slack=slack, without=unusable)
    return _renamed(found, rename)


def _renamed(found: "SourceDataset", name: str | None) -> "SourceDataset":
    if not name:
        return found
    card = dataclasses.replace(found.card, name=name)
    return dataclasses.replace(found, name=name, card=card)


def _own_folder(name: str, annotations: str | None) -> str:
    path = pathlib.Path(name).expanduser()
    if not path.is_dir():
        raise InputError(
            f"no folder {name!r} and no public dataset of that name; expected a folder, "
            "ucf, xd, shanghaitech or demo"
        )
    if annotations:
        raise InputError(
            f"--annotations belongs to public datasets; {name} holds its own truth in "
            "test_segments.json"
        )
    return str(path.resolve())


def check_folder(
    name: str,
    features: str | None = None,
    *,
    data_dir: str | None = None,
    rename: str | None = None,
    slack: int = 0,
) -> "ValidationReport":
    """Returns what there is to say about a custom folder."""
    from wsvad_jax.datasets import registry
    from wsvad_jax.datasets.validation import validate

    if name in (registry.DEMO, *registry.PUBLIC_NAMES):
        raise InputError(
            f"--check looks through a folder of your own; {name} is checked while it is "
            "prepared (a folder of that name is ./" + name + ")"
        )
    source = _own_folder(name, None)
    found = validate.validate(source, features, slack=slack)
    try:
        check_name(registry.prepared_data_dir(data_dir), source, rename)
    except InputError as e:
        found.add_problem("name", e)
    suggestion.advise(found)
    # The command that is printed goes with the folders that were looked at.
    places = {"--features": features, "--data_dir": data_dir}
    words = [
        (k, os.path.abspath(os.path.expanduser(v))) for k, v in places.items() if v
    ]
    words += [("--name", rename)] if rename else []
    words += [("--slack", str(slack))] if slack else []
    found.options = tuple(itertools.chain.from_iterable(words))
    return found


def check_name(base: pathlib.Path, source: str, rename: str | None = None) -> None:
    """Refuses a name that isn't free, rather than replace another folder's dataset.

    Args:
      base: folder of prepared datasets.
      source: the folder to be prepared.
      rename: its dataset's name; None is the card's, else the folder's own.

    Raises:
      InputError: the name is a built-in dataset's, or another folder's already.
    """
    from wsvad_jax.data.dataset import METADATA, VERSION
    from wsvad_jax.data.tfds_builder import dataset_folder
    from wsvad_jax.datasets import custom, registry

    if rename is not None and not rename.strip():
        raise InputError("--name is empty; expected the dataset's name")
    name = rename or custom.dataset_name(pathlib.Path(source))
    place = base / dataset_folder(name)
    way = "pass --name NAME"
    if place.name in (registry.DEMO, *registry.PUBLIC_NAMES):
        raise InputError(f"{source}: {name} is the name of a built-in dataset; {way}")
    metadata = place / VERSION / METADATA
    if metadata.is_file():
        other = files.read_json(metadata).get("source") or source
        if other != source and pathlib.Path(other).exists():
            raise InputError(
                f"{place} already holds the dataset made from {other}; {way}, or "
                "another --data_dir"
            )


def _report(
    path: pathlib.Path, found: "SourceDataset", problems: "ErrorCollector"
) -> None:
    from wsvad_jax.data.dataset import open_dataset

    dataset = open_dataset(path)
    lines = []
    for name, split in dataset.splits.items():
        normal = sum(e.label == (0,) for e in split.entries)
        snippets = sum(e.num_snippets for e in split.entries)
        lines.append(
            f"{name}: {len(split)} videos ({normal} normal, {len(split) - normal} "
            f"abnormal), {snippets} snippets, {split.entries[0].num_crops} crops, "
            f"{dataset.width} wide"
        )
    if problems.errors:
        lines.append(f"left out: {len(problems.errors)} problems")
    lines += [f"  {error}" for error in problems.errors]
    read = [remark for split in found.splits.values() for remark in split.remarks]
    lines += [f"remark: {remark}" for remark in [*found.remarks, *read]]
    files.write_text(path / REPORT, "\n".join(lines) + "\n")
    print("\n".join(lines[:20]))
    if len(lines) > 20:
        print(f"... {len(lines) - 20} lines more in {path / REPORT}")


def _parser() -> flags.Parser:
    parser = flags.Parser(
        prog="python -m wsvad_jax.prepare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "folder", metavar="NAME|FOLDER", help="a folder, or ucf, xd, shanghaitech, demo"
    )
    parser.add_argument(
        "--features", help="folder of the features (default: NAME/features)"
    )
    parser.add_argument(
        "--annotations", help="folder of a public set's lists and truth"
    )
    parser.add_argument(
        "--data_dir", help="folder of prepared datasets (default: the cache)"
    )
    parser.add_argument(
        "--name",
        help="the dataset's name (default: the card's, else the folder's own)",
    )
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave bad videos out and list them"
    )
    parser.add_argument(
        "--slack",
        type=int,
        default=0,
        help="snippets by which features and truth may differ in length (0 or 1)",
    )
    _add_video_flags(parser)
    parser.add_argument(
        "--check",
        action="store_true",
        help="look through a folder of your own and say what is wrong; exit code 0 if "
        "it can be used, else 2",
    )
    parser.add_argument(
        "--runner", metavar="NAME", help=program.RUNNER_HELP, default=""
    )
    flags.add_output_flags(parser)
    return parser


def _add_video_flags(parser: flags.Parser) -> None:
    videos = parser.add_argument_group("features of your own folder's videos")
    videos.add_argument(
        "--clip", help="CLIP model: name on the Hugging Face hub, or its folder"
    )
    videos.add_argument("--crops", type=int, help="1 (default), 5 or 10 a frame")
    videos.add_argument(
        "--frame", help="of a snippet: first, middle (default) or mean of all"
    )
    videos.add_argument(
        "--resize", help="stretch (default; the released geometry) or clip (CLIP's own)"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit code."""
    parser = _parser()
    known, rest = parser.parse_known_args(argv)
    if rest and not known.runner:  # else they are Beam's
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    args, passed = vars(known), flags.given(parser, argv)
    name, rename = args.pop("folder"), args.pop("name")
    quiet, json_only = args.pop("quiet"), args.pop("json")

    if args.pop("check"):
        flags.refuse(passed, UNCHECKED, "--check, which writes nothing")
        _check_arguments(name, False, None, known.slack, "")
        if known.annotations:
            _own_folder(name, known.annotations)  # which says whose they are
        with program.output(quiet=quiet, json_only=json_only) as output:
            report = check_folder(
                name,
                known.features,
                data_dir=known.data_dir,
                rename=rename,
                slack=known.slack,
            )
            print(report.text())
            output.value = {
                "usable": report.usable,
                "problems": report.problems,
                "remarks": report.remarks,
            }
        return 0 if report.usable else program.EXIT_INPUT

    if name == "demo":
        flags.refuse(
            passed, passed.keys() - {"data_dir", "runner", "quiet", "json"}, "demo"
        )
    with program.output(quiet=quiet, json_only=json_only) as output:
        path = prepare(name, **args, rename=rename, options=rest)
        command, why = suggestion.train_command(path, known.data_dir)
        print(path)
        if why:
            print(f"remark: {why}")
        print(f"train: {command}")
        output.value = {"path": str(path), "train": command, "remark": why}
    return 0


if __name__ == "__main__":
    program.run(main)
