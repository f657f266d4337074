"""Finds events in videos with a trained model or in words: class, time, score of each.

  python -m wsvad_jax.detect VIDEO FOLDER --checkpoint runs/dsanet-demo-0 --output found
  python -m wsvad_jax.detect features/ --checkpoint DIR --ground_truth test_segments.json \\
      --output found
  python -m wsvad_jax.detect --live rtsp://camera/stream --checkpoint DIR --clip NAME|DIR
  python -m wsvad_jax.detect --live door=rtsp://camera/stream --live /dev/video0 \\
      --checkpoint DIR
  python -m wsvad_jax.detect VIDEO --clip NAME|DIR --classes "people fighting,a fire" \\
      --normal "an ordinary street" --output found

Inputs: a model written by `train` or `convert`, and videos, folders of videos, or features
written by `extract`. The times of features come from VIDEO.json beside VIDEO.npy. If it is
missing, they are computed from --fps and the frames per snippet, which protocol.json or
the model states. Videos are encoded with the image tower of the training features. The
model names it; --clip names it where the model's isn't there. Feature files must have the
settings of the training features.

Without --checkpoint, nothing is trained: the CLIP model of --clip compares each snippet
with the words of --classes and --normal. A comma separates classes, and | the prompts of
a class: "people fighting|a brawl,a fire". NAME=PROMPT|PROMPT names a class. With
--checkpoint, --classes gives a trained VadCLIP or DSANet these words in place of its own;
--normal may then be left out.

Outputs: report.html (open it in a browser), events.json, events.csv, pictures/VIDEO.png.

Positional bias is removed first. Then a peak of the scores is an event if it is at least
--high, or --min_prominence above the video's usual level. The event ends where the score
has fallen by --rel_height of the peak's height above that level. With --low, scores are
used as `evaluate` reports them: an event lasts while the score is at least --low, and its
highest score must reach --high.

With --calibration, an event counts if its score is above the threshold that `calibrate`
found on ordinary recordings. It then has its expected false alarms per day, or per 100
videos. If the alarms are far more or far fewer than ordinary recordings have, it says so.

Each event is also sent as JSON to the programs of --on_event, the servers of --webhook and
the topics of --mqtt. It waits on disk until they have it.

Videos, folders and links that can't be read are reported and left out; the exit code is
then 3. Entries of --ground_truth that have no video are printed.
"""

import argparse
import contextlib
import importlib
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wsvad_jax.alarms import alarm_flags
from wsvad_jax.detection import event_clips, rule_flags, run
from wsvad_jax.detection.event_clips import MARGIN
from wsvad_jax.evaluation.event_rules import EventRules
from wsvad_jax.parallel import precision
from wsvad_jax.utils import files, flags, program
from wsvad_jax.utils.errors import InputError

if TYPE_CHECKING:
    from wsvad_jax.alarms.alarms import Alarms
    from wsvad_jax.detection.detector import Detector, detect_videos

__all__ = ["Detector", "detect_videos"]
# Flags by the words that other detectors use for them.
MEANT = {
    "threshold": "--high",
    "thresh": "--high",
    "conf": "--high",
    "confidence": "--high",
    "model": "--checkpoint",
    "weights": "--checkpoint",
    "workdir": "--checkpoint",
    "out": "--output",
    "source": "--live",
    "stream": "--live",
}


def __getattr__(name: str) -> Any:
    # For Python code; the program itself may only have to print its flags.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("wsvad_jax.detection.detector"), name)


