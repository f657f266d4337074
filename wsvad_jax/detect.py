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
video's usual level; with --low, every event lasts while the score is at least that.
Videos that can't be read are reported and left out; the exit code is then 3.
"""

import argparse
import functools
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int, Num

from wsvad_jax import cli, events
from wsvad_jax.answer import Answer
from wsvad_jax.errors import InputError

if TYPE_CHECKING:
    from wsvad_jax.clip.load import Snapshot
    from wsvad_jax.data.extraction import Extracted, Extractor

EXIT_SKIPPED = 3
LONGEST = 8192  # snippets scored as one where a model takes whole videos


class Detector:
    """A trained model that scores videos or features: loaded once, used often.

    >>> detector = Detector(folder)  # WORKDIR of training, or a model folder
    >>> features = np.zeros((40, detector.width), np.float16)  # 40 snippets
    >>> scores = detector.score(features)
    >>> scores["anomaly"].shape
    (40,)
    >>> edges = np.arange(41) * 16 / 30  # seconds, at 30 frames a second
    >>> answer = detector.answer(features, edges, "lobby", high=0.99, rise=1)
    >>> answer.name, answer.events
    ('lobby', ())
    """

    def __init__(
        self,
        checkpoint: str | os.PathLike,
        *,
        clip: str | None = None,
        force: bool = False,
    ):
        """Loads the model and puts it on the devices.

        Args:
          checkpoint: a model folder, or a workdir of training with one in it.
          clip: hub name or folder of the CLIP model of the features, where the model
            folder doesn't name one that is here.
          force: takes another CLIP model than the training's, too.

        Raises:
          InputError: no model there, or not the CLIP model that it was trained with.
        """
        import jax

        from wsvad_jax.scoring import MODES, Scorer
        from wsvad_jax.state import replicated
        from wsvad_jax.trained import open_trained

        trained = open_trained(checkpoint, clip=clip, force=force)
        self.folder, self.meta, self.card = trained.folder, trained.meta, trained.card
        self.network = trained.network
        self.config, self.T = self.network.config, self.network.T
        self.width = self.network.width
        self.class_names = self.card.class_names
        self.mode = self.config.eval.mode
        if self.mode not in MODES:
            raise InputError(
                f"{self.folder}: config.eval.mode is {self.mode!r}; expected "
                f"{' or '.join(MODES)}"
            )
        self.clip, self.force = clip, force
        self.scorer = Scorer(self.network)
        variables = {"params": trained.params, "batch_stats": trained.batch_stats}
        self.variables = jax.device_put(variables, replicated(self.network.mesh))
        self.text = self.scorer.encode_text(self.variables["params"])

    @property
    def protocol(self) -> dict[str, Any]:
        """How the features of the training were made, as far as the model says."""
        return dict(self.meta.get("features") or {})

    @functools.cached_property
    def snapshot(self) -> "Snapshot":
        """The CLIP model whose image tower videos go through; loaded when needed.

        Raises:
          InputError: see `trained.image_snapshot`.
        """
        from wsvad_jax.trained import image_snapshot

        return image_snapshot(self.folder, self.meta, self.clip, self.force)

    @functools.cached_property
    def extractor(self) -> "Extractor":
        """Makes features as those of the training were made.

        Raises:
          InputError: as `snapshot`, or features of another width come out.
        """
        from wsvad_jax.data.extraction import Extractor
        from wsvad_jax.data.video import CROPS, FRAMES, RESIZES

        made = self.protocol
        if self.snapshot.vision.projection_dim != self.width:
            raise InputError(
                f"{self.snapshot.name} makes features of width "
                f"{self.snapshot.vision.projection_dim}, but {self.folder} takes "
                f"{self.width}; pass the CLIP model of its training as --clip"
            )
        crops = made.get("crops", 1)
        if self.mode == "windows" or crops not in CROPS:
            crops = next(n for n in CROPS if n > self.card.test_crop)
        frame, resize = made.get("frame"), made.get("resize")
        return Extractor(
            self.snapshot,
            crops=crops,
            frame=frame if frame in FRAMES else "middle",
            resize=resize if resize in RESIZES else "stretch",
            stride=made.get("stride", self.card.stride),
        )

    def score(self, features: Num[np.ndarray, "..."]) -> dict[str, np.ndarray]:
        """Scores one video's snippets as `evaluate` does.

        A model for windows scores the card's crop (the first where there are fewer) in
        consecutive windows of T snippets. One for whole videos takes all crops; what
        is longer than 8192 snippets is scored in parts of that length.

        Args:
          features: [T, D], or [N, T, D] of N crops.

        Returns:
          `anomaly` [T] and, of a model with classes, `classes` [T, C]; float32. Other
          names are curves of a model's branches.

        Raises:
          InputError: another shape or width, no snippet, or values that are not finite.
        """
        from wsvad_jax.data.pipeline import cut
        from wsvad_jax.scoring import bucket_lengths

        x = self._checked(features)
        N, n, _ = x.shape
        if self.mode == "windows":
            crop = self.card.test_crop if self.card.test_crop < N else 0
            windows = cut(x[crop : crop + 1], self.T)
        else:
            L = int(bucket_lengths(np.array([min(n, LONGEST)]))[0])
            windows = cut(x, L)
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

    def answer(
        self,
        features: Num[np.ndarray, "..."],
        edges: Float[np.ndarray, "T1"],
        name: str,
        path: pathlib.Path | None = None,
        *,
        truth: Sequence[events.Event] | None = None,
        damage: str = "",
        **rules: Any,
    ) -> Answer:
        """Scores one video's features and finds its events.

        Args:
          features: as `score` takes them.
          edges: seconds at which snippets begin, and the end: T + 1 of them, from 0.
          name: of the video, unique in a report.
          path: of the video file, if there is one.
          truth: events that are known to be there.
          damage: why only the beginning could be read, if so.
          **rules: of `events.find_events`: high, low, rise, share, min_length, max_gap.

        Raises:
          InputError: as `score`, or edges of another number.
        """
        scores = self.score(features)
        anomaly, classes = scores["anomaly"], scores.get("classes")
        edges = np.asarray(edges, np.float64)
        if edges.shape != (len(anomaly) + 1,):
            raise InputError(
                f"{name}: {len(anomaly)} snippets need {len(anomaly) + 1} edges, found "
                f"{edges.shape}"
            )
        found = events.find_events(anomaly, classes, edges, self.class_names, **rules)
        return Answer(
            name=name,
            path=path,
            edges=edges,
            anomaly=anomaly,
            classes=classes,
            class_names=self.class_names,
            events=tuple(found),
            truth=None if truth is None else tuple(truth),
            damage=damage,
        )

    def __call__(self, path: str | os.PathLike, **rules: Any) -> Answer:
        """Decodes a video, scores it and finds its events.

        Raises:
          InputError: not a video, or no image tower for it.
        """
        path = pathlib.Path(path)
        return self._of(self.extractor(path), path.stem, **rules)

    def _of(self, video: "Extracted", name: str, **rest: Any) -> Answer:
        from wsvad_jax.sources import snippet_edges

        edges = snippet_edges(video.seconds, video.duration)
        return self.answer(
            video.features, edges, name, video.path, damage=video.damage, **rest
        )

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
