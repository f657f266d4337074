"""Benchmarks evaluation, data loading and feature extraction.

The data is synthetic, with the published shapes, and takes the code path of real data.
"""

import contextlib
import dataclasses
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from wsvad_jax.benchmarks import image_towers, step_time
from wsvad_jax.benchmarks.step_time import BenchmarkShapes, MatrixRate, Timing
from wsvad_jax.data import batching, cards, packing, tfds_builder
from wsvad_jax.data.dataset import open_dataset
from wsvad_jax.data.records import FeatureProtocol, Record
from wsvad_jax.evaluation.scorer import Scorer, score_split
from wsvad_jax.experiment import build
from wsvad_jax.extraction.extractor import Extractor
from wsvad_jax.extraction.video import Video, snippets
from wsvad_jax.metrics.frame_level import evaluate
from wsvad_jax.parallel import multihost
from wsvad_jax.parallel.precision import resolve_dtype
from wsvad_jax.training import train_step
from wsvad_jax.utils import prefetch, processes

if TYPE_CHECKING:
    from ml_collections import ConfigDict

# Lengths of UCF-Crime's test videos in snippets: a log-normal distribution whose standard
# deviation gives the published mean, 240.
MEDIAN_LENGTH, LENGTH_STD, MAX_LENGTH = 104, 1.3, 6750
FRAME_SIZE = 240, 320  # height and width of UCF-Crime's videos


def ucf_lengths(videos: int) -> np.ndarray:
    """Returns lengths [V] in snippets of test videos, distributed like UCF-Crime's."""
    normal = statistics.NormalDist()
    quantiles = [normal.inv_cdf((i + 0.5) / videos) for i in range(videos)]
    # Quantiles of a log-normal distribution, whose tail is cut at the longest video.
    length = np.clip(
        MEDIAN_LENGTH * np.exp(LENGTH_STD * np.array(quantiles)), 1, MAX_LENGTH
    ).astype(int)
    length[-1] = MAX_LENGTH
    return np.random.RandomState(0).permutation(length)