def parser() -> flags.Parser:
    """Returns the program's arguments."""
    made = flags.Parser(
        prog="python -m wsvad_jax.detect",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        meant=MEANT,
    )

    # What is scored, and with which model.
    add = made.add_argument
    add("inputs", nargs="*", metavar="VIDEO|FOLDER|FEATURES")
    add("--checkpoint", metavar="DIR|NAME", help="a model folder, a workdir, or "
        "USER/NAME of the hub")  # fmt: skip
    add("--clip", metavar="NAME|DIR", help="the CLIP model of the model's features")
    add("--classes", metavar="WORDS", help="what to find, in words")
    add("--normal", metavar="WORDS", help="what videos show otherwise, of --classes")
    add("--calibration", metavar="DIR", help="what calibrate wrote for this model: its "
        "threshold and event rules are used")  # fmt: skip
    add(
        "--output", type=flags.output_folder, metavar="DIR", help="where the results go"
    )

    # What is written besides the results.
    add("--clips", metavar="DIR", help="folder for an mp4 file per event, cut from its "
        "video without encoding it again where possible")  # fmt: skip
    add("--clip_margin", type=float, default=MARGIN, metavar="SECONDS", help="seconds "
        "of a clip before and after its event (%(default)g)")  # fmt: skip

    # How inputs are read where they don't say it themselves.
    add("--ground_truth", "--truth", metavar="FILE", help="true events, as test_segments.json: in frames, "
        "or in seconds where it says so; or a CSV file with video,start,end in seconds")  # fmt: skip
    add("--fps", type=float, help="frames per second of features without times (30)")
    add("--resize", choices=("stretch", "clip"), help="geometry of frames if the "
        "model doesn't name it (see extract)")  # fmt: skip
    add("--dtype", choices=precision.DTYPES, help="precision of the image tower; auto: "
        "bfloat16 where it is faster (that of the training's features)")  # fmt: skip
    add("--force", action="store_true", help="take another CLIP model and features made "
        "in another way; the results say so")  # fmt: skip

    # A live source has its own pace and no end.
    add("--live", action="append", metavar="[NAME=]SOURCE", help="a camera, address, file "
        "or -: scored as it comes, events as lines of JSON; may be repeated")  # fmt: skip
    add("--cameras", metavar="FILE", help="YAML or JSON with many --live sources: name, "
        "source, calibration, rules of each")  # fmt: skip
    add("--pace", type=float, default=1.0, help="pace of a --live file: 1 is real time "
        "(%(default)s), 0 as fast as can be, with nothing dropped")  # fmt: skip
    add("--when_behind", choices=("drop", "wait"), help="what a --live source does that is "
        "faster than the machine: drop snippets, or wait (drop; wait with --pace 0)")  # fmt: skip

    rule_flags.add_rule_flags(made)
    alarm_flags.add_alarm_flags(made)
    flags.add_output_flags(made)
    return made


def check_modes(passed: Mapping[str, str], known: argparse.Namespace) -> None:
    """Raises InputError for flags that have no effect on the requested work.

    Args:
      passed: flags that were passed, from `flags.given`.
      known: the parsed arguments.
    """
    # A live source is scored alone, and its scores are lines, not files.
    if known.live is not None:
        if known.inputs:
            live = ["--live", known.live[0]] if known.live else ["--cameras"]
            raise InputError(
                f"{known.inputs[0]}: beside {' '.join(live)}, inputs have no effect; pass "
                f"--live {known.inputs[0]}, or leave one of them out"
            )
        flags.refuse(
            passed,
            ("output", "ground_truth", "fps", "quiet", "json"),
            "--live, which prints lines",
        )

        # The usual level of a video is known at its end only.
        flags.refuse(
            passed,
            rule_flags.RELATIVE,
            "--live, which doesn't know a video's usual level yet",
            "use --high and --low",
        )

    else:
        mode = "files that are scored at once"
        flags.refuse(
            passed,
            ("pace", "when_behind"),
            mode,
            "leave it out, or pass one as --live FILE",
        )

    if known.clips is None:
        mode = "events that have no clips"
        flags.refuse(passed, ("clip_margin",), mode, "pass --clips DIR, too")
    else:
        event_clips.check_folder(known.clips, known.inputs)
    event_clips.check_margin(known.clip_margin)

    if known.calibration is not None:
        flags.refuse(
            passed,
            (*rule_flags.ALL, "force"),
            "--calibration, which holds for its own event rules and features",
        )
    if known.low is not None:
        flags.refuse(passed, rule_flags.RELATIVE, "--low, which fixes where events end")


