"""Extracts features from videos with the image tower of a CLIP model.

  python -m wsvad_jax.extract videos --clip openai/clip-vit-base-patch16 --output features
  python -m wsvad_jax.extract a.mp4 --clip CLIP_DIR --output features --compare a.npy
  python -m wsvad_jax.extract a.mp4 --clip CLIP_DIR --identify a.npy

Inputs: video files, or folders to search for videos. Other files in a folder are skipped
and counted; hidden files are skipped.

Outputs: OUTPUT/VIDEO.npy, float16 [crops, snippets, width], and VIDEO.json with the
feature protocol and the times of the snippets. --layout crops writes one file per crop,
VIDEO__0.npy, …, like the released features. --compare prints how far the features are
from existing ones of the same videos. --identify finds out how existing features of one
video were made, and writes nothing.

The same command resumes an interrupted extraction. From a damaged video, the readable
part is extracted, with a warning. Videos that can't be read are listed and left out; the
exit code is then 3.

With --runner, Apache Beam extracts a large archive. The feature files are the same. It
also writes OUTPUT/manifest.jsonl, and OUTPUT/failed.jsonl for unreadable videos. Unknown
flags are passed to Beam:

  python -m wsvad_jax.extract archive --clip CLIP_DIR --output features \\
      --runner=DirectRunner --direct_num_workers=8 --direct_running_mode=multi_processing
"""

import argparse
import dataclasses
import os
from collections.abc import Sequence

from wsvad_jax.extraction.run import ExtractorOptions, extract, print_warnings
from wsvad_jax.parallel import precision
from wsvad_jax.utils import flags, program, progress
from wsvad_jax.utils.errors import InputError

__all__ = ["extract"]
# Flags that --identify doesn't read.
EXTRACTING = (
    "output", "crops", "frame", "resize", "stride", "dtype", "layout", "shard",
    "batch_size", "decoders", "compare", "runner",
)  # fmt: skip


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
        "--clip",
        required=True,
        action="append",
        metavar="NAME|DIR",
        help="hub name or folder of a CLIP model; several for --identify",
    )
    add("--output", metavar="DIR", help="where the features go")

    _add_protocol_flags(parser)

    # How the work is divided.
    add(
        "--shard",
        type=parse_shard,
        default=(0, 1),
        metavar="i/n",
        help="every n-th video from number i (0 to n-1), for n processes or machines",
    )
    add("--batch_size", type=int, help="pictures at once (64; 4 to 8 on a CPU)")
    add("--decoders", type=int, default=1, help="videos decoded at the same time (1)")

    add(
        "--compare",
        metavar="FILE|DIR",
        help="existing features: print both lengths and the cosines",
    )
    add(
        "--identify",
        metavar="FILE",
        help="existing features of one video: find the protocol that makes them",
    )
    add("--runner", metavar="NAME", help=program.RUNNER_HELP)
    flags.add_output_flags(parser)
    return parser


def _add_protocol_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the feature protocol."""
    add = parser.add_argument
    # The feature protocol: a model scores only features with the protocol it knows.
    add("--crops", type=int, default=1, choices=(1, 5, 10), help="pictures per frame")
    add(
        "--frame",
        default="middle",
        choices=("first", "middle", "mean"),
        help="frame of a snippet that is encoded; mean: the mean feature of all frames",
    )
    add(
        "--resize",
        default="stretch",
        choices=("stretch", "clip"),
        help="stretch: to 340 x 256, as for the released features; clip: "
        "CLIP's own, bicubic shorter side and centre crop",
    )
    add("--stride", type=int, default=16, help="frames per snippet (16)")
    add(
        "--dtype",
        default="float32",
        choices=precision.DTYPES,
        help="precision of the image tower (float32); auto: bfloat16 where it is faster",
    )
    add(
        "--layout",
        default="one",
        choices=("one", "crops"),
        help="one file per video [crops, snippets, width], or one per crop",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit code."""
    parser = _parser()
    known, rest = parser.parse_known_args(argv)
    if known.runner:
        mode = "--runner, whose workers decode a video each"
        flags.refuse(flags.given(parser, argv), ("decoders",), mode)

    # With --runner, unknown flags are Beam's.
    if rest and not known.runner:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")

    if known.identify is not None:
        flags.refuse(flags.given(parser, argv), EXTRACTING, "--identify")
        return _identify(known)

    if known.output is None:
        parser.error("the following arguments are required: --output")
    if len(known.clip) > 1:
        raise InputError(
            f"--clip {known.clip[1]}: is the second CLIP model; features have one, and "
            "several are for --identify"
        )

    from wsvad_jax.detection import inputs

    with program.output(quiet=known.quiet, json_only=known.json) as output:
        # A stream has no end, and its features would have no name.
        hint = "save it first, or score it with detect --live {}"
        inputs.check_files(known.videos, hint)
        summary = extract(
            known.videos,
            clip=known.clip[0],
            output=known.output,
            options=ExtractorOptions(
                crops=known.crops,
                frame=known.frame,
                resize=known.resize,
                stride=known.stride,
                batch_size=known.batch_size,
                decoders=known.decoders,
                dtype=known.dtype,
            ),
            layout=known.layout,
            shard=known.shard,
            compare=known.compare,
            runner=known.runner,
            runner_flags=rest,
        )
        print(summary)
        output.value = dataclasses.asdict(summary)
    print_warnings(summary)
    return program.EXIT_SKIPPED if summary.failed else 0


def _identify(known: argparse.Namespace) -> int:
    """Prints the protocol of existing features; returns the exit code."""
    from wsvad_jax.clip.snapshot import load_snapshot
    from wsvad_jax.extraction import identify

    if len(known.videos) != 1 or os.path.isdir(known.videos[0]):
        raise InputError(
            f"--identify {known.identify}: expected one video file beside it, found "
            f"{', '.join(known.videos)}"
        )

    # Mistakes of names come before the weights, which take longer.
    if os.path.isdir(known.identify):
        raise InputError(
            f"--identify {known.identify}: is a folder; expected the feature file of "
            f"{known.videos[0]}"
        )
    for path in (known.videos[0], known.identify):
        if not os.path.isfile(path):
            raise InputError(f"{path}: no such file")

    with program.output(quiet=known.quiet, json_only=known.json) as output:
        names = list(dict.fromkeys(known.clip))
        snapshots = [(name, load_snapshot(name)) for name in names]
        with progress.Progress("encoding pictures", 0, unit="picture") as bar:
            result = identify.identify(
                known.videos[0], known.identify, snapshots, tick=bar.update
            )
        print("\n".join(result.sentences()))
        output.value = dataclasses.asdict(result) | {"certain": result.certain}
    return 0


if __name__ == "__main__":
    program.run(main)
