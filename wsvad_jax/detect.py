"""Finds events in videos with a trained model: what happened, when, how sure.

  python -m wsvad_jax.detect VIDEO FOLDER --checkpoint runs/dsanet-demo-0 --output found
  python -m wsvad_jax.detect features/ --checkpoint DIR --truth test_segments.json \\
      --output found
  python -m wsvad_jax.detect --live rtsp://camera/stream --checkpoint DIR --clip NAME|DIR

Inputs: videos, folders of videos, or features that `python -m wsvad_jax.extract` wrote
(.npy, with their times in the .json beside them; without one, 16 frames a snippet and
--fps); a model that training or `convert` left. Videos go through the image tower that
made the model's features: the one that the model names, or --clip. Outputs: report.html
(open it in a browser), events.json, events.csv, pictures/VIDEO.png.

A video's peaks are events if their score is at least --high, or --rise above the
video's usual level; what the model adds at a place in its window whatever is seen is
taken out before. With --low, an event lasts while the plain score is at least that, and
one score of it is at least --high.
Videos, folders and links that can't be read are reported and left out; the exit code is
then 3. Entries of --truth without a video are named.
"""

import argparse
import functools
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from wsvad_jax import cli, events, files
from wsvad_jax.answer import Answer
from wsvad_jax.detector import Detector, answers
from wsvad_jax.errors import InputError

__all__ = ["Detector", "answers"]


def write(
    output: pathlib.Path,
    made: Sequence[Answer],
    title: str,
    settings: Mapping,
    errors: list[InputError],
) -> list[pathlib.Path]:
    """Writes the page, events.json, events.csv and pictures; returns the page first.

    Names that files can't have are `errors`: their videos have no picture.
    """
    from wsvad_jax import answer, page

    answer.write_events_json(output / "events.json", made, settings)
    answer.write_events_csv(output / "events.csv", made)
    for one in made:
        try:
            answer.picture(output / "pictures" / f"{one.name}.png", one)
        except OSError as e:
            if e.errno not in files.ABOUT_ONE_NAME:
                raise
            errors.append(InputError(f"no picture of {one.name}: {e.strerror}"))
    return page.write_report(
        output / "report.html", made, title=title, settings=settings
    )


