"""Turns a trained model into a StableHLO or ONNX program with its weights inside."""

import dataclasses
import os
import pathlib
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from wsvad_jax.evaluation import event_rules
from wsvad_jax.parallel.precision import in_float32
from wsvad_jax.utils import flags
from wsvad_jax.utils.errors import InputError, one_line, raise_if_unreadable
from wsvad_jax.utils.files import atomic_path, write_json

if TYPE_CHECKING:
    from jax.export import Exported

    from wsvad_jax.data.records import FeatureProtocol
    from wsvad_jax.detection.detector import Detector


PLATFORMS = ("cpu", "cuda", "tpu")
FORMATS = ("stablehlo", "onnx")
TITLES = {"stablehlo": "StableHLO", "onnx": "ONNX"}
# Endings of formats that this program doesn't write.
FOREIGN = (
    ".ckpt", ".engine", ".h5", ".keras", ".mlmodel", ".msgpack", ".npz", ".pb", ".pt",
    ".pth", ".safetensors", ".tflite", ".trt",
)  # fmt: skip
LONGEST = 256  # snippets of a program whose model takes whole videos
# Code that calls a program, for FILE.json.
CALLS = {
    "stablehlo": "jax.export.deserialize(bytearray(open(FILE, 'rb').read()))"
    ".call(features, length)",
    "onnx": "onnxruntime.InferenceSession(FILE).run(None, {'features': features, "
    "'length': length})",
}


def export_model(
    detector: "Detector",
    output: str | os.PathLike,
    *,
    kind: str = "",
    length: int = 0,
    crops: int = 0,
    batch: int | None = None,
) -> pathlib.Path:
    """Writes a model's program and the JSON that describes it; returns its path.

    Args:
      detector: model.
      output: file to write.
      kind: `stablehlo` or `onnx`; '' follows the file's ending.
      length: snippets T per window; 0 is the model's. For a model for whole videos, 0
        is 256, and videos may be shorter but not longer.
      crops: crops N; 0 is as in training, and 1 for a model for windows.
      batch: batch size of an ONNX file; None leaves it open where the converter can,
        and is 1 elsewhere. FILE.json names it.

    Raises:
      InputError: a size that the model doesn't have, or ONNX without its packages.
    """
    output = pathlib.Path(output)
    kind = format_of(output, kind)
    shape = sizes(detector, length, crops)

    note = ""
    if kind == "onnx":
        with atomic_path(output) as temporary:
            fixed, note = _write_onnx_open(detector, shape, batch, temporary)
        first: Any = fixed or "b"
    else:
        program = stablehlo(detector, shape)
        with atomic_path(output) as temporary:
            temporary.write_bytes(program.serialize())
        first = "b"

    # A program says nothing about itself.
    value = description(detector, kind, (first, *shape))
    if note:
        value["batch_note"] = note
        print(f"note: {note}", file=sys.stderr)
    write_json(output.with_name(f"{output.name}.json"), value)
    return output


def _write_onnx_open(
    detector: "Detector",
    shape: tuple[int, int, int],
    batch: int | None,
    path: pathlib.Path,
) -> tuple[int, str]:
    """Writes an ONNX program with an open batch where that is possible.

    Returns the batch size, 0 open, and a note where the converter has fixed it.
    """
    from importlib.metadata import version

    # What a converter can leave open differs from version to version.
    if batch is None and detector.network.spec.onnx_any_batch:
        try:
            write_onnx(detector, shape, 0, path)
            return 0, ""
        except InputError:  # a fixed batch fails with the same reason, or none
            write_onnx(detector, shape, 1, path)
            return 1, (
                f"the batch is fixed at 1, since jax2onnx {version('jax2onnx')} can't "
                "leave it open for this model; --batch N fixes another"
            )

    write_onnx(detector, shape, batch or 1, path)
    return batch or 1, ""


def format_of(output: pathlib.Path, kind: str = "") -> str:
    """Returns the format of a file: `kind`, or the one of its ending.

    Raises:
      InputError: an unknown format, one that the ending contradicts, or a folder.
    """
    if kind and kind not in FORMATS:
        raise InputError(f"--format is {kind!r}; expected {' or '.join(FORMATS)}")
    if output.is_dir():
        raise InputError(f"--output {output}: is a folder; expected the file to write")

    # Own endings name a format; other endings need --format or are StableHLO.
    ending = output.suffix.lower()
    meant = ending[1:] if ending[1:] in FORMATS else ""
    if ending in FOREIGN:
        raise InputError(
            f"--output {output}: {ending} is another format's ending; expected "
            ".stablehlo or .onnx"
        )
    if kind and meant and kind != meant:
        raise InputError(
            f"--output {output}: the ending means {meant}, but --format is {kind}; leave "
            "--format out, or change the ending"
        )
    return kind or meant or FORMATS[0]


