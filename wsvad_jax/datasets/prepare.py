"""Prepares a dataset from a folder, a public dataset's files or the demo."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from wsvad_jax.utils import files, program
from wsvad_jax.utils.errors import InputError

if TYPE_CHECKING:
    from wsvad_jax.data.feature_files import ErrorCollector
    from wsvad_jax.data.tfds_builder import Writer
    from wsvad_jax.datasets.custom import SourceDataset
    from wsvad_jax.datasets.custom_videos import ExtractionOptions
    from wsvad_jax.datasets.demo.worlds import World
    from wsvad_jax.datasets.list_options import ListOptions
    from wsvad_jax.datasets.validation.report import ValidationReport

REPORT = "report.txt"
PRINTED_LINES = 20  # of the report; the rest is in the file alone


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
    clip: str | None = None,
    crops: int | None = None,
    frame: str | None = None,
    resize: str | None = None,
    dtype: str | None = None,
    lists: "ListOptions | None" = None,
) -> pathlib.Path:
    """Prepares a dataset and returns its version folder.

    Args:
      name: path of a custom folder, or name of a public dataset or a demo world.
      features: folder of the features; None is the custom folder's features/.
      annotations: folder of a public dataset's lists and ground truth.
      data_dir: folder of prepared datasets; None is the cache's.
      skip_bad: whether bad videos are left out and listed; else they are errors.
      slack: snippets by which features and truth of a test video may differ in length.
      runner: runner of Apache Beam, with flags `options`; '' uses this process.
      options: flags of the runner.
      rename: name of the dataset; None is the card's, else the folder's.
      clip, crops, frame, resize, dtype: fields of `custom_videos.ExtractionOptions`; the
        demo takes `clip` alone.
      lists: columns of a custom folder's lists, and how its split is made.

    Raises:
      InputError: arguments that don't fit together, or the first bad file.
    """
    from wsvad_jax.clip import training_notes
    from wsvad_jax.data import feature_protocols
    from wsvad_jax.data.dataset import open_dataset
    from wsvad_jax.data.feature_files import ErrorCollector
    from wsvad_jax.datasets import registry
    from wsvad_jax.datasets.custom_videos import ExtractionOptions
    from wsvad_jax.datasets.list_options import ListOptions

    base, lists = registry.prepared_data_dir(data_dir), lists or ListOptions()
    extraction = ExtractionOptions(clip, crops, frame, resize, dtype)
    built_in = registry.is_built_in(name)
    for_own = {
        "lists_built_in": lists.flags,
        "extracts_built_in": _sets_features(name, extraction),
        "renames_built_in": rename,
    }
    check_arguments(name, slack=slack, runner=runner, **(for_own if built_in else {}))
    if (world := registry.demo_world(name)) is not None:
        given = clip is not None
        path = _demo(base, clip, world) if given else registry.resolve(name, data_dir)
        training_notes.show(feature_protocols.clip_note(open_dataset(path).protocol))
        return path

    problems = ErrorCollector(skip_bad)
    # An extraction has shown the CLIP model's note before its work.
    with training_notes.shown_once():
        if built_in:
            found = features, annotations, problems, slack
            dataset, source = _public_dataset(name, *found)
        else:
            source = custom_folder(name, annotations)
            # The name is checked before the extraction, which may take hours.
            check_name(base, source, rename)
            how = extraction, problems, slack, lists
            dataset = _renamed(_custom_dataset(source, features, *how), rename)
        return _write(dataset, source, base, _writer(runner, options), problems)


def _sets_features(name: str, extraction: "ExtractionOptions") -> bool:
    """Whether options of extraction were set that a built-in dataset doesn't take."""
    from wsvad_jax.datasets import registry

    # The demo's videos are at hand, so another CLIP model can make its features.
    demo = registry.demo_world(name) is not None
    taken = dataclasses.replace(extraction, clip=None) if demo else None
    return (taken or extraction).is_set


