"""Trains the small CLIP of the demo: it knows things on rendered streets.

  python -m wsvad_jax.pretrain --output clip

Pictures of random streets are drawn on this machine, with captions that say what can be
seen: people, cars, flames, smoke, light. No caption names a class of anomalies. The
output is a CLIP snapshot in the Hugging Face layout. Training takes about 15 minutes on
two CPU cores. The same command resumes it after an interruption, and the same settings
give the same weights on one machine.
"""

import argparse
import dataclasses
from collections.abc import Sequence

from wsvad_jax.pretraining.settings import Settings
from wsvad_jax.utils import flags, program

HELP = {
    "videos": "number of rendered videos",
    "steps": "number of training steps",
    "batch_size": "pictures per step",
    "learning_rate": "largest learning rate",
    "merges": "largest number of merges of the tokenizer",
    "patch_size": "pixels of a patch's side",
    "width": "width of the image tower",
    "layers": "layers of the image tower",
    "seed": "seed of the streets, captions and weights",
    "without": "class of events that no street shows, for `benchmark text`",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit code."""
    parser = flags.Parser(
        prog="python -m wsvad_jax.pretrain",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="folder of the snapshot"
    )
    for field in dataclasses.fields(Settings):
        parser.add_argument(
            f"--{field.name}",
            type=type(field.default),
            default=field.default,
            help=f"{HELP[field.name]} (%(default)s)",
        )
    known = parser.parse_args(argv)

    values = {f.name: getattr(known, f.name) for f in dataclasses.fields(Settings)}
    settings = Settings(**values)
    settings.check()

    from wsvad_jax.pretraining.run import pretrain

    directory = pretrain(known.output, settings)
    print(f"{directory}: a CLIP snapshot, for --clip {directory}")
    return 0


if __name__ == "__main__":
    program.run(main)
