"""Searches videos for moments that match words or an example picture.

  python -m wsvad_jax.search "a car on fire" features/ --output hits
  python -m wsvad_jax.search "a car on fire" videos/ --clip openai/clip-vit-base-patch16
  python -m wsvad_jax.search --image frame.jpg demo

Inputs: features that `extract` wrote, videos, a folder that `detect` wrote, or a prepared
dataset, such as demo. Features name their CLIP model; another one is refused. Videos
need --clip. They are extracted once, into the cache.

Outputs: a table of the best moments, by the cosine of their best snippet. Neighbouring
snippets of a video are one moment. --output writes search.html, a page with pictures,
and search.json.

Cosines rank the moments of one query. They are no probabilities, and those of two
queries can't be compared. The first moment is the nearest one, even if nothing matches.

Sources that can't be read are reported and left out; the exit code is then 3.
"""

import argparse
import pathlib
from collections.abc import Sequence

from wsvad_jax.retrieval import run
from wsvad_jax.utils import flags, program

# Flags by the words that other programs use for them.
MEANT = {
    "k": "--top",
    "limit": "--top",
    "picture": "--image",
    "model": "--clip",
    "out": "--output",
}


def parser() -> flags.Parser:
    """Returns the program's arguments."""
    made = flags.Parser(
        prog="python -m wsvad_jax.search",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        meant=MEANT,
    )
    add = made.add_argument

    # What is searched for, and where.
    add("words", nargs="+", metavar="WORDS FEATURES|VIDEOS|FOUND|DATASET",
        help="words in quotes, then what is searched; only the latter with --image")  # fmt: skip
    add("--image", metavar="PICTURE", help="example picture, in place of words")
    add("--clip", metavar="NAME|DIR", help="hub name or folder of a CLIP; default: the "
        "one that the features name")  # fmt: skip

    # How much is shown, and where it goes.
    add("--top", type=int, default=10, metavar="N", help="most moments (%(default)s)")
    add("--per_video", type=int, metavar="N", help="most moments of one video (3; no "
        "limit if there is one video)")  # fmt: skip
    add("--output", type=pathlib.Path, metavar="DIR", help="where search.html and "
        "search.json go")  # fmt: skip

    # What the sources may not say themselves.
    add("--videos", metavar="DIR", help="videos of the features, if not beside them")
    add("--fps", type=float, help="frames per second of features without times; "
        "default: that of the video, else 30")  # fmt: skip
    add("--data_dir", metavar="DIR", help="folder of prepared datasets")
    flags.add_output_flags(made)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit code."""
    known = parser().parse_args(argv)
    words, sources = run.split_query(known.words, known.image, known.data_dir)
    flags.check_fps(known.fps)

    with program.output(quiet=known.quiet, json_only=known.json) as output:
        output.value, complete = run.search_files(
            sources,
            run.Query(words, known.image, known.top, known.per_video),
            run.SearchOptions(known.clip, known.fps, known.videos, known.data_dir),
            known.output,
        )
    return 0 if complete else program.EXIT_SKIPPED


if __name__ == "__main__":
    program.run(main)
