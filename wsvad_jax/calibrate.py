"""Finds a threshold for a wished number of false alarms, on ordinary recordings.

  python -m wsvad_jax.calibrate --checkpoint runs/dsanet-demo-0 --normal recordings/ \\
      --false_alarms_per_day 1 --output calibration
  python -m wsvad_jax.calibrate --checkpoint DIR --normal clips/ \\
      --false_alarms_per_100_videos 5 --output calibration
  python -m wsvad_jax.detect VIDEO --checkpoint runs/dsanet-demo-0 \\
      --calibration calibration --output found

Inputs: a model, and recordings of the camera in which nothing unusual happens: videos,
folders of videos, or features, as `detect` reads them. Every event in them is a false
alarm. Recordings are put end to end in the order of their names, and cut into blocks of
--block seconds. Several events of one block are one alarm.

The output is calibration.json: the threshold above which an event counts, the rate that
the recordings support with its 95 % interval, the hours they rest on, and the scores of
all blocks. One false alarm per day needs 24 hours of recordings. Fewer hours support a
higher rate, and a wish below it is refused.

Separate clips of many cameras have no common time. With --false_alarms_per_100_videos,
each video is a block: it raises an alarm if at least one of its events counts. 5 per 100
videos need 19 videos.

The calibration holds for this model, these event rules and features made in the same way.
`detect` refuses it for others. It is made for files, or with --live for live sources,
whose scores differ. It also assumes that later days are like the recorded ones: calibrate
on all hours of the day, and again if the camera or the scene changes.

--classes and --normal_words give a model other words, or replace it by zero-shot CLIP, as
--classes and --normal do in `detect`. --normal names the recordings here.

--check_splits 20 shows whether the promise holds: random halves of the recordings are
calibrated, and the alarms in the other halves are counted.
"""

import argparse
from collections.abc import Sequence

from wsvad_jax.detection import alarm_wish, rule_flags
from wsvad_jax.detection.run import DetectorOptions, check_options
from wsvad_jax.parallel import precision
from wsvad_jax.utils import flags, program
from wsvad_jax.utils.errors import InputError

# Flags by the words that other programs use for them.
MEANT = {
    "model": "--checkpoint",
    "weights": "--checkpoint",
    "videos": "--normal",
    "recordings": "--normal",
    "alarms": "--false_alarms_per_day",
    "out": "--output",
    "calibration": "--output",
}


def parser() -> flags.Parser:
    """Returns the program's arguments."""
    made = flags.Parser(
        prog="python -m wsvad_jax.calibrate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        meant=MEANT,
    )
    add = made.add_argument

    # Which model is calibrated, and on what.
    add("--checkpoint", metavar="DIR|NAME", help="a model folder, a "
        "workdir, or USER/NAME of the hub")  # fmt: skip
    add("--normal", required=True, nargs="+", metavar="FOLDER|VIDEO|FEATURES",
        help="ordinary recordings of the camera")  # fmt: skip
    add("--clip", metavar="NAME|DIR", help="the CLIP model of the model's features")
    add(
        "--classes",
        metavar="WORDS",
        help="what is to be found, in words, as for detect",
    )
    add("--normal_words", metavar="WORDS", help="detect's --normal: words for what videos "
        "show otherwise, of --classes")  # fmt: skip
    add("--output", required=True, type=flags.output_folder, metavar="DIR", help="where "
        "calibration.json goes")  # fmt: skip

    # What is promised, and how time is counted.
    add("--false_alarms_per_day", type=float, metavar="N", help="most false alarms per "
        f"day, in expectation ({alarm_wish.PER_DAY:g})")  # fmt: skip
    add("--false_alarms_per_100_videos", type=float, metavar="N", help="for separate "
        "clips: most ordinary videos of 100 that raise an alarm, in expectation")  # fmt: skip
    add("--block", type=float, metavar="SECONDS", help="time in which several events are "
        f"one alarm ({alarm_wish.BLOCK:g})")  # fmt: skip
    add("--live", action="store_true", help="for detect --live: score without later "
        "snippets")  # fmt: skip
    add("--check_splits", type=int, metavar="N", help="compare promised with observed "
        "alarms on N random splits")  # fmt: skip

    # How recordings are read where they don't say it themselves.
    add("--fps", type=float, help="frames per second of features without times (30)")
    add("--resize", choices=("stretch", "clip"), help="geometry of frames if the "
        "model doesn't name it (see extract)")  # fmt: skip
    add("--dtype", choices=precision.DTYPES, help="precision of the image tower; auto: "
        "bfloat16 where it is faster (that of the training's features)")  # fmt: skip
    rule_flags.add_rule_flags(made)
    flags.add_output_flags(made)
    return made


def check(known: argparse.Namespace, passed: dict[str, str]) -> None:
    """Raises InputError for values out of range, and flags without effect.

    Args:
      known: parsed arguments.
      passed: flags that were passed, from `flags.given`.
    """
    # An empty word would name the current folder.
    for flag, words in (
        ("--normal", known.normal),
        ("--checkpoint", [known.checkpoint]),
        ("--clip", [known.clip]),
    ):
        if any(word is not None and not word.strip() for word in words):
            raise InputError(f"{flag} is empty; pass a name, or leave it out")
    flags.check_fps(known.fps)
    if known.check_splits is not None and not 1 <= known.check_splits <= 1000:
        raise InputError(f"--check_splits is {known.check_splits}; expected 1 to 1000")

    # The same flags have no effect in `detect`.
    if known.live:
        mode = "--live, which doesn't know a video's usual level yet"
        flags.refuse(passed, rule_flags.RELATIVE, mode, "use --high and --low")
    if known.low is not None:
        mode = "--low, which fixes where events end"
        flags.refuse(passed, rule_flags.RELATIVE, mode)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit code."""
    arguments = parser()
    known = arguments.parse_args(argv)

    # All flags are checked before JAX is imported, which takes seconds.
    rules = rule_flags.rules_of(known, arguments.seen)
    check(known, flags.given(arguments, argv))
    wish = alarm_wish.wish_of(
        known.false_alarms_per_day,
        known.false_alarms_per_100_videos,
        known.block,
        known.live,
    )

    options = DetectorOptions(
        known.checkpoint,
        clip=known.clip,
        resize=known.resize,
        classes=known.classes,
        normal=known.normal_words,
        dtype=known.dtype,
    )
    check_options(options, "--normal_words")

    from wsvad_jax.detection import calibrate_files

    with program.output(quiet=known.quiet, json_only=known.json) as output:
        output.value, complete = calibrate_files.calibrate_files(
            known.normal,
            known.output,
            options,
            rules,
            wish,
            fps=known.fps,
            splits=known.check_splits,
        )
    return 0 if complete else program.EXIT_SKIPPED


if __name__ == "__main__":
    program.run(main, resumes=False)
