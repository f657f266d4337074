"""Features of video files: decode, choose frames, crop, image tower.

One feature stands for `stride` consecutive frames (16 in the literature). Which of them
is encoded was never stated for the released features, so it is a choice that is stored
with the features: the `first`, the `middle`, or the `mean` of the features of all.
Features are CLIP's projected image features without L2 normalisation.

Decoding runs in threads ahead of the tower. The tower sees batches of one fixed size,
filled across videos, so that it is compiled once. Of a video only the finished
features are kept, in float16, so its length is bounded by them alone.
"""

import collections
import contextlib
import dataclasses
import pathlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float16, Float32, UInt8

from wsvad_jax.clip.towers import encode_image
from wsvad_jax.data.records import FRAMES_PER_SNIPPET, FeatureProtocol
from wsvad_jax.extraction import video as videos
from wsvad_jax.extraction.decoding.reader import unexpected_error
from wsvad_jax.utils.errors import InputError

# A larger batch fills an accelerator; on a CPU it only makes the last one dearer.
BATCH_SIZE = {"cpu": 8}
ACCELERATOR_BATCH_SIZE = 64


@dataclasses.dataclass(frozen=True)
class ExtractedFeatures:
    """A video's features and what is known about their time."""

    path: pathlib.Path
    features: Float16[np.ndarray, "N T D"]
    num_frames: int  # decoded; T is num_frames / stride, rounded up
    seconds: Float[np.ndarray, "T"]  # presentation time of each snippet's first frame
    duration: float  # when the last frame ends, seconds
    fps: float  # average rate that the container states, 0 unknown
    damage: str  # what could not be read, "" when all could
    remark: str = ""  # what the reader decided, such as counted time stamps


