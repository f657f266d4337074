"""Makes features from videos: decoded, cut into snippets, seen by a CLIP image tower.

  python -m wsvad_jax.extract videos --clip openai/clip-vit-base-patch16 --output features
  python -m wsvad_jax.extract a.mp4 --clip CLIP_DIR --output features --compare a.npy

Input: video files, and folders that are searched for them. Output: OUTPUT/VIDEO.npy,
float16 [crops, snippets, width], or with --layout crops VIDEO__0.npy ... as released
features are; beside it VIDEO.json, which says how they were made and when each snippet
is. Run again, the same command resumes. A damaged video gives what is
readable, with a warning. One that can't be read at all, or whose features can't have its
name, is named and left out, and the exit code is 3. Files in a folder that are no videos
by their extension are counted; hidden ones are passed over.

An archive goes through Apache Beam, with the same files as result, OUTPUT/manifest.jsonl
and, of what can't be read, OUTPUT/failed.jsonl. Flags that are not of this program are
Beam's:

  python -m wsvad_jax.extract archive --clip CLIP_DIR --output features \\
      --runner=DirectRunner --direct_num_workers=8 --direct_running_mode=multi_processing
"""

import argparse
import dataclasses
import os
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wsvad_jax.utils import flags, program
from wsvad_jax.utils.errors import InputError

if TYPE_CHECKING:
    from wsvad_jax.extraction.extract_files import FeatureFolder, Summary
    from wsvad_jax.extraction.extractor import Extractor
    from wsvad_jax.utils.file_search import SkippedFiles


def extract(
    videos: Sequence[str],
    *,
    clip: str,
    output: str,
    layout: str = "one",
    shard: tuple[int, int] = (0, 1),
    compare: str | None = None,
    runner: str | None = None,
    options: Sequence[str] = (),
    **choices: Any,
) -> "Summary":
    """Extracts videos into a folder and returns what was done.

    Args:
      videos: files and folders.
      clip: hub name or folder of a CLIP snapshot; output: the features' folder.
      layout: `one` file a video or one of each of its `crops`.
      shard: (i, n): every n-th video only, beginning with number i, counted from 0.
      compare: existing features, or a folder of them, to compare the new ones with.
      runner: of Apache Beam, with flags `options`; None: this process does the work.
      choices: of the `Extractor`: crops, frame, resize, stride, batch_size, decoders.

    Raises InputError for what is wrong with the arguments or the folder.
    """
    from wsvad_jax.detection import inputs
    from wsvad_jax.extraction import extract_files as files

    inputs.check_files(videos, "save it first, or score it with detect --live {}")
    named, roots, passed = _find(videos)
    _check(choices, compare, len(named), runner)

    extractor, where = _load(clip, choices)
    target = files.FeatureFolder(output, extractor, layout, where)
    if runner:
        from wsvad_jax.extraction.beam import Job, extract_archive

        named = target.writable_videos(named, passed.errors)
        target.claim(named)
        job = Job(os.path.abspath(output), where, layout, choices)
        summary = extract_archive(
            files.select_shard(named, shard), job, runner, options
        )
    else:
        summary = files.extract_files(
            list(named.values()), output, extractor,
            layout=layout, shard=shard, root=roots, clip=where,
        )  # fmt: skip
    summary.failed[:0], summary.unread = passed.errors, str(passed)
    for name in named:
        if compare and name in {*summary.done, *summary.skipped}:
            summary.comparisons[name] = compare_one(name, target, compare)
            print(summary.comparisons[name])
    return summary


def _find(
    videos: Sequence[str],
) -> tuple[dict[str, pathlib.Path], list[str], "SkippedFiles"]:
    """Returns the videos by name, the folders given, and what is passed over in them."""
    from wsvad_jax.extraction.video_files import find_videos, name_videos
    from wsvad_jax.utils.file_search import SkippedFiles

    passed, roots = SkippedFiles(), [v for v in videos if os.path.isdir(v)]
    return name_videos(find_videos(videos, passed), roots), roots, passed


def _load(clip: str, choices: Mapping[str, Any]) -> tuple["Extractor", str]:
    """Returns the extractor, and the snapshot's name as other places find it."""
    from wsvad_jax.clip.snapshot import load_snapshot
    from wsvad_jax.extraction.extractor import Extractor

    where = os.path.realpath(clip) if os.path.isdir(clip) else clip
    snapshot = load_snapshot(clip)
    for remark in snapshot.remarks:
        print(remark, file=sys.stderr)
    return Extractor(snapshot, **choices), where


