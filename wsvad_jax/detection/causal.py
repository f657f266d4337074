"""Scores without later snippets, as live sources have them.

A snippet is scored as the newest in a window of the model's T snippets. The first
windows are padded at their end, as a video's last window is.
"""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float16, Num

if TYPE_CHECKING:
    from wsvad_jax.detection.video_scorer import VideoScorer
    from wsvad_jax.models.scores import SnippetScores

CHUNK = 64  # windows scored at once


class Window:
    """The features of the last T snippets, as a model sees them."""

    def __init__(self, crops: int, T: int, width: int):
        """Starts empty; memory is fixed from here on."""
        self.ring = np.zeros((crops, T, width), np.float16)
        self.count = 0  # snippets so far

    def push(self, feature: Float16[np.ndarray, "N D"]) -> None:
        """Replaces the oldest snippet's features by the newest's."""
        self.ring[:, self.count % self.ring.shape[1]] = feature
        self.count += 1

    @property
    def length(self) -> int:
        return min(self.count, self.ring.shape[1])

    def features(self) -> Float16[np.ndarray, "1 N T D"]:
        """Returns the snippets in the order of time, padded with zeros."""
        T = self.ring.shape[1]
        shift = -(self.count % T) if self.count > T else 0
        return np.roll(self.ring, shift, axis=1)[None]


def scored_crops(scorer: "VideoScorer", crops: int) -> slice:
    """Returns the crops that a model scores, of those that features have.

    Args:
      scorer: a model for windows scores the card's crop alone, others all crops.
      crops: number of crops of the features.
    """
    if scorer.mode != "windows":
        return slice(0, crops)
    crop = scorer.card.test_crop if scorer.card.test_crop < crops else 0
    return slice(crop, crop + 1)


def causal_scores(
    scorer: "VideoScorer", features: Num[np.ndarray, "N T D"]
) -> "SnippetScores":
    """Scores a recorded video as `--live` would; float32, [T] and [T, C].

    Args:
      scorer: model.
      features: as `VideoScorer.score` takes them.

    Raises:
      InputError: another shape or width, or values that are not finite.
    """
    from wsvad_jax.detection.inputs import check_features
    from wsvad_jax.models.scores import SnippetScores

    x = check_features(features, scorer.width)
    x = x[scored_crops(scorer, len(x))]
    window = Window(len(x), scorer.T, scorer.width)

    anomaly, classes = [], []
    for start in range(0, x.shape[1], CHUNK):
        # One window per snippet, which is its newest.
        windows, length = [], []
        for t in range(start, min(start + CHUNK, x.shape[1])):
            window.push(x[:, t])
            windows.append(window.features())
            length.append(window.length)
        n = np.array(length, np.int32)
        scores = scorer.score_windows(np.concatenate(windows), n)

        newest = np.arange(len(n)), n - 1
        anomaly.append(scores.anomaly[newest])
        if scores.classes is not None:
            classes.append(scores.classes[newest])
    return SnippetScores(
        np.concatenate(anomaly), np.concatenate(classes) if classes else None
    )
