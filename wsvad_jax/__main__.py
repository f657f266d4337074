"""All programs under one name: `wsvad PROGRAM …`, or `python -m wsvad_jax PROGRAM …`.

wsvad train --config dsanet          is python -m wsvad_jax.train --config dsanet
wsvad train --help                   what a program does, its flags and examples
wsvad --version
"""

import importlib
import sys
from collections.abc import Sequence

from wsvad_jax import __version__
from wsvad_jax.utils import flags
from wsvad_jax.utils import program as cli

PROGRAMS = {
    "train": "trains a recipe and scores the test videos",
    "evaluate": "scores a test set with a trained or converted model, or zero-shot",
    "detect": "finds events in videos, or in a live stream, by a model or by words",
    "calibrate": "finds a threshold for a wished false-alarm rate, on ordinary recordings",
    "search": "finds moments of videos by words or by an example picture",
    "extract": "extracts features from videos with a CLIP image tower",
    "prepare": "prepares a dataset from features or videos, or checks a folder",
    "export": "writes a trained model as StableHLO or ONNX",
    "convert": "converts released PyTorch checkpoints into model folders, and back",
    "push": "shares a trained model through the Hugging Face hub",
    "pretrain": "trains the small CLIP of the demo on rendered streets",
    "report": "makes tables and a page from finished runs",
    "benchmark": "measures speed, and reproduces tables of results",
}


def usage() -> str:
    """Returns the list of programs."""
    width = max(map(len, PROGRAMS))
    rows = [f"  {name.ljust(width)}  {text}" for name, text in PROGRAMS.items()]
    head = (
        "usage: wsvad PROGRAM [FLAG …]      wsvad PROGRAM --help      wsvad --version"
    )
    return "\n".join([head, "", *rows])


def start(argv: Sequence[str]) -> int:
    """Runs the program that the first word names; returns the exit code."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if argv else cli.EXIT_INPUT
    if argv[0] == "--version":
        print(f"wsvad_jax {__version__}")
        return 0
    if argv[0] not in PROGRAMS:
        near = flags.close(argv[0], list(PROGRAMS))
        hint = (
            f"; did you mean {near}?" if near else f"; expected {', '.join(PROGRAMS)}"
        )
        print(f"error: no program {argv[0]!r}{hint}", file=sys.stderr)
        return cli.EXIT_INPUT
    program = importlib.import_module(f"wsvad_jax.{argv[0]}")
    # As `python -m wsvad_jax.PROGRAM` sees its flags.
    sys.argv[1:] = argv[1:]
    return program.main(argv[1:])


def main() -> None:
    """Runs a program and ends the process, as each does by itself."""
    cli.run(lambda: start(sys.argv[1:]))


if __name__ == "__main__":
    main()
