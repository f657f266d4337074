"""Whether features fit a model, and the extractor that makes such features.

A difference from the features of the training is an error. With `force` it is noted in
`Detector.forced` instead, for the results.
"""

import sys
from typing import TYPE_CHECKING

from wsvad_jax.data import feature_protocols
from wsvad_jax.data.records import FeatureProtocol
from wsvad_jax.detection import inputs
from wsvad_jax.extraction import video
from wsvad_jax.extraction.extractor import Extractor
from wsvad_jax.utils.errors import InputError

if TYPE_CHECKING:
    from wsvad_jax.detection.detector import Detector
    from wsvad_jax.detection.inputs import TimedFeatures, VideoInput


def extractor_for(detector: "Detector") -> Extractor:
    """Returns what makes features as those of the training were made.

    Raises:
      InputError: no CLIP model for it, features of another width or another protocol.
    """
    made, snapshot = detector.made, detector.snapshot
    if snapshot.vision.projection_dim != detector.width:
        raise InputError(
            f"{snapshot.name} makes features of width "
            f"{snapshot.vision.projection_dim}, but {detector.folder} takes "
            f"{detector.width}; pass the CLIP model of its training as --clip"
        )
    crops = made.crops
    if detector.mode == "windows" or crops not in video.CROPS:
        crops = next(n for n in video.CROPS if n > detector.card.test_crop)
    extractor = Extractor(
        snapshot,
        crops=crops,
        frame=_frame(detector),
        resize=_resize(detector),
        stride=made.stride or detector.card.stride,
    )
    for remark in snapshot.remarks:
        if not feature_protocols.is_random(made):  # which is said of the model already
            print(f"note: {remark}", file=sys.stderr)
    check(detector, extractor.protocol, snapshot.name)
    return extractor


def _frame(detector: "Detector") -> str:
    if detector.made.frame in video.FRAMES:
        return detector.made.frame
    _assume(detector, "which frames were encoded", "the middle one of each snippet")
    return "middle"


def _resize(detector: "Detector") -> str:
    found, asked = detector.made.resize, detector.resize
    if found not in video.RESIZES:
        if asked is None:
            _assume(detector, "how frames were cut", f"{video.RESIZES[0]}", "--resize")
        return asked or video.RESIZES[0]
    if asked not in (None, found):
        differs = f"resize {asked} instead of {found}"
        if not detector.force:
            raise InputError(
                f"--resize {asked}: {detector.folder} was trained on features of another "
                f"kind: {differs}; leave --resize out, or pass --force"
            )
        return str(asked)
    return found


def _assume(detector: "Detector", what: str, taken: str, flag: str = "") -> None:
    print(
        f"{detector.folder} doesn't say {what} for its features: {taken} is assumed"
        f"{f' ({flag})' if flag else ''}",
        file=sys.stderr,
    )


def check_source(
    detector: "Detector", source: "VideoInput", features: "TimedFeatures"
) -> None:
    """Compares features, as far as sidecar, protocol.json and shape say what they are.

    Raises:
      InputError: they are of another kind than the training's.
    """
    made, crops, other = features.made, len(features.values), ""
    if crops == 1 and not made.crops:
        crops = 0  # of which crop they are isn't known
    # One file of several is its number's crop, which may be the one that is scored.
    number = inputs.CROP.fullmatch(source.files[0].stem)
    if number and len(features.values) == 1 < made.crops:
        crop, crops = int(number[1]), 0
        if detector.mode == "windows" and crop != detector.card.test_crop:
            other = f"crop {crop} instead of {detector.card.test_crop}"
        elif detector.mode != "windows":
            crops = 1
    found = FeatureProtocol(
        made.encoder,
        made.stride,
        crops,
        made.frame,
        made.resize,
        made.encoder_settings,
    )
    check(detector, found, str(source.files[0]), other)


def check(
    detector: "Detector", found: FeatureProtocol, where: str, other: str = ""
) -> None:
    """Compares a protocol with the training's.

    Args:
      detector: the model; `forced` takes the difference where `force` is set.
      found: the features at hand.
      where: their name, for a message.
      other: a difference that the protocols don't tell.

    Raises:
      InputError: there is a difference, and `force` is not set.
    """
    crop = detector.card.test_crop if detector.mode == "windows" else None
    differs = feature_protocols.difference(found, detector.made, crop=crop)
    differs = "; ".join(part for part in (differs, other) if part)
    if differs and not detector.force:
        raise InputError(
            f"{where}: features of {found.encoder}, but the model in {detector.folder} "
            f"was trained on features of {detector.made.encoder}, made in another way: "
            f"{differs}; make them in that way, or pass --force"
        )
    if differs:
        detector.forced[differs] = None
