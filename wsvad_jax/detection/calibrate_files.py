"""Calibrates a model on ordinary recordings: the work of `calibrate`."""

import dataclasses
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wsvad_jax.alarms import event_ids
from wsvad_jax.data import feature_protocols
from wsvad_jax.data.feature_protocols import UNKNOWN
from wsvad_jax.data.records import FeatureProtocol
from wsvad_jax.detection import calibration_splits
from wsvad_jax.detection.alarm_wish import AlarmWish
from wsvad_jax.detection.calibration import (
    FILE,
    Calibration,
    live_rules,
    model_identity,
    write_calibration,
)
from wsvad_jax.evaluation.event_rules import DEFAULT_FPS, EventRules
from wsvad_jax.metrics.alarm_rates import PERCENT, VIDEOS, BlockScores, Recording
from wsvad_jax.utils import files, text
from wsvad_jax.utils.errors import InputError

if TYPE_CHECKING:
    from wsvad_jax.detection.detector import Detector
    from wsvad_jax.detection.inputs import VideoInput
    from wsvad_jax.detection.run import DetectorOptions


def calibrate_files(
    paths: Sequence[str],
    output: pathlib.Path,
    options: "DetectorOptions",
    rules: EventRules,
    wish: AlarmWish,
    *,
    fps: float | None = None,
    splits: int | None = None,
) -> tuple[dict[str, object], bool]:
    """Scores ordinary recordings, and writes calibration.json.

    Args:
      paths: videos, folders and feature files, in which nothing unusual happens.
      output: folder of the calibration.
      options: model, and features that it accepts.
      rules: what counts as an event.
      wish: most false alarms per day, or per 100 videos.
      fps: frames per second of features without times; None is 30, assumed.
      splits: number of random splits that compare promised with observed alarms.

    Returns:
      what was written, for JSON, and whether every recording could be read.

    Raises:
      InputError: no recording can be read, or they are too short for the wish.
    """
    from wsvad_jax.detection import inputs, run
    from wsvad_jax.extraction.feature_folder import make_folder
    from wsvad_jax.utils.file_search import SkippedFiles

    # Inputs are checked before the model is loaded, which takes longer.
    skipped = SkippedFiles()
    inputs.check_files(paths, "record it, and pass the recordings")
    videos = inputs.find_inputs(paths, skipped)
    for said in filter(None, (str(skipped), copies_among(videos))):
        print(said, file=sys.stderr)

    detector = run.open_detector(options)
    run.check_tower_options(options, videos, detector)
    run.input_assumptions(videos, None, detector)
    run.time_assumptions(videos, fps, detector)

    make_folder(output)
    errors = skipped.errors
    with files.locked(output):  # removes the folder again if nothing is written into it
        check_amount(videos, wish, fps, detector.card.stride)
        rules = live_rules(rules) if wish.live else rules
        recordings, protocol = score_recordings(
            detector, videos, rules, wish, fps=fps, errors=errors
        )
        _check_recordings(recordings, errors, wish)

        calibration = Calibration(
            made_for="live" if wish.live else "files",
            model=model_identity(detector),
            features=protocol,
            rules=rules,
            recordings=len(recordings),
            blocks=BlockScores.of_recordings(recordings, wish.block),
            wish=wish.rate,
            path=output / FILE,
            longest=None if wish.block else max(r.seconds for r in recordings),
        )
        rows = calibration_splits.split_rows(recordings, wish, splits or 0)
        write_calibration(output / FILE, calibration)

    for line in [*summary(calibration), *calibration_splits.split_table(rows)]:
        print(line)
    value = files.read_json(output / FILE)
    if splits is not None:
        value["splits"] = [row.as_dict() for row in rows]
    return value, not errors


def check_amount(
    videos: Sequence["VideoInput"], wish: AlarmWish, fps: float | None, stride: int
) -> None:
    """Raises InputError where recordings can't support a wish, before they are scored.

    The number of recordings, or their stated length, decides. Where a length is only an
    estimate, or unknown, scoring decides.

    Args:
      videos: ordinary recordings.
      wish: most false alarms, and length of a block.
      fps: frames per second of features without times; None is the default.
      stride: frames per snippet, where features don't say it.
    """
    from wsvad_jax.detection.input_ground_truth import stated_length_of

    # Recordings that turn out to be damaged make the number smaller.
    if wish.block is None:
        BlockScores(None, (0.0,) * len(videos)).threshold(wish.rate)
        return

    total = 0.0
    for video in videos:
        try:
            frames, length = stated_length_of(video, stride, fps or DEFAULT_FPS)
        except InputError:  # reported when it is read
            return
        if not frames or not length:
            return
        total += length

    # Lengths differ a little once frames are decoded: only a clear case is refused here.
    if (longest := 1.01 * total + len(videos)) < wish.block and not wish.live:
        raise InputError(_no_block(total, wish.block))
    try:
        BlockScores(wish.block, (0.0,) * int(longest / wish.block)).threshold(wish.rate)
    except InputError:
        BlockScores(wish.block, (0.0,) * int(total / wish.block)).threshold(wish.rate)
        raise


def _check_recordings(
    recordings: Sequence[Recording], errors: Sequence[InputError], wish: AlarmWish
) -> None:
    """Prints what was skipped; raises InputError for clips too short for a rate per day."""
    for error in errors:
        print(f"skipped: {error}", file=sys.stderr)
    seconds = sum(recording.seconds for recording in recordings)
    if wish.block is None or wish.live or seconds >= wish.block:
        return
    raise InputError(_no_block(seconds, wish.block))


