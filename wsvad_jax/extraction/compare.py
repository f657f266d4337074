"""Compares two feature files of a video by length and cosine, and words the result."""

import dataclasses
import os
import pathlib
import re

import numpy as np
from jaxtyping import Float, Float32

from wsvad_jax.data import feature_files
from wsvad_jax.extraction.video import CROPS
from wsvad_jax.utils.errors import InputError

SAME = 0.999  # lowest cosine of features that differ by rounding alone


@dataclasses.dataclass(frozen=True)
class FeatureComparison:
    """Comparison of our and their features; `cosine` is None if the widths differ."""

    shape: tuple[int, int, int]  # crops, snippets, width
    theirs: tuple[int, int, int]
    crops: tuple[int, int] = (0, 0)  # compared pair, if the numbers of crops differ
    cosine: Float32[np.ndarray, "n"] | None = None  # per snippet
    unrelated: float = 0.0  # mean cosine with their snippets half a video away

    def sentences(self, stride: int) -> list[str]:
        """Words the comparison for a reader.

        Args:
          stride: frames per snippet of our features.
        """
        (N, T, D), (M, S, E) = self.shape, self.theirs
        if self.cosine is None:
            return [
                f"{T} snippets here, {S} there.",
                f"Ours are {D} wide, theirs {E}: made by another encoder, incomparable.",
            ]

        # Lengths and crops first: they limit the meaning of the cosines.
        sentences = [_lengths(T, S, stride)]
        if N != M:
            sentences.append(
                f"Crops: {N} here, {M} there; our crop {self.crops[0]} is closest to "
                f"their crop {self.crops[1]}, and those two are compared."
            )
        elif N > 1:
            sentences.append(
                f"{N} crops, each compared with theirs of the same number."
            )

        # The worst snippet is named, so a reader can look at it.
        mean, worst = float(self.cosine.mean()), int(self.cosine.argmin())
        sentences.append(
            f"Cosine of each snippet with theirs, over {len(self.cosine)} snippets: mean "
            f"{mean:.4f}, lowest {self.cosine[worst]:.4f} (snippet {worst}, frame "
            f"{worst * stride}). With their snippet of half a video away: mean "
            f"{self.unrelated:.4f}."
        )
        sentences.append(self._verdict(mean))
        return sentences

    def _verdict(self, mean: float) -> str:
        assert self.cosine is not None
        if self.cosine.min() >= SAME:
            return "These are the same features."
        if mean >= SAME:
            return "The same features but for a few snippets."
        # Nearer to equal snippets than to unrelated ones.
        if mean > (1 + self.unrelated) / 2:
            return (
                "Probably the same encoder and video, but another choice of frames, "
                "crop, resize or decoder."
            )
        return (
            "They have little in common: probably another encoder, another video, or "
            "snippets that begin elsewhere."
        )


