"""Turns records into batches: resample, pack, order, gather.

A split is resampled to one length once (`pack` for training, `windows` for scoring) and
kept as a memory-mapped file beside its dataset. A batch is then a gather by index, on
the host (`gather`, `prefetch`) or on the device. The order of batches is a pure
function of (seed, epoch), so a run needs only its step to resume.
"""

import contextlib
import dataclasses
import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Float16, Float32, Int, Int32, Num

from wsvad_jax.data.dataset import Dataset, Split
from wsvad_jax.data.mapped import mapped
from wsvad_jax.data.records import Batch
from wsvad_jax.errors import InputError

AHEAD = 3  # batches prepared in advance

Item = TypeVar("Item")


@dataclasses.dataclass(frozen=True)
class Packed:
    """A training split resampled to one length: S samples, each a crop or a video."""

    features: Float16[np.ndarray, "S N T D"]  # memory-mapped
    length: Int32[np.ndarray, "S"]  # valid snippets
    label: Float32[np.ndarray, "S C"]  # multi-hot
    video: list[str]  # names of the split's videos
    index: Int32[np.ndarray, "S"]  # index of each sample's video


@dataclasses.dataclass(frozen=True)
class Windows:
    """A split cut into W windows of T snippets, in the order of the videos."""

    features: Float16[np.ndarray, "W N T D"]  # memory-mapped
    video: Int32[np.ndarray, "W"]  # index of each window's video
    length: Int32[np.ndarray, "W"]  # valid snippets
    videos: list[str]
    num_snippets: Int32[np.ndarray, "V"]


def resample(features: Num[np.ndarray, "N n D"], T: int) -> Num[np.ndarray, "N {T} D"]:
    """Resamples a video to T snippets, as in the released code.

    With `edges = linspace(0, n, T + 1)` cut to integers, bin i is the float32 mean of
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


def pack(dataset: Dataset, split: str, T: int, *, samples: str = "crops") -> Packed:
    """Returns a split resampled to T snippets, memory-mapped.

    Args:
      dataset: prepared dataset; the file is kept in its folder `packed`.
      split: name of the split.
      T: snippets per sample.
      samples: 'crops' for one sample per crop (N = 1), 'videos' for one per video.

    Raises:
      InputError: the split doesn't exist, or there is no space for the file.
    """
    if samples not in ("crops", "videos"):
        raise InputError(f"samples {samples!r}: expected 'crops' or 'videos'")

    records = dataset.split(split)
    entries = records.entries

    crops = np.array([e.num_crops for e in entries], np.int32)
    repeats = crops if samples == "crops" else np.ones_like(crops)
    index = np.repeat(np.arange(len(entries), dtype=np.int32), repeats)
    N = 1 if samples == "crops" else int(crops[0])
    shape = (len(index), N, T, dataset.width)

    def chunks() -> Iterator[np.ndarray]:
        # Videos are read one by one: a whole split may exceed the memory.
        for record in records:
            yield resample(record.features, T).reshape(-1, *shape[1:])

    features = mapped(dataset, f"{split}-{samples}-{T}", shape, chunks, records)

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


def windows(dataset: Dataset, split: str, T: int, crop: int | None = None) -> Windows:
    """Returns a split cut into consecutive windows of T snippets, memory-mapped.

    The last window of a video is zero-padded.

    Args:
      dataset: prepared dataset; the file is kept in its folder `packed`.
      split: name of the split.
      T: snippets per window.
      crop: index of the crop; None takes all crops.

    Raises:
      InputError: the split or crop doesn't exist, or there is no space for the file.
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
            yield cut(record.features[chosen], T)

    name = f"{split}-windows-{T}-crop{'s' if crop is None else crop}"
    features = mapped(dataset, name, shape, chunks, records)
    # Place of each window in its video: the last one holds the remaining snippets.
    position = np.arange(len(video)) - np.repeat(np.cumsum(counts) - counts, counts)
    length = np.minimum(snippets[video] - position * T, T).astype(np.int32)

    return Windows(features, video, length, [e.video for e in entries], snippets)


def cut(features: Num[np.ndarray, "N n D"], T: int) -> Num[np.ndarray, "W N {T} D"]:
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


