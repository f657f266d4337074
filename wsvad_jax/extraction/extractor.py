"""Extracts CLIP features of video files.

One feature per snippet of `stride` frames (16 in the literature). The released
features don't state which frame they encode. Here it is a choice that is stored with
the features: the `first` frame, the `middle` one, or the `mean` of all frames' features.
Features are CLIP's projected image features without L2 normalisation.

Decoder threads prefetch. Batches have one fixed size and mix pictures of several videos,
so the tower is compiled once. Only finished features of a video stay in memory,
in float16.
"""

import collections
import contextlib
import copy
import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float16, Float32, UInt8

from wsvad_jax.clip.towers import encode_image
from wsvad_jax.data.records import FRAMES_PER_SNIPPET, FeatureProtocol
from wsvad_jax.extraction import video as videos
from wsvad_jax.extraction.batch_size import default_batch_size
from wsvad_jax.extraction.decoding.containers import unexpected_error
from wsvad_jax.parallel import precision
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.prefetch import SharedIterator, prefetch_all


@dataclasses.dataclass(frozen=True)
class ExtractedFeatures:
    """Features of one video, with their times."""

    path: pathlib.Path
    features: Float16[np.ndarray, "N T D"]
    num_frames: int  # decoded; T is num_frames / stride, rounded up
    seconds: Float[np.ndarray, "T"]  # presentation time of each snippet's first frame
    duration: float  # end of the last frame, in seconds
    fps: float  # average rate that the container states, 0 unknown
    damage: str  # unreadable content, "" for none
    remark: str = ""  # reader's decision to report, such as counted time stamps


