"""Calibrates a model on ordinary recordings: the work of `calibrate`."""

import dataclasses
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from wsvad_jax.data import feature_protocols
from wsvad_jax.data.feature_protocols import UNKNOWN
from wsvad_jax.data.records import FeatureProtocol
from wsvad_jax.detection.alarm_wish import AlarmWish
from wsvad_jax.detection.calibration import (
    FILE,
    Calibration,
    live_rules,
    model_identity,
    write_calibration,
)
from wsvad_jax.evaluation.events import EventRules
from wsvad_jax.metrics.alarm_rates import PERCENT, BlockScores, Recording
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
      wish: most false alarms per day.
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
    videos = inputs.find_inputs(paths, skipped)
    if str(skipped):
        print(skipped, file=sys.stderr)

    detector = run.open_detector(options)
    run.check_tower_options(options, videos, detector)
    run.input_assumptions(videos, None, detector)
    run.time_assumptions(videos, fps, detector)

    make_folder(output)
    errors = skipped.errors
    with files.locked(output):  # removes the folder again if nothing is written into it
        rules = live_rules(rules) if wish.live else rules
        recordings, protocol = score_recordings(
            detector, videos, rules, wish, fps=fps, errors=errors
        )
        for error in errors:
            print(f"skipped: {error}", file=sys.stderr)

        calibration = Calibration(
            made_for="live" if wish.live else "files",
            model=model_identity(detector),
            features=protocol,
            rules=rules,
            recordings=len(recordings),
            blocks=BlockScores.of_recordings(recordings, wish.block),
            wish=wish.per_day,
            path=output / FILE,
        )
        rows = [] if splits is None else split_rows(recordings, wish, splits)
        write_calibration(output / FILE, calibration)

    for line in [*summary(calibration), *split_table(rows)]:
        print(line)
    value = files.read_json(output / FILE)
    if splits is not None:
        value["splits"] = [dataclasses.asdict(row) for row in rows]
    return value, not errors


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
    from wsvad_jax.utils.progress import Progress

    recordings: dict[str, Recording] = {}
    protocol, long = None, 0
    with Progress("calibrate", len(videos), unit="video") as progress:
        for source in read_each(detector, videos, fps, errors):
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
            long += sum(e.end - e.start > wish.block for e in result.events)
            seconds = float(source.edges[-1])
            recordings[source.name] = Recording(source.name, seconds, peaks)
            progress.update()

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
    return known


def summary(calibration: Calibration) -> list[str]:
    """Words a calibration: what it rests on, and what it promises."""
    blocks, threshold = calibration.blocks, calibration.threshold
    silent = sum(score == 0 for score in blocks.maxima)
    low, high = blocks.alarms_within(threshold, round(blocks.per_day))
    lines = [
        (
            f"{blocks.hours:.2f} h of ordinary recordings (files: "
            f"{calibration.recordings}), {len(blocks.maxima)} blocks of "
            f"{blocks.seconds:g} s, {silent} of them without an event"
        ),
        f"threshold: {threshold:.4f}, for {calibration.wish:g} false alarms per day",
        f"expected false alarms per day above it: {calibration.rate}",
        f"alarms in one ordinary day: {low} to {high} ({PERCENT} of days)",
    ]
    if threshold == 0:
        lines.insert(
            2,
            "all events count: the event rules alone give no more alarms than wished; "
            "a lower --high or --min_prominence would find weaker events",
        )
    return [*lines, f"{calibration.path}"]


@dataclasses.dataclass(frozen=True)
class SplitRow:
    """Promised and observed alarms of one random split of the recordings."""

    split: int
    threshold: float
    expected_per_hour: float
    low_per_hour: float  # limits of the alarms in the hours held out
    high_per_hour: float
    rate_low_per_hour: float  # limits of the rate over a long time
    rate_high_per_hour: float
    hours: float  # held out
    alarms: int  # observed in them

    @property
    def observed_per_hour(self) -> float:
        return self.alarms / self.hours

    @property
    def is_within(self) -> bool:
        """Whether the observed alarms are within the interval for their hours."""
        return self.low_per_hour <= self.observed_per_hour <= self.high_per_hour

    @property
    def is_within_rate(self) -> bool:
        """Whether they are within the interval of the rate, without their own chance."""
        rate_low, rate_high = self.rate_low_per_hour, self.rate_high_per_hour
        return rate_low <= self.observed_per_hour <= rate_high


def split_rows(
    recordings: Sequence[Recording], wish: AlarmWish, splits: int
) -> list[SplitRow]:
    """Calibrates on one random half of the recordings, and observes the other.

    Args:
      recordings: ordinary recordings.
      wish: most false alarms per day, and length of a block.
      splits: number of splits; split i has the random seed i.

    Raises:
      InputError: half of the recordings is too short for the wish.
    """
    rows = []
    for split in range(splits):
        order = np.random.default_rng(split).permutation(len(recordings)).tolist()
        half = len(order) // 2
        one, other = (
            BlockScores.of_recordings([recordings[i] for i in sorted(part)], wish.block)
            for part in (order[:half], order[half:])
        )
        try:
            threshold = one.threshold(wish.per_day)
        except InputError as e:
            raise InputError(f"--check_splits, of half the recordings: {e}") from None

        # The promise for the hours held out is one of a number of alarms.
        num_blocks, rate = len(other.maxima), one.rate_above(threshold)
        low, high = one.alarms_within(threshold, num_blocks)
        rows.append(
            SplitRow(
                split,
                threshold,
                rate.expected / 24,
                low / other.hours,
                high / other.hours,
                rate.low / 24,
                rate.high / 24,
                other.hours,
                sum(score > threshold for score in other.maxima),
            )
        )
    return rows


def split_table(rows: Sequence[SplitRow]) -> list[str]:
    """Formats the splits as lines, with how many observations the promise held for."""
    if not rows:
        return []

    # Rates are per hour, since the observed hours are few.
    head = ["split", "threshold", "expected/h", "promised/h", "observed/h", "alarms"]
    cells = [
        [
            str(row.split),
            f"{row.threshold:.3f}",
            f"{row.expected_per_hour:.2f}",
            f"{row.low_per_hour:.2f} to {row.high_per_hour:.2f}",
            f"{row.observed_per_hour:.2f}",
            f"{row.alarms} in {row.hours:.2f} h",
            "" if row.is_within else "outside",
        ]
        for row in rows
    ]

    # The promise for these hours, and the interval that leaves out their chance.
    held = sum(row.is_within for row in rows)
    of_rate = sum(row.is_within_rate for row in rows)
    return [
        "",
        *text.aligned([[*head, ""], *cells]),
        "",
        (
            f"observed within the promised {PERCENT} interval for these hours: {held} "
            f"of {len(rows)} splits; within the interval of the rate alone: {of_rate}"
        ),
    ]
