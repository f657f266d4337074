"""Sidecars of a custom folder's features: lengths, and whether all were made in one way."""

import dataclasses
import os
import pathlib
from collections.abc import Collection, Sequence
from typing import Any

from wsvad_jax.data import axes, feature_protocols, sidecar
from wsvad_jax.data.cards import Card
from wsvad_jax.data.feature_files import ErrorCollector, FeatureFiles
from wsvad_jax.data.records import FeatureProtocol
from wsvad_jax.utils.errors import InputError

EXTRACTION_KEY = "weights_hash"  # only extraction writes it into protocol.json


def add_sidecars(
    videos: Sequence[FeatureFiles],
    card: Card,
    collector: ErrorCollector,
    protocol: FeatureProtocol | None = None,
) -> tuple[list[FeatureFiles], list[str], FeatureProtocol]:
    """Returns videos with the lengths that sidecars state, remarks, and a protocol.

    The protocol is the folder's (`protocol`), or what all sidecars agree on. Sidecars
    that disagree with each other or with the folder are errors.
    """
    remarks = axes.remarks([(v.layout, v.num_crops) for v in videos])
    protocol = protocol or FeatureProtocol()
    kept, first, num_missing = [], None, 0
    dtypes: set[str] = set()
    for video in videos:
        path = sidecar.sidecar_path(video.paths[0])
        if not os.path.isfile(path):  # Path.is_file raises if the name is too long
            kept.append(video)
            num_missing += 1
            continue

        try:
            side = sidecar.read(path)
            _check_sidecar(side, path, video, card)
            first = first or side
            _check_same_protocol(side, path, first, protocol)
            dtypes.add(side.dtype)
        except InputError as e:
            collector(e)
            continue

        # The sidecar has the exact length; features only have whole snippets.
        known = {"num_frames": side.num_frames, "fps": side.mean_fps}
        kept.append(dataclasses.replace(video, **known))

        if side.damage:
            remarks.append(f"video {video.video} is damaged: {side.damage}")
        if side.remark:
            remarks.append(f"video {video.video}: {side.remark}")

    # An unknown protocol becomes known only if every video has a sidecar.
    if first and not num_missing and protocol.encoder in feature_protocols.UNKNOWN:
        protocol = first.protocol
    elif first and num_missing:
        remarks.append(
            f"{num_missing} of {len(videos)} videos have no sidecar, so it is unknown "
            "whether their features were made like the others"
        )

    # Features of several precisions may be mixed, but have none in common.
    if dtypes and protocol.dtype not in feature_protocols.UNKNOWN:
        dtypes.add(protocol.dtype)
    if mixed := mixed_precision(dtypes):
        remarks.append(
            f"{mixed}, which differ by rounding alone; they can be used, but features "
            "of further videos can't be added"
        )
    if dtypes:
        is_known = len(dtypes) == 1 and not num_missing
        dtype = dtypes.pop() if is_known else "unknown"
        protocol = dataclasses.replace(protocol, dtype=dtype)
    return kept, remarks, protocol


def _check_sidecar(
    side: sidecar.Sidecar, path: pathlib.Path, video: FeatureFiles, card: Card
) -> None:
    if side.stride != card.stride:
        raise InputError(
            f"{path}: features with {side.stride} frames per snippet, but the card's "
            f"stride is {card.stride}; correct the card or extract the video again"
        )

    if -(-side.num_frames // side.stride) != video.num_snippets:
        raise InputError(
            f"{path}: {side.num_frames} frames are not the {video.num_snippets} snippets "
            f"of {video.paths[0].name}; extract the video again"
        )


def _check_same_protocol(
    side: sidecar.Sidecar,
    path: pathlib.Path,
    first: sidecar.Sidecar,
    protocol: FeatureProtocol,
) -> None:
    """Compares a sidecar with the first one of its folder and the folder's protocol."""
    if differs := feature_protocols.difference(side.protocol, first.protocol):
        raise InputError(
            f"{path}: features made by {describe_protocol(side)}, those of {first.video} "
            f"by {describe_protocol(first)} ({differs}); extract all videos in one way"
        )

    # Stride and crops are already compared with the card and the arrays.
    stated = dataclasses.replace(protocol, stride=0, crops=0)
    if differs := feature_protocols.difference(side.protocol, stated):
        raise InputError(
            f"{path}: features made in another way than protocol.json beside them says "
            f"({differs}); correct that file, or extract all videos in one way"
        )


def mixed_precision(dtypes: Collection[str]) -> str:
    """Returns words about features of several precisions, "" if they have one."""
    if len(dtypes) < 2:
        return ""
    return f"features were made in {' and '.join(sorted(dtypes))}"


def unlike_extraction(protocol: dict | None, made: Collection[str]) -> str:
    """Says why a protocol.json isn't that of extracted features, "" if it is.

    Args:
      protocol: its content; None without such a file.
      made: `weights_hash` of the sidecars beside it.
    """
    if protocol is None:
        return ""
    stated = protocol.get(EXTRACTION_KEY)
    if not (isinstance(stated, str) and stated):
        return (
            f"has no {EXTRACTION_KEY}, so it is unknown which CLIP model made the "
            "features it describes"
        )
    if made and stated not in made:
        return (
            f"its {EXTRACTION_KEY} is {stated:.20}, but {min(made):.20} in the sidecars "
            "of the features"
        )
    return ""


def describe_protocol(made: Any) -> str:
    """Describes the feature settings of a sidecar or an extractor."""
    dtype = "" if made.dtype == "float32" else f", {made.dtype}"
    return (
        f"{made.encoder} (stride {made.stride}, {made.crops} crops, frame {made.frame}, "
        f"resize {made.resize}{dtype})"
    )