class Extractor:
    """Extracts features from video files with one compiled image tower."""

    def __init__(
        self,
        snapshot: Any,
        *,
        crops: int = 1,
        frame: str = "middle",
        resize: str = "stretch",
        stride: int = FRAMES_PER_SNIPPET,
        batch_size: int | None = None,
        decoders: int = 1,
        dtype: str = "float32",
    ):
        """Moves the image tower to the default device.

        Args:
          snapshot: `clip.snapshot.Snapshot` of the encoder.
          crops: 1, 5 or 10 pictures per frame, see `extraction.video`.
          frame: `first`, `middle` or `mean`.
          resize: `stretch` (the released geometry) or `clip`.
          stride: frames per snippet.
          batch_size: pictures per call of the tower; None is `default_batch_size`.
          decoders: number of videos decoded at the same time.
          dtype: precision of the tower's activations, one of `precision.DTYPES`.

        Raises:
          InputError: an option has an unknown value, or the snapshot's preprocessing
            isn't supported.
        """
        # Options are checked before the weights are moved.
        videos.check_crops(crops, resize)
        videos.check_snippet_options(frame, stride)
        self.dtype = precision.resolve_dtype(dtype)
        default = default_batch_size(snapshot.vision)
        self.batch_size = default if batch_size is None else batch_size
        for name, value in (("batch_size", self.batch_size), ("decoders", decoders)):
            if value < 1:
                raise InputError(f"{name} must be at least 1, found {value}")

        self.crops, self.frame, self.resize = crops, frame, resize
        self.stride, self.decoders = stride, decoders
        self.config = snapshot.vision
        self.preprocessing = snapshot.preprocessing
        self.encoder, self.weights_hash, self.encoder_settings = snapshot.encoder(
            resize
        )

        names = ("vision_model", "visual_projection")
        self.params = jax.device_put({k: snapshot.params[k] for k in names})
        # Kernels are rounded once, not per call. Biases and norms have one axis.
        if self.dtype != "float32":
            self.params = jax.tree.map(
                lambda x: x.astype(self.dtype) if x.ndim > 1 else x, self.params
            )
        self.encode = jax.jit(self._encode)

    @property
    def protocol(self) -> FeatureProtocol:
        """Feature protocol, stored beside the features."""
        return FeatureProtocol(
            self.encoder,
            self.stride,
            self.crops,
            self.frame,
            self.resize,
            self.encoder_settings,
            self.dtype,
        )

    def in_float32(self) -> "Extractor":
        """Returns an extractor with the same weights that computes in float32."""
        other = copy.copy(self)
        other.dtype = "float32"
        other.params = jax.tree.map(lambda x: x.astype(jnp.float32), self.params)
        other.encode = jax.jit(other._encode)
        return other

    def __call__(self, path: str | pathlib.Path) -> ExtractedFeatures:
        """Extracts one video's features.

        Raises:
          InputError: the file is no video, or has no readable frame.
        """
        return next(self.stream([path]))

    def images(
        self, pictures: UInt8[np.ndarray, "B S S 3"]
    ) -> Float32[np.ndarray, "B D"]:
        """Returns the features of cropped pictures, in batches of fixed size."""
        B = self.batch_size
        parts = [
            np.asarray(self._encode_async(pictures[i : i + B]))[: len(pictures) - i]
            for i in range(0, len(pictures), B)
        ]
        D = self.config.projection_dim
        return np.concatenate(parts) if parts else np.zeros((0, D), np.float32)

    def preprocess(self, frame: Any) -> UInt8[np.ndarray, "N S S 3"]:
        """Returns the crops of a frame that the tower encodes.

        Args:
          frame: `av.VideoFrame`, or an RGB picture.
        """
        if isinstance(frame, np.ndarray):
            return self.crop(frame)
        # The released geometry ignores the aspect ratio of frames and of pixels.
        to_picture = videos.to_display_rgb if self.resize == "clip" else videos.to_rgb
        return self.crop(to_picture(frame))

    def crop(self, picture: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "N S S 3"]:
        """Returns the crops of an RGB picture that the tower encodes."""
        return videos.crop(
            picture,
            self.config.image_size,
            crops=self.crops,
            resize=self.resize,
            shape=self.preprocessing.size,
            interpolation=self.preprocessing.interpolation,
        )

    def stream(
        self,
        paths: Iterable[str | pathlib.Path | videos.Video],
        *,
        errors: list[InputError] | None = None,
        tick: Callable[[int], None] = lambda frames: None,
    ) -> Iterator[ExtractedFeatures]:
        """Yields the features of many videos, each as soon as it is complete.

        With one decoder, they keep the order of `paths`.

        Args:
          paths: video files, or passes that have not begun.
          errors: list for the errors of unreadable videos, which are skipped; None
            raises the first error.
          tick: callback with the number of frames decoded since its last call.
        """
        jobs: list[_Job] = []  # begun and not yet yielded
        rows: list[_Row] = []
        # One batch is on the device while the next is put together.
        in_flight: collections.deque[tuple[list[_Row], jax.Array]] = collections.deque()

        # Decoder threads are joined when the loop ends or fails.
        decoded = prefetch_all(self._decoders(paths), 2 * self.batch_size, join=True)
        with contextlib.closing(decoded) as items:  # pyright: ignore
            for job, row in items:
                if job not in jobs:
                    jobs.append(job)
                if row is not None:
                    rows.append(row)
                else:
                    job.decoded = True
                if job.error and errors is None:
                    raise job.error

                if len(rows) == self.batch_size:
                    in_flight.append(
                        (rows, self._encode_async([row.picture for row in rows]))
                    )
                    rows = []
                    if len(in_flight) > 1:
                        _collect(*in_flight.popleft())
                    yield from _finished(jobs, errors, tick)

        # The last batch may be partial; `_encode_async` pads it to the compiled size.
        if rows:
            in_flight.append((rows, self._encode_async([row.picture for row in rows])))
        while in_flight:
            _collect(*in_flight.popleft())
        yield from _finished(jobs, errors, tick)

    def _decoders(
        self, paths: Iterable[str | pathlib.Path | videos.Video]
    ) -> list[Iterator[tuple["_Job", "_Row | None"]]]:
        """Returns iterators, one per thread, that share the paths."""
        shared = SharedIterator(paths)
        return [self._pictures(shared) for _ in range(self.decoders)]

    def _pictures(
        self, paths: Iterable[str | pathlib.Path | videos.Video]
    ) -> Iterator[tuple["_Job", "_Row | None"]]:
        """Yields each video's pictures, snippet by snippet, and None at its end."""
        for path in paths:
            video = path if isinstance(path, videos.Video) else videos.Video(path)
            job = _Job(video, self.crops, self.config.projection_dim)

            try:
                for row in self._decode(job):
                    yield job, row
            except InputError as e:
                job.error = e
            # One odd file must not end the extraction of the others.
            except Exception as e:  # noqa: BLE001
                job.error = e
                if not isinstance(path, videos.Video):
                    job.error = unexpected_error(path, e)

            yield job, None

    def _decode(self, job: "_Job") -> Iterator["_Row"]:
        """Yields the pictures of one video, and counts them."""
        for snippet in videos.snippets(
            job.video,
            frame=self.frame,
            stride=self.stride,
            preprocess=self.preprocess,
        ):
            job.seconds.append(snippet.seconds)
            for pictures in snippet.pictures:
                for crop, picture in enumerate(pictures):
                    job.num_pictures += 1
                    yield _Row(job, snippet.index, crop, picture)

    def _encode_async(self, pictures: Any) -> jax.Array:
        """Starts the tower on up to one batch, padded; the result is padded, too."""
        S = self.config.image_size
        batch = np.zeros((self.batch_size, S, S, 3), np.uint8)
        batch[: len(pictures)] = pictures
        return self.encode(self.params, batch)

    def _encode(self, params: dict, pictures: UInt8[jax.Array, "B S S 3"]) -> jax.Array:
        pixels = self.preprocessing.normalise(pictures)
        # Features are stored and compared across machines. By default, accelerators
        # multiply in TF32 or bfloat16 where float32 is asked for.
        with jax.default_matmul_precision(self.dtype):
            features = encode_image(params, self.config, pixels, dtype=self.dtype)
        return features.astype(jnp.float32)


