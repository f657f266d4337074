"""Searches for the protocol whose features of a video are nearest to existing ones.

The search encodes few pictures. First, all ways to make a picture are tried on the
middle frames of some snippets. Then all frames of these snippets are tried in the best
ways, and so on until nothing changes.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Float32, Int

from wsvad_jax.extraction import video as videos
from wsvad_jax.extraction.picture_choices import (
    CROPS,
    FramePictures,
    PictureChoice,
    all_choices,
    statistics,
)

if TYPE_CHECKING:
    from wsvad_jax.clip.snapshot import Snapshot
    from wsvad_jax.clip.towers import VisionConfig

OFFSETS = 32  # tried frames of a snippet, at most
BEST = 6  # ways to make pictures whose frames are all tried
ROUNDS = 4


@dataclasses.dataclass(frozen=True)
class Protocol:
    """A way to extract features."""

    clip: str  # hub name or folder
    picture: PictureChoice
    frame: str  # a number from 0 on within the snippet, or "mean"
    stride: float  # frames per snippet; not whole where a video is cut in equal parts

    def words(self) -> str:
        """Describes the protocol to a reader."""
        frame = f"frame {self.frame} of each snippet (counted from 0)"
        if self.frame == "mean":
            frame = "the mean feature of all frames of a snippet"
        return f"{self.stride:g} frames per snippet; {frame}; {self.picture.words()}"

    def flags(self) -> str:
        """Returns the flags of `extract` that do the same, "" where none do."""
        choice, stride = self.picture, int(self.stride)
        names = {"0": "first", str(stride // 2): "middle", "mean": "mean"}
        resize = {"clip": "clip", CROPS[0]: "stretch"}.get(choice.geometry)
        usual = choice.colour == "rgb" and choice.normalisation == "clip"
        if not (usual and resize and self.frame in names and stride == self.stride):
            return ""
        return f"--frame {names[self.frame]} --resize {resize} --stride {stride}"


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A protocol, and how far its features are from the existing ones."""

    protocol: Protocol
    agreement: float  # cosine without the means over the snippets
    cosine: float  # mean cosine per snippet


def agreement(
    ours: Float[np.ndarray, "K D"], theirs: Float[np.ndarray, "K D"]
) -> float:
    """Returns the cosine of features without their means over the snippets.

    A scale per snippet has no effect, since features are often stored normalised.
    """
    a, b = _centred(ours), _centred(theirs)
    return float((a * b).sum() / max(np.sqrt((a**2).sum() * (b**2).sum()), 1e-12))


def _centred(x: np.ndarray) -> np.ndarray:
    unit = _unit(x)
    return unit - unit.mean(0)


