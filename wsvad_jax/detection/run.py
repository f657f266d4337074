"""Detects events in files and folders, and writes the results: the work of `detect`."""

import contextlib
import dataclasses
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wsvad_jax.detection import event_clips
from wsvad_jax.evaluation.event_rules import DEFAULT_FPS, EventRules
from wsvad_jax.utils import files, flags
from wsvad_jax.utils.errors import InputError

if TYPE_CHECKING:
    from wsvad_jax.alarms.alarms import Alarms
    from wsvad_jax.datasets.ground_truth import GroundTruth
    from wsvad_jax.detection.calibration import Calibration
    from wsvad_jax.detection.detector import Detector
    from wsvad_jax.detection.inputs import VideoInput
    from wsvad_jax.detection.result import DetectionResult


@dataclasses.dataclass(frozen=True)
class DetectorOptions:
    """Which model scores, and which features it accepts.

    Without a checkpoint, CLIP scores by the words of the classes alone.
    """

    checkpoint: str | None  # model folder, or workdir of training
    clip: str | None = None  # hub name or folder of a CLIP model; None: the model's
    resize: str | None = None  # stretch or clip; None: as the model says
    force: bool = False  # accepts features made in another way
    classes: str | None = None  # in words, see `experiment.class_words`
    normal: str | None = None  # words of what isn't to be found
    calibration: "Calibration | None" = None  # made with this model
    dtype: str | None = None  # of the image tower; None: as the training's features


def check_options(options: DetectorOptions, normal: str = "--normal") -> None:
    """Raises InputError for options that don't name one model, or have no effect.

    Args:
      options: options of the user, as flags of `detect`.
      normal: flag of the words of the normal class.
    """
    if options.checkpoint is not None:
        if options.normal is not None and options.classes is None:
            raise InputError(
                f"{normal} requires --classes: words for the normal class alone would "
                "leave open which classes the model is to find"
            )
        return

    # Without a model, words and a CLIP model that reads them take its place.
    if options.classes is None:
        raise InputError(
            "pass --checkpoint DIR, a trained model; or, without one, --classes "
            f'"people fighting,a fire" {normal} "an ordinary street" --clip NAME|DIR'
        )
    if options.normal is None:
        raise InputError(
            f"--classes requires {normal}, the words for what the videos show otherwise, "
            f'such as {normal} "an ordinary street"; scores depend on it'
        )
    if options.clip is None:
        raise InputError(
            "--classes requires --clip NAME|DIR, the CLIP model that reads them, such as "
            "--clip openai/clip-vit-base-patch16"
        )
    if options.force:
        raise InputError(
            "--force accepts features unlike those of a training; without --checkpoint "
            "there is none, so leave it out"
        )


def open_detector(options: DetectorOptions) -> "Detector":
    """Loads a model, and prints what its CLIP models were trained on."""
    from wsvad_jax.clip import training_notes
    from wsvad_jax.detection.detector import Detector
    from wsvad_jax.experiment.other_words import WARNING

    if options.checkpoint is not None:
        detector = Detector(
            options.checkpoint,
            clip=options.clip,
            resize=options.resize,
            force=options.force,
            classes=options.classes,
            normal=options.normal,
            dtype=options.dtype,
        )
    else:
        check_options(options)
        detector = Detector.zero_shot(
            options.clip or "",
            classes=options.classes or "",
            normal=options.normal or "",
            resize=options.resize,
            dtype=options.dtype,
        )

    # All that limits the results is said before the videos are scored.
    detector.calibrate(options.calibration)
    training_notes.show(detector.clip_note)
    if detector.has_other_words:
        print(f"note: {WARNING}", file=sys.stderr)
    return detector


