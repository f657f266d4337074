"""A trained model that scores videos and features, and finds events in them.

from wsvad_jax import Detector
print(Detector("runs/dsanet-demo-0")("lobby.mp4").events)
"""

import dataclasses
import functools
import os
import pathlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int, Num

from wsvad_jax.detection.events import DEFAULT_RULES, Event, EventRules, find_events
from wsvad_jax.detection.result import DetectionResult
from wsvad_jax.utils.errors import InputError

if TYPE_CHECKING:
    from wsvad_jax.clip.snapshot import Snapshot
    from wsvad_jax.data.records import FeatureProtocol
    from wsvad_jax.datasets.ground_truth import GroundTruth
    from wsvad_jax.detection.inputs import VideoInput
    from wsvad_jax.evaluation.windows import VideoWindows
    from wsvad_jax.extraction.extractor import Extractor
    from wsvad_jax.models.scores import SnippetScores


class Detector:
    """Loads a trained model and scores videos or features.

    >>> detector = Detector(folder)  # WORKDIR of training, or a model folder
    >>> features = np.zeros((40, detector.width), np.float16)  # 40 snippets
    >>> detector.score(features).anomaly.shape
    (40,)
    >>> edges = np.arange(41) * 16 / 30  # seconds, at 30 frames per second
    >>> result = detector.detect(features, edges, "lobby", high=0.99, min_prominence=1)
    >>> result.name, result.events
    ('lobby', ())
    """

    def __init__(
        self,
        checkpoint: str | os.PathLike,
        *,
        clip: str | os.PathLike | None = None,
        resize: str | None = None,
        force: bool = False,
        progress: bool = True,
    ):
        """Loads the model and puts it on the devices.

        Args:
          checkpoint: model folder, or workdir of training with one in it.
          clip: hub name or folder of the CLIP model of the features; needed if the one
            that the model folder names isn't available.
          resize: `stretch` or `clip`, how frames are cut to the image tower's size,
            where the model folder doesn't say.
          force: whether to accept a CLIP model and features that differ from the
            training's; `forced` lists the differences.
          progress: whether progress, and warnings about videos, are printed.

        Raises:
          InputError: no model there, or not the CLIP model that it was trained with.
        """
        import jax

        from wsvad_jax.detection.feature_check import FeatureCheck
        from wsvad_jax.evaluation.scorer import Scorer
        from wsvad_jax.parallel.mesh import replicated_sharding
        from wsvad_jax.weights.trained_model import open_trained_model

        self.clip = None if clip is None else os.fspath(clip)
        self.force, self.progress = force, progress
        trained = open_trained_model(checkpoint, clip=self.clip, force=force)
        self.folder, self.meta, self.card = trained.folder, trained.meta, trained.card
        self.network = trained.network
        self.config, self.T = self.network.config, self.network.T
        self.width = self.network.width
        self.class_names = self.card.class_names
        self.mode = self.config.eval.mode

        # Features are compared with those of the training before they are scored.
        self.features = FeatureCheck(
            self.folder,
            self.feature_protocol,
            self.width,
            stride=self.card.stride,
            test_crop=self.card.test_crop,
            mode=self.mode,
            resize=resize,
            force=force,
        )
        if trained.forced:
            self.features.differences[trained.forced] = None

        # Videos come one by one, so small batches are used.
        self.scorer = Scorer(self.network, fit_batches=True)
        variables = {"params": trained.params, "batch_stats": trained.batch_stats}
        variables = jax.device_put(variables, replicated_sharding(self.network.mesh))
        self.weights = self.scorer.weights(**variables)

    def __repr__(self) -> str:
        trained = f"{self.meta['model']} trained on {self.card.name}"
        return f"Detector({str(self.folder)!r}: {trained})"

    @property
    def protocol(self) -> dict[str, Any]:
        """How the features of the training were made, as far as the model says."""
        return dict(self.meta.get("features") or {})

    @property
    def feature_protocol(self) -> "FeatureProtocol":
        """`protocol` as a `FeatureProtocol`; missing values are "unknown"."""
        from wsvad_jax.data import feature_protocols

        return feature_protocols.protocol_from_json(self.protocol)

    @property
    def forced(self) -> dict[str, None]:
        """Differences from the training that `force` accepted, an ordered set."""
        return self.features.differences

    @property
    def clip_note(self) -> str | None:
        """What the CLIP models were trained on, see `clip.training_notes`."""
        from wsvad_jax.data import feature_protocols

        # An extractor knows its tower; the model folder of an older version may not. The
        # cached property is in `__dict__` once it has been used.
        protocol = self.feature_protocol
        if "extractor" in self.__dict__:
            protocol = self.extractor.protocol
        return feature_protocols.clip_note(protocol, self.network.text_tower_id)

    @functools.cached_property
    def snapshot(self) -> "Snapshot":
        """The CLIP model whose image tower encodes videos; loaded when needed.

        Raises:
          InputError: see `trained_model.image_snapshot`.
        """
        from wsvad_jax.weights.trained_model import image_snapshot

        return image_snapshot(self.folder, self.meta, self.clip, self.force)

    @functools.cached_property
    def extractor(self) -> "Extractor":
        """The extractor of features like the training's.

        Raises:
          InputError: as `snapshot`, or features of another width come out.
        """
        return self.features.extractor(self.snapshot)

    def score(self, features: Num[np.ndarray, "..."]) -> "SnippetScores":
        """Scores the snippets of one video as `evaluate` does.

        Positional bias is removed where the recipe says so, see
        `wsvad_jax.evaluation.position_bias`.

        A model for windows scores the card's crop (the first where there are fewer) in
        consecutive windows of T snippets. A model for whole videos uses all crops.
        Videos over 8192 snippets are split.

        Args:
          features: [T, D], or [N, T, D] of N crops, whatever T and N are.

        Returns:
          `anomaly` [T]; `classes` [T, C], None without classes; `branches` with the
          curves of a model's branches; float32. Access by name (`scores["anomaly"]`),
          the form before 0.1.0, still works.

        Raises:
          InputError: another shape or width, no snippet, or values that are not finite.
        """
        from wsvad_jax.evaluation.scorer import score_videos

        return score_videos(self.scorer, self.weights, self._windows(features))[0]

    def _windows(self, features: np.ndarray) -> "VideoWindows":
        from wsvad_jax.detection.inputs import check_features
        from wsvad_jax.evaluation.windows import windows_of_video

        x = check_features(features, self.width)
        return windows_of_video(x, self.network, self.card.test_crop)

    def score_windows(
        self, features: Num[np.ndarray, "W N L D"], length: Int[np.ndarray, "W"]
    ) -> "SnippetScores":
        """Scores windows independently; returns arrays [W, L] and [W, L, C], float32.

        Args:
          features: windows; for a model for windows, L is T and N is 1.
          length: valid snippets of each window; what follows is padding.
        """
        return self.scorer(
            self.weights, features.astype(np.float16), length.astype(np.int32)
        )

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
        rules = EventRules.from_rules_or_options(rules, options)

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

        events = find_events(
            scores.anomaly,
            scores.classes,
            edges,
            self.class_names,
            rules,
            baseline=baseline,
        )

        return DetectionResult(
            name=name,
            path=None if path is None else pathlib.Path(path),
            edges=edges,
            anomaly=scores.anomaly,
            classes=scores.classes,
            class_names=self.class_names,
            events=tuple(events),
            ground_truth=None if ground_truth is None else tuple(ground_truth),
            damage=damage,
        )

    def answer(
        self, features, edges, name, path=None, *, truth=None, **options: Any
    ) -> DetectionResult:
        """Calls `detect`, whose name this was before 0.1.0."""
        warnings.warn("Detector.answer is now detect", FutureWarning, stacklevel=2)
        options |= {"path": path, "ground_truth": truth}
        return self.detect(features, edges, name, **options)

    def __call__(
        self, path: str | os.PathLike, rules: EventRules | None = None, **options: Any
    ) -> DetectionResult:
        """Decodes a video, scores it and finds its events.

        Args:
          path: video, or .npy of features.
          rules: what counts as an event; None takes `options`.
          **options: fields of `EventRules`, in place of `rules`.

        Raises:
          InputError: not a video, no image tower for it, or rules out of range.
        """
        from wsvad_jax.detection.inputs import VideoInput, path_of

        rules = EventRules.from_rules_or_options(rules, options)
        path = path_of(path)
        return detect_videos(self, [VideoInput(path.stem, (path,))], rules)[0]