def parser() -> argparse.ArgumentParser:
    """Returns the program's arguments."""
    made = argparse.ArgumentParser(
        prog="python -m wsvad_jax.detect",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = made.add_argument
    add("inputs", nargs="*", metavar="VIDEO|FOLDER|FEATURES")
    add("--checkpoint", required=True, metavar="DIR", help="a model folder or workdir")
    add("--clip", metavar="NAME|DIR", help="the CLIP model of the model's features")
    add("--output", type=pathlib.Path, metavar="DIR", help="where the results go")
    add("--truth", metavar="FILE", help="true events in frames, as test_segments.json")
    add("--fps", type=float, help="of features without times (30)")
    add("--resize", choices=("stretch", "clip"), help="how frames are cut, where the "
        "model doesn't say (see extract)")  # fmt: skip
    add("--force", action="store_true", help="go on with another CLIP model's features")
    add("--live", metavar="SOURCE", help="a camera, address, file or -: scored as it "
        "comes, events as lines of JSON")  # fmt: skip
    add("--pace", type=float, default=1.0, help="of a --live file: 1 is real time "
        "(%(default)s), 0 as fast as can be, with nothing dropped")  # fmt: skip
    rules = made.add_argument_group("what is an event")
    rule = functools.partial(rules.add_argument, type=float)
    rule("--high", default=events.HIGH, help="a peak's score (%(default)s)")
    rule("--low", help="the score at which every event ends; default: by its peak")
    rule("--rise", default=events.RISE, help="or so far above the video's usual level "
         "(%(default)s; 1 never)")  # fmt: skip
    rule("--share", default=events.SHARE, help="of a peak's height, at which its event "
         "ends (%(default)s)")  # fmt: skip
    rule("--min_length", default=events.MIN_LENGTH, help="seconds (%(default)s)")
    rule("--max_gap", default=events.MAX_GAP, help="seconds between events that become "
         "one (%(default)s)")  # fmt: skip
    return made


def rules_of(known: argparse.Namespace) -> dict[str, Any]:
    """Returns the arguments of `events.find_events`.

    Raises:
      InputError: a level outside of (0, 1], or a negative time.
    """
    names = ("high", "low", "rise", "share", "min_length", "max_gap")
    rules = {name: getattr(known, name) for name in names}
    for name in ("high", "low", "rise", "share"):
        if rules[name] is not None and not 0 < rules[name] <= 1:
            raise InputError(
                f"--{name} is {rules[name]}; expected more than 0, up to 1"
            )
    for name in ("min_length", "max_gap"):
        if not 0 <= rules[name] < float("inf"):
            raise InputError(f"--{name} is {rules[name]}; expected seconds, 0 or more")
    if rules["low"] is not None and rules["low"] > rules["high"]:
        raise InputError(f"--low {rules['low']} is above --high {rules['high']}")
    return rules


def open_detector(known: argparse.Namespace) -> Detector:
    """Returns the model that the arguments name."""
    return Detector(
        known.checkpoint, clip=known.clip, resize=known.resize, force=known.force
    )


def settings_of(
    detector: Detector, rules: Mapping[str, Any], known: argparse.Namespace
) -> dict[str, object]:
    """Returns what the results depend on, to be shown beside them."""
    unused = ("rise", "share") if rules["low"] is not None else ("low",)
    shown = {
        "checkpoint": str(detector.folder),
        "model": detector.meta["model"],
        "trained on": detector.card.name,
        "features": detector.protocol.get("encoder", "unknown"),
    }
    if known.force:
        shown["force"] = "another CLIP model's features are let through"
    return shown | {k: v for k, v in rules.items() if k not in unused}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit code."""
    arguments = parser()
    known = arguments.parse_args(argv)
    rules = rules_of(known)
    if known.live is not None:
        from wsvad_jax import live

        return live.main(open_detector(known), known, rules)
    if not known.inputs or known.output is None:
        arguments.error("pass videos, folders or features, and --output DIR")
    if known.fps is not None and not 0 < known.fps < float("inf"):
        raise InputError(f"--fps is {known.fps}; expected frames a second")
    return _detect(known, rules)


def _detect(known: argparse.Namespace, rules: dict[str, Any]) -> int:
    from wsvad_jax import sources
    from wsvad_jax.data import annotations
    from wsvad_jax.data.extract_files import make_folder
    from wsvad_jax.data.walk import Passed

    passed = Passed()
    found = sources.find(known.inputs, passed)
    if str(passed):
        print(passed, file=sys.stderr)
    truth = None
    if known.truth:
        truth, said = sources.match(found, annotations.read_json(known.truth))
        print(*said, sep="\n", end="\n" * bool(said), file=sys.stderr)
    detector = open_detector(known)
    settings, fps = settings_of(detector, rules, known), known.fps or 30.0
    if timeless := [s.name for s in found if not s.is_video and not sources.timed(s)]:
        settings["frames a second"] = fps if known.fps else f"{fps:g} (assumed)"
        print(
            f"{len(timeless)} feature files say nothing of time: "
            f"{detector.card.stride} frames a snippet, {fps:g} frames a second"
            f"{'' if known.fps else ' are assumed (--fps)'}",
            file=sys.stderr,
        )
    errors = passed.errors
    make_folder(known.output)  # so that hours of work don't end at a closed door
    with files.locked(known.output):  # which goes again if nothing comes into it
        made = answers(detector, found, fps=fps, truth=truth, errors=errors, **rules)
        for error in errors:
            print(f"skipped: {error}", file=sys.stderr)
        left_out = len(errors)
        if made:
            title = f"Found by {settings['model']}, trained on {settings['trained on']}"
            first = write(known.output, made, title, settings, errors)[0]
            for error in errors[left_out:]:
                print(f"skipped: {error}", file=sys.stderr)
            count = sum(len(answer.events) for answer in made)
            videos = f"{len(made)} video{'' if len(made) == 1 else 's'}"
            print(f"{count} event{'' if count == 1 else 's'} in {videos}: {first}")
            print(f"events.json, events.csv and pictures are in {known.output}")
    return cli.EXIT_SKIPPED if errors else 0


if __name__ == "__main__":
    cli.run(main)