def detect_files(
    paths: Sequence[str],
    output: pathlib.Path,
    options: DetectorOptions,
    rules: EventRules,
    *,
    fps: float | None = None,
    ground_truth: str | None = None,
    clips: pathlib.Path | None = None,
    clip_margin: float = event_clips.MARGIN,
    alarms: "Alarms | None" = None,
) -> bool:
    """Detects events in videos and features, and writes report, lists and pictures.

    Args:
      paths: videos, folders and feature files.
      output: folder of the results.
      options: model, and features that it accepts.
      rules: what counts as an event.
      fps: frames per second of features without times; None is 30, assumed.
      ground_truth: file of true events, as test_segments.json.
      clips: folder for a clip per event; None writes none.
      clip_margin: seconds of a clip before and after its event.
      alarms: alarms, not opened yet, that send each event; None sends none.

    Returns:
      Whether every input could be read.

    Raises:
      InputError: no input can be read, an option has no effect, or as `detect_videos`.
    """
    from wsvad_jax.alarms.alarms import Alarms
    from wsvad_jax.detection import drift, inputs
    from wsvad_jax.extraction.feature_folder import make_folder
    from wsvad_jax.utils.file_search import SkippedFiles

    # Inputs are checked before the model is loaded, which takes longer.
    skipped = SkippedFiles()
    videos = inputs.find_inputs(paths, skipped)
    if str(skipped):
        print(skipped, file=sys.stderr)
    truth = _matched_ground_truth(videos, ground_truth)
    if clips is not None and not any(video.is_video for video in videos):
        raise InputError(
            "--clips cuts videos, and all inputs are features; leave it out"
        )

    detector = open_detector(options)
    check_tower_options(options, videos, detector)
    assumptions = input_assumptions(videos, truth, detector)
    assumptions |= time_assumptions(videos, fps, detector)

    # The folder is made first: hours of work must not end at one that can't be written.
    make_folder(output)
    errors = skipped.errors
    # Locks remove the folders again if nothing is written into them.
    with (
        files.locked(output),
        _clip_folder(clips, output, clip_margin) as folder,
        alarms or Alarms() as opened,
    ):
        options_of_videos = {"fps": fps, "ground_truth": truth, "errors": errors}
        results = _results_sent(
            detector, videos, rules, opened, folder, options_of_videos
        )
        for error in errors:
            print(f"skipped: {error}", file=sys.stderr)

        # Only scoring shows which differences --force let through.
        settings = settings_shown(detector, rules, options.force) | assumptions
        settings |= drift.alarms_shown(detector.calibration, results)
        if results:
            _write(output, results, settings, errors)
    return not errors


def _results_sent(
    detector: "Detector",
    videos: Sequence["VideoInput"],
    rules: EventRules,
    alarms: "Alarms",
    clips: "event_clips.ClipFolder | None",
    options: Mapping[str, Any],
) -> list["DetectionResult"]:
    """Returns the results of videos, whose events are sent and cut.

    Args:
      detector: model.
      videos: the inputs.
      rules: what counts as an event.
      alarms: open alarms.
      clips: folder of clips; None cuts none.
      options: as `detect_videos` takes them.
    """
    from wsvad_jax.detection import file_alarms
    from wsvad_jax.detection.detector import detect_videos

    send = file_alarms.sender(alarms, detector, videos)
    if clips is None:
        return detect_videos(detector, videos, rules, on_result=send, **options)

    # A message names its clip, so it waits for it.
    results = detect_videos(detector, videos, rules, **options)
    results = event_clips.write_clips(
        results, clips, options["errors"], progress=detector.progress
    )
    for result in results:
        send(result)
    return results


@contextlib.contextmanager
def _clip_folder(
    clips: pathlib.Path | None, output: pathlib.Path, margin: float
) -> "Iterator[event_clips.ClipFolder | None]":
    """Yields the folder of clips, locked; None if no clips are wanted."""
    if clips is None:
        yield None
        return
    folder = event_clips.ClipFolder(clips, margin)
    # The folder of the results is locked already.
    same = clips.resolve() == output.resolve()
    with contextlib.nullcontext() if same else files.locked(clips):
        yield folder


def _matched_ground_truth(
    videos: Sequence["VideoInput"], path: str | None
) -> "Mapping[str, GroundTruth] | None":
    """Reads true events, and prints which of them belong to no video."""
    if not path:
        return None
    from wsvad_jax.datasets.custom_ground_truth import read_ground_truth
    from wsvad_jax.detection.input_ground_truth import match_ground_truth

    known = read_ground_truth(pathlib.Path(path))
    truth, remarks = match_ground_truth(videos, known)
    for remark in remarks:
        print(remark, file=sys.stderr)
    return truth


def _write(
    output: pathlib.Path,
    results: Sequence["DetectionResult"],
    settings: Mapping[str, object],
    errors: list[InputError],
) -> None:
    """Writes the results, and prints how many events there are and where they are."""
    from wsvad_jax.detection.report.write import write

    # Writing appends the errors of pictures; those before it are printed already.
    num_printed = len(errors)
    title = f"Detected by {settings['model']}"
    if trained_on := settings.get("trained on"):
        title += f", trained on {trained_on}"
    report = write(output, results, title, dict(settings), errors)[0]
    for error in errors[num_printed:]:
        print(f"skipped: {error}", file=sys.stderr)

    count = sum(len(result.events) for result in results)
    videos = f"{len(results)} video{'' if len(results) == 1 else 's'}"
    print(f"{count} event{'' if count == 1 else 's'} in {videos}: {report}")
    print(f"events.json, events.csv and pictures are in {output}")