def _check(
    choices: Mapping[str, Any], compare: str | None, videos: int, runner: str | None
) -> None:
    """Checks what takes no model, before it is loaded."""
    from wsvad_jax.extraction.video import check_crops, check_snippet_options

    program.check_runner(runner)
    check_crops(choices.get("crops", 1), choices.get("resize", "stretch"))
    check_snippet_options(choices.get("frame", "middle"), choices.get("stride", 16))
    if compare and not os.path.exists(compare):
        raise InputError(f"--compare {compare}: no such file or folder")
    if compare and videos > 1 and not os.path.isdir(compare):
        raise InputError(
            f"--compare {compare}: is one file, but there are {videos} videos; "
            "expected a folder of features"
        )


def compare_one(name: str, target: "FeatureFolder", theirs: str) -> str:
    """Says how a video's features in a folder differ from others."""
    from wsvad_jax.extraction import compare

    ours = target.read(name)
    try:
        path = compare.find(theirs, name)
        other = compare.read_features(path, ours.shape[1])
    except InputError as e:
        return f"{name}: {e}"
    found = compare.compare(ours, other)
    return f"{name} and {path}:\n  " + "\n  ".join(
        found.sentences(target.settings["stride"])
    )


def parse_shard(text: str) -> tuple[int, int]:
    """Reads `i/n`; raises argparse's error where it is not that."""
    i, slash, n = text.partition("/")
    if not (slash and i.isdecimal() and n.isdecimal() and int(i) < int(n)):
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected i/n with i from 0 to n - 1"
        )
    return int(i), int(n)


def _parser() -> argparse.ArgumentParser:
    parser = flags.Parser(
        prog="python -m wsvad_jax.extract",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("videos", nargs="+", metavar="VIDEO|FOLDER")
    add(
        "--clip", required=True, metavar="NAME|DIR", help="hub name or folder of a CLIP"
    )
    add("--output", required=True, metavar="DIR", help="where the features go")
    add("--crops", type=int, default=1, choices=(1, 5, 10), help="pictures a frame")
    add(
        "--frame",
        default="middle",
        choices=("first", "middle", "mean"),
        help="which frame of a snippet is seen; mean: all, and their features averaged",
    )
    add(
        "--resize",
        default="stretch",
        choices=("stretch", "clip"),
        help="stretch: 340 x 256 whatever the aspect, as released features; clip: "
        "CLIP's own, bicubic shorter side and centre crop",
    )
    add("--stride", type=int, default=16, help="frames a snippet (16)")
    add(
        "--layout",
        default="one",
        choices=("one", "crops"),
        help="one [crops, snippets, width] file a video, or a [snippets, width] a crop",
    )
    add(
        "--shard",
        type=parse_shard,
        default=(0, 1),
        metavar="i/n",
        help="every n-th video from number i (0 to n-1), for n processes or machines",
    )
    add("--batch_size", type=int, help="pictures at once (64; 8 on a CPU)")
    add("--decoders", type=int, default=1, help="videos decoded at the same time (1)")
    add(
        "--compare",
        metavar="FILE|DIR",
        help="existing features: prints how long both are, and their cosines",
    )
    add("--runner", metavar="NAME", help=program.RUNNER_HELP)
    flags.add_output_flags(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit code."""
    parser = _parser()
    known, rest = parser.parse_known_args(argv)
    if known.runner:
        mode = "--runner, whose workers decode a video each"
        flags.refuse(flags.given(parser, argv), ("decoders",), mode)
    if rest and not known.runner:  # else they are Beam's
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    args = vars(known)
    quiet, json_only = args.pop("quiet"), args.pop("json")
    with program.output(quiet=quiet, json_only=json_only) as output:
        summary = extract(**args, options=rest)
        print(summary)
        output.value = dataclasses.asdict(summary)
    if summary.unread:
        print(summary.unread, file=sys.stderr)
    for name, damage in summary.damaged.items():
        print(f"warning: {name}: damaged, {damage}", file=sys.stderr)
    for name, remark in summary.remarks.items():
        print(f"warning: {name}: {remark}", file=sys.stderr)
    for error in summary.failed:
        print(f"left out: {error}", file=sys.stderr)
    return program.EXIT_SKIPPED if summary.failed else 0


if __name__ == "__main__":
    program.run(main)
