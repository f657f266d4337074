"""Checks whether features fit a model, and makes the extractor of such features.

A difference from the features of the training is an error. With `force` it is noted in
`FeatureCheck.differences` instead, for the results.
"""

import dataclasses
import pathlib
import sys
from typing import TYPE_CHECKING

from wsvad_jax.clip import training_notes
from wsvad_jax.data import feature_protocols
from wsvad_jax.data.records import FeatureProtocol
from wsvad_jax.detection import inputs
from wsvad_jax.parallel import precision
from wsvad_jax.utils.errors import InputError

if TYPE_CHECKING:
    from wsvad_jax.clip.snapshot import Snapshot
    from wsvad_jax.detection.inputs import TimedFeatures, VideoInput
    from wsvad_jax.extraction.extractor import Extractor
    from wsvad_jax.weights.trained_model import TrainedModel

# Whose precision features are compared with, as messages name it.
TRAINING, DEFAULT = "the training", "the default"


@dataclasses.dataclass
class FeatureCheck:
    """Compares features with those that a model was trained on.

    A model without weights only needs features of its CLIP model, made in any way.

    Args:
      folder: model folder, for messages; the CLIP's, of a model without weights.
      protocol: protocol of the training's features.
      width: width of these features.
      stride: frames per snippet of the dataset card.
      test_crop: crop that the card names for scoring.
      mode: `windows` scores this crop alone, `whole` all crops.
      resize: geometry that the user asks for; None asks for none.
      force: whether differences are noted instead of raised.
      is_trained: whether the model has weights.
      dtype: precision that the user asks for; None: that of the training's features.
      precisions: differences of precision, by whose it is compared with.
      differences: differences let through, in order.
      encoder_assumed: whether features that don't say what made them were scored by
        their similarity to words, as if the CLIP model had made them.
    """

    folder: pathlib.Path
    protocol: FeatureProtocol
    width: int
    stride: int
    test_crop: int
    mode: str
    resize: str | None = None
    force: bool = False
    is_trained: bool = True
    dtype: str | None = None
    precisions: dict[str, str] = dataclasses.field(default_factory=dict)
    differences: dict[str, None] = dataclasses.field(default_factory=dict)
    encoder_assumed: bool = False

    @classmethod
    def of_model(
        cls,
        model: "TrainedModel",
        resize: str | None,
        force: bool,
        dtype: str | None = None,
    ) -> "FeatureCheck":
        """Returns the check for an opened model.

        Args:
          model: model that scores.
          resize: geometry that the user asks for; None asks for none.
          force: whether differences are noted instead of raised.
          dtype: precision that the user asks for, one of `precision.DTYPES`.

        Raises:
          InputError: another precision.
        """
        check = cls(
            model.folder,
            feature_protocols.protocol_from_json(model.meta.get("features")),
            model.network.width,
            stride=model.card.stride,
            test_crop=model.card.test_crop,
            mode=model.network.config.eval.mode,
            resize=resize,
            force=force,
            is_trained=model.network.spec.is_trained,
            dtype=None if dtype is None else precision.resolve_dtype(dtype),
        )
        if model.forced:
            check.differences[model.forced] = None
        return check

    def extractor(self, snapshot: "Snapshot") -> "Extractor":
        """Returns an extractor whose features fit the model.

        Args:
          snapshot: CLIP model whose image tower is used.

        Raises:
          InputError: features of another width or protocol would come out.
        """
        from wsvad_jax.extraction import video
        from wsvad_jax.extraction.extractor import Extractor

        if snapshot.vision.projection_dim != self.width:
            raise InputError(
                f"{snapshot.name} makes features of width "
                f"{snapshot.vision.projection_dim}, but {self.folder} takes "
                f"{self.width}; pass the CLIP model of its training as --clip"
            )

        # One crop is scored; the fewest that include it are made.
        crops = self.protocol.crops
        if self.mode == "windows" or crops not in video.CROPS:
            crops = next(n for n in video.CROPS if n > self.test_crop)
        extractor = Extractor(
            snapshot,
            crops=crops,
            frame=self._frame(),
            resize=self._resize(),
            stride=self.protocol.stride or self.stride,
            dtype=self.dtype or self._default_dtype(),
        )

        # A note on the training's features has been printed with the model.
        note = feature_protocols.clip_note(extractor.protocol)
        if note != feature_protocols.clip_note(self.protocol):
            training_notes.show(note)
        for remark in snapshot.remarks:
            print(f"note: {remark}", file=sys.stderr)
        self.compare(extractor.protocol, snapshot.name)
        if self.protocol.dtype not in precision.PRECISIONS:
            self.note_precision(extractor.dtype, self._default_dtype(), DEFAULT)
        return extractor

    def _default_dtype(self) -> str:
        """Returns the precision of the training's features; that of others is unknown."""
        made = self.protocol.dtype
        return made if made in precision.PRECISIONS else "float32"

    def note_precision(self, actual: str, expected: str, whose: str) -> None:
        """Notes for results, and prints once, that features have another precision.

        Args:
          actual: precision of the features at hand; unknown ones are not noted.
          expected: precision that they are compared with.
          whose: whose precision that is, as messages name it.
        """
        unknown = not {actual, expected} <= {*precision.PRECISIONS}
        if unknown or actual == expected or whose in self.precisions:
            return
        words = self.precisions[whose] = f"{actual} instead of {expected}"
        print(
            f"note: the precision of the features is {words} ({whose}); scores differ by "
            "rounding",
            file=sys.stderr,
        )

    def precision_note(self, calibration: str = "") -> str:
        """Returns the differences of precision for results, "" if there are none.

        Args:
          calibration: the calibration in use, as `note_precision` was given it.
        """
        return "; ".join(
            f"{self.precisions[whose]} ({whose})"
            for whose in (TRAINING, DEFAULT, calibration)
            if whose in self.precisions
        )

    def _frame(self) -> str:
        from wsvad_jax.extraction import video

        if self.protocol.frame in video.FRAMES:
            return self.protocol.frame
        self._assume("which frames were encoded", "the middle one of each snippet")
        return "middle"

    def _resize(self) -> str:
        from wsvad_jax.extraction import video

        trained, asked = self.protocol.resize, self.resize
        if trained not in video.RESIZES:
            if asked is None:
                self._assume("how frames were cut", video.RESIZES[0], "--resize")
            return asked or video.RESIZES[0]
        if asked not in (None, trained):
            differs = f"resize {asked} instead of {trained}"
            if not self.force:
                raise InputError(
                    f"--resize {asked}: {self.folder} was trained on features of "
                    f"another kind: {differs}; leave --resize out, or pass --force"
                )
            return str(asked)
        return trained

    def _check_stated(self, protocol: FeatureProtocol, name: str) -> None:
        """Prints once that features don't say which CLIP model made them."""
        if self.encoder_assumed or protocol.encoder not in feature_protocols.UNKNOWN:
            return
        self.encoder_assumed = True
        print(
            f"{name} doesn't say which CLIP model made its features: "
            f"{self.protocol.encoder} is assumed",
            file=sys.stderr,
        )

    def _assume(self, what: str, assumed: str, flag: str = "") -> None:
        print(
            f"{self.folder} doesn't say {what} for its features: {assumed} is assumed"
            f"{f' ({flag})' if flag else ''}",
            file=sys.stderr,
        )

    def check_input(self, video: "VideoInput", features: "TimedFeatures") -> None:
        """Compares features, as far as sidecar, protocol.json and shape describe them.

        Raises:
          InputError: they differ from the training's.
        """
        made, crops, other = features.protocol, len(features.values), ""
        if crops == 1 and not made.crops:
            crops = 0  # it isn't known which crop they are of

        # One file of several is its number's crop, which may be the one to score.
        number = inputs.CROP.fullmatch(video.files[0].stem)
        if number and len(features.values) == 1 < made.crops:
            crop, crops = int(number[1]), 0
            if self.mode == "windows" and crop != self.test_crop:
                other = f"crop {crop} instead of {self.test_crop}"
            elif self.mode != "windows":
                crops = 1

        protocol = dataclasses.replace(made, crops=crops)
        self.compare(protocol, str(video.files[0]), other)

    def compare(self, protocol: FeatureProtocol, name: str, other: str = "") -> None:
        """Compares a protocol with the training's.

        Args:
          protocol: protocol of the features at hand.
          name: name of these features, for messages.
          other: further difference that no protocol states.

        Raises:
          InputError: there is a difference, and `force` is not set.
        """
        crop = self.test_crop if self.mode == "windows" else None
        if not self.is_trained:
            differs = feature_protocols.encoder_difference(protocol, self.protocol)
            if differs:
                raise InputError(
                    f"{name}: features of {protocol.encoder}, but the classes are read "
                    f"by {self.protocol.encoder}: {differs}; pass the CLIP model of the "
                    "features as --clip"
                )
            self._check_stated(protocol, name)
            return

        differs = feature_protocols.difference(protocol, self.protocol, crop=crop)
        differs = "; ".join(text for text in (differs, other) if text)
        if differs and not self.force:
            raise InputError(
                f"{name}: features of {protocol.encoder}, but the model in "
                f"{self.folder} was trained on features of {self.protocol.encoder}, "
                f"made in another way: {differs}; make them in that way, or pass --force"
            )
        if differs:
            self.differences[differs] = None
        self.note_precision(protocol.dtype, self.protocol.dtype, TRAINING)