class Extractor:
    """Turns video files into features with one image tower; compiled once."""

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
    ):
        """Puts the image tower on the default device.

        Args:
          snapshot: a `clip.load.Snapshot`.
          crops: 1, 5 or 10 pictures a frame, see `data.video`.
          frame: `first`, `middle` or `mean`.
          resize: `stretch` (the released geometry) or `clip`.
          stride: frames per snippet.
          batch_size: pictures that the tower sees at once; None is 64, 8 on a CPU.
          decoders: videos that are decoded at the same time.

        Raises:
          InputError: a choice that does not exist, or a snapshot whose preprocessing
            isn't supported.
        """
        videos.check_crops(crops, resize)
        videos.check_snippet_options(frame, stride)
        default = BATCH_SIZE.get(jax.default_backend(), ACCELERATOR_BATCH_SIZE)
        self.batch_size = default if batch_size is None else batch_size
        for name, value in (("batch_size", self.batch_size), ("decoders", decoders)):
            if value < 1:
                raise InputError(f"{name} must be at least 1, found {value}")
        self.crops, self.frame, self.resize = crops, frame, resize
        self.stride, self.decoders = stride, decoders
        self.config = snapshot.vision
        self.preprocessing = snapshot.preprocessing
        found = snapshot.encoder(resize)
        self.encoder, self.weights_hash, self.encoder_settings = found
        names = ("vision_model", "visual_projection")
        self.params = jax.device_put({k: snapshot.params[k] for k in names})
        self.encode = jax.jit(self._encode)

    @property
    def protocol(self) -> FeatureProtocol:
        """How the features are made, to be stored beside them."""
        return FeatureProtocol(
            self.encoder,
            self.stride,
            self.crops,
            self.frame,
            self.resize,
            self.encoder_settings,
        )

    def __call__(self, path: str | pathlib.Path) -> ExtractedFeatures:
        """Extracts one video's features.

        Raises:
          InputError: the file is not a video with at least one readable frame.
        """
        return next(self.stream([path]))

    def images(
        self, pictures: UInt8[np.ndarray, "B S S 3"]
    ) -> Float32[np.ndarray, "B D"]:
        """Returns the features of pictures that are cut already, in fixed batches."""
        B = self.batch_size
        parts = [
            np.asarray(self._send(pictures[i : i + B]))[: len(pictures) - i]
            for i in range(0, len(pictures), B)
        ]
        D = self.config.projection_dim
        return np.concatenate(parts) if parts else np.zeros((0, D), np.float32)

    def preprocess(self, frame: Any) -> UInt8[np.ndarray, "N S S 3"]:
        """Returns the pictures of an `av.VideoFrame` that the tower gets."""
        # The released geometry ignores aspects, those of pixels too.
        turned = videos.to_display_rgb if self.resize == "clip" else videos.to_rgb
        return videos.crop(
            turned(frame),
            self.config.image_size,
            crops=self.crops,
            resize=self.resize,
            shape=self.preprocessing.size,
            interpolation=self.preprocessing.interpolation,
        )

    def stream(
        self,
        paths: Iterable[str | pathlib.Path],
        *,
        errors: list[InputError] | None = None,
        tick: Callable[[int], None] = lambda frames: None,
    ) -> Iterator[ExtractedFeatures]:
        """Extracts many videos, yielded as they are done: in order with one decoder.

        Args:
          paths: video files.
          errors: takes the errors of videos that can't be read, which are then left
            out; without it the first one is raised.
          tick: called now and then with the number of frames decoded since.
        """
        jobs: list[_Job] = []  # begun and not yet yielded
        rows: list[_Row] = []
        # One batch is on the device while the next is put together.
        flying: collections.deque[tuple[list[_Row], jax.Array]] = collections.deque()
        with _ahead(self._decoders(paths), depth=2 * self.batch_size) as items:
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
                    flying.append((rows, self._send([row.picture for row in rows])))
                    rows = []
                    if len(flying) > 1:
                        _land(*flying.popleft())
                    yield from _finished(jobs, errors, tick)
        if rows:
            flying.append((rows, self._send([row.picture for row in rows])))
        while flying:
            _land(*flying.popleft())
        yield from _finished(jobs, errors, tick)

    def _decoders(
        self, paths: Iterable[str | pathlib.Path]
    ) -> list[Iterator[tuple["_Job", "_Row | None"]]]:
        """Returns iterators, one a thread, that share the paths."""
        shared = _Shared(paths)
        return [self._rows(shared) for _ in range(self.decoders)]

    def _rows(
        self, paths: Iterable[str | pathlib.Path]
    ) -> Iterator[tuple["_Job", "_Row | None"]]:
        """Yields each video's pictures, snippet by snippet, and None at its end."""
        for path in paths:
            job = _Job(videos.Video(path), self.crops, self.config.projection_dim)
            try:
                for snippet in videos.snippets(
                    job.video,
                    frame=self.frame,
                    stride=self.stride,
                    preprocess=self.preprocess,
                ):
                    job.seconds.append(snippet.seconds)
                    for pictures in snippet.pictures:
                        for n, picture in enumerate(pictures):
                            job.rows += 1
                            yield job, _Row(job, snippet.index, n, picture)
            except InputError as e:
                job.error = e
            except Exception as e:  # noqa: BLE001 one odd file is not the others' end
                job.error = unexpected_error(path, e)
            yield job, None

    def _send(self, pictures: Any) -> jax.Array:
        """Starts the tower on at most a batch; the result has the rows of a batch."""
        S = self.config.image_size
        batch = np.zeros((self.batch_size, S, S, 3), np.uint8)
        batch[: len(pictures)] = pictures
        return self.encode(self.params, batch)

    def _encode(self, params: dict, pictures: UInt8[jax.Array, "B S S 3"]) -> jax.Array:
        made, pixels = self.preprocessing, pictures.astype(jnp.float32)
        mean, std = (
            np.array(x, np.float32).reshape(1, 1, 1, 3) for x in (made.mean, made.std)
        )
        # Division, not a product with 1 / 255, which rounds otherwise.
        pixels = pixels / 255 if made.scale == 1 / 255 else pixels * made.scale
        pixels = (pixels - mean) / std
        # Features are stored and compared across machines; accelerators would round
        # the factors of a product to ten bits and fewer.
        with jax.default_matmul_precision("float32"):
            return encode_image(params, self.config, pixels)


