"""Finds out how existing features of a video were extracted.

The released features of the field don't say which frame of a snippet they encode, nor
how it was resized. `identify` tries frame choices, strides, geometries, colours and
normalisations, for one or several CLIP snapshots, and compares each result with the
existing features.

Features of one video are alike, so plain cosines are near 1 for wrong protocols, too.
The measure here is the agreement: the cosine of both features without their means over
the video's snippets. It is 1 for equal features, and near 0 for another encoder.
"""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from wsvad_jax.extraction import compare
from wsvad_jax.extraction import video as videos
from wsvad_jax.extraction.protocol_search import (
    Candidate,
    ProtocolSearch,
    SnippetFrames,
)
from wsvad_jax.utils.errors import InputError

if TYPE_CHECKING:
    from wsvad_jax.clip.snapshot import Snapshot

SNIPPETS = 6  # snippets of a video that are compared
FEWEST = 3  # snippets without which the agreement means nothing
SAME, LIKELY = 0.995, 0.9  # agreement of equal features, and of nearly equal ones
USUAL_STRIDES = (16, 8, 32, 64, 4, 2, 1)


@dataclasses.dataclass(frozen=True)
class Identification:
    """Result of `identify`."""

    best: Candidate | None  # None where no CLIP model has features of this width
    runner_up: Candidate | None
    crops: tuple[str, ...]  # geometry of each crop of the file
    verdict: str  # same, likely, ambiguous or none
    snippets: int  # compared
    width: int  # of the existing features

    def sentences(self) -> list[str]:
        """Words the result for a reader."""
        if self.best is None:
            text = (
                f"None of these: the features are {self.width} wide, and no given CLIP "
                "model makes such features."
            )
            return [text]
        best, other = self.best, self.runner_up
        figures = _figures(best)
        if self.verdict == "ambiguous" and other is not None:
            # One of them would be a guess, so neither is called the nearest.
            return [
                "Not identified: two ways can't be distinguished by this video.",
                *(
                    f"{words}: {_named(c)}."
                    for words, c in (("One", best), ("The other", other))
                ),
                "A video with cuts or much motion tells more.",
            ]
        if self.verdict == "none":
            return [
                "None of these: another encoder or video, or a way that is not tried.",
                f"The nearest of them: {best.protocol.words()} ({figures}).",
            ]

        sure = "Identified" if self.verdict == "same" else "Probably"
        sentences = [
            f"{sure}: {best.protocol.words()}.",
            f"CLIP model: {best.protocol.clip}. Over {self.snippets} snippets: {figures}.",
        ]
        if other is not None:
            sentences.append(
                f"Runner-up (agreement {other.agreement:.4f}): "
                f"{other.protocol.words()}."
            )
        if len(self.crops) > 1:
            sentences.append(f"Crops of the file, in order: {', '.join(self.crops)}.")

        flags = best.protocol.flags()
        sentences.append(
            f"The same with this program: extract {flags}"
            if flags
            else "No flags of extract do the same."
        )
        return sentences

    @property
    def certain(self) -> bool:
        """Whether the runner-up is clearly worse than the best protocol."""
        return _is_certain(self.best, self.runner_up)


def identify(
    video: str | os.PathLike,
    features: str | os.PathLike,
    snapshots: Sequence[tuple[str, "Snapshot"]],
    *,
    tick: Callable[[int], None] = lambda pictures: None,
) -> Identification:
    """Finds the protocol of existing features of a video.

    Args:
      video: video file.
      features: its features, a file in any of the common layouts: [T, D], [N, T, D],
        [T, N, D], or one of VIDEO__0.npy, VIDEO__1.npy ….
      snapshots: CLIP snapshots to try, by name.
      tick: callback with the number of pictures encoded since its last call.

    Raises:
      InputError: an unreadable file, or a video of fewer than three snippets.
    """
    path = pathlib.Path(video)
    num_frames = _count_frames(path)
    existing = compare.read_features(features, -(-num_frames // USUAL_STRIDES[0]))
    N, T, D = existing.shape
    if T < FEWEST:
        raise InputError(
            f"{features}: {T} snippets; --identify compares at least {FEWEST}; take a "
            "longer video"
        )

    # Snippets from the whole video; the last one may be shorter than the others.
    rows = np.unique(np.linspace(0, T - 2, min(SNIPPETS, T - 1)).round().astype(int))
    if len(rows) < FEWEST:
        rows = np.arange(T)
    theirs = existing[:, rows]
    if np.ptp(theirs, axis=1).max() == 0:
        raise InputError(f"{features}: all snippets are equal; take a video that moves")

    candidates: list[Candidate] = []
    searches = []
    fitting = [(n, s) for n, s in snapshots if s.vision.projection_dim == D]
    for stride in strides(num_frames, T) if fitting else ():
        frames = SnippetFrames(path, stride, rows, num_frames)
        for name, snapshot in fitting:
            search = ProtocolSearch(name, snapshot, frames, tick)
            candidates += search.run(theirs[0])
            searches.append(search)
    if not candidates:
        return Identification(None, None, (), "none", len(rows), D)

    candidates.sort(key=lambda c: -c.agreement)
    best = candidates[0]
    runner_up = candidates[1] if len(candidates) > 1 else None
    verdict = _verdict(best, runner_up)

    # Further crops of the file differ in their geometry alone.
    crops = (best.protocol.picture.geometry,)
    if N > 1 and verdict in ("same", "likely"):
        search = next(s for s in searches if s.made(best.protocol))
        crops = tuple(search.geometry_of(x, best.protocol) for x in theirs)
    return Identification(best, runner_up, crops, verdict, len(rows), D)


def _verdict(best: Candidate, runner_up: Candidate | None) -> str:
    """Returns what the agreements of the two nearest protocols say."""
    if best.agreement < LIKELY:
        return "none"
    if not _is_certain(best, runner_up):
        return "ambiguous"
    return "same" if best.agreement >= SAME else "likely"


def _is_certain(best: Candidate | None, runner_up: Candidate | None) -> bool:
    if best is None or runner_up is None:
        return best is not None
    rest, other = 1 - best.agreement, 1 - runner_up.agreement
    return other > 3 * rest + 1e-5


def _named(candidate: Candidate) -> str:
    """Names a protocol with its CLIP model and its figures."""
    protocol = candidate.protocol
    return f"{protocol.words()}; CLIP model {protocol.clip} ({_figures(candidate)})"


def _figures(candidate: Candidate) -> str:
    return f"agreement {candidate.agreement:.4f}, cosine {candidate.cosine:.4f}"


def strides(num_frames: int, num_snippets: int) -> list[float]:
    """Returns the strides that give a video this number of snippets.

    The last snippet may be shorter, or left out. If no whole number of frames does, the
    video was cut in equal parts.
    """
    F, T = num_frames, num_snippets
    whole = [s for s in range(1, F + 1) if T in (F // s, -(-F // s))]
    # A usual stride explains most files; few frames leave several.
    usual = [s for s in USUAL_STRIDES if s in whole]
    equal_parts = [] if usual else [F / T]
    return [float(s) for s in usual or whole[:3]] + equal_parts


def _count_frames(path: pathlib.Path) -> int:
    video = videos.Video(path)
    for _ in video.frames():
        pass
    return video.num_frames