def _demo(base: pathlib.Path, clip: str, world: "World") -> pathlib.Path:
    """Prepares a demo world with features of a CLIP model; returns its version folder."""
    from wsvad_jax.clip.snapshot import load_snapshot
    from wsvad_jax.datasets.demo import dataset

    # Loading checks the model and finds a hub's one.
    return dataset.prepare_demo(base, clip=load_snapshot(clip).path, world=world)


def _write(
    dataset: "SourceDataset",
    source: str,
    base: pathlib.Path,
    writer: "Writer | None",
    problems: "ErrorCollector",
) -> pathlib.Path:
    """Writes a dataset and its report; returns its version folder."""
    from wsvad_jax.data.tfds_builder import write_dataset

    content = dataset.name, dataset.card, dataset.protocol, dataset.splits
    videos = (v for records in dataset.splits.values() for v in records.videos)
    fps = {v.video: v.fps for v in videos if v.fps}
    path = write_dataset(*content, base, dataset.about, source, writer, fps)
    _write_report(path, dataset, problems)
    return path


def _writer(runner: str, options: Sequence[str]) -> "Writer | None":
    if not runner:
        return None
    from wsvad_jax.data import tfds_beam_writer

    return functools.partial(tfds_beam_writer.write, runner=runner, options=options)


def check_arguments(
    name: str,
    *,
    lists_built_in: Mapping[str, str] | None = None,
    extracts_built_in: bool = False,
    renames_built_in: str | None = None,
    slack: int = 0,
    runner: str = "",
) -> None:
    """Raises InputError for arguments that don't fit together.

    Args:
      name: name or folder to prepare.
      lists_built_in: flags about lists that a built-in dataset gets.
      extracts_built_in: whether a built-in dataset gets options of extraction.
      renames_built_in: new name for a built-in dataset.
      slack: snippets, see `prepare`.
      runner: runner of Apache Beam.
    """
    from wsvad_jax.datasets import registry

    if lists_built_in:
        raise InputError(
            f"{', '.join(lists_built_in.values())}: for a folder of your own; {name} brings its lists"
        )
    if extracts_built_in:
        raise InputError(
            "--clip, --crops, --frame, --resize and --dtype belong to a folder of your own "
            f"with videos; {name} brings its features"
        )
    if renames_built_in:
        raise InputError(
            f"--name {renames_built_in}: {name} keeps its name; leave the flag out"
        )

    if slack not in (0, 1):
        raise InputError(f"--slack {slack}: expected 0 or 1 snippets")

    program.check_runner(runner)
    if runner and registry.demo_world(name) is not None:
        raise InputError(
            f"--runner {runner}: {name} is made by one process; leave --runner out"
        )


def _public_dataset(
    name: str,
    features: str | None,
    annotations: str | None,
    problems: "ErrorCollector",
    slack: int,
) -> tuple["SourceDataset", str]:
    """Returns a public dataset, and the folder of its features as its source."""
    from wsvad_jax.datasets import public

    if features is None or annotations is None:
        raise InputError(
            f"{name} needs --features DIR, its released features, and --annotations "
            "DIR, its lists and truth"
        )

    dataset = public.load(name, features, annotations, problems, slack=slack)
    return dataset, str(pathlib.Path(features).absolute())


def _custom_dataset(
    source: str,
    features: str | None,
    extraction: "ExtractionOptions",
    problems: "ErrorCollector",
    slack: int,
    lists: "ListOptions",
) -> "SourceDataset":
    """Extracts what features are missing, and returns the folder's dataset."""
    from wsvad_jax.datasets import custom, custom_videos, own_lists, split_folder

    folder = pathlib.Path(source)
    root = pathlib.Path(features or folder / "features").expanduser().absolute()
    own = own_lists.resolve(folder, root, lists)
    unusable = custom_videos.extract_missing(
        folder, root, extraction, problems, own.lists
    )
    # Only now, so that a mistake in other flags leaves no split behind.
    split_folder.write(folder, own)

    # Videos whose extraction failed are among the problems already.
    return custom.load(
        source, problems, features=root, slack=slack, without=unusable, own=own
    )


