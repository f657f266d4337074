"""What a model says about one video, and the files that say it on."""

import dataclasses
import pathlib

import numpy as np
from jaxtyping import Float

from wsvad_jax.events import Event


@dataclasses.dataclass(frozen=True)
class Answer:
    """Scores and events of one video. T snippets, C classes (0 is normal)."""

    name: str  # unique among the videos of a report
    path: pathlib.Path | None  # the video file; None where only features were given
    edges: Float[np.ndarray, "T1"]  # seconds; snippet t lasts from edges[t] to [t + 1]
    anomaly: Float[np.ndarray, "T"]  # in [0, 1]
    classes: Float[np.ndarray, "T C"] | None  # probabilities
    class_names: tuple[str, ...]  # of the card, normal first
    events: tuple[Event, ...]
    truth: tuple[Event, ...] | None = None  # None: not known
    damage: str = ""  # why only the beginning could be read, if so