def _no_block(seconds: float, block: float) -> str:
    return (
        f"{seconds:.0f} s of ordinary recordings are no block of {block:g} s; record "
        "more, or, for separate clips, pass --false_alarms_per_100_videos"
    )


def copies_among(videos: Sequence["VideoInput"]) -> str:
    """Returns a note about recordings that are there twice, "" without any."""
    names: dict[str, list[str]] = {}
    for video in videos:
        names.setdefault(event_ids.file_mark(video.files[0]), []).append(video.name)
    names.pop("", None)  # can't be read, which is said later
    copies = [same for same in names.values() if len(same) > 1]
    if not copies:
        return ""
    number = sum(len(same) - 1 for same in copies)
    return (
        f"note: {text.count(number, 'recording')} counted more than once, such as "
        f"{copies[0][1]}, a copy of {copies[0][0]}: the calibration seems surer than it "
        "is; leave copies out"
    )


def score_recordings(
    detector: "Detector",
    videos: Sequence["VideoInput"],
    rules: EventRules,
    wish: AlarmWish,
    *,
    fps: float | None = None,
    errors: list[InputError] | None = None,
) -> tuple[list[Recording], FeatureProtocol]:
    """Finds the events of ordinary recordings; returns them, and their protocol.

    Args:
      detector: model, without a calibration.
      videos: result of `inputs.find_inputs`.
      rules: what counts as an event.
      wish: way of scoring, and length of a block.
      fps, errors: as `detect_videos` takes them.

    Raises:
      InputError: nothing can be read, or recordings with features of two protocols.
    """
    from wsvad_jax.detection.causal import causal_scores
    from wsvad_jax.detection.result import find_result
    from wsvad_jax.detection.timed_videos import read_each
    from wsvad_jax.extraction.frame_progress import FrameProgress

    recordings: dict[str, Recording] = {}
    protocol, long = None, 0
    paths = [video.files[0] for video in videos if video.is_video]
    with FrameProgress("calibrate", paths, len(videos) - len(paths)) as progress:
        for source in read_each(detector, videos, fps, errors, tick=progress.frames):
            protocol = _one_protocol(detector, protocol, source.protocol, source.name)

            # The scores are those of the program that will use the calibration.
            if wish.live:
                scores = causal_scores(detector, source.features)
                names = detector.class_names
                result = find_result(
                    source.name, scores, None, source.edges, names, rules
                )
            else:
                result = detector.detect(
                    source.features, source.edges, source.name, rules
                )

            peaks = tuple((e.peak, e.score) for e in result.events)
            block = float("inf") if wish.block is None else wish.block
            long += sum(e.end - e.start > block for e in result.events)
            seconds = float(source.edges[-1])
            recordings[source.name] = Recording(source.name, seconds, peaks)
            progress.done()

    if protocol is None:
        raise InputError("no recording could be read; see the messages above")
    if long:
        print(
            f"note: {text.count(long, 'event')} longer than a block of {wish.block:g} s: "
            "neighbouring blocks are alike, so pass a longer --block",
            file=sys.stderr,
        )
    order = [video.name for video in videos if video.name in recordings]
    return [recordings[name] for name in order], protocol


def _one_protocol(
    detector: "Detector",
    known: FeatureProtocol | None,
    protocol: FeatureProtocol,
    name: str,
) -> FeatureProtocol:
    """Returns the protocol of all recordings so far; refuses a second one."""
    if known is None or known.encoder in UNKNOWN:
        return protocol
    crop = detector.card.test_crop if detector.mode == "windows" else None
    if differs := feature_protocols.difference(protocol, known, crop=crop):
        raise InputError(
            f"{name}: features unlike those of the recordings before it: {differs}; "
            "calibrate on recordings of one kind"
        )
    # Recordings of several precisions have none in common.
    if protocol.dtype != known.dtype:
        return dataclasses.replace(known, dtype="unknown")
    return known


def summary(calibration: Calibration) -> list[str]:
    """Words a calibration: what it rests on, and what it promises."""
    blocks, threshold = calibration.blocks, calibration.threshold
    silent = sum(score == 0 for score in blocks.maxima)
    low, high = blocks.alarms_within(threshold, round(blocks.per_unit))

    # Separate clips are counted one by one, other recordings in blocks of time.
    if blocks.seconds is None:
        basis = text.count(len(blocks.maxima), "ordinary video")
        further = (
            f"alarms in {VIDEOS} other ordinary videos: {low} to {high} ({PERCENT})"
        )
    else:
        basis = (
            f"{blocks.amount} of ordinary recordings (files: {calibration.recordings}), "
            f"{len(blocks.maxima)} blocks of {blocks.seconds:g} s"
        )
        further = f"alarms in one ordinary day: {low} to {high} ({PERCENT} of days)"

    lines = [
        f"{basis}, {silent} of them without an event",
        f"threshold: {threshold:.4f}, for {calibration.wish:g} false alarms {blocks.unit}",
        f"expected false alarms {blocks.unit} above it: {calibration.rate}",
        further,
    ]

    # The wish leaves room for more alarms than the rules find.
    if threshold == 0:
        lines.insert(
            2,
            "all events count: the event rules alone give no more alarms than wished; "
            "a lower --high or --min_prominence would find weaker events",
        )
    return [*lines, f"{calibration.path}"]
