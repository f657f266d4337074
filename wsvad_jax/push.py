"""Shares a trained model through the Hugging Face hub.

  python -m wsvad_jax.push runs/dsanet-demo-0 USER/NAME --dry_run
  python -m wsvad_jax.push runs/dsanet-demo-0 USER/NAME --public --license apache-2.0
  python -m wsvad_jax.detect VIDEO --checkpoint USER/NAME --output found

Inputs: a workdir of training or a model folder, and the model's name on the hub. After
`hf auth login`, or with HF_TOKEN, one commit gets these files:

README.md          the model card, with the metadata that the hub reads
meta.json          recipe, classes, features, and a digest of the weights
model.safetensors  the weights; nothing of them is pickled
params/            the same weights, as training wrote them (orbax)
results.json       the metrics, if the model has been scored
clip/              its CLIP model, if it comes with one, or with --with_clip

Nothing else is pushed: no training data, no features, no logs, and no paths of this
machine. --dry_run lists the files with their sizes and asks the hub nothing. A new
repository is private unless --public is passed. USER/NAME@BRANCH pushes to a branch.

VadCLIP and DSANet need the CLIP model that read their prompts. That of the demo comes
with the package, and one of the hub is named. One in a local folder can't be loaded by
others: it is refused, or pushed along with --with_clip.
"""

import argparse
import pathlib
from collections.abc import Sequence

from wsvad_jax.utils import flags, program
from wsvad_jax.utils.errors import InputError

# Flags by the words that other programs use for them.
MEANT = {
    "licence": "--license",
    "visibility": "--private",
    "dry-run": "--dry_run",
    "clip": "--with_clip",
}


def parser() -> flags.Parser:
    """Returns the program's arguments."""
    made = flags.Parser(
        prog="python -m wsvad_jax.push",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        meant=MEANT,
    )
    add = made.add_argument
    add("directory", metavar="DIR", help="a workdir or model folder")
    add("name", metavar="USER/NAME[@BRANCH]", help="the model's name on the hub")

    seen = made.add_mutually_exclusive_group()
    seen.add_argument("--private", action="store_true", help="only you and those you "
        "name see it (the default of a new repository)")  # fmt: skip
    seen.add_argument("--public", action="store_true", help="everybody sees it")
    add("--license", metavar="ID", help="licence of the weights, as the hub lists them "
        "(default: other, see the card)")  # fmt: skip
    add("--with_clip", action="store_true", help="push a CLIP model of a local folder "
        "along")  # fmt: skip
    add("--dry_run", action="store_true", help="list what would be pushed, and stop")
    flags.add_output_flags(made)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit code."""
    known = parser().parse_args(argv)
    from wsvad_jax.utils import hub_access

    name = hub_access.parse_hub_name(known.name)
    if name is None:
        raise InputError(
            f"{known.name!r}: not a name of the Hugging Face hub, which is "
            f"{hub_access.NAME_RULE}"
        )
    if not known.directory or not pathlib.Path(known.directory).is_dir():
        raise InputError(
            f"{known.directory!r}: no such folder; expected a workdir of training or a "
            "model folder"
        )

    from wsvad_jax.sharing import hub_card
    from wsvad_jax.sharing.push import PushOptions, push_model

    if known.quiet:
        from huggingface_hub.utils import disable_progress_bars

        disable_progress_bars()
    hub_card.check_licence(known.license)
    private = True if known.private else False if known.public else None
    options = PushOptions(private, known.with_clip, known.license, known.dry_run)
    with program.output(quiet=known.quiet, json_only=known.json) as output:
        output.value = push_model(pathlib.Path(known.directory), name, options)
    return 0


if __name__ == "__main__":
    program.run(main)