def _unit(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


class SnippetFrames:
    """Decoded frames of the compared snippets of a video."""

    def __init__(
        self,
        path: pathlib.Path,
        stride: float,
        rows: Int[np.ndarray, "K"],
        num_frames: int,
    ):
        """Decodes the frames that may be encoded.

        Args:
          path: video file.
          stride: frames per snippet.
          rows: numbers of the snippets.
          num_frames: length of the video.
        """
        self.stride, self.last = stride, num_frames - 1
        self.starts = [int(row * stride) for row in rows]

        # Long snippets are looked at in some of their frames.
        length = max(int(stride), 1)
        chosen = np.linspace(0, length - 1, min(length, OFFSETS)).round()
        self.offsets = sorted({int(x) for x in chosen} | {length // 2})

        wanted = {i for row in self.numbers(self.offsets) for i in row}
        frames = enumerate(videos.Video(path).frames())
        self.pictures = FramePictures({i: f for i, f in frames if i in wanted})

    def numbers(self, offsets: Sequence[int]) -> list[list[int]]:
        """Returns the frames at some offsets, per snippet."""
        return [[min(s + o, self.last) for o in offsets] for s in self.starts]


class ProtocolSearch:
    """Search over protocols with one CLIP snapshot and one stride."""

    def __init__(
        self,
        name: str,
        snapshot: "Snapshot",
        frames: SnippetFrames,
        tick: Callable[[int], None],
    ):
        """Stores what is searched.

        Args:
          name: name of the snapshot.
          snapshot: CLIP snapshot.
          frames: frames of the compared snippets.
          tick: callback with the number of pictures encoded since its last call.
        """
        self.name, self.frames = name, frames
        self.features = PictureFeatures(snapshot, frames.pictures, tick)

    def run(self, theirs: Float32[np.ndarray, "K D"]) -> list[Candidate]:
        """Returns the tried protocols with their agreements."""
        tried: dict[tuple[PictureChoice, str], Candidate] = {}

        def best(number: int) -> list[Candidate]:
            return sorted(tried.values(), key=lambda c: -c.agreement)[:number]

        # The middle frame shows which pictures are near.
        frame = str(max(int(self.frames.stride), 1) // 2)
        for _ in range(ROUNDS):
            for choice in all_choices():
                self._try(choice, frame, theirs, tried)

            # The best pictures show which frame is encoded.
            pictures = dict.fromkeys(c.protocol.picture for c in best(4 * BEST))
            for choice in list(pictures)[:BEST]:
                for other in (*map(str, self.frames.offsets), "mean"):
                    self._try(choice, other, theirs, tried)

            # Then all pictures are tried on that frame.
            if best(1)[0].protocol.frame == frame:
                break
            frame = best(1)[0].protocol.frame
            if frame == "mean":
                # All pictures of all frames would be too many.
                break
        return list(tried.values())

    def made(self, protocol: Protocol) -> bool:
        """Whether a protocol is one of this search."""
        return (protocol.clip, protocol.stride) == (self.name, self.frames.stride)

    def geometry_of(self, theirs: Float32[np.ndarray, "K D"], like: Protocol) -> str:
        """Returns the geometry of another crop of the same protocol."""
        choices = [
            c
            for c in all_choices()
            if (c.colour, c.normalisation)
            == (like.picture.colour, like.picture.normalisation)
        ]
        return max(
            choices, key=lambda c: agreement(self._make(c, like.frame), theirs)
        ).geometry

    def _try(
        self,
        choice: PictureChoice,
        frame: str,
        theirs: Float32[np.ndarray, "K D"],
        tried: dict[tuple[PictureChoice, str], Candidate],
    ) -> None:
        if (choice, frame) in tried:
            return
        ours = self._make(choice, frame)
        tried[choice, frame] = Candidate(
            Protocol(self.name, choice, frame, self.frames.stride),
            agreement(ours, theirs),
            float((_unit(ours) * _unit(theirs)).sum(-1).mean()),
        )

    def _make(self, choice: PictureChoice, frame: str) -> Float32[np.ndarray, "K D"]:
        """Returns the features of the compared snippets."""
        offsets = self.frames.offsets if frame == "mean" else [int(frame)]
        wanted = self.frames.numbers(offsets)
        self.features.encode(choice, [i for row in wanted for i in row])
        return np.stack([self.features.mean(choice, row) for row in wanted])


@functools.cache
def _image_tower(config: "VisionConfig") -> Callable[..., Any]:
    """Returns the image tower, which searches of all strides compile once.

    Its arguments are weights, pictures, and mean and deviation of their values.
    """
    import jax

    from wsvad_jax.clip.towers import encode_image

    @jax.jit
    def encode(params, pictures, mean, std):
        pixels = pictures.astype("float32") / 255
        with jax.default_matmul_precision("float32"):
            return encode_image(params, config, (pixels - mean) / std)

    return encode


class PictureFeatures:
    """Features of a video's frames by the way their pictures are made; kept."""

    BATCH = 8

    def __init__(
        self,
        snapshot: "Snapshot",
        pictures: FramePictures,
        tick: Callable[[int], None],
    ):
        """Moves the image tower's weights to the default device."""
        import jax

        self.snapshot, self.pictures, self.tick = snapshot, pictures, tick
        self.known: dict[tuple[str, str, str, int], np.ndarray] = {}  # [D]
        names = ("vision_model", "visual_projection")
        self.params = jax.device_put({k: snapshot.params[k] for k in names})
        self.tower = _image_tower(snapshot.vision)

    def encode(self, choice: PictureChoice, frames: Sequence[int]) -> None:
        """Encodes what isn't known yet."""
        size = self.snapshot.vision.image_size
        colour, normalisation = choice.colour, choice.normalisation
        keys = [
            (geometry, colour, normalisation, frame)
            for geometry in choice.geometries
            for frame in dict.fromkeys(frames)
        ]
        keys = [key for key in keys if key not in self.known]
        mean, std = statistics(normalisation, self.snapshot.preprocessing)

        # Batches of one size, so that the tower is compiled once.
        for i in range(0, len(keys), self.BATCH):
            some = keys[i : i + self.BATCH]
            batch = np.zeros((self.BATCH, size, size, 3), np.uint8)
            for row, (geometry, _, _, frame) in enumerate(some):
                batch[row] = self.pictures.picture(frame, geometry, colour, size)
            values = np.asarray(self.tower(self.params, batch, mean, std))
            self.known.update(zip(some, values, strict=False))
            self.tick(len(some))

    def mean(
        self, choice: PictureChoice, frames: Sequence[int]
    ) -> Float32[np.ndarray, "D"]:
        """Returns the mean feature of encoded frames and of all pictures of each."""
        rest = choice.colour, choice.normalisation
        rows = [self.known[g, *rest, i] for i in frames for g in choice.geometries]
        return np.stack(rows).mean(0)