def compare(
    features: Float[np.ndarray, "N T D"], theirs: Float[np.ndarray, "M S E"]
) -> FeatureComparison:
    """Compares features snippet by snippet.

    Snippet i is compared with their snippet i. If the lengths differ much, it is
    compared with their snippet at the same relative position.
    """
    comparison = FeatureComparison(features.shape, theirs.shape)
    if features.shape[2] != theirs.shape[2]:
        return comparison

    T, S = features.shape[1], theirs.shape[1]
    if not _aligned(T, S):
        theirs = theirs[:, (2 * np.arange(T) + 1) * S // (2 * T)]

    n = min(T, theirs.shape[1])
    a, b = (_unit(x[:, :n]) for x in (features, theirs))
    # With different numbers of crops, the most similar pair is compared.
    crops = (0, 0)
    if len(a) != len(b):
        means = np.einsum("ntd,mtd->nm", a, b) / n
        n_best, m_best = np.unravel_index(means.argmax(), means.shape)
        crops = (int(n_best), int(m_best))
        a, b = a[n_best : n_best + 1], b[m_best : m_best + 1]

    cosine = np.einsum("ntd,ntd->t", a, b) / len(a)
    # Snippets half a video away show how similar unrelated content is.
    away = np.roll(b, n // 2, axis=1)

    return dataclasses.replace(
        comparison,
        crops=crops,
        cosine=cosine.astype(np.float32),
        unrelated=float(np.einsum("ntd,ntd->", a, away) / (len(a) * n)),
    )


def read_features(
    path: str | os.PathLike, snippets: int | None = None
) -> Float32[np.ndarray, "N T D"]:
    """Reads the features of one video in any of the common layouts.

    Args:
      path: file of [T, D], [N, T, D] or [T, N, D]; or one of the crop files
        VIDEO__0.npy, VIDEO__1.npy ..., of which all are read.
      snippets: expected T, which separates crops from snippets in ambiguous shapes.

    Raises:
      InputError: the file doesn't exist, or holds no features.
    """
    path = pathlib.Path(path)
    # Either one file per crop, or all crops in one file.
    crop = re.fullmatch(r"(.+)__\d+\.npy", path.name)
    if crop:
        paths = []
        while (file := path.with_name(f"{crop[1]}__{len(paths)}.npy")).exists():
            paths.append(file)
        arrays = [
            feature_files.read_features(p).astype(np.float32) for p in paths or [path]
        ]
        if any(a.shape != arrays[0].shape for a in arrays):
            raise InputError(f"{path}: the crops of this video differ in shape")
        features = np.stack(arrays) if arrays[0].ndim == 2 else arrays[0]
    else:
        features = feature_files.read_features(path).astype(np.float32)

    if features.ndim == 2:
        features = features[None]
    if features.ndim != 3 or not features.size:
        raise InputError(
            f"{path}: features of shape {list(features.shape)}; expected [T, D], "
            "[N, T, D] or [T, N, D]"
        )

    if not crop and _snippets_first(features.shape[0], features.shape[1], snippets):
        features = np.swapaxes(features, 0, 1)
    return features


def _snippets_first(a: int, b: int, snippets: int | None) -> bool:
    """Whether the first axis is snippets and the second is crops."""
    if (a in CROPS) != (b in CROPS):
        return b in CROPS
    return a > b if snippets is None else abs(a - snippets) < abs(b - snippets)


def find(path: str | os.PathLike, name: str) -> pathlib.Path:
    """Returns the feature file of video `name`: `path`, or a file in folder `path`.

    Raises:
      InputError: the folder has no features of this name.
    """
    path = pathlib.Path(path)
    if not path.is_dir():
        return path
    for candidate in (f"{name}.npy", f"{name}__0.npy"):
        if (path / candidate).exists():
            return path / candidate
    raise InputError(
        f"{path / name}.npy: no such file, nor {name}__0.npy; nothing to compare with"
    )


def _aligned(T: int, S: int) -> bool:
    """Whether the lengths are close enough for equal snippets to be the same frames."""
    return abs(T - S) <= max(1, 0.02 * T)


def _lengths(T: int, S: int, stride: int) -> str:
    if T == S:
        return f"Both have {T} snippets."
    text = f"{T} snippets here, {S} there"
    if _aligned(T, S):
        return f"{text}: the {abs(T - S)} at the end of the longer are not compared."

    # Strides that explain their length, for any number of frames that explains ours.
    fewest, most = (T - 1) * stride + 1, T * stride
    strides = [s for s in range(1, most + 1) if -(-fewest // s) <= S <= -(-most // s)]
    if 1 <= len(strides) <= 3:
        guess = " or ".join(map(str, strides))
        text += f", so theirs are probably of {guess} frames, ours are of {stride}"
    return f"{text}. Each is compared with theirs at the same position in the video."


def _unit(x: np.ndarray) -> Float32[np.ndarray, "..."]:
    x = x.astype(np.float32)
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
