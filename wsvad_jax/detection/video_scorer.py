"""A model that is loaded for scoring: a model folder, or zero-shot CLIP.

It knows which features it takes, makes them of videos, and scores them.
"""

import functools
import os
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int, Num

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wsvad_jax.clip.snapshot import Snapshot
    from wsvad_jax.data.records import FeatureProtocol
    from wsvad_jax.evaluation.windows import VideoWindows
    from wsvad_jax.experiment.class_words import Words
    from wsvad_jax.extraction.extractor import Extractor
    from wsvad_jax.models.scores import SnippetScores
    from wsvad_jax.weights.trained_model import TrainedModel

# Which snippets a live score depends on.
ALONE = (
    "a score depends on its snippet alone, as that of `detect` on the recorded video."
)
OWN_MEAN = (
    "a score is relative to the mean of the last {T} snippets; `detect` on the recorded "
    "video takes the mean of the whole video and may differ."
)
CAUSAL = (
    "a score is that of the newest snippet in a window of the last {T}: it knows no later "
    "snippet. The model was trained on windows in which every snippet sees those before "
    "and after it; `detect` on the recorded video scores that way and may differ."
)


class VideoScorer:
    """A trained model, or zero-shot CLIP, that scores the features of videos.

    `Detector` adds events.
    """

    has_other_words = False  # whether a trained model reads other words than its own

    def __init__(
        self,
        checkpoint: str | os.PathLike,
        *,
        clip: str | os.PathLike | None = None,
        resize: str | None = None,
        force: bool = False,
        progress: bool = True,
        classes: "Words | None" = None,
        normal: "str | Sequence[str] | None" = None,
        dtype: str | None = None,
    ):
        """Loads the model and puts it on the devices.

        Args:
          checkpoint: model folder, workdir of training with one in it, or
            USER/NAME[@REVISION] of the Hugging Face hub.
          clip: hub name or folder of the CLIP model of the features; needed if the one
            that the model folder names isn't available.
          resize: `stretch` or `clip`, how frames are cut to the image tower's size,
            where the model folder doesn't say.
          force: whether to accept a CLIP model and features that differ from the
            training's; `forced` lists the differences.
          progress: whether progress, and warnings about videos, are printed.
          classes: other words for the anomaly classes, as in `Detector.zero_shot`. The
            trained weights stay; they may follow other words little.
          normal: other words for the normal class, with `classes`.
          dtype: precision of the image tower, `float32`, `bfloat16` or `auto`; None is
            that of the training's features.

        Raises:
          InputError: no model there, not the CLIP model that it was trained with,
            `classes` for a model that reads no words, or an unknown `dtype`.
        """
        from wsvad_jax.weights.trained_model import open_trained_model

        self.clip = None if clip is None else os.fspath(clip)
        self.force, self.progress = force, progress
        words = {"classes": classes, "normal": normal}
        model = open_trained_model(checkpoint, clip=self.clip, force=force, **words)
        self.has_other_words = classes is not None
        self._prepare(model, resize, dtype)

    def _prepare(
        self, model: "TrainedModel", resize: str | None, dtype: str | None = None
    ) -> None:
        """Puts the model on the devices."""
        import jax

        from wsvad_jax.detection.feature_check import FeatureCheck
        from wsvad_jax.evaluation.scorer import Scorer
        from wsvad_jax.parallel.mesh import replicated_sharding

        self.folder, self.source = model.folder, model.source
        self.meta, self.card = model.meta, model.card
        self.network = model.network
        self.config, self.T = self.network.config, self.network.T
        self.width = self.network.width
        self.class_names = self.card.class_names
        self.mode = self.config.eval.mode
        self.is_trained = self.network.spec.is_trained

        # Features are compared with those of the training before they are scored.
        self.features = FeatureCheck.of_model(model, resize, self.force, dtype)
        if model.snapshot is not None:
            self.snapshot = model.snapshot  # in the place of the cached property

        # Videos come one by one, so small batches are used.
        self.scorer = Scorer(self.network, fit_batches=True)
        variables = {"params": model.params, "batch_stats": model.batch_stats}
        variables = jax.device_put(variables, replicated_sharding(self.network.mesh))
        self.weights = self.scorer.weights(**variables)

    def __repr__(self) -> str:
        made = f"trained on {self.card.name}" if self.is_trained else "not trained"
        return f"{type(self).__name__}({self.source!r}: {self.meta['model']} {made})"

    def description(self) -> dict[str, object]:
        """Returns where the model comes from and what it knows, for results."""
        model = self.meta["model"]
        if self.is_trained:
            words = self._words() if self.has_other_words else {}
            source = {"checkpoint": self.source, "model": model}
            return {**source, "trained on": self.card.name, **words}

        # None is the CLIP model's temperature; results show the value.
        fields, text = dict(self.config.model), self.network.text
        if fields["temperature"] is None and text is not None:
            scale = float(text.params["logit_scale"])
            fields["temperature"] = float(f"{np.exp(-scale):.4g}")
        return {"model": model, "clip": self.clip, **self._words(), **fields}

    def _words(self) -> dict[str, str]:
        """Returns the words of the classes as the flags write them."""
        from wsvad_jax.experiment.class_words import in_words

        normal, *anomalies = self.card.classes
        words = ",".join(map(in_words, anomalies))
        return {"words": words, "normal": "|".join(normal.prompts)}

    def causality(self) -> str:
        """Returns a sentence on which snippets a live score depends."""
        if self.is_trained:
            return CAUSAL.format(T=self.T)
        own_mean = self.config.model.subtract_mean
        return OWN_MEAN.format(T=self.T) if own_mean else ALONE

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
          length: valid snippets of each window; the rest is padding.
        """
        return self.scorer(
            self.weights, features.astype(np.float16), length.astype(np.int32)
        )
