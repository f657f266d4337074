"""Scores the newest snippets of several live sources together.

The snippets that are ready at the same time go through the image tower in one call, and
their windows through the model in another. Batches are padded to a power of two, and all
of these sizes are compiled beforehand. So no snippet waits for others, and none for a
compiler.
"""

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float16, UInt8

from wsvad_jax.alarms import event_ids
from wsvad_jax.detection.calibration import model_identity
from wsvad_jax.detection.causal import Window, scored_crops

if TYPE_CHECKING:
    from wsvad_jax.detection.detector import Detector

MAX_PICTURES = 64  # per call of the image tower, so that memory stays bounded


class SnippetEncoder:
    """Encodes snippets of live sources with the image tower."""

    def __init__(self, detector: "Detector", snippets: int = 1):
        """Copies the detector's extractor, whose batch is a few snippets' pictures.

        Args:
          detector: model with its image tower.
          snippets: largest number of snippets that are encoded together.
        """
        self.extractor = copy.copy(detector.extractor)
        crops = self.extractor.crops

        # Crops that aren't scored need no encoding.
        self.chosen = scored_crops(detector, crops)
        self.crops = self.chosen.stop - self.chosen.start

        self.frame, self.stride = self.extractor.frame, self.extractor.stride
        frames = self.stride if self.frame == "mean" else 1
        self.pictures = self.crops * frames  # of one snippet
        largest = min(snippets, max(MAX_PICTURES // self.pictures, 1))
        self.sizes = [1]  # in snippets
        while self.sizes[-1] < largest:
            self.sizes.append(2 * self.sizes[-1])

    def preprocess(self, frame: Any) -> UInt8[np.ndarray, "N S S 3"]:
        """Cuts an `av.VideoFrame` into the crops that are scored."""
        return self.extractor.preprocess(frame)[self.chosen]

    def features(
        self, snippets: Sequence[tuple[UInt8[np.ndarray, "N S S 3"], ...]]
    ) -> list[Float16[np.ndarray, "N D"]]:
        """Returns each snippet's features, the mean over its pictures.

        Args:
          snippets: pictures of each snippet; at least one snippet.
        """
        fitting = [size for size in self.sizes if size >= len(snippets)]
        size = fitting[0] if fitting else self.sizes[-1]
        self.extractor.batch_size = size * self.pictures

        # A source's last snippet may have fewer pictures.
        counts = [len(pictures) for pictures in snippets]
        flat = self.extractor.images(np.concatenate([p for s in snippets for p in s]))
        flat = flat.reshape(sum(counts), self.crops, -1)
        parts = np.split(flat, np.cumsum(counts)[:-1])
        return [(part.sum(0) / len(part)).astype(np.float16) for part in parts]


class LiveScorer:
    """Image tower and model for the snippets of live sources."""

    def __init__(self, detector: "Detector", sources: int = 1):
        """Compiles the programs, so that the first snippet doesn't wait for them.

        Args:
          detector: model with its image tower.
          sources: largest number of sources with a snippet at the same time.
        """
        self.detector, self.encoder = detector, SnippetEncoder(detector, sources)
        self.model_mark = event_ids.mark_of(model_identity(detector))

        # Blank snippets go through image tower and model.
        size = self.encoder.extractor.config.image_size
        blank = np.zeros((self.encoder.crops, size, size, 3), np.uint8)
        for count in self.encoder.sizes:
            self.encoder.features([(blank,)] * count)
        count = 1
        while True:
            self._scores([self.new_window()] * count)
            if count >= sources:
                break
            count *= 2

    def new_window(self) -> Window:
        """Returns the empty window of one source."""
        return Window(self.encoder.crops, self.detector.T, self.detector.width)

    def score(
        self,
        windows: Sequence[Window],
        snippets: Sequence[tuple[UInt8[np.ndarray, "N S S 3"], ...]],
    ) -> list[tuple[float, Any]]:
        """Adds a snippet to each window and scores it.

        Args:
          windows: windows of different sources; at least one.
          snippets: pictures of the newest snippet of each.

        Returns:
          Anomaly score of each new snippet, and its class probabilities [C], None
          without classes.
        """
        features = self.encoder.features(snippets)
        for window, feature in zip(windows, features, strict=True):
            window.push(feature)

        scores = self._scores(windows)
        found = []
        for k, window in enumerate(windows):
            newest = k, window.length - 1
            classes = None if scores.classes is None else scores.classes[newest]
            found.append((float(scores.anomaly[newest]), classes))
        return found

    def _scores(self, windows: Sequence[Window]) -> Any:
        length = np.array([max(window.length, 1) for window in windows], np.int32)
        features = np.concatenate([window.features() for window in windows])
        return self.detector.score_windows(features, length)