def check_tower_options(
    options: DetectorOptions, videos: Sequence["VideoInput"], detector: "Detector"
) -> None:
    """Raises InputError for options of an image tower where all inputs are features.

    Args:
      options: options of the user.
      videos: the inputs.
      detector: model; its prompts may need the CLIP model, too.
    """
    if any(video.is_video for video in videos):
        return
    unread = ["resize", "dtype"]
    if detector.weights.text is None:
        unread.insert(0, "clip")
    passed = {
        name: f"--{name}" for name in unread if getattr(options, name) is not None
    }
    flags.refuse(passed, unread, "features, which are made already")


def settings_shown(
    detector: "Detector", rules: EventRules, force: bool
) -> dict[str, object]:
    """Returns what the results depend on, which the report shows beside them.

    Args:
      detector: model, after it has scored.
      rules: what counts as an event.
      force: whether features made in another way were accepted.
    """
    settings = detector.description()
    settings["features"] = detector.protocol.get("encoder", "unknown")
    if detector.features.encoder_assumed:
        settings["features"] = f"{settings['features']} (assumed)"
    # That --force was passed is shown even where nothing differed.
    if force:
        differences = "; ".join(detector.forced)
        settings["force"] = "nothing differed from the training's features"
        if differences:
            settings["force"] = (
                f"another way of making features was let in: {differences}"
            )
    if detector.clip_note:
        settings["clip_note"] = detector.clip_note
    calibration = detector.calibration
    name = "" if calibration is None else calibration.name
    if precisions := detector.features.precision_note(name):
        settings["dtype"] = precisions
    if calibration is not None:
        settings |= calibration.description()
    return {**settings, **rules.as_dict()}


def input_assumptions(
    videos: Sequence["VideoInput"],
    truth: Mapping[str, Any] | None,
    detector: "Detector",
) -> dict[str, object]:
    """Returns, and prints, how ambiguous inputs were read: axes, crops, unit of time."""
    from wsvad_jax.datasets import time_units
    from wsvad_jax.detection import inputs

    assumptions: dict[str, object] = {}
    axes_by_name = inputs.axes_of(videos, detector.protocol.get("crops", 0))
    if count := sum(axes == "TND" for axes in axes_by_name.values()):
        assumptions["axes"] = f"[snippets, crops, width] (files: {count})"

    # A sidecar says that files are crops of one video; without it, their names do.
    in_crops = [video for video in videos if len(video.files) > 1]
    if in_crops and not all(map(inputs.timed, in_crops)):
        assumptions["crops"] = (
            f"VIDEO__0.npy ... are one video (videos: {len(in_crops)})"
        )

    if assumptions:
        listed = "; ".join(f"{key}: {value}" for key, value in assumptions.items())
        print(f"read by rule: {listed}", file=sys.stderr)

    # The unit of true events is shown in the report alone: the file may state it.
    if truth is not None:
        assumptions["truth in"] = time_units.unit_names(list(truth.values()))
    return assumptions


def time_assumptions(
    videos: Sequence["VideoInput"], fps: float | None, detector: "Detector"
) -> dict[str, object]:
    """Returns, and prints, the frame rate taken for features without times.

    Args:
      videos: the inputs.
      fps: frames per second that the user passed, if any.
      detector: model; its card has the frames per snippet where nothing else does.
    """
    if sentence := times_sentence(videos, fps, detector):
        print(sentence, file=sys.stderr)
        return {"frames a second": fps if fps else f"{DEFAULT_FPS:g} (assumed)"}
    if fps:
        print(
            "--fps has no effect: all inputs have times of their own", file=sys.stderr
        )
    return {}


def times_sentence(
    videos: Sequence["VideoInput"], fps: float | None, detector: "Detector"
) -> str:
    """Returns a sentence on features without a sidecar and their times, or ""."""
    from wsvad_jax.detection import inputs
    from wsvad_jax.utils.text import count

    timeless = [v for v in videos if not v.is_video and not inputs.timed(v)]
    if not timeless:
        return ""
    strides = {inputs.stride_of(video, detector.card.stride) for video in timeless}
    return (
        f"{count(len(timeless), 'feature file')} without a sidecar, which would say their "
        f"times: {' or '.join(map(str, sorted(strides)))} frames per snippet, "
        f"{fps or DEFAULT_FPS:g} frames per second"
        f"{'' if fps else ' are assumed (--fps)'}"
    )