class _Job:
    """Progress of one video through decoder and tower."""

    def __init__(self, video: videos.Video, crops: int, width: int):
        self.video = video
        self.seconds: list[float] = []
        self.snippets: list[Float16[np.ndarray, "N D"]] = []  # finished
        # Sum over the current snippet, its pictures of all crops, and its index.
        self.snippet_sum = np.zeros((crops, width), np.float32)
        self.snippet_pictures = 0
        self.snippet_index = 0
        self.num_pictures = self.num_encoded = 0  # num_pictures: decoded
        self.reported_frames = 0
        self.decoded = False
        self.error: Exception | None = None

    @property
    def complete(self) -> bool:
        return self.decoded and self.num_encoded == self.num_pictures

    def add(self, index: int, crop: int, feature: Float32[np.ndarray, "D"]) -> None:
        """Adds a picture's feature; features arrive in the order of the pictures."""
        if index != self.snippet_index:
            self._finish_snippet()
        self.snippet_sum[crop] += feature
        self.snippet_index = index
        self.snippet_pictures += 1
        self.num_encoded += 1

    def _finish_snippet(self) -> None:
        frames = self.snippet_pictures // len(self.snippet_sum)
        with np.errstate(over="ignore"):  # `_checked_result` reports it
            self.snippets.append((self.snippet_sum / frames).astype(np.float16))
        self.snippet_sum[:], self.snippet_pictures = 0, 0

    def result(self) -> ExtractedFeatures:
        """Returns the finished features; call it once."""
        self._finish_snippet()
        (N, D), T = self.snippet_sum.shape, len(self.snippets)
        features = np.empty((N, T, D), np.float16)

        # Taken from the end of a reversed list, each copy is freed at once.
        self.snippets.reverse()
        for t in range(T):
            features[:, t] = self.snippets.pop()

        return ExtractedFeatures(
            path=self.video.path,
            features=features,
            num_frames=self.video.num_frames,
            seconds=np.array(self.seconds),
            duration=self.video.end,
            fps=self.video.fps,
            damage=self.video.damage,
            remark=self.video.remark,
        )


@dataclasses.dataclass(frozen=True)
class _Row:
    """One picture of a batch, with the snippet and crop that its feature belongs to."""

    job: _Job
    snippet: int
    crop: int
    picture: UInt8[np.ndarray, "S S 3"]


def _collect(rows: list[_Row], features: jax.Array) -> None:
    """Waits for a batch and hands the features to their videos."""
    for row, feature in zip(rows, np.asarray(features), strict=False):
        row.job.add(row.snippet, row.crop, feature)


def _finished(
    jobs: list[_Job], errors: list[InputError] | None, tick: Callable[[int], None]
) -> Iterator[ExtractedFeatures]:
    """Yields the videos whose pictures are all encoded, and removes them from `jobs`."""
    frames = 0
    for job in jobs:
        now = job.video.num_frames
        frames, job.reported_frames = frames + now - job.reported_frames, now
    tick(frames)

    for job in [job for job in jobs if job.complete]:
        jobs.remove(job)
        try:
            result = _checked_result(job)
        except InputError as e:
            if errors is None:
                raise
            errors.append(e)
        else:
            yield result


def _checked_result(job: _Job) -> ExtractedFeatures:
    """Returns the features of a complete job; raises its InputError."""
    if job.error:
        raise job.error
    result = job.result()

    # A model can't learn from such features, and readers would refuse them.
    if not np.isfinite(result.features).all():
        raise InputError(
            f"{job.video.path}: the image tower gives values that are NaN or past "
            "float16's 65504; check the CLIP model's weights"
        )
    return result
