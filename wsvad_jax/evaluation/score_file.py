"""Writes scores.npz: the curves and events of every scored video."""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from wsvad_jax.metrics.event_level import VideoEvents
from wsvad_jax.metrics.frame_level import EvalVideo
from wsvad_jax.results.seed_events import KEY
from wsvad_jax.utils.files import atomic_path


def write_scores(
    path: pathlib.Path,
    videos: Sequence[EvalVideo],
    found: Mapping[str, VideoEvents],
) -> None:
    """Writes each video's curves and events.

    They are VIDEO/anomaly, /classes, /anomaly_BRANCH, and /events: rows (start, end,
    score), in frames. Videos of unknown truth have no events.
    """
    arrays = {}
    for v in videos:
        arrays[f"{v.video}/anomaly"] = v.anomaly
        if v.classes is not None:
            arrays[f"{v.video}/classes"] = v.classes
        for name, curve in v.extra.items():
            arrays[f"{v.video}/anomaly_{name}"] = curve
        if v.video in found:
            own = found[v.video]
            arrays[f"{v.video}/{KEY}"] = np.column_stack([own.found, own.score])
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, **arrays)