def sizes(detector: "Detector", length: int, crops: int) -> tuple[int, int, int]:
    """Returns N, T and D of a program's features.

    Raises:
      InputError: the model has other sizes.
    """
    T, N = length or detector.T, crops or 1

    # A model for windows has learnt one length.
    if detector.mode == "whole":
        T, N = length or LONGEST, crops or detector.protocol.get("crops", 1)
    elif T != detector.T or N != 1:
        raise InputError(
            f"{detector.folder} scores windows of {detector.T} snippets and one crop; "
            f"found --length {T}, --crops {N}; leave them out"
        )

    if T < 1 or N < 1:
        raise InputError(f"--length is {T}, --crops {N}; expected 1 or more")
    return N, T, detector.width


def scoring(detector: "Detector") -> Callable[..., dict[str, Any]]:
    """Returns the pure function (features, length) → scores with its weights inside."""
    import jax
    import jax.numpy as jnp

    network, model = detector.network, in_float32(detector.network.model)
    # On the host: a program must not depend on the devices of the weights.
    variables, text = jax.device_get(
        (detector.weights.variables, detector.weights.text)
    )
    if network.config.model.get("test_noise", False):
        raise InputError(
            f"{detector.folder} draws new noise for each scoring (model.test_noise), "
            "which a program can't; train with test_noise=False"
        )

    def score(features, length, **kwargs):
        classes = None if text is None else jnp.asarray(text)
        outputs = model.apply(
            variables, features, length, classes, train=False, **kwargs
        )
        scores = network.spec.scores(outputs)
        arrays = {"anomaly": scores.anomaly, "classes": scores.classes}
        return {k: v for k, v in arrays.items() if v is not None}

    return score


def stablehlo(detector: "Detector", shape: tuple[int, int, int]) -> "Exported":
    """Returns the program for N, T, D = `shape`, any batch and all platforms."""
    import jax
    import jax.numpy as jnp
    from jax import export

    (b,) = export.symbolic_shape("b")
    return export.export(jax.jit(scoring(detector)), platforms=PLATFORMS)(
        jax.ShapeDtypeStruct((b, *shape), jnp.float32),
        jax.ShapeDtypeStruct((b,), jnp.int32),
    )


def load(path: str | os.PathLike) -> "Exported":
    """Reads a StableHLO program; its `call(features, length)` returns the scores.

    Raises:
      InputError: no such file, or not a program.
    """
    from jax import export

    try:
        return export.deserialize(bytearray(pathlib.Path(path).read_bytes()))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except Exception as e:  # noqa: BLE001 flatbuffers raises many kinds
        raise_if_unreadable(path, e)
        raise InputError(
            f"{path}: not a program of `python -m wsvad_jax.export`, or damaged "
            f"({one_line(e)}); export the model again"
        ) from None


def write_onnx(
    detector: "Detector", shape: tuple[int, int, int], batch: int, path: pathlib.Path
) -> None:
    """Writes an ONNX program for N, T, D = `shape`; a batch of 0 is left open.

    Raises:
      InputError: the converter isn't installed, or can't convert the model.
    """
    import jax
    import jax.numpy as jnp

    check_onnx()
    score, network, extra = scoring(detector), detector.network, {}
    if network.spec.fixed_noise is not None:
        # ONNX has no generator of JAX's random numbers.
        noise = network.spec.fixed_noise(network.model, *shape[:2])
        extra["noise"] = jnp.tile(noise, (batch, 1, 1))

    specs = (
        jax.ShapeDtypeStruct((batch or "b", *shape), jnp.float32),
        jax.ShapeDtypeStruct((batch or "b",), jnp.int32),
    )
    convert_to_onnx(
        detector,
        lambda features, length: tuple(score(features, length, **extra).values()),
        specs,
        path,
        names=("features", "length"),
        output_names=list(output_shapes(detector, shape)),
    )


