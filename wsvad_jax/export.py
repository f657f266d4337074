"""Writes a trained model as one file that runs without this package.

  python -m wsvad_jax.export --checkpoint runs/dsanet-demo-0 --output dsanet.stablehlo
  python -m wsvad_jax.export --checkpoint DIR --output dsanet.onnx --format onnx
  python -m wsvad_jax.export --checkpoint DIR --video --size 240x320 --output video.onnx
  python -m wsvad_jax.export --clip NAME|DIR --classes "people fighting,a fire" \\
      --normal "an ordinary street" --video --size camera.mp4 --output video.onnx

Inputs: a model folder or workdir. --clip names the CLIP model of its text tower, where
the model's own isn't there.

Outputs: the program, and FILE.json with its shapes, classes, thresholds and usage. The
program takes `features` float32 [b, N, T, D] and `length` int32 [b], the number of valid
snippets; the rest is zero. It returns `anomaly` [b, T]. A model with classes also
returns `classes` [b, T, C], where class 0 is normal.

The program computes in float32, so that it runs on any machine. Weights and text
features of the classes are its constants. It doesn't need the text tower, so the file is
about as large as the model's own weights.

The ending of the file (.onnx or .stablehlo) or --format chooses the format.
StableHLO (the default; `jax.export`) takes any batch and runs on cpu, cuda and tpu.
ONNX (package jax2onnx) has the fixed batch --batch, or 1. For VadCLIP and DSANet, it takes
any batch without --batch where the converter can leave it open; FILE.json and the output
say where it can't.

With --video, the image tower is part of the program. It takes the frames of one snippet,
uint8 RGB [frames, H, W, 3], and the state that its last call returned: the features of the
last T snippets. It returns the snippet's scores, those of `detect --live`, and the new
state. --size gives H and W, or a video that has them: the program resizes and crops frames
as `extract` does. docs/run_exported_video.py runs such a program on a video or a camera.
"""

import argparse
import pathlib
from collections.abc import Mapping, Sequence

from wsvad_jax.detection.export import (
    FORMATS,
    LONGEST,
    TITLES,
    check_onnx,
    export_model,
    format_of,
)
from wsvad_jax.utils import flags, program
from wsvad_jax.utils.errors import InputError


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit code."""
    parser = flags.Parser(
        prog="python -m wsvad_jax.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--checkpoint", metavar="DIR|NAME", help="a model folder, a workdir, or "
        "USER/NAME of the hub")  # fmt: skip
    add("--clip", metavar="NAME|DIR", help="the CLIP model of its text tower, and with "
        "--video of its image tower")  # fmt: skip
    add("--output", required=True, metavar="FILE", help="the program to write")
    add("--format", choices=FORMATS, default="", help="default: by the file's ending")
    add("--length", type=int, default=0, metavar="T", help="snippets of a video, at "
        f"most, of a model for whole videos ({LONGEST})")  # fmt: skip
    add("--crops", type=int, default=0, metavar="N", help="crops of a video, of a "
        "model for whole videos (as in training)")  # fmt: skip
    add("--batch", type=int, help="videos at a time of an ONNX program (open where the "
        "converter can, else 1)")  # fmt: skip
    add("--force", action="store_true", help="take another CLIP model's text tower")

    # What only a program from pixels to scores needs.
    add("--video", action="store_true", help="put the image tower in: pixels to scores")
    add("--size", metavar="HxW|VIDEO", help="height x width of the frames of --video, as "
        "240x320, or a video that has them")  # fmt: skip
    add("--resize", choices=("stretch", "clip"), help="geometry of frames of --video if "
        "the model doesn't name it (see extract)")  # fmt: skip
    add("--classes", metavar="WORDS", help="what --video finds, in words (see detect)")
    add("--normal", metavar="WORDS", help="what videos show otherwise, of --classes")
    known = parser.parse_args(argv)

    # Flags are checked before the model is read.
    passed = flags.given(parser, argv)
    kind = format_of(pathlib.Path(known.output), known.format)
    if known.video:
        return export_video(known, passed, kind)
    flags.refuse(
        passed,
        ("size", "resize", "classes", "normal"),
        "a program that takes features",
        "pass --video, or leave it out",
    )
    if known.checkpoint is None:
        parser.error("the following arguments are required: --checkpoint")
    return export_features(known, passed, kind)


def export_video(
    known: argparse.Namespace, passed: Mapping[str, str], kind: str
) -> int:
    """Writes a program from pixels to scores; returns the exit code."""
    from wsvad_jax.detection import export_video, run

    flags.refuse(passed, ("length", "crops", "batch"), "--video")
    if known.size is None:
        raise InputError(
            "--video requires --size, the height x width of the frames, such as 240x320, "
            "or a video of that size"
        )
    if kind == "onnx":
        check_onnx()
    options = run.DetectorOptions(
        known.checkpoint,
        clip=known.clip,
        resize=known.resize,
        force=known.force,
        classes=known.classes,
        normal=known.normal,
    )
    run.check_options(options)
    size = export_video.frame_size(known.size)

    detector = run.open_detector(options)
    path = export_video.export_video_model(detector, known.output, size=size, kind=kind)
    _print_size(path, kind)
    return 0


def export_features(
    known: argparse.Namespace, passed: Mapping[str, str], kind: str
) -> int:
    """Writes a program from features to scores; returns the exit code."""
    if known.batch is not None and known.batch < 1:
        raise InputError(f"--batch is {known.batch}; expected 1 or more")
    if kind != "onnx":
        flags.refuse(passed, ("batch",), "StableHLO, which takes any batch")

    from wsvad_jax.clip import training_notes
    from wsvad_jax.detection.detector import Detector

    # Which flags have an effect depends on the model.
    detector = Detector(known.checkpoint, clip=known.clip, force=known.force)
    if detector.weights.text is None:
        flags.refuse(passed, ("clip",), "this model, which has no prompts")
    training_notes.show(detector.clip_note)

    path = export_model(
        detector,
        known.output,
        kind=kind,
        length=known.length,
        crops=known.crops,
        batch=known.batch,
    )
    _print_size(path, kind)
    return 0


def _print_size(path: pathlib.Path, kind: str) -> None:
    size = path.stat().st_size / 2**20
    print(f"{path}: {TITLES[kind]}, {size:.1f} MiB; its sizes: {path}.json")


if __name__ == "__main__":
    program.run(main, resumes=False)