def holdout(
    label: Float[np.ndarray, "V C"], fraction: float, seed: int
) -> Bool[np.ndarray, "V"]:
    """Chooses validation videos, about `fraction` of each class.

    The class of a video is its first abnormal one. Fractional shares are rounded by
    largest remainder, so the total is exact. Of both normal and abnormal videos, at
    least one is held out and one remains. A pure function of its arguments.

    Raises:
      InputError: there are fewer than two normal or two abnormal videos.
    """
    if not 0 < fraction < 1:
        raise InputError(f"a held-out fraction of {fraction}: expected between 0 and 1")

    abnormal = label[:, 1:].max(1) > 0
    strata = np.where(abnormal, 1 + label[:, 1:].argmax(1), 0)

    out = np.zeros(len(label), bool)
    for side in (0, 1):
        rows = np.flatnonzero(abnormal == side)
        if len(rows) < 2:
            raise InputError(
                f"{len(rows)} {'abnormal' if side else 'normal'} training videos are "
                "too few to hold one out for selection; add videos, or train without "
                "a held-out part (select the last weights)"
            )

        # How many of each class: the floor of its share, then the largest remainders.
        total = min(max(round(fraction * len(rows)), 1), len(rows) - 1)
        classes, counts = np.unique(strata[rows], return_counts=True)
        share = total * counts / len(rows)
        take = np.floor(share).astype(int)
        order = np.argsort(take - share, kind="stable")  # largest remainder first
        take[order[: total - take.sum()]] += 1

        # A generator per class, so the choice doesn't depend on the other classes.
        for c, count in zip(classes, take, strict=True):
            members = rows[strata[rows] == c]
            out[_random(seed, int(c)).permutation(members)[:count]] = True

    return out


def epoch_order(
    is_normal: Bool[np.ndarray, "S"],
    batch_size: int,
    pairing: str,
    seed: int,
    epoch: int,
) -> Int32[np.ndarray, "steps B"]:
    """Returns the samples of each step of an epoch, a pure function of (seed, epoch).

    No sample appears twice. Samples that don't fill a batch are left out of this epoch.

    Args:
      is_normal: True for normal samples.
      batch_size: samples per step B.
      pairing: 'halves' for B / 2 normal samples, then B / 2 abnormal ones, where the
        smaller side ends the epoch; 'mixed' for all samples together.
      seed: seed of the run.
      epoch: index of the epoch.

    Raises:
      InputError: the samples don't fill one batch, or B is odd with 'halves'.
    """
    random = _random(seed, epoch)
    # Each side fills its share of every batch.
    if pairing == "mixed":
        sides, share = [np.arange(len(is_normal))], batch_size
    elif pairing == "halves":
        sides = [np.flatnonzero(is_normal), np.flatnonzero(~is_normal)]
        share = batch_size // 2
        if batch_size % 2:
            raise InputError(
                f"batch_size {batch_size}: halves of normal and abnormal samples need "
                "an even number"
            )
    else:
        raise InputError(f"pairing {pairing!r}: expected 'halves' or 'mixed'")

    # The smaller side ends the epoch, so no sample is drawn twice.
    steps = min(len(side) for side in sides) // max(share, 1)
    if not steps or share < 1:
        found = " and ".join(str(len(side)) for side in sides)
        kinds = "normal and abnormal " if len(sides) == 2 else ""
        raise InputError(
            f"batch_size {batch_size} asks for {share} {kinds}training samples a step"
            f"{' each' if kinds else ''}, but there are {found}; choose a batch_size "
            "that they fill"
        )

    # A fresh permutation per epoch decides which samples are left out.
    parts = [random.permutation(side)[: steps * share] for side in sides]
    halves = [part.reshape(steps, share) for part in parts]
    return np.concatenate(halves, 1).astype(np.int32)


def gather(packed: Packed, rows: Int[np.ndarray, "B"]) -> Batch:
    """Gathers samples of a packed split into a batch on the host."""
    return Batch(
        features=np.asarray(packed.features[rows]),
        length=packed.length[rows],
        label=packed.label[rows],
        mask=np.ones(len(rows), bool),
    )


def batches(
    packed: Packed, order: Int[np.ndarray, "steps B"], start_step: int = 0
) -> Iterator[Batch]:
    """Gathers the batches of an epoch from `start_step` on, with prefetching."""
    return prefetch(gather(packed, rows) for rows in order[start_step:])


def prefetch(items: Iterable[Item], ahead: int = AHEAD) -> Iterator[Item]:
    """Yields `items` in order while a thread prepares up to `ahead` of them.

    An error in `items` is raised here, at its place in the order. The thread starts
    with the first item requested. It ends after the last one, or when this iterator is
    closed or garbage-collected.
    """
    # Bounded, so the thread stays at most `ahead` items in front.
    ready: queue.Queue = queue.Queue(ahead)
    stop = threading.Event()
    end = object()

    def put(item: Any, error: BaseException | None = None) -> None:
        # Never blocks for good: a consumer that stopped reads the queue no more.
        while not stop.is_set():
            with contextlib.suppress(queue.Full):
                return ready.put((item, error), timeout=0.1)

    def work() -> None:
        try:
            for item in items:
                put(item)
                if stop.is_set():
                    return
            put(end)
        except BaseException as e:  # noqa: BLE001 raised again by the consumer
            put(end, e)

    threading.Thread(target=work, daemon=True, name="prefetch").start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is end:
                return
            yield item
    finally:
        stop.set()


def _random(seed: int, part: int) -> np.random.RandomState:
    """Random generator of (seed, part); NumPy guarantees that its stream is stable."""
    # A RandomState, whose stream NumPy has frozen, unlike that of a Generator.
    return np.random.RandomState([seed % 2**32, part])