class _Job:
    """A video on its way through decoder and tower."""

    def __init__(self, video: videos.Video, crops: int, width: int):
        self.video = video
        self.seconds: list[float] = []
        self.snippets: list[Float16[np.ndarray, "N D"]] = []  # finished
        self.total = np.zeros((crops, width), np.float32)  # of the snippet begun
        self.count = 0  # pictures in it, of all crops
        self.index = 0  # its number
        self.rows = self.done = 0  # pictures decoded, encoded
        self.frames = 0  # reported
        self.decoded = False
        self.error: InputError | None = None

    @property
    def whole(self) -> bool:
        return self.decoded and self.done == self.rows

    def add(self, index: int, crop: int, feature: Float32[np.ndarray, "D"]) -> None:
        """Takes a picture's feature; they come in the order of the pictures."""
        if index != self.index:
            self._close()
        self.total[crop] += feature
        self.index, self.count, self.done = index, self.count + 1, self.done + 1

    def _close(self) -> None:
        frames = self.count // len(self.total)
        with np.errstate(over="ignore"):  # `_finished` looks
            self.snippets.append((self.total / frames).astype(np.float16))
        self.total[:], self.count = 0, 0

    def result(self) -> ExtractedFeatures:
        self._close()
        (N, D), T = self.total.shape, len(self.snippets)
        features = np.empty((N, T, D), np.float16)
        self.snippets.reverse()
        for t in range(T):
            features[:, t] = self.snippets.pop()  # so that they never exist twice
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
    """One picture of a batch, and where its feature goes."""

    job: _Job
    snippet: int
    crop: int
    picture: UInt8[np.ndarray, "S S 3"]


def _land(rows: list[_Row], features: jax.Array) -> None:
    """Waits for a batch and hands the features to their videos."""
    for row, feature in zip(rows, np.asarray(features), strict=False):
        row.job.add(row.snippet, row.crop, feature)


def _finished(
    jobs: list[_Job], errors: list[InputError] | None, tick: Callable[[int], None]
) -> Iterator[ExtractedFeatures]:
    """Takes the videos off the list whose pictures are all encoded."""
    frames = 0
    for job in jobs:
        now = job.video.num_frames
        frames, job.frames = frames + now - job.frames, now
    tick(frames)
    for job in [job for job in jobs if job.whole]:
        jobs.remove(job)
        found = None if job.error else job.result()
        # Nothing can be learnt from such features, and readers refuse them later.
        if found is not None and not np.isfinite(found.features).all():
            job.error = InputError(
                f"{job.video.path}: the image tower gives values that are NaN or past "
                "float16's 65504; check the CLIP model's weights"
            )
            if errors is None:
                raise job.error
        if found is not None and not job.error:
            yield found
        elif job.error and errors is not None:
            errors.append(job.error)


class _Shared:
    """An iterator that several threads draw from."""

    def __init__(self, items: Iterable):
        self.items, self.lock = iter(items), threading.Lock()

    def __iter__(self) -> "_Shared":
        return self

    def __next__(self) -> Any:
        with self.lock:
            return next(self.items)


@contextlib.contextmanager
def _ahead(sources: list[Iterator[tuple]], depth: int) -> Iterator[Iterator[tuple]]:
    """Runs each source in a thread, together at most `depth` items ahead."""
    waiting: queue.Queue = queue.Queue(depth)
    stopped = threading.Event()

    def produce(items: Iterator[tuple]) -> None:
        last: Any = None  # an exception, or None at the end
        try:
            for item in items:
                if not put((item,)):
                    return
        except BaseException as e:  # noqa: BLE001 (raised again by the consumer)
            last = e
        put(last)

    def put(item: Any) -> bool:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                waiting.put(item, timeout=0.1)
                return True
        return False

    def consume() -> Iterator[tuple]:
        running = len(sources)
        while running:
            if isinstance(item := waiting.get(), tuple):
                yield item[0]
            elif item is None:
                running -= 1
            else:
                raise item

    threads = [
        threading.Thread(target=produce, args=(s,), daemon=True) for s in sources
    ]
    for thread in threads:
        thread.start()
    try:
        yield consume()
    finally:
        stopped.set()
        for thread in threads:
            thread.join()