def _renamed(dataset: "SourceDataset", name: str | None) -> "SourceDataset":
    if not name:
        return dataset
    card = dataclasses.replace(dataset.card, name=name)
    return dataclasses.replace(dataset, name=name, card=card)


def custom_folder(name: str, annotations: str | None = None) -> str:
    """Returns the absolute path of a custom folder.

    Args:
      name: path of the folder.
      annotations: value of --annotations, which belongs to public datasets.

    Raises:
      InputError: no such folder, or annotations for one.
    """
    from wsvad_jax.datasets import registry

    path = pathlib.Path(name).expanduser()
    if not path.is_dir():
        raise InputError(
            f"no folder {name!r} and no public dataset of that name; expected a folder, "
            f"{', '.join(registry.PUBLIC_NAMES)} or demo"
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
    lists: "ListOptions | None" = None,
) -> "ValidationReport":
    """Reports the problems of a custom folder; writes nothing.

    Args:
      name, features, data_dir, rename, slack, lists: as `prepare` takes them.

    Raises:
      InputError: no custom folder.
    """
    from wsvad_jax.datasets import registry
    from wsvad_jax.datasets.validation import validate

    if registry.is_built_in(name):
        raise InputError(
            f"--check looks through a folder of your own; {name} is checked while it is "
            "prepared (a folder of that name is ./" + name + ")"
        )

    source = custom_folder(name)
    report = validate.validate(source, features, slack=slack, lists=lists)
    # A name that is taken is one problem among others, so that all are listed at once.
    try:
        check_name(registry.prepared_data_dir(data_dir), source, rename)
    except InputError as e:
        report.add_problem("name", e)
    return report


def check_name(base: pathlib.Path, source: str, rename: str | None = None) -> None:
    """Refuses a name that isn't free, so that no other folder's dataset is replaced.

    Args:
      base: folder of prepared datasets.
      source: custom folder to prepare.
      rename: name of its dataset; None is the card's, else the folder's own.

    Raises:
      InputError: the name is a built-in dataset's, or another folder's already.
    """
    from wsvad_jax.data.dataset import METADATA, VERSION
    from wsvad_jax.data.tfds_builder import dataset_folder
    from wsvad_jax.datasets import custom, registry

    if rename is not None and not rename.strip():
        raise InputError("--name is empty; expected the dataset's name")
    name = rename or custom.dataset_name(pathlib.Path(source))
    folder = base / dataset_folder(name)
    if registry.is_built_in(folder.name):
        raise InputError(
            f"{source}: {name} is the name of a built-in dataset; pass --name NAME"
        )

    # Preparing the same folder again, or one that has moved, replaces its dataset.
    metadata = folder / VERSION / METADATA
    if metadata.is_file():
        other = files.read_json(metadata).get("source") or source
        if other != source and pathlib.Path(other).exists():
            raise InputError(
                f"{folder} already holds the dataset made from {other}; pass --name "
                "NAME, or another --data_dir"
            )


def _write_report(
    path: pathlib.Path, source: "SourceDataset", problems: "ErrorCollector"
) -> None:
    """Writes report.txt beside the data, and prints its first lines."""
    from wsvad_jax.clip import training_notes
    from wsvad_jax.data import feature_protocols
    from wsvad_jax.data.dataset import open_dataset

    # The numbers are those of the written dataset: opening it also checks it.
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
    by_split = [remark for split in source.splits.values() for remark in split.remarks]
    lines += [f"remark: {remark}" for remark in [*source.remarks, *by_split]]

    note = feature_protocols.clip_note(dataset.protocol)
    training_notes.show(note)
    in_file = [*lines, *([f"note: {note}"] if note else [])]
    files.write_text(path / REPORT, "\n".join(in_file) + "\n")
    print("\n".join(lines[:PRINTED_LINES]))
    if len(lines) > PRINTED_LINES:
        print(f"... {len(lines) - PRINTED_LINES} lines more in {path / REPORT}")
