"""A model that scores videos and features, and finds events in them.

from wsvad_jax import Detector
print(Detector("runs/dsanet-demo-0")("lobby.mp4").events)

names = {"classes": "people fighting,a fire", "normal": "an ordinary street"}
print(Detector.zero_shot("openai/clip-vit-base-patch16", **names)("lobby.mp4").events)
"""

import dataclasses
import functools
import os
import pathlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Num

from wsvad_jax.detection.result import DetectionResult, find_result
from wsvad_jax.detection.video_scorer import VideoScorer
from wsvad_jax.evaluation.event_rules import EventRules
from wsvad_jax.evaluation.events import Event
from wsvad_jax.utils.errors import InputError

if TYPE_CHECKING:
    from wsvad_jax.datasets.ground_truth import GroundTruth
    from wsvad_jax.detection.calibration import Calibration
    from wsvad_jax.detection.inputs import VideoInput
    from wsvad_jax.experiment.class_words import Words


class Detector(VideoScorer):
    """Loads a trained model, or zero-shot CLIP, and scores videos or features.

    >>> detector = Detector(folder)  # WORKDIR of training, or a model folder
    >>> features = np.zeros((40, detector.width), np.float16)  # 40 snippets
    >>> detector.score(features).anomaly.shape
    (40,)
    >>> edges = np.arange(41) * 16 / 30  # seconds, at 30 frames per second
    >>> result = detector.detect(features, edges, "lobby", high=0.99, min_prominence=1)
    >>> result.name, result.events
    ('lobby', ())
    """

    calibration: "Calibration | None" = None

    def __init__(
        self,
        checkpoint: str | os.PathLike,
        *,
        calibration: "str | os.PathLike | Calibration | None" = None,
        **options: Any,
    ):
        """Loads the model, and the calibration that was made with it.

        Args:
          checkpoint: model folder, workdir of training with one in it, or
            USER/NAME[@REVISION] of the Hugging Face hub.
          calibration: folder that `calibrate` wrote. Events are those above its
            threshold, with their expected false alarms per day.
          **options: as `VideoScorer` takes them.

        Raises:
          InputError: as `VideoScorer`, or a calibration of another model.
        """
        super().__init__(checkpoint, **options)
        self.calibrate(calibration)

    def calibrate(
        self, calibration: "str | os.PathLike | Calibration | None"
    ) -> "Detector":
        """Uses a calibration from now on, or none; returns the detector.

        Args:
          calibration: as the constructor takes it.

        Raises:
          InputError: a calibration of another model, or used with `force`.
        """
        from wsvad_jax.detection.calibration import Calibration, read_calibration

        if calibration is not None and not isinstance(calibration, Calibration):
            calibration = read_calibration(calibration)
        if calibration is not None:
            if self.force:
                raise InputError(
                    f"{calibration.path}: a calibration holds for features made in one "
                    "way, and force accepts others; leave one of the two out"
                )
            calibration.check_model(self)
        self.calibration = calibration
        return self

    @classmethod
    def zero_shot(
        cls,
        clip: str | os.PathLike,
        *,
        classes: "Words",
        normal: str | Sequence[str],
        resize: str | None = None,
        dtype: str | None = None,
        progress: bool = True,
        **fields: Any,
    ) -> "Detector":
        """Returns a detector without a trained model: CLIP reads the classes' words.

        Args:
          clip: hub name or folder of the CLIP model, whose both towers are used.
          classes: what is to be found, as `"people fighting|a brawl,a fire"` (`|`
            between prompts of a class), a list, or prompts by name.
          normal: prompts of what the videos show otherwise, as "an ordinary street".
          resize: `stretch` (default) or `clip`, how frames are cut.
          dtype: precision of the image tower: `float32` (default), `bfloat16`, `auto`.
          progress: whether progress, and warnings about videos, are printed.
          **fields: fields of `models.zero_shot.Model`.

        Raises:
          InputError: see `zero_shot_model.open_zero_shot`.
        """
        from wsvad_jax.weights.zero_shot_model import open_zero_shot

        model = open_zero_shot(clip, classes, normal, resize, **fields)
        detector = cls.__new__(cls)
        detector.clip, detector.force = os.fspath(clip), False
        detector.progress = progress
        detector._prepare(model, resize, dtype)
        return detector

    def detect(
        self,
        features: Num[np.ndarray, "..."],
        edges: Float[np.ndarray, "T1"],
        name: str,
        rules: EventRules | None = None,
        *,
        path: str | os.PathLike | None = None,
        ground_truth: Sequence[Event] | None = None,
        damage: str = "",
        **options: Any,
    ) -> DetectionResult:
        """Scores the features of one video and finds its events.

        Args:
          features: as `score` takes them.
          edges: snippet boundaries in seconds, from 0; T + 1 values.
          name: name of the video, unique in a report.
          rules: what counts as an event; None takes `options`.
          path: path of the video file, if there is one.
          ground_truth: true events, if they are known.
          damage: part of the video that could not be read.
          **options: fields of `EventRules`, in place of `rules`.

        Raises:
          InputError: as `score`, edges of another number, or rules out of range.
        """
        from wsvad_jax.evaluation.scorer import baseline_scores, score_videos

        # Rules are checked first: scoring takes longer.
        rules = self.event_rules(rules, options)

        windows = self._windows(features)
        scores = score_videos(self.scorer, self.weights, windows)[0]

        T, edges = len(scores.anomaly), np.asarray(edges, np.float64)
        if edges.shape != (T + 1,):
            raise InputError(
                f"{name}: {T} snippets need {T + 1} edges, found {edges.shape}"
            )

        # If scores aren't corrected yet, events are found on corrected scores.
        baseline = None
        if rules.low is None and not self.network.remove_position_bias:
            static = baseline_scores(self.scorer, self.weights, windows, [scores])
            baseline = static[0].anomaly

        result = find_result(
            name,
            scores,
            baseline,
            edges,
            self.class_names,
            rules,
            path=path,
            ground_truth=ground_truth,
            damage=damage,
            counts=self.calibration.counts if self.calibration else None,
        )
        if self.calibration is None:
            return result
        events = self.calibration.apply(result.events)
        return dataclasses.replace(result, events=events)

    def event_rules(
        self, rules: EventRules | None = None, options: Mapping[str, Any] | None = None
    ) -> EventRules:
        """Returns the event rules for files: those passed, or the calibration's.

        Args:
          rules: what counts as an event; None takes `options`.
          options: fields of `EventRules`, in place of `rules`.

        Raises:
          InputError: a rule out of range, or other rules than the calibration's.
        """
        if self.calibration is None:
            return EventRules.from_rules_or_options(rules, options or {})
        self.calibration.check_way("files")
        if rules is None and not options:
            return self.calibration.rules
        passed = EventRules.from_rules_or_options(rules, options or {})
        self.calibration.check_rules(passed)
        return passed

    def answer(
        self, features, edges, name, path=None, *, truth=None, **options: Any
    ) -> DetectionResult:
        """Calls `detect`, whose name this was before 0.1.0."""
        warnings.warn("Detector.answer is now detect", FutureWarning, stacklevel=2)
        options |= {"path": path, "ground_truth": truth}
        return self.detect(features, edges, name, **options)

    def __call__(
        self,
        video: Any,
        rules: EventRules | None = None,
        *,
        fps: Any = None,
        name: str = "",
        **options: Any,
    ) -> DetectionResult:
        """Decodes a video, scores it and finds its events.

        Args:
          video: path of a video, or of a .npy of features; frames in memory, uint8
            [F, H, W, 3], RGB; or an iterable of such frames [H, W, 3], which is read
            once and not kept.
          rules: what counts as an event; None takes `options`.
          fps: frames per second of frames, or of features without times (30).
          name: name of the result; "" is that of the file, or "frames".
          **options: fields of `EventRules`, in place of `rules`.

        Raises:
          InputError: neither a video nor frames, no image tower, no `fps` of frames, or
            rules out of range.
        """
        from wsvad_jax.detection.inputs import VideoInput
        from wsvad_jax.extraction.frame_sequence import checked_rate

        rules = self.event_rules(rules, options)
        if not isinstance(video, str | os.PathLike):
            return self._detect_frames(video, rules, fps, name or "frames")

        source = VideoInput(name or pathlib.Path(video).stem, (pathlib.Path(video),))
        if fps is not None and source.is_video:
            raise InputError(
                f"fps={fps}: {video} has times of its own; leave it out, or pass frames"
            )
        rate = None if fps is None else checked_rate(fps)
        return detect_videos(self, [source], rules, fps=rate)[0]

    def _detect_frames(
        self, frames: Any, rules: EventRules, fps: Any, name: str
    ) -> DetectionResult:
        """Scores frames as those of a video file."""
        from wsvad_jax.detection.inputs import snippet_edges
        from wsvad_jax.extraction.frame_sequence import FrameSequence

        sequence = FrameSequence(frames, fps, name)
        extractor = self.extractor
        if self.calibration is not None:
            protocol, encoder = extractor.protocol, extractor.encoder
            self.calibration.check_features(protocol, encoder, self)
        (video,) = extractor.stream([sequence])
        edges = snippet_edges(video.seconds, video.duration)
        return self.detect(video.features, edges, name, rules)