def records(length: np.ndarray, width: int, split: str) -> Iterator[Record]:
    """Yields videos of noise, by turns normal and with an event in the middle."""
    # The event covers the middle third of an abnormal video.
    r = np.random.RandomState(0)
    classes = len(cards.UCF.classes)
    for i, T in enumerate(length.tolist()):
        features = (0.4 * r.standard_normal((1, T, width))).astype(np.float16)
        label = 0 if i % 2 else 1 + i // 2 % (classes - 1)
        event = ((T * 16 // 3, T * 16 * 2 // 3 + 1, label),) if label else ()
        yield Record(f"{split}{i}", features, (label,), T * 16, event)


def measure_evaluation(
    config: "ConfigDict",
    shapes: BenchmarkShapes,
    *,
    videos: int = 290,
    repeats: int = 3,
) -> dict[str, Any]:
    """Times the scoring of a test set and the computation of all metrics.

    Args:
      config: recipe.
      shapes: sizes of a window; the batch size is the recipe's.
      videos: number of videos, with UCF-Crime's distribution of lengths.
      repeats: number of timed runs, after one that compiles and packs.
    """
    length = ucf_lengths(videos)
    # A dataset on disk, prepared like any other.
    with tempfile.TemporaryDirectory() as folder:
        protocol = FeatureProtocol()
        # Training videos are not read, but a dataset has both splits.
        splits = {
            "train": records(length[:2], shapes.width, "train"),
            "test": records(length, shapes.width, "test"),
        }
        card = dataclasses.replace(cards.UCF, name="synthetic", test_crop=0)
        path = tfds_builder.write_dataset(
            "synthetic", card, protocol, splits, pathlib.Path(folder)
        )

        network = step_time.build_network(config, shapes)
        fields = {f.name: getattr(network, f.name) for f in dataclasses.fields(network)}
        opened = build.Experiment(**fields, dataset=open_dataset(path))
        variables = step_time.random_variables(network)
        scorer = Scorer(opened)

        def run() -> None:
            scored = score_split(opened, scorer, *variables)
            evaluate(scored, card.class_names)

        return _timed(run, config, repeats) | {
            **dataclasses.asdict(shapes),
            "snippets": int(length.sum()),
            "amount": videos,
            "unit": "videos",
        }


def measure_reading(
    config: "ConfigDict",
    shapes: BenchmarkShapes,
    *,
    batches: int = 16,
    repeats: int = 3,
) -> dict[str, Any]:
    """Times the gathering of batches from a file that is not in the page cache."""
    with _cold_split(shapes, batches) as (packed, order, drop):

        def run() -> None:
            for _ in batching.batches(packed, order):
                pass

        return _timed(run, config, repeats, drop) | {
            **dataclasses.asdict(shapes),
            "bytes": packed.features.nbytes,
            "amount": order.size,
            "unit": "samples",
        }


def measure_feeding(
    config: "ConfigDict", shapes: BenchmarkShapes, *, batches: int = 8, repeats: int = 3
) -> dict[str, Any]:
    """Times training from an uncached file and on a resident batch, alternately.

    Keys of the result:

      resident_s: time with one batch that stays on the device.
      idle_share: median fraction of the time that training from a file takes longer. The
        device waits for data, or for the host's work.
    """
    network, current, step = step_time.build_training(config, shapes)

    program, key = train_step.compile_host_step(step, network.mesh), jax.random.key(0)
    resident_batch = multihost.make_global_batch(
        step_time.synthetic_batch(shapes), network.mesh
    )
    resident: list[float] = []
    seconds: list[float] = []

    def train_on(items: Iterable[Any]) -> None:
        nonlocal current
        # Metrics are fetched one step late, as in training, so the device never waits.
        pending = None
        for batch in items:
            current, metrics = program(current, batch, network.text, key)
            jax.device_get(pending)
            pending = metrics
        jax.block_until_ready(pending)

    with _cold_split(shapes, batches) as (packed, order, drop):

        def train_from_file() -> None:
            gathered = (batching.gather(packed, rows) for rows in order)
            train_on(
                prefetch.prefetch(
                    multihost.make_global_batch(b, network.mesh) for b in gathered
                )
            )

        def before() -> None:
            # The reference runs right before, under the same load of the machine.
            start = time.perf_counter()
            train_on([resident_batch] * len(order))
            resident.append(time.perf_counter() - start)
            drop()

        times = _timed(train_from_file, config, repeats, before, seconds)

    idle = [1 - r / s for r, s in zip(resident, seconds, strict=True)]
    return times | {
        **dataclasses.asdict(shapes),
        "resident_s": statistics.median(resident),
        "idle_share": statistics.median(idle),
        "amount": order.size,
        "unit": "samples",
    }


@contextlib.contextmanager
def _cold_split(
    shapes: BenchmarkShapes, batches: int
) -> Iterator[tuple[packing.Packed, np.ndarray, Callable[[], None]]]:
    """Yields a packed split in a file, the rows of its batches, and a cache dropper.

    macOS can't drop a file from the page cache, so the file is read from the cache there.
    """
    B, T, D = shapes.batch_size, shapes.length, shapes.width
    shape = (B * batches, shapes.crops, T, D)
    # The same noise in every row: writing is fast, and the content doesn't matter.
    with tempfile.NamedTemporaryFile(suffix=".npy") as file:
        features = np.memmap(file.name, np.float16, "w+", shape=shape)
        noise = (0.4 * np.random.RandomState(0).standard_normal(shape[1:])).astype("f2")
        for row in features:
            row[:] = noise
        features.flush()

        # As many normal as abnormal videos, as balanced batches need.
        normal = np.arange(len(features)) % 2 == 0
        packed = packing.Packed(
            np.memmap(file.name, np.float16, "r", shape=shape),
            np.full(len(features), T, np.int32),
            np.eye(2, shapes.classes, dtype=np.float32)[(~normal).astype(int)],
            [str(i) for i in range(len(features))],
            np.arange(len(features), dtype=np.int32),
        )

        # Only pages that are on disk can be dropped.
        def drop() -> None:
            os.fsync(file.fileno())
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

        yield packed, batching.epoch_order(normal, B, "balanced", 0, 0), drop


def measure_extraction(
    config: "ConfigDict",
    *,
    video: str | pathlib.Path = "",
    image_size: int = 224,
    depth: int = 12,
    repeats: int = 3,
) -> dict[str, Any]:
    """Times feature extraction, and decoding and encoding separately, in turn.

    Keys of the result:

      decode_s: time of decoding and cropping.
      pictures_s: part of it that turns frames into the tower's pictures.
      encode_s: time of the image tower on the same number of pictures.
      of_slower_half: whole time / time of the slower half, median over passes; 1 means
        full overlap.

    Args:
      config: recipe; its `model.dtype` is that of the reference matrix product.
      video: video file, '' for a synthetic one.
      image_size: image size of the tower, which otherwise has CLIP ViT-B/16's widths.
      depth: number of blocks of the tower.
      repeats: number of timed passes, after one that compiles.
    """
    extractor = Extractor(image_towers.vit_snapshot(image_size, depth))

    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(video or pathlib.Path(folder) / "video.mp4")
        if not video:
            write_synthetic_video(path, 2 * extractor.batch_size * extractor.stride)

        # This first pass compiles the tower and counts the frames.
        frames = extractor(path).num_frames
        halves: dict[str, list[float]] = {"decode": [], "encode": []}
        pictures: list[float] = []
        seconds: list[float] = []
        times = _timed(
            lambda: extractor(path),
            config,
            repeats,
            lambda: pictures.append(_halves(extractor, path, frames, halves)),
            seconds,
        )

    # Pass by pass, since the machine's speed varies between passes.
    slower = map(max, zip(*halves.values(), strict=True))
    ratios = [whole / half for whole, half in zip(seconds, slower, strict=True)]
    return times | {
        **{f"{name}_s": statistics.median(s) for name, s in halves.items()},
        "pictures_s": statistics.median(pictures),
        "of_slower_half": statistics.median(ratios),
        "amount": frames,
        "unit": "frames",
    }


def _halves(
    extractor: Extractor, path: pathlib.Path, frames: int, seconds: dict[str, list]
) -> float:
    """Times decoding without the tower, and the tower on as many pictures.

    Returns the part of decoding that turns frames into pictures.
    """
    size, stride = extractor.config.image_size, extractor.stride
    preparing = 0.0

    def preprocess(frame: Any) -> np.ndarray:
        nonlocal preparing
        start = time.perf_counter()
        picture = extractor.preprocess(frame)
        preparing += time.perf_counter() - start
        return picture

    start = time.perf_counter()
    for _ in snippets(Video(path), stride=stride, preprocess=preprocess):
        pass
    seconds["decode"].append(time.perf_counter() - start)

    pictures = np.ones((-(-frames // stride), size, size, 3), np.uint8)
    start = time.perf_counter()
    extractor.images(pictures)
    seconds["encode"].append(time.perf_counter() - start)
    return preparing


def write_synthetic_video(path: pathlib.Path, frames: int, rate: int = 30) -> None:
    """Writes a video of moving noise with the size of UCF-Crime's videos.

    Args:
      path: file to write.
      frames: number of frames.
      rate: frames per second.
    """
    import av

    # Blocks of 8 x 8 pixels that move: compressible, yet with motion, as real video.
    r = np.random.RandomState(0)
    noise = r.randint(0, 256, (FRAME_SIZE[0] // 8, FRAME_SIZE[1] // 8, 3), np.uint8)
    picture = np.kron(noise, np.ones((8, 8, 1), np.uint8))

    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=rate)
        stream.height, stream.width = FRAME_SIZE
        for i in range(frames):
            image = np.roll(picture, 2 * i, axis=1)
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24"))
            )
        container.mux(stream.encode())


def _timed(
    run: Callable[[], Any],
    config: "ConfigDict",
    repeats: int,
    before: Callable[[], None] = lambda: None,
    seconds: list[float] | None = None,
) -> dict[str, Any]:
    """Times `run` and the reference matrix product alternately.

    The first call of `run` compiles and is reported separately.

    Args:
      run: measured work.
      config: recipe; its `model.dtype` is that of the matrix product.
      repeats: number of timed runs.
      before: function called before every timed run.
      seconds: list that collects the times.
    """
    seconds = [] if seconds is None else seconds
    dtype = resolve_dtype(config.model.dtype)
    rate = MatrixRate(dtype)

    # Progress bars of the measured code would fill the terminal.
    start = time.perf_counter()
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        run()
        first = time.perf_counter() - start

        rates = []
        for _ in range(repeats):
            before()
            rates.append(rate())
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)

    return {
        "dtype": dtype,
        "first_s": first,
        **Timing(tuple(seconds)).summary(),
        "product_flop_per_s": statistics.median(rates),
        "peak_bytes": {"process": processes.peak_memory_bytes()},
    }