def detect_videos(
    detector: Detector,
    videos: Sequence["VideoInput"],
    rules: EventRules = DEFAULT_RULES,
    *,
    fps: float | None = None,
    ground_truth: Mapping[str, "GroundTruth"] | None = None,
    errors: list[InputError] | None = None,
) -> list[DetectionResult]:
    """Detects events in videos and feature files; returns results in their order.

    Args:
      detector: model.
      videos: result of `inputs.find_inputs`.
      rules: what counts as an event.
      fps: frames per second of features without a sidecar; None is 30, assumed.
      ground_truth: true events by video, see `datasets.ground_truth`.
      errors: list that collects errors; unreadable inputs are skipped. None raises the
        first error.

    Raises:
      InputError: features made in another way than the model's, no image tower, or true
        events whose times may be frames or seconds.
    """
    from wsvad_jax.detection import input_ground_truth
    from wsvad_jax.utils.progress import Progress

    ground_truth, stride = ground_truth or {}, detector.card.stride
    if ground_truth:
        input_ground_truth.check_ground_truth(videos, ground_truth, stride, fps)

    stream = _detect_each(detector, videos, rules, fps, ground_truth, errors)
    if not detector.progress:
        results = {result.name: result for result in stream}
    else:
        results, num_events = {}, 0
        with Progress("detect", len(videos), unit="video") as progress:
            for result in stream:
                results[result.name] = result
                num_events += len(result.events)
                progress.update(events=num_events)
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
) -> Iterator[DetectionResult]:
    """Yields results: feature files first, then videos in the order of completion."""
    from wsvad_jax.detection import inputs
    from wsvad_jax.detection.input_ground_truth import events_of_video

    expected = {"crops": detector.protocol.get("crops", 0), "width": detector.width}
    inputs_with_features = inputs.read_all_features(
        videos, fps, detector.card.stride, errors=errors, **expected
    )

    # Times and damage of features are in their sidecars.
    for video, features in inputs_with_features:
        detector.features.check_input(video, features)
        sidecar = features.sidecar
        stride = features.protocol.stride or detector.card.stride
        result = detector.detect(
            features.values,
            features.edges,
            video.name,
            rules,
            ground_truth=events_of_video(
                video.name, ground_truth, features.edges, stride, features.num_frames
            ),
            damage=sidecar.damage if sidecar else "",
        )
        yield dataclasses.replace(result, remark=sidecar.remark if sidecar else "")

    names = {video.files[0]: video.name for video in videos if video.is_video}
    if not names:  # the image tower isn't needed
        return

    for video in detector.extractor.stream(names, errors=errors):
        name = names[video.path]
        edges = inputs.snippet_edges(video.seconds, video.duration)
        stride = detector.extractor.stride
        result = detector.detect(
            video.features,
            edges,
            name,
            rules,
            path=video.path,
            ground_truth=events_of_video(
                name, ground_truth, edges, stride, video.num_frames
            ),
            damage=video.damage,
        )
        yield dataclasses.replace(result, remark=video.remark)