def detect_videos(
    detector: Detector,
    videos: Sequence["VideoInput"],
    rules: EventRules | None = None,
    *,
    fps: float | None = None,
    ground_truth: Mapping[str, "GroundTruth"] | None = None,
    errors: list[InputError] | None = None,
    on_result: Callable[[DetectionResult], None] | None = None,
) -> list[DetectionResult]:
    """Detects events in videos and feature files; returns results in their order.

    Args:
      detector: model.
      videos: result of `inputs.find_inputs`.
      rules: what counts as an event; None: the calibration's, or the defaults.
      fps: frames per second of features without a sidecar; None is 30, assumed.
      ground_truth: true events by video, see `datasets.ground_truth`.
      errors: list that collects errors; unreadable inputs are skipped. None raises the
        first error.
      on_result: function that gets each result as soon as it is there.

    Raises:
      InputError: features made in another way than the model's, no image tower, or true
        events whose times may be frames or seconds.
    """
    from wsvad_jax.detection import input_ground_truth
    from wsvad_jax.extraction.frame_progress import FrameProgress

    ground_truth, stride = ground_truth or {}, detector.card.stride
    if ground_truth:
        input_ground_truth.check_ground_truth(videos, ground_truth, stride, fps)

    rules = detector.event_rules(rules)
    stream = functools.partial(
        _detect_each, detector, videos, rules, fps, ground_truth, errors
    )
    results, num_events = {}, 0
    if not detector.progress:
        for result in stream():
            results[result.name] = result
            if on_result is not None:
                on_result(result)
    else:
        files = [video.files[0] for video in videos if video.is_video]
        with FrameProgress("detect", files, len(videos) - len(files)) as progress:
            for result in stream(progress.frames):
                results[result.name] = result
                if on_result is not None:
                    on_result(result)
                num_events += len(result.events)
                progress.done(events=num_events)
                for warning in result.warnings:
                    progress.message(f"warning: {result.name}: {warning}")

    return [results[video.name] for video in videos if video.name in results]


def _detect_each(
    detector: Detector,
    videos: Sequence["VideoInput"],
    rules: EventRules,
    fps: float | None,
    ground_truth: Mapping[str, "GroundTruth"],
    errors: list[InputError] | None,
    tick: Callable[[int], None] = lambda frames: None,
) -> Iterator[DetectionResult]:
    """Yields results: feature files first, then videos in the order of completion."""
    from wsvad_jax.detection.input_ground_truth import events_of_video
    from wsvad_jax.detection.timed_videos import read_each

    calibration = detector.calibration
    for source in read_each(detector, videos, fps, errors, calibration, tick):
        result = detector.detect(
            source.features,
            source.edges,
            source.name,
            rules,
            path=source.path,
            ground_truth=events_of_video(
                source.name,
                ground_truth,
                source.edges,
                source.protocol.stride or detector.card.stride,
                source.num_frames,
            ),
            damage=source.damage,
        )
        yield dataclasses.replace(result, remark=source.remark)
