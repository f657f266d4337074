"""A trained model that scores videos and features, and what it finds in many of them.

The programs `detect`, `export` and the live mode use it; so can a program of one's own:

  from wsvad_jax.detect import Detector
  answer = Detector("runs/dsanet-demo-0")("lobby.mp4")
  print(answer.events)
"""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int, Num

from wsvad_jax.detection import events
from wsvad_jax.detection.result import DetectionResult
from wsvad_jax.evaluation.position_bias import remove_position_bias, static_feature
from wsvad_jax.utils.errors import InputError

if TYPE_CHECKING:
    from wsvad_jax.clip.snapshot import Snapshot
    from wsvad_jax.data.records import FeatureProtocol
    from wsvad_jax.datasets.ground_truth import Truth
    from wsvad_jax.detection.inputs import VideoInput
    from wsvad_jax.extraction.extractor import Extractor

LONGEST = 8192  # snippets scored as one where a model takes whole videos


class Detector:
    """A trained model that scores videos or features: loaded once, used often.

    >>> detector = Detector(folder)  # WORKDIR of training, or a model folder
    >>> features = np.zeros((40, detector.width), np.float16)  # 40 snippets
    >>> scores = detector.score(features)
    >>> scores["anomaly"].shape
    (40,)
    >>> edges = np.arange(41) * 16 / 30  # seconds, at 30 frames a second
    >>> answer = detector.answer(features, edges, "lobby", high=0.99, rise=1.0)
    >>> answer.name, answer.events
    ('lobby', ())
    """

    def __init__(
        self,
        checkpoint: str | os.PathLike,
        *,
        clip: str | None = None,
        resize: str | None = None,
        force: bool = False,
    ):
        """Loads the model and puts it on the devices.

        Args:
          checkpoint: a model folder, or a workdir of training with one in it.
          clip: hub name or folder of the CLIP model of the features, where the model
            folder doesn't name one that is here.
          resize: `stretch` or `clip`, how frames are cut to the image tower's size,
            where the model folder doesn't say.
          force: takes another CLIP model and other features than the training's, too;
            `forced` says what was let through.

        Raises:
          InputError: no model there, or not the CLIP model that it was trained with.
        """
        import jax

        from wsvad_jax.evaluation.scorer import Scorer
        from wsvad_jax.parallel.mesh import replicated_sharding
        from wsvad_jax.weights.trained_model import open_trained_model

        trained = open_trained_model(checkpoint, clip=clip, force=force)
        self.folder, self.meta, self.card = trained.folder, trained.meta, trained.card
        self.network = trained.network
        self.config, self.T = self.network.config, self.network.T
        self.width = self.network.width
        self.class_names = self.card.class_names
        self.mode = self.config.eval.mode
        self.clip, self.resize, self.force = clip, resize, force
        self.forced: dict[str, None] = {}  # differences let through, in order
        if trained.forced:
            self.forced[trained.forced] = None
        self.scorer = Scorer(self.network)
        variables = {"params": trained.params, "batch_stats": trained.batch_stats}
        self.variables = jax.device_put(
            variables, replicated_sharding(self.network.mesh)
        )
        self.text = self.scorer.encode_text(self.variables["params"])

    @property
    def protocol(self) -> dict[str, Any]:
        """How the features of the training were made, as far as the model says."""
        return dict(self.meta.get("features") or {})

    @property
    def made(self) -> "FeatureProtocol":
        """The same, with what the model doesn't say as unknown."""
        from wsvad_jax.data import feature_protocols

        return feature_protocols.protocol_from_json(self.protocol)

    @property
    def random_note(self) -> str:
        """Says in a sentence where towers of random weights are used, "" where not."""
        from wsvad_jax.data import feature_protocols

        # What made the features knows itself; a model of an older version may not.
        seen = self.extractor.protocol if "extractor" in self.__dict__ else self.made
        return feature_protocols.random_note(seen, self.network.text_tower_id)

    @functools.cached_property
    def snapshot(self) -> "Snapshot":
        """The CLIP model whose image tower videos go through; loaded when needed.

        Raises:
          InputError: see `trained.image_snapshot`.
        """
        from wsvad_jax.weights.trained_model import image_snapshot

        return image_snapshot(self.folder, self.meta, self.clip, self.force)

    @functools.cached_property
    def extractor(self) -> "Extractor":
        """Makes features as those of the training were made.

        Raises:
          InputError: as `snapshot`, or features of another width come out.
        """
        from wsvad_jax.detection.feature_check import extractor_for

        return extractor_for(self)

    def score(self, features: Num[np.ndarray, "..."]) -> dict[str, np.ndarray]:
        """Scores one video's snippets as `evaluate` does.

        Where the recipe says so, without what comes from the place in a window, see
        `wsvad_jax.evaluation.position_bias`.

        A model for windows scores the card's crop (the first where there are fewer) in
        consecutive windows of T snippets. One for whole videos takes all crops; what
        is longer than 8192 snippets is scored in parts of that length.

        Args:
          features: [T, D], or [N, T, D] of N crops, whatever T and N are.

        Returns:
          `anomaly` [T] and, of a model with classes, `classes` [T, C]; float32. Other
          names are curves of a model's branches.

        Raises:
          InputError: another shape or width, no snippet, or values that are not finite.
        """
        x = self._checked(features)
        found = self._as_they_come(x)
        if self.network.remove_position_bias:
            calm = self._of_still(x, found["anomaly"])
            found |= {
                name: remove_position_bias(value, calm[name])
                for name, value in found.items()
                if name.startswith("anomaly")
            }
        return found

    def _as_they_come(self, x: np.ndarray) -> dict[str, np.ndarray]:
        from wsvad_jax.data.packing import split_windows
        from wsvad_jax.evaluation.scorer import bucket_lengths

        N, n, _ = x.shape
        if self.mode == "windows":
            crop = self.card.test_crop if self.card.test_crop < N else 0
            windows = split_windows(x[crop : crop + 1], self.T)
        else:
            L = int(bucket_lengths(np.array([min(n, LONGEST)]))[0])
            windows = split_windows(x, L)
        W, L = len(windows), windows.shape[2]
        length = np.minimum(n - np.arange(W) * L, L).astype(np.int32)
        valid = np.arange(L) < length[:, None]
        found = self.score_windows(windows, length)
        return {name: value[valid] for name, value in found.items()}

    def score_windows(
        self, features: Num[np.ndarray, "W N L D"], length: Int[np.ndarray, "W"]
    ) -> dict[str, np.ndarray]:
        """Scores W windows, each on its own; [W, L] and [W, L, C], float32.

        Args:
          features: windows; of a model for windows L is T and N is 1.
          length: valid snippets of each; what follows is padding.
        """
        W, _, L, _ = features.shape
        most = self.scorer.batch_of(L)
        # Powers of two: a program is compiled for each size.
        B = self.network.mesh.size
        while B < min(W, most):
            B *= 2
        B = min(B, most)
        features, length = features.astype(np.float16), length.astype(np.int32)
        parts = [
            self.scorer.batch(
                self.variables, self.text, features[i : i + B], length[i : i + B], B
            )
            for i in range(0, W, B)
        ]
        return {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}

    def _of_still(self, x: np.ndarray, anomaly: np.ndarray) -> dict[str, np.ndarray]:
        """Scores a video in which nothing changes: the calm moments of this one."""
        frozen = static_feature(x, anomaly)
        n, L = len(anomaly), self.T if self.mode == "windows" else LONGEST
        if n <= 2 * L:
            return self._as_they_come(np.repeat(frozen, n, 1))
        # All whole windows are alike: one of them and the last are enough.
        ends = self._as_they_come(np.repeat(frozen, L + n % L, 1))
        return {
            name: np.concatenate([*[value[:L]] * (n // L), value[L:]])
            for name, value in ends.items()
        }

    def answer(
        self,
        features: Num[np.ndarray, "..."],
        edges: Float[np.ndarray, "T1"],
        name: str,
        path: pathlib.Path | None = None,
        *,
        ground_truth: Sequence[events.Event] | None = None,
        damage: str = "",
        **rules: Any,
    ) -> DetectionResult:
        """Scores one video's features and finds its events.

        Args:
          features: as `score` takes them.
          edges: seconds at which snippets begin, and the end: T + 1 of them, from 0.
          name: of the video, unique in a report.
          path: of the video file, if there is one.
          ground_truth: events that are known to be there.
          damage: what of the video could not be read.
          **rules: of `events.find_events`: high, low, rise, share, min_length, max_gap.

        Raises:
          InputError: as `score`, edges of another number, or rules out of range.
        """
        scores = self.score(features)
        anomaly, classes = scores["anomaly"], scores.get("classes")
        edges = np.asarray(edges, np.float64)
        if edges.shape != (len(anomaly) + 1,):
            raise InputError(
                f"{name}: {len(anomaly)} snippets need {len(anomaly) + 1} edges, found "
                f"{edges.shape}"
            )
        calm = None
        if rules.get("low") is None and not self.network.remove_position_bias:
            calm = self._of_still(self._checked(features), anomaly)["anomaly"]
        found = events.find_events(
            anomaly, classes, edges, self.class_names, calm=calm, **rules
        )
        return DetectionResult(
            name=name,
            path=path,
            edges=edges,
            anomaly=anomaly,
            classes=classes,
            class_names=self.class_names,
            events=tuple(found),
            ground_truth=None if ground_truth is None else tuple(ground_truth),
            damage=damage,
        )

    def __call__(self, path: str | os.PathLike, **rules: Any) -> DetectionResult:
        """Decodes a video, scores it and finds its events.

        Raises:
          InputError: not a video, or no image tower for it.
        """
        from wsvad_jax.detection.inputs import VideoInput

        path = path_of(path)
        return detect_videos(self, [VideoInput(path.stem, (path,))], **rules)[0]

    def _checked(self, features: np.ndarray) -> np.ndarray:
        x = np.asarray(features)
        x = x[None] if x.ndim == 2 else x
        if x.ndim != 3 or 0 in x.shape or x.shape[-1] != self.width:
            raise InputError(
                f"features are of shape {np.shape(features)}; expected [T, "
                f"{self.width}] or [N, T, {self.width}] with at least one snippet"
            )
        with np.errstate(over="ignore"):
            x = x.astype(np.float16)
        if not np.isfinite(x).all():
            raise InputError("features hold values that are not finite in float16")
        return x


def path_of(given: Any) -> pathlib.Path:
    """Returns a video's path; raises InputError for what is none, such as an array."""
    if not isinstance(given, str | os.PathLike):
        shape = getattr(given, "shape", None)
        what = type(given).__name__ if shape is None else f"an array of shape {shape}"
        raise InputError(
            f"expected the path of a video or of features, found {what}; features in "
            "memory go to Detector.score or Detector.answer"
        )
    return pathlib.Path(given)


def detect_videos(
    detector: Detector,
    found: Sequence["VideoInput"],
    *,
    fps: float | None = None,
    ground_truth: Mapping[str, "Truth"] | None = None,
    errors: list[InputError] | None = None,
    **rules: Any,
) -> list[DetectionResult]:
    """Answers for videos and feature files, in the order given.

    Args:
      detector: the model.
      found: of `sources.find`.
      fps: frames per second of features without a sidecar; None is 30, assumed.
      ground_truth: by video, of `annotations.read_json`.
      errors: takes the errors of what can't be read, which is then left out; without
        it the first one is raised.
      **rules: of `events.find_events`.

    Raises:
      InputError: features made in another way than the model's, no image tower, or truth
        whose times may be frames or seconds.
    """
    from wsvad_jax.detection import input_ground_truth
    from wsvad_jax.utils.progress import Progress

    if ground_truth:
        input_ground_truth.check_ground_truth(
            found, ground_truth, detector.card.stride, fps
        )
    made: dict[str, DetectionResult] = {}
    count = 0
    with Progress("detect", len(found), unit="video") as progress:
        for answer in _stream(detector, found, fps, ground_truth or {}, errors, rules):
            made[answer.name] = answer
            count += len(answer.events)
            progress.update(events=count)
            for said in answer.warnings:
                progress.message(f"warning: {answer.name}: {said}")
    return [made[source.name] for source in found if source.name in made]


def _stream(detector, found, fps, truth, errors, rules) -> Iterator[DetectionResult]:
    from wsvad_jax.detection import input_ground_truth, inputs
    from wsvad_jax.detection.feature_check import check_source

    sizes = {"crops": detector.protocol.get("crops", 0), "width": detector.width}
    read = inputs.read_all_features(
        found, fps, detector.card.stride, errors=errors, **sizes
    )
    for source, features in read:
        check_source(detector, source, features)
        side = features.sidecar
        stride = features.made.stride or detector.card.stride
        known = input_ground_truth.find_ground_truth(source.name, truth)
        made = detector.answer(
            features.values,
            features.edges,
            source.name,
            ground_truth=known
            and input_ground_truth.events_in_seconds(
                known, features.edges, stride, features.num_frames
            ),
            damage=side.damage if side else "",
            **rules,
        )
        yield dataclasses.replace(made, remark=side.remark if side else "")
    videos = {source.files[0]: source.name for source in found if source.is_video}
    for video in detector.extractor.stream(videos, errors=errors) if videos else ():
        name = videos[video.path]
        known = input_ground_truth.find_ground_truth(name, truth)
        edges = inputs.snippet_edges(video.seconds, video.duration)
        stride = detector.extractor.stride
        made = detector.answer(
            video.features,
            edges,
            name,
            video.path,
            ground_truth=known
            and input_ground_truth.events_in_seconds(
                known, edges, stride, video.num_frames
            ),
            damage=video.damage,
            **rules,
        )
        yield dataclasses.replace(made, remark=video.remark)
