"""Turns a model and its image tower into one program from pixels to scores.

The program is a pure function. Its state are the features of the last T snippets, in the
order of time, and their number; a caller passes back what the last call returned:

  pixels, frames, window, length → anomaly[, classes], window, length

Scores are those of `detect --live`: a snippet is the newest in a window of the last T.
`docs/run_exported_video.py` calls such a program for each snippet of a video.
"""

import dataclasses
import os
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from wsvad_jax.detection import export
from wsvad_jax.detection.causal import scored_crops
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.files import atomic_path, write_json

if TYPE_CHECKING:
    from jax.export import Exported

    from wsvad_jax.detection.detector import Detector

INPUTS = ("pixels", "frames", "window", "length")
LARGEST = 8192  # pixels of a frame's side
WIDEST = 16  # longer side of a frame by its shorter one
# What FILE.json says about the inputs and outputs.
USAGE = {
    "pixels": "RGB of the snippet's frames, upright, as decoded: the program resizes them. "
    "`snippets.frame` is which of a snippet's `stride` frames they are: the first, the middle one "
    "(index n // 2 of n), or all for mean; the last snippet of a video may be shorter.",
    "frames": "number of frames in pixels; rows behind them are ignored",
    "window": "features of the last T snippets; zeros at first, then next_window",
    "length": "snippets in window; 0 at first, then next_length",
    "anomaly": "score of the snippet, from 0 to 1",
    "classes": "probabilities of class_names",
    "picture": "size is height and width of the frames; square_size is what it must be with "
    "square pixels, null if their aspect has no effect",
}
# Code that calls a program, for FILE.json.
CALLS = {
    "stablehlo": "jax.export.deserialize(bytearray(open(FILE, 'rb').read()))"
    ".call(pixels, frames, window, length)",
    "onnx": "onnxruntime.InferenceSession(FILE).run(None, {'pixels': pixels, "
    "'frames': frames, 'window': window, 'length': length})",
}


@dataclasses.dataclass(frozen=True)
class FrameSize:
    """Size of the frames that a program takes: upright, as stored.

    Args:
      height, width: rows and columns, in pixels.
      square: the same with square pixels, as players show the frames; None: the pixels
        are square.
    """

    height: int
    width: int
    square: tuple[int, int] | None = None

    def __post_init__(self):
        # The constants of a resize grow with both sides and with the aspect.
        for sides in filter(None, ((self.height, self.width), self.square)):
            short, long = sorted(sides)
            if not (0 < short and long <= min(LARGEST, WIDEST * short)):
                raise InputError(
                    f"frames are {sides[0]} x {sides[1]} pixels; expected sides of 1 to "
                    f"{LARGEST} pixels, one at most {WIDEST} times the other (--size)"
                )


def frame_size(text: str) -> FrameSize:
    """Reads the size of frames: height x width, as 240x320, or a video that has it.

    Raises:
      InputError: neither, or a video that can't be read.
    """
    parts = text.lower().split("x")
    digits = all(p.isascii() and p.isdigit() and len(p) < 10 for p in parts)
    if len(parts) == 2 and digits:
        return FrameSize(int(parts[0]), int(parts[1]))
    if not os.path.exists(text):
        raise InputError(
            f"--size is {text!r}; expected height x width of the frames in pixels, such "
            "as 240x320, or a video of that size"
        )

    from wsvad_jax.extraction.video import Video, to_display_rgb, to_rgb

    frame = next(Video(text).frames())
    height, width = to_rgb(frame).shape[:2]
    shown = to_display_rgb(frame).shape[:2]
    return FrameSize(height, width, None if shown == (height, width) else shown)


def export_video_model(
    detector: "Detector",
    output: str | os.PathLike,
    *,
    size: FrameSize,
    kind: str = "",
) -> pathlib.Path:
    """Writes a program from pixels to scores, and the JSON that describes it.

    Args:
      detector: model, whose image tower is needed.
      output: file to write; its path is returned.
      size: size of the frames, which the program resizes as `extract` does.
      kind: `stablehlo` or `onnx`; '' follows the file's ending.

    Raises:
      InputError: no image tower, a model that a program can't hold, or ONNX without its
        packages.
    """
    output = pathlib.Path(output)
    kind = export.format_of(output, kind)
    program = VideoProgram(detector, size)

    with atomic_path(output) as temporary:
        if kind == "onnx":
            write_onnx(program, temporary)
        else:
            temporary.write_bytes(stablehlo(program).serialize())
    write_json(output.with_name(f"{output.name}.json"), description(program, kind))
    return output


