"""Features of video files: decode, choose frames, crop, image tower.

One feature stands for `stride` consecutive frames (16 in the literature). Which of them
is encoded was never stated for the released features, so it is a choice that is stored
with the features: the `first`, the `middle`, or the `mean` of the features of all.
Features are CLIP's projected image features without L2 normalisation.

Decoding runs in a thread ahead of the tower. The tower sees batches of one fixed size,
filled across videos, so that it is compiled once.
"""

import contextlib
import dataclasses
import pathlib
import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float16, UInt8

from wsvad_jax.clip.towers import encode_image
from wsvad_jax.data import video as videos
from wsvad_jax.data.records import FRAMES_PER_SNIPPET, FeatureProtocol
from wsvad_jax.errors import InputError

# CLIP's normalisation, in units of a full channel.
MEAN = np.array([[[[0.48145466, 0.4578275, 0.40821073]]]], np.float32)
STD = np.array([[[[0.26862954, 0.26130258, 0.27577711]]]], np.float32)


@dataclasses.dataclass(frozen=True)
class Extracted:
    """A video's features and what is known about their time."""

    path: pathlib.Path
    features: Float16[np.ndarray, "N T D"]
    num_frames: int  # decoded; T is num_frames / stride, rounded up
    seconds: Float[np.ndarray, "T"]  # presentation time of each snippet's first frame
    fps: float  # average rate that the container states, 0 unknown
    damage: str  # what could not be read, "" when all could


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
        batch_size: int = 64,
    ):
        """Puts the image tower on the default device.

        Args:
          snapshot: a `clip.load.Snapshot`.
          crops: 1, 5 or 10 pictures a frame, see `data.video`.
          frame: `first`, `middle` or `mean`.
          resize: `stretch` (the released geometry) or `clip`.
          stride: frames a snippet.
          batch_size: pictures that the tower sees at once.

        Raises:
          InputError: a choice that does not exist.
        """
        videos.check_crops(crops, resize)
        if frame not in videos.FRAMES:
            raise InputError(
                f"frame must be one of {', '.join(videos.FRAMES)}, found {frame!r}"
            )
        self.crops, self.frame, self.resize = crops, frame, resize
        self.stride, self.batch_size = stride, batch_size
        self.config = snapshot.vision
        self.encoder = f"{snapshot.name}@{snapshot.weights_hash[:12]}"
        names = ("vision_model", "visual_projection")
        self.params = jax.device_put({k: snapshot.params[k] for k in names})
        self.encode = jax.jit(self._encode)

    @property
    def protocol(self) -> FeatureProtocol:
        """How the features are made, to be stored beside them."""
        return FeatureProtocol(self.encoder, self.stride, self.crops, self.frame)

    def __call__(self, path: str | pathlib.Path) -> Extracted:
        """Extracts one video's features.

        Raises:
          InputError: the file is not a video with at least one readable frame.
        """
        return next(self.stream([path]))

    def stream(
        self,
        paths: Iterable[str | pathlib.Path],
        *,
        errors: list[InputError] | None = None,
    ) -> Iterator[Extracted]:
        """Extracts many videos, yielded in order as they are done.

        Args:
          paths: video files.
          errors: takes the errors of videos that can't be read, which are then left
            out; without it the first one is raised.
        """
        jobs: list[_Job] = []  # begun and not yet yielded
        rows: list[tuple[_Job, tuple[int, int], np.ndarray]] = []
        with _ahead(self._pictures(paths), depth=2 * self.batch_size) as pictures:
            for job, key, picture in pictures:
                if not jobs or jobs[-1] is not job:
                    jobs.append(job)
                job.decoded = picture is None
                if picture is not None:
                    rows.append((job, key, picture))
                elif job.error and errors is None:
                    raise job.error
                elif job.error:
                    errors.append(job.error)  # pyright: ignore[reportOptionalMemberAccess]
                    jobs.pop()
                if len(rows) == self.batch_size:
                    self._flush(rows)
                    yield from _finished(jobs)
        self._flush(rows)
        yield from _finished(jobs)

    def _pictures(self, paths: Iterable[str | pathlib.Path]) -> Iterator[tuple]:
        """Yields (job, (crop, snippet), picture), and a None picture at each end."""
        for path in paths:
            job = _Job(videos.Video(path))
            try:
                cut = videos.snippets(job.video, frame=self.frame, stride=self.stride)
                for snippet in cut:
                    job.seconds.append(snippet.seconds)
                    for picture in snippet.pictures:
                        crops = videos.crop(
                            picture,
                            self.config.image_size,
                            crops=self.crops,
                            resize=self.resize,
                        )
                        for n, part in enumerate(crops):
                            job.rows += 1
                            yield job, (n, snippet.index), part
            except InputError as e:
                job.error = e
            yield job, (0, 0), None

    def _flush(self, rows: list) -> None:
        if not rows:
            return
        S = self.config.image_size
        batch = np.zeros((self.batch_size, S, S, 3), np.uint8)
        batch[: len(rows)] = [picture for _, _, picture in rows]
        features = np.asarray(self.encode(self.params, batch))
        for (job, key, _), feature in zip(rows, features, strict=False):
            job.add(key, feature)
        rows.clear()

    def _encode(self, params: dict, pictures: UInt8[jax.Array, "B S S 3"]) -> jax.Array:
        pixels = (pictures.astype(jnp.float32) / 255 - MEAN) / STD
        return encode_image(params, self.config, pixels)


class _Job:
    """A video on its way through decoder and tower."""

    def __init__(self, video: videos.Video):
        self.video = video
        self.seconds: list[float] = []
        self.sums: dict[tuple[int, int], np.ndarray] = {}  # (crop, snippet): features
        self.counts: dict[tuple[int, int], int] = {}
        self.rows = self.done = 0  # pictures decoded, encoded
        self.decoded = False
        self.error: InputError | None = None

    def add(self, key: tuple[int, int], feature: Float[np.ndarray, "D"]) -> None:
        self.done += 1
        self.counts[key] = self.counts.get(key, 0) + 1
        self.sums[key] = self.sums[key] + feature if key in self.sums else feature

    def result(self) -> Extracted:
        N, T = max(n for n, _ in self.sums) + 1, len(self.seconds)
        features = [
            [self.sums[n, t] / self.counts[n, t] for t in range(T)] for n in range(N)
        ]
        return Extracted(
            path=self.video.path,
            features=np.array(features, np.float32).astype(np.float16),
            num_frames=self.video.num_frames,
            seconds=np.array(self.seconds),
            fps=self.video.fps,
            damage=self.video.damage,
        )


def _finished(jobs: list[_Job]) -> Iterator[Extracted]:
    """Takes the leading jobs off the list whose pictures are all encoded."""
    while jobs and jobs[0].decoded and jobs[0].done == jobs[0].rows:
        yield jobs.pop(0).result()


@contextlib.contextmanager
def _ahead(items: Iterator[tuple], depth: int) -> Iterator[Iterator[tuple]]:
    """Runs `items` in a thread, at most `depth` items ahead of the consumer."""
    waiting: queue.Queue = queue.Queue(depth)
    stopped = threading.Event()

    def produce() -> None:
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
        while isinstance(item := waiting.get(), tuple):
            yield item[0]
        if item is not None:
            raise item

    thread = threading.Thread(target=produce, daemon=True)
    thread.start()
    try:
        yield consume()
    finally:
        stopped.set()
        thread.join()