def check_onnx() -> Callable[..., Any]:
    """Returns the converter to ONNX.

    Raises:
      InputError: it isn't installed.
    """
    try:
        from jax2onnx import to_onnx  # pyright: ignore[reportMissingImports]
    except ImportError as e:
        raise InputError(
            f"--format onnx needs the package {e.name}; install it with "
            f"{flags.install('onnx')} (the extra wsvad-jax[onnx]), or write StableHLO"
        ) from None
    return to_onnx


def convert_to_onnx(
    detector: "Detector",
    function: Callable[..., tuple[Any, ...]],
    arguments: Sequence[Any],
    path: pathlib.Path,
    *,
    names: Sequence[str],
    output_names: Sequence[str],
) -> None:
    """Writes a function as an ONNX program.

    Args:
      detector: model, for messages.
      function: pure function to a tuple of arrays.
      arguments: shapes and types of its arguments.
      path: file to write.
      names: names of the arguments.
      output_names: names of the results.

    Raises:
      InputError: the converter isn't installed, or can't convert the model.
    """
    import jax

    to_onnx = check_onnx()
    try:
        # The converter's own functions broadcast over ranks, and its own files leave
        # weights over 1 MiB in a second file.
        with jax.numpy_rank_promotion("allow"), warnings.catch_warnings():
            # It asks for float64 on the way to float32.
            warnings.filterwarnings("ignore", "Explicitly requested dtype float64")
            made = to_onnx(
                function,
                arguments,
                model_name=detector.network.spec.name,
                return_mode="proto",
                input_names=names,
                output_names=output_names,
            )
        path.write_bytes(made.SerializeToString())
    except Exception as e:  # noqa: BLE001 a converter's gap may be any exception
        reason = " ".join(str(e).split())[:200]
        raise InputError(
            f"{detector.folder}: jax2onnx can't convert this model ({reason}); leave "
            "--format out for StableHLO"
        ) from None


def output_shapes(detector: "Detector", shape: tuple[int, ...]) -> dict[str, Any]:
    """Returns the types of a program's outputs for one video of N, T, D = `shape`."""
    import jax
    import jax.numpy as jnp

    return jax.eval_shape(
        scoring(detector),
        jax.ShapeDtypeStruct((1, *shape), jnp.float32),
        jax.ShapeDtypeStruct((1,), jnp.int32),
    )


def description(
    detector: "Detector", kind: str, shape: tuple[Any, ...]
) -> dict[str, Any]:
    """Returns the content of FILE.json; `shape` is the shape of the features."""
    from importlib.metadata import version

    meta, card, B = detector.meta, detector.card, shape[0]
    outputs = {
        name: [str(value.dtype), [B, *value.shape[1:]]]
        for name, value in output_shapes(detector, shape[1:]).items()
    }

    return {
        "format": kind,
        "model": meta["model"],
        "call": CALLS[kind],
        "inputs": {"features": ["float32", list(shape)], "length": ["int32", [B]]},
        "outputs": outputs,
        "class_names": list(card.class_names),
        "features": feature_description(detector),
        "windows": detector.mode == "windows",
        "thresholds": default_thresholds(),
        "platforms": list(PLATFORMS) if kind == "stablehlo" else [],
        "step": meta.get("step"),
        "jax": version("jax"),
    }


def default_thresholds() -> dict[str, float]:
    """Returns the default event rules, `low` being the level for fixed levels.

    The former names `rise` and `share` = 1 - `rel_height` stand beside the new ones.
    """
    rules = dataclasses.asdict(event_rules.EventRules(low=event_rules.LOW))
    return event_rules.with_old_names(rules)


def feature_description(
    detector: "Detector", protocol: "FeatureProtocol | None" = None
) -> dict[str, Any]:
    """Returns the protocol of the features that a program scores; None is unknown.

    `test_crop` is the crop that a model for windows scores.

    Args:
      detector: model.
      protocol: protocol of the features; None is that of the training's.
    """
    from wsvad_jax.data import feature_protocols

    protocol, card = protocol or detector.feature_protocol, detector.card
    known = {
        "encoder": protocol.encoder,
        "stride": card.stride,
        "crops": protocol.crops or None,
        "test_crop": card.test_crop if detector.mode == "windows" else None,
        "frame": protocol.frame,
        "resize": protocol.resize,
        "encoder_settings": feature_protocols.settings_noted(protocol) or None,
        "clip_note": detector.clip_note,
        "force": "; ".join(detector.forced),
    }
    return {k: None if v in feature_protocols.UNKNOWN else v for k, v in known.items()}
