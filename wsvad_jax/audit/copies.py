"""Groups training videos that share content, which must be in one fold."""

import hashlib
from typing import TYPE_CHECKING

from wsvad_jax.data import packing
from wsvad_jax.datasets.alike import alike_videos, groups
from wsvad_jax.utils.text import hours_or_seconds

if TYPE_CHECKING:
    from wsvad_jax.audit.video_files import VideosAtHand
    from wsvad_jax.experiment.build import Experiment

MAX_HOURS = 10.0  # of video that are decoded to recognise copies


def group_copies(
    experiment: "Experiment", videos: "VideosAtHand"
) -> tuple[list[tuple[int, ...]], list[str]]:
    """Returns groups of training videos by index, and notes about the comparison.

    Videos with equal features are copies. Other encodings and overlapping clips are
    recognised in the video files.

    Args:
      experiment: opened recipe and dataset.
      videos: video files, as far as they are at hand.
    """
    entries = experiment.dataset.split("train").entries
    index = {entry.video: i for i, entry in enumerate(entries)}
    pairs = [*_equal_features(experiment)]

    notes = []
    if videos.hours > MAX_HOURS:
        notes.append(
            f"{hours_or_seconds(videos.hours)} of video are not compared with each other "
            f"(more than {MAX_HOURS:g} h): of copies, only those with equal features are "
            "recognised"
        )
    elif videos.paths:
        pairs += alike_videos(videos.paths)
    else:
        notes.append(
            "no video files at hand: of copies, only those with equal features are "
            "recognised"
        )
    return [tuple(index[name] for name in group) for group in groups(pairs)], notes


def _equal_features(experiment: "Experiment") -> list[tuple[str, ...]]:
    """Returns the names of videos whose packed features are equal."""
    import numpy as np

    samples = experiment.config.data.samples
    packed = packing.pack_split(
        experiment.dataset, "train", experiment.T, samples=samples
    )
    _, first = np.unique(packed.index, return_index=True)

    by_digest: dict[bytes, list[str]] = {}
    for video, row in zip(packed.video, first, strict=True):
        content = np.ascontiguousarray(packed.features[row]).tobytes()
        digest = hashlib.blake2b(content + bytes([int(packed.length[row]) % 256]))
        by_digest.setdefault(digest.digest(), []).append(video)
    return [tuple(names) for names in by_digest.values() if len(names) > 1]