class VideoProgram:
    """Pure function from the pixels of a snippet to its scores, and its sizes."""

    def __init__(self, detector: "Detector", size: FrameSize):
        """Reads the image tower.

        Args:
          detector: model.
          size: size of frames.
        """
        self.detector, self.extractor = detector, detector.extractor.in_float32()
        self.chosen = scored_crops(detector, self.extractor.crops)
        self.crops = self.chosen.stop - self.chosen.start
        self.size = size
        mean = self.extractor.frame == "mean"
        self.frames = self.extractor.stride if mean else 1

    def arguments(self) -> list[Any]:
        """Returns shapes and types of the inputs, in the order of `INPUTS`."""
        import jax
        import jax.numpy as jnp

        detector = self.detector
        state = (self.crops, detector.T, detector.width)
        return [
            jax.ShapeDtypeStruct(
                (self.frames, self.size.height, self.size.width, 3), jnp.uint8
            ),
            jax.ShapeDtypeStruct((), jnp.int32),
            jax.ShapeDtypeStruct(state, jnp.float16),
            jax.ShapeDtypeStruct((), jnp.int32),
        ]

    def outputs(self) -> dict[str, Any]:
        """Returns shapes and types of the outputs by their names."""
        import jax

        *scores, window, length = jax.eval_shape(self.function(), *self.arguments())
        named = dict(zip(("anomaly", "classes"), scores, strict=False))
        return named | {"next_window": window, "next_length": length}

    def function(self) -> Callable[..., tuple[Any, ...]]:
        """Returns the function, with the weights inside."""
        import jax
        import jax.numpy as jnp

        from wsvad_jax.extraction.traced_crops import traced_crops

        score, size = export.scoring(self.detector), self.size
        crop = traced_crops(
            self.extractor, size.height, size.width, self.chosen, size.square
        )
        params = jax.device_get(self.extractor.params)
        F, N, T = self.frames, self.crops, self.detector.T
        noise = fixed_noise(self.detector, N)

        def step(pixels, frames, window, length):
            # The feature of a snippet is the mean over its frames.
            pictures = crop(pixels)
            features = self.extractor.encode(
                params, pictures.reshape(F * N, *pictures.shape[2:])
            ).reshape(F, N, -1)
            valid = (jnp.arange(F) < frames)[:, None, None]
            count = frames.astype(jnp.float32)
            feature = jnp.sum(jnp.where(valid, features, 0.0), 0) / count

            # The oldest snippet leaves a full window.
            shifted = jnp.concatenate([window[:, 1:], window[:, -1:]], 1)
            window = jnp.where(length >= T, shifted, window)
            length = jnp.minimum(length + 1, T)
            newest = (jnp.arange(T) == length - 1)[None, :, None]
            window = jnp.where(newest, feature.astype(jnp.float16)[:, None], window)

            scores = score(window.astype(jnp.float32)[None], length[None], **noise)
            last = [
                jnp.take(x[0], length - 1, axis=0, mode="clip") for x in scores.values()
            ]
            return (*last, window, length)

        return step


def fixed_noise(detector: "Detector", crops: int) -> dict[str, Any]:
    """Returns the noise of a model that draws some, since ONNX can't draw JAX's."""
    spec = detector.network.spec
    if spec.fixed_noise is None:
        return {}
    return {"noise": spec.fixed_noise(detector.network.model, crops, detector.T)}


def stablehlo(program: VideoProgram) -> "Exported":
    """Returns the program for all platforms."""
    import jax
    from jax import export as jax_export

    made = jax_export.export(jax.jit(program.function()), platforms=export.PLATFORMS)
    return made(*program.arguments())


def write_onnx(program: VideoProgram, path: pathlib.Path) -> None:
    """Writes an ONNX program.

    Raises:
      InputError: the converter isn't installed, or can't convert the model.
    """
    export.convert_to_onnx(
        program.detector,
        program.function(),
        program.arguments(),
        path,
        names=INPUTS,
        output_names=list(program.outputs()),
    )


def description(program: VideoProgram, kind: str) -> dict[str, Any]:
    """Returns the content of FILE.json."""
    from importlib.metadata import version

    detector, extractor, size = program.detector, program.extractor, program.size
    inputs = zip(INPUTS, program.arguments(), strict=True)
    square = list(size.square or (size.height, size.width))

    return {
        "format": kind,
        "model": detector.meta["model"],
        "call": CALLS[kind],
        "inputs": {name: _type_of(value) for name, value in inputs},
        "outputs": {name: _type_of(v) for name, v in program.outputs().items()},
        "class_names": list(detector.class_names),
        "snippets": {"stride": extractor.stride, "frame": extractor.frame},
        # The released geometry ignores the aspect of pixels.
        "picture": {
            "size": [size.height, size.width],
            "square_size": square if extractor.resize == "clip" else None,
        },
        "usage": USAGE,
        "features": export.feature_description(detector, extractor.protocol),
        "causal": detector.causality(),
        "thresholds": export.default_thresholds(),
        "platforms": list(export.PLATFORMS) if kind == "stablehlo" else [],
        "step": detector.meta.get("step"),
        "jax": version("jax"),
    }


def _type_of(value: Any) -> list[Any]:
    return [str(value.dtype), list(value.shape)]
