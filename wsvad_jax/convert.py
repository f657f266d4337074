"""Converts released PyTorch checkpoints into model folders, and back.

`import_file` and `export_file` are the two directions. In `wsvad_jax.weights`,
torch_mapping.py maps parameter names, torch_architecture.py compares shapes with the
recipe, and torch_files.py reads and writes the files.
"""

import argparse
from collections.abc import Sequence

from wsvad_jax.experiment.config import load_config
from wsvad_jax.utils import flags, program

HELP = """\
Converts checkpoints of the released PyTorch code into model folders, and back.

input    --torch FILE: a state dict (.pth, .pt, .pkl, .safetensors), alone or in a
         training checkpoint. Only weights are read; no code in the file is run.
output   --output DIR: params/ and meta.json, for `evaluate --checkpoint DIR`; and
         clip/, the CLIP model that files of VadCLIP and DSANet contain
back     --checkpoint DIR, a model folder or workdir, is written to --to_torch FILE
         (.pth, or .safetensors by its ending)
"""
EXAMPLES = """\
examples
  python -m wsvad_jax.convert --config configs/vadclip.py:ucf --torch model_ucf.pth \\
      --output vadclip_ucf --clip openai/clip-vit-base-patch16
  python -m wsvad_jax.evaluate --config configs/vadclip.py:ucf \\
      --config.clip=vadclip_ucf/clip --checkpoint vadclip_ucf --workdir runs/released
  python -m wsvad_jax.convert --config configs/vadclip.py:ucf \\
      --checkpoint runs/vadclip-ucf-0/model --to_torch mine.pth
"""


def main(argv: Sequence[str] | None = None) -> int:
    parser = flags.Parser(
        prog="python -m wsvad_jax.convert",
        description=HELP,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--config", help="a recipe, FILE[:DATASET]", required=True)
    add("--torch", metavar="FILE", help="a released checkpoint")
    add("--output", metavar="DIR", help="the model folder to write")
    add("--checkpoint", metavar="DIR|NAME", help="a model folder, a workdir, or "
        "USER/NAME of the hub")  # fmt: skip
    add("--to_torch", metavar="FILE", help="the file to write")
    add("--clip", metavar="NAME|DIR", help="a CLIP snapshot: its tokenizer joins the "
        "CLIP weights of --torch; or all of it goes into --to_torch")  # fmt: skip
    known, rest = parser.parse_known_args(argv)

    # One direction per call.
    forth, back = (known.torch, known.output), (known.checkpoint, known.to_torch)
    if not (all(forth) and not any(back)) and not (all(back) and not any(forth)):
        parser.error(
            "pass --torch FILE --output DIR, or --checkpoint DIR --to_torch FILE"
        )

    from wsvad_jax.weights import torch_mapping
    from wsvad_jax.weights.convert import TOKENIZER, export_file, import_file

    config = load_config(
        [f"--config={known.config}", *rest], flags=flags.options(parser)
    )
    if known.to_torch:
        print(export_file(config, known.checkpoint, known.to_torch, known.clip))
        return 0

    output = import_file(config, known.torch, known.output, known.clip)
    print(f"{output}: a {torch_mapping.title(config.model_name)} model for `evaluate`")

    # Files of VadCLIP and DSANet contain CLIP weights, but no tokenizer.
    clip = output / "clip"
    if clip.is_dir():
        print(f"{clip}: the CLIP weights of the file; pass --config.clip={clip}")
    if clip.is_dir() and not any((clip / n).exists() for n in TOKENIZER):
        print(
            f"{clip} has no tokenizer yet, since checkpoints contain none: copy "
            "vocab.json and merges.txt of any OpenAI CLIP there, or convert again with "
            "--clip openai/clip-vit-base-patch16"
        )
    return 0


if __name__ == "__main__":
    program.run(main, resumes=False)
