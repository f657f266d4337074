"""Reads the inputs of detection: features and times of videos and feature files."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Num

from wsvad_jax.utils.errors import InputError

if TYPE_CHECKING:
    from wsvad_jax.data.records import FeatureProtocol
    from wsvad_jax.detection.calibration import Calibration
    from wsvad_jax.detection.inputs import VideoInput
    from wsvad_jax.detection.video_scorer import VideoScorer


@dataclasses.dataclass(frozen=True)
class TimedVideo:
    """Features of one input, a video or feature file, with their times."""

    name: str
    path: pathlib.Path | None  # video file; None for features
    features: Num[np.ndarray, "N T D"]
    edges: Float[np.ndarray, "T1"]  # seconds
    num_frames: int  # 0: unknown
    protocol: "FeatureProtocol"
    damage: str = ""
    remark: str = ""


def read_each(
    scorer: "VideoScorer",
    videos: Sequence["VideoInput"],
    fps: float | None = None,
    errors: list[InputError] | None = None,
    calibration: "Calibration | None" = None,
    tick: Callable[[int], None] = lambda frames: None,
) -> Iterator[TimedVideo]:
    """Yields the features of inputs: feature files first, then videos when complete.

    Args:
      scorer: model.
      videos, fps, errors: as `detect_videos` takes them.
      calibration: calibration whose features these must be like.
      tick: callback with the number of frames decoded since its last call.

    Raises:
      InputError: features made in another way than the model's, or than those of the
        calibration, or no image tower.
    """
    from wsvad_jax.detection import inputs

    expected = {"crops": scorer.protocol.get("crops", 0), "width": scorer.width}
    inputs_with_features = inputs.read_all_features(
        videos, fps, scorer.card.stride, errors=errors, **expected
    )

    # Times and damage of features are in their sidecars.
    for video, features in inputs_with_features:
        scorer.features.check_input(video, features)
        if calibration is not None:
            name = str(video.files[0])
            calibration.check_features(features.protocol, name, scorer)
        sidecar = features.sidecar
        yield TimedVideo(
            video.name,
            None,
            features.values,
            features.edges,
            features.num_frames,
            features.protocol,
            damage=sidecar.damage if sidecar else "",
            remark=sidecar.remark if sidecar else "",
        )

    names = {video.files[0]: video.name for video in videos if video.is_video}
    if not names:  # the image tower isn't needed
        return

    extractor = scorer.extractor
    if calibration is not None:
        name = extractor.encoder
        calibration.check_features(extractor.protocol, name, scorer)
    for video in extractor.stream(names, errors=errors, tick=tick):
        yield TimedVideo(
            names[video.path],
            video.path,
            video.features,
            inputs.snippet_edges(video.seconds, video.duration),
            video.num_frames,
            extractor.protocol,
            damage=video.damage,
            remark=video.remark,
        )
