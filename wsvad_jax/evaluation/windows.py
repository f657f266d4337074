"""Cuts videos into windows for scoring: those of a split, or of one video.

`config.eval.mode` chooses:

  'windows': consecutive windows of T snippets of one crop, scored independently. The
    last one is padded. `test_crop` of the dataset card is the crop's index.
  'whole': one window per video, padded, with all crops.

T is the recipe's window length, L the length of the windows made here, padding included,
and `length` the number of valid snippets in each.
"""

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float16, Int, Num

if TYPE_CHECKING:
    from wsvad_jax.data.dataset import Split
    from wsvad_jax.experiment.build import Experiment, ScoringModel

# Padding short videos to this length avoids many compiled programs.
MIN_PADDED_LENGTH = 32  # shortest length that whole videos are padded to, in snippets
MAX_WHOLE_LENGTH = 8192  # snippets per window, at most, of one video scored whole


@runtime_checkable
class WindowArray(Protocol):
    """Windows [W, N, L, D] in float16 that are read slice by slice."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, rows: slice, /) -> np.ndarray: ...


@dataclasses.dataclass(frozen=True)
class VideoWindows:
    """W windows of V videos, in the order of the videos."""

    features: WindowArray  # [W, N, L, D]
    video: Int[np.ndarray, "W"]  # index of each window's video
    length: Int[np.ndarray, "W"]  # valid snippets
    num_snippets: Int[np.ndarray, "V"]


def windows_of_video(
    features: Num[np.ndarray, "N T_video D"], scoring_model: "ScoringModel", crop: int
) -> VideoWindows:
    """Cuts one video into windows, by `config.eval.mode`.

    Args:
      features: snippet features of N crops.
      scoring_model: model and recipe.
      crop: crop that a model for windows scores; crop 0 where there are fewer.
    """
    from wsvad_jax.data.packing import split_windows

    N, T_video, _ = features.shape

    if scoring_model.config.eval.mode == "windows":
        crop = crop if crop < N else 0
        windows = split_windows(features[crop : crop + 1], scoring_model.T)
    # Powers of two need few programs; very long videos are cut to fit into memory.
    else:
        shortened = np.array([min(T_video, MAX_WHOLE_LENGTH)])
        windows = split_windows(features, int(bucket_lengths(shortened)[0]))

    W, _, L, _ = windows.shape
    length = np.minimum(T_video - np.arange(W) * L, L).astype(np.int32)
    video, num_snippets = np.zeros(W, np.int32), np.array([T_video], np.int32)
    return VideoWindows(windows, video, length, num_snippets)


def windows_of_split(
    experiment: "Experiment", name: str
) -> Iterator[tuple[Int[np.ndarray, "V"], VideoWindows]]:
    """Yields groups of a split's videos: their indices, and their windows.

    The windows of a group have one shape, so that they share a compiled program.

    Args:
      experiment: dataset, model and recipe.
      name: name of the split.
    """
    # Windows have one shape, so all videos form one group.
    if experiment.config.eval.mode == "windows":
        from wsvad_jax.data import packing

        crop = experiment.dataset.card.test_crop
        packed = packing.pack_windows(experiment.dataset, name, experiment.T, crop)
        yield (
            np.arange(len(packed.num_snippets)),
            VideoWindows(
                packed.features, packed.video, packed.length, packed.num_snippets
            ),
        )
        return

    # Whole videos are grouped by padded length.
    split = experiment.dataset.split(name)
    num_snippets = np.array([e.num_snippets for e in split.entries], np.int32)
    buckets = bucket_lengths(num_snippets)

    for L in np.unique(buckets):
        index = np.flatnonzero(buckets == L)
        length = num_snippets[index]
        features = PaddedVideos(split, index, int(L), experiment.dataset.width)
        yield index, VideoWindows(features, np.arange(len(index)), length, length)


def bucket_lengths(num_snippets: Int[np.ndarray, "V"]) -> Int[np.ndarray, "V"]:
    """Returns the padded length of each video: the next power of two, at least 32.

    One program is compiled per length, so any split needs only a few.
    """
    exponent = np.ceil(np.log2(np.maximum(num_snippets, MIN_PADDED_LENGTH)))
    return (2**exponent).astype(np.int64)


class PaddedVideos:
    """Videos of a split padded to L snippets, read slice by slice."""

    def __init__(self, split: "Split", index: Int[np.ndarray, "V"], L: int, width: int):
        """Reads no features yet.

        Args:
          split: split of the videos.
          index: indices of the videos, which have the same number of crops.
          L: snippets to which each video is padded.
          width: width D of the features.
        """
        self.split, self.index = split, index
        num_crops = split.entries[int(index[0])].num_crops
        self.shape = (len(index), num_crops, L, width)

    def __getitem__(self, rows: slice) -> Float16[np.ndarray, "V N L D"]:
        features = [self.split[int(i)].features for i in self.index[rows]]
        x = np.zeros((len(features), *self.shape[1:]), np.float16)
        for row, value in zip(x, features, strict=True):
            row[:, : value.shape[1]] = value
        return x