def watch(
    known: argparse.Namespace,
    passed: Mapping[str, str],
    rules: EventRules,
    options: run.DetectorOptions,
    alarms: "Alarms",
) -> None:
    """Scores live sources until they end.

    Args:
      known: the parsed arguments.
      passed: flags that were passed, from `flags.given`.
      rules: what counts as an event, by the flags.
      options: model, and features that it accepts.
      alarms: alarms, not opened yet.

    Raises:
      InputError: see `live.run`.
    """
    from wsvad_jax.detection import live, live_sources
    from wsvad_jax.extraction import live_stream, live_video

    # Sources are checked before the model is loaded, which takes longer.
    live_stream.chosen_when_behind(known.pace, known.when_behind)
    sources = [live_sources.parse_source(text) for text in known.live]
    if known.cameras is not None:
        from wsvad_jax.detection.cameras_file import read_cameras

        sources += read_cameras(known.cameras)
    live_sources.with_names(sources)
    kinds = {live_video.kind_of(source.source) for source in sources}
    if known.pace and "file" not in kinds:
        flags.refuse(
            passed, ("pace",), "a source that isn't a file", "only 0 changes it"
        )

    # Rules that nobody passed give way to those of a calibration.
    given = any(name in passed for name in rule_flags.ALL)
    # What an earlier run left is sent while the model is loaded.
    with alarms, _live_clips(known) as clips:
        live.run_until_signal(
            run.open_detector(options),
            sources,
            rules if given else None,
            pace=known.pace,
            when_behind=known.when_behind,
            listeners=[alarms] if alarms.sinks else [],
            clips=clips,
        )


@contextlib.contextmanager
def _live_clips(known: argparse.Namespace) -> Iterator[Any]:
    """Yields the writer of clips with its folder locked; None without --clips."""
    if known.clips is None:
        yield None
        return
    from wsvad_jax.detection.live_clips import LiveClips

    path = pathlib.Path(known.clips)
    folder = event_clips.ClipFolder(path, known.clip_margin)
    with files.locked(path), LiveClips(folder) as clips:
        yield clips


def detect_files(
    known: argparse.Namespace,
    options: run.DetectorOptions,
    rules: EventRules,
    alarms: "Alarms",
) -> bool:
    """Detects events in files; returns whether every input could be read.

    Args:
      known: the parsed arguments.
      options: model, and features that it accepts.
      rules: what counts as an event.
      alarms: alarms, not opened yet.
    """
    with program.output(quiet=known.quiet, json_only=known.json) as output:
        complete = run.detect_files(
            known.inputs,
            known.output,
            options,
            rules,
            fps=known.fps,
            ground_truth=known.ground_truth,
            clips=None if known.clips is None else pathlib.Path(known.clips),
            clip_margin=known.clip_margin,
            alarms=alarms,
        )
        if known.json:
            # Without a readable input, no file is written.
            events_file = known.output / "events.json"
            output.value = {"videos": []}
            if events_file.is_file():
                output.value = files.read_json(events_file)
    return complete


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit code."""
    arguments = parser()
    known = arguments.parse_args(argv)
    # Cameras of a file are live sources, too.
    if known.cameras is not None and known.live is None:
        known.live = []
    rules = rule_flags.rules_of(known, arguments.seen)
    passed = flags.given(arguments, argv)
    check_modes(passed, known)
    alarms = alarm_flags.alarms_of(known, known.output)

    # The calibration is read before the model is loaded, which takes longer.
    calibration = None
    if known.calibration is not None:
        from wsvad_jax.detection.calibration import read_calibration

        calibration = read_calibration(known.calibration)
        calibration.check_way("files" if known.live is None else "live")
        rules = calibration.rules
    options = run.DetectorOptions(
        known.checkpoint,
        clip=known.clip,
        resize=known.resize,
        force=known.force,
        classes=known.classes,
        normal=known.normal,
        calibration=calibration,
        dtype=known.dtype,
    )
    run.check_options(options)

    if known.live is not None:
        watch(known, passed, rules, options, alarms)
        return 0

    # A camera among the inputs gets the hint at --live, whatever else is missing.
    if not known.inputs or known.output is None:
        from wsvad_jax.detection import inputs

        inputs.check_files(known.inputs)
        arguments.error("pass videos, folders or features, and --output DIR")
    flags.check_fps(known.fps)

    complete = detect_files(known, options, rules, alarms)
    return 0 if complete else program.EXIT_SKIPPED


if __name__ == "__main__":
    program.run(main, resumes=False)
