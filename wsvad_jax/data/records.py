"""Defines the record of a video on disk and the batch that a model receives.

Letters: B videos, N crops, T snippets, D feature width, C classes (0 is normal).
"""

import dataclasses
from typing import Any

import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Float16, Int, Num

AnyArray = Array | np.ndarray
FRAMES_PER_SNIPPET = 16


@dataclasses.dataclass(frozen=True)
class FeatureProtocol:
    """Settings that made the features, stored beside them to reproduce them."""

    encoder: str = "unknown"  # a hub name, or a folder's name with its weights' hash
    stride: int = FRAMES_PER_SNIPPET  # frames per snippet
    crops: int = 1
    frame: str = "unknown"  # encoded frames of a snippet: first, middle, mean
    resize: str = "unknown"  # conversion of frames to the tower's size: stretch, clip
    # Settings covered by the encoder's hash: weights, activation, mean … Empty in files
    # of older versions, and if the encoder is no CLIP model.
    encoder_settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    # Precision of the tower's activations: float32, bfloat16. Features of both fit each
    # other, so no comparison of protocols looks at it.
    dtype: str = "unknown"


@dataclasses.dataclass(frozen=True)
class Record:
    """One video: features, class labels and ground-truth events."""

    video: str
    features: Float16[np.ndarray, "N T D"]
    label: tuple[int, ...]  # class indices; (0,) is a normal video
    num_frames: int
    segments: tuple[tuple[int, int, int], ...] = ()  # (start, end, class), frames

    @property
    def num_snippets(self) -> int:
        return self.features.shape[1]


@struct.dataclass
class Batch:
    """Videos padded to one length; normal videos first in balanced batches."""

    # Any, since JAX also builds this tree from shardings and shapes.
    features: Num[AnyArray, "B N T D"] | Any
    length: Int[AnyArray, "B"] | Any  # valid snippets
    label: Float[AnyArray, "B C"] | Any  # multi-hot
    mask: Bool[AnyArray, "B"] | Any  # False: only fills an evaluation batch
