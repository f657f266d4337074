"""Resamples a split to one length, or cuts it into windows, as memory-mapped arrays."""

import dataclasses
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float16, Float32, Int32, Num

from wsvad_jax.data.dataset import Dataset, Split
from wsvad_jax.data.memmap_cache import open_or_build_memmap
from wsvad_jax.utils.errors import InputError


@dataclasses.dataclass(frozen=True)
class Packed:
    """A training split resampled to one length: S samples, each a crop or a video."""

    features: Float16[np.ndarray, "S N T D"]  # memory-mapped
    length: Int32[np.ndarray, "S"]  # number of valid (unpadded) snippets
    label: Float32[np.ndarray, "S C"]  # multi-hot
    video: list[str]  # names of the split's videos
    index: Int32[np.ndarray, "S"]  # index of each sample's video


@dataclasses.dataclass(frozen=True)
class Windows:
    """A split cut into W windows of T snippets, in the order of the videos."""

    features: Float16[np.ndarray, "W N T D"]  # memory-mapped
    video: Int32[np.ndarray, "W"]  # index of each window's video
    length: Int32[np.ndarray, "W"]  # number of valid (unpadded) snippets
    videos: list[str]
    num_snippets: Int32[np.ndarray, "V"]


def resample(features: Num[np.ndarray, "N n D"], T: int) -> Num[np.ndarray, "N {T} D"]:
    """Resamples a video to T snippets, as in the released code.

    With `edges = linspace(0, n, T + 1)` truncated to integers, bin i is the float32 mean of
    rows edges[i] to edges[i + 1]. A video of at most T snippets is zero-padded.
    """
    N, n, D = features.shape
    if n <= T:
        out = np.zeros((N, T, D), features.dtype)
        out[:, :n] = features
        return out

    edges = np.linspace(0, n, T + 1).astype(np.int64)
    # `reduceat` gives an empty bin the row at its edge, as the released code does.
    sums = np.add.reduceat(features.astype(np.float32), edges[:-1], axis=1)
    counts = np.maximum(np.diff(edges), 1).astype(np.float32)
    return (sums / counts[:, None]).astype(features.dtype)


def pack_split(
    dataset: Dataset, split: str, T: int, *, samples: str = "crops"
) -> Packed:
    """Returns a split resampled to T snippets, memory-mapped.

    Args:
      dataset: prepared dataset; the array is cached in DATASET/packed.
      split: name of the split.
      T: snippets per sample.
      samples: 'crops' for one sample per crop (N = 1), 'videos' for one per video.

    Raises:
      InputError: the split doesn't exist, or the disk is full.
    """
    if samples not in ("crops", "videos"):
        raise InputError(f"samples {samples!r}: expected 'crops' or 'videos'")

    records = dataset.split(split)
    entries = records.entries

    # A split's videos all have the same number of crops.
    crops = np.array([e.num_crops for e in entries], np.int32)
    samples_per_video = crops if samples == "crops" else np.ones_like(crops)
    index = np.repeat(np.arange(len(entries), dtype=np.int32), samples_per_video)
    N = 1 if samples == "crops" else int(crops[0])
    shape = (len(index), N, T, dataset.width)

    def chunks() -> Iterator[np.ndarray]:
        # Videos are read one by one: a whole split may exceed the memory.
        for record in records:
            yield resample(record.features, T).reshape(-1, *shape[1:])

    features = open_or_build_memmap(
        dataset, f"{split}-{samples}-{T}", shape, chunks, records
    )

    # Crops of a video share its length and label.
    snippets = np.array([e.num_snippets for e in entries], np.int32)
    label = multi_hot(records, len(dataset.card.classes))

    return Packed(
        features,
        np.minimum(snippets, T)[index].astype(np.int32),
        label[index],
        [e.video for e in entries],
        index,
    )


def pack_windows(
    dataset: Dataset, split: str, T: int, crop: int | None = None
) -> Windows:
    """Returns a split cut into consecutive windows of T snippets, memory-mapped.

    The last window of a video is zero-padded.

    Args:
      dataset: prepared dataset; the array is cached in DATASET/packed.
      split: name of the split.
      T: snippets per window.
      crop: index of the crop; None takes all crops.

    Raises:
      InputError: the split or crop doesn't exist, or the disk is full.
    """
    records = dataset.split(split)
    entries = records.entries

    crops = min(e.num_crops for e in entries)
    if crop is not None and not 0 <= crop < crops:
        raise InputError(
            f"{dataset.path}: no crop {crop}, the {split} features have {crops}; "
            "correct test_crop in the card and prepare the dataset again"
        )

    snippets = np.array([e.num_snippets for e in entries], np.int32)
    counts = -(-snippets // T)
    video = np.repeat(np.arange(len(entries), dtype=np.int32), counts)
    shape = (len(video), crops if crop is None else 1, T, dataset.width)

    def chunks() -> Iterator[np.ndarray]:
        for record in records:
            chosen = slice(None) if crop is None else slice(crop, crop + 1)
            yield split_windows(record.features[chosen], T)

    name = f"{split}-windows-{T}-crop{'s' if crop is None else crop}"
    features = open_or_build_memmap(dataset, name, shape, chunks, records)

    # Index of each window within its video. The last window may be partial.
    position = np.arange(len(video)) - np.repeat(np.cumsum(counts) - counts, counts)
    length = np.minimum(snippets[video] - position * T, T).astype(np.int32)

    return Windows(features, video, length, [e.video for e in entries], snippets)


def split_windows(
    features: Num[np.ndarray, "N n D"], T: int
) -> Num[np.ndarray, "W N {T} D"]:
    """Cuts a video into ceil(n / T) windows, the last one zero-padded."""
    N, n, D = features.shape
    W = -(-n // T)
    padded = np.zeros((N, W * T, D), features.dtype)
    padded[:, :n] = features
    return np.moveaxis(padded.reshape(N, W, T, D), 1, 0)


def multi_hot(records: Split, C: int) -> Float32[np.ndarray, "V {C}"]:
    """Returns the multi-hot labels of the videos."""
    label = np.zeros((len(records.entries), C), np.float32)
    for row, entry in zip(label, records.entries, strict=True):
        row[list(entry.label)] = 1
    return label


def random_state(seed: int, stream: int) -> np.random.RandomState:
    """Returns the random generator of one stream, such as an epoch, of a seed."""
    # NumPy has frozen the values of RandomState, unlike those of Generator.
    return np.random.RandomState([seed % 2**32, stream])
