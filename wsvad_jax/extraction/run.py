"""Extracts the features of videos into a folder: the work of the program `extract`."""

import dataclasses
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wsvad_jax.utils import program
from wsvad_jax.utils.errors import InputError

if TYPE_CHECKING:
    from wsvad_jax.extraction.extract_files import FeatureFolder, Summary
    from wsvad_jax.extraction.extractor import Extractor
    from wsvad_jax.utils.file_search import SkippedFiles


@dataclasses.dataclass(frozen=True)
class ExtractorOptions:
    """Arguments of the `Extractor`, which documents them."""

    crops: int = 1
    frame: str = "middle"
    resize: str = "stretch"
    stride: int = 16
    batch_size: int | None = None
    decoders: int = 1
    dtype: str = "float32"


def extract(
    videos: Sequence[str],
    *,
    clip: str,
    output: str,
    options: ExtractorOptions,
    layout: str = "one",
    shard: tuple[int, int] = (0, 1),
    compare: str | None = None,
    runner: str | None = None,
    runner_flags: Sequence[str] = (),
) -> "Summary":
    """Extracts videos into a folder and returns what was done.

    Args:
      videos: files and folders.
      clip: hub name or folder of a CLIP snapshot.
      output: folder of the features.
      options: arguments of the extractor.
      layout: `one` file per video, or one for each of its `crops`.
      shard: (i, n): every n-th video only, beginning with number i, counted from 0.
      compare: existing features, or a folder of them, to compare the new ones with.
      runner: runner of Apache Beam; None uses this process.
      runner_flags: flags of the runner.

    Raises:
      InputError: arguments that don't fit together, or a folder of other features.
    """
    from wsvad_jax.extraction import extract_files as files

    paths, folders, skipped = _find(videos)
    _check_options(options, compare, len(paths), runner)

    extractor, snapshot_name = _load(clip, options)
    target = files.FeatureFolder(output, extractor, layout, snapshot_name)
    if runner:
        from wsvad_jax.extraction.beam import Job, extract_archive

        # protocol.json is written before the workers start, which would race for it.
        paths = target.writable_videos(paths, skipped.errors)
        target.claim(paths)
        # Workers on unlike machines must not decide on the precision by themselves.
        options = dataclasses.replace(options, dtype=extractor.dtype)
        job = Job(
            os.path.abspath(output), snapshot_name, layout, dataclasses.asdict(options)
        )
        in_shard = files.select_shard(paths, shard)
        summary = extract_archive(in_shard, job, runner, runner_flags)
    else:
        summary = files.extract_files(
            list(paths.values()),
            output,
            extractor,
            layout=layout,
            shard=shard,
            root=folders,
            clip=snapshot_name,
        )

    # Errors of the search come first, in the order in which they occurred.
    summary.failed[:0], summary.unread = skipped.errors, str(skipped)

    for name in paths:
        if compare and name in {*summary.done, *summary.skipped}:
            summary.comparisons[name] = compare_video(name, target, compare)
            print(summary.comparisons[name])
    return summary


def _find(
    videos: Sequence[str],
) -> tuple[dict[str, pathlib.Path], list[str], "SkippedFiles"]:
    """Returns the videos by name, the folders among the inputs, and skipped files."""
    from wsvad_jax.extraction.video_files import find_videos, name_videos
    from wsvad_jax.utils.file_search import SkippedFiles

    skipped = SkippedFiles()
    folders = [path for path in videos if os.path.isdir(path)]
    return name_videos(find_videos(videos, skipped), folders), folders, skipped


def _load(clip: str, options: ExtractorOptions) -> tuple["Extractor", str]:
    """Returns the extractor, and a name of the snapshot that holds in any folder."""
    from wsvad_jax.clip import training_notes
    from wsvad_jax.clip.snapshot import load_snapshot
    from wsvad_jax.data import feature_protocols
    from wsvad_jax.extraction.extractor import Extractor

    name = os.path.realpath(clip) if os.path.isdir(clip) else clip
    snapshot = load_snapshot(clip)
    extractor = Extractor(snapshot, **dataclasses.asdict(options))

    training_notes.show(feature_protocols.clip_note(extractor.protocol))
    for remark in snapshot.remarks:
        print(remark, file=sys.stderr)
    return extractor, name


def _check_options(
    options: ExtractorOptions, compare: str | None, num_videos: int, runner: str | None
) -> None:
    """Checks what needs no model, before one is loaded."""
    from wsvad_jax.extraction.video import check_crops, check_snippet_options

    program.check_runner(runner)
    check_crops(options.crops, options.resize)
    check_snippet_options(options.frame, options.stride)

    if compare and not os.path.exists(compare):
        raise InputError(f"--compare {compare}: no such file or folder")
    if compare and num_videos > 1 and not os.path.isdir(compare):
        raise InputError(
            f"--compare {compare}: is one file, but there are {num_videos} videos; "
            "expected a folder of features"
        )


def compare_video(name: str, target: "FeatureFolder", existing: str) -> str:
    """Returns sentences on how a video's features differ from existing ones.

    Args:
      name: name of the video.
      target: folder of its new features.
      existing: file or folder of the existing features.
    """
    from wsvad_jax.extraction import compare

    # One video without a counterpart must not end the comparison of the others.
    features = target.read(name)
    try:
        path = compare.find(existing, name)
        other = compare.read_features(path, features.shape[1])
    except InputError as e:
        return f"{name}: {e}"

    differences = compare.compare(features, other)
    sentences = differences.sentences(target.settings["stride"])
    return f"{name} and {path}:\n  " + "\n  ".join(sentences)


def print_warnings(summary: "Summary") -> None:
    """Prints what was skipped, damaged, remarkable or left out, on standard error."""
    if summary.unread:
        print(summary.unread, file=sys.stderr)
    for name, damage in summary.damaged.items():
        print(f"warning: {name}: damaged, {damage}", file=sys.stderr)
    for name, remark in summary.remarks.items():
        print(f"warning: {name}: {remark}", file=sys.stderr)
    for error in summary.failed:
        print(f"left out: {error}", file=sys.stderr)
