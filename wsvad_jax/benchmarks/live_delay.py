"""Times live detection: how long after a snippet's last frame its line is printed.

A synthetic video is played at 25 frames per second through a recipe's model with random
weights, behind the packaged CLIP's image tower and behind one of ViT-B/16's size. The
delay counts from the moment at which the last frame is decoded to the moment at which
the line is written.
"""

import dataclasses
import io
import json
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from wsvad_jax.benchmarks import step_time
from wsvad_jax.benchmarks.image_towers import DEMO, VIT, vit_snapshot
from wsvad_jax.benchmarks.step_time import BenchmarkShapes, MatrixRate
from wsvad_jax.clip.packaged import PACKAGED
from wsvad_jax.clip.snapshot import Snapshot, load_snapshot
from wsvad_jax.data import cards, feature_protocols
from wsvad_jax.detection import live
from wsvad_jax.detection.detector import Detector
from wsvad_jax.detection.live_scorer import LiveScorer
from wsvad_jax.experiment.identity import comparable_config
from wsvad_jax.parallel.precision import resolve_dtype
from wsvad_jax.utils.processes import peak_memory_bytes
from wsvad_jax.weights.trained_model import TrainedModel

if TYPE_CHECKING:
    from ml_collections import ConfigDict

FPS = 25  # of most cameras
SNIPPETS = 32  # that are played: 20 seconds
CALLS = 8  # of tower and model, timed alone


def measure_live(
    config: "ConfigDict",
    shapes: BenchmarkShapes,
    *,
    snippets: int = SNIPPETS,
    large: Snapshot | None = None,
) -> dict[str, Any]:
    """Times live detection with both image towers.

    Args:
      config: recipe.
      shapes: length of the window and number of classes; the width is the tower's.
      snippets: number of snippets that are played.
      large: the second tower's snapshot; None is one of ViT-B/16's size.

    Returns:
      `live`, one dict per tower: `tower`, `window`, `snippets` and `dropped`; `median_s`
      and `p95_s` of the delay; `encode_s` and `score_s`, medians of the image tower and
      of the model alone. The other keys are those of each workload; `median_s` is the
      delay with the first tower.
    """
    from wsvad_jax.benchmarks.input_pipeline import write_synthetic_video

    # The same video is played behind both towers.
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "video.mp4"
        write_synthetic_video(path, snippets * cards.UCF.stride, FPS)
        for name in (DEMO, VIT):
            snapshot = load_snapshot(PACKAGED) if name == DEMO else large
            detector = random_detector(config, shapes, snapshot or vit_snapshot())
            row = _parts(detector) | _played(detector, path)
            rows.append({"tower": name, "window": detector.T, **row})

    first, dtype = rows[0], resolve_dtype(config.model.dtype)
    return {
        "dtype": dtype,
        **dataclasses.asdict(shapes),
        "live": rows,
        **{key: first[key] for key in ("median_s", "low_s", "high_s")},
        "product_flop_per_s": MatrixRate(dtype)(),
        "peak_bytes": {"process": peak_memory_bytes()},
    }


def random_detector(
    config: "ConfigDict", shapes: BenchmarkShapes, snapshot: Snapshot
) -> Detector:
    """Returns a recipe's model with random weights, as if it were opened from a file.

    Args:
      config: recipe.
      shapes: length of the window and number of classes.
      snapshot: CLIP model whose image tower encodes frames.
    """
    shapes = dataclasses.replace(shapes, width=snapshot.vision.projection_dim)
    network = step_time.build_network(config, shapes)
    params, batch_stats = step_time.random_variables(network)
    # One crop, as most features have.
    card = dataclasses.replace(cards.UCF, test_crop=0)
    protocol = feature_protocols.snapshot_protocol(snapshot, "stretch")
    protocol = dataclasses.replace(
        protocol, stride=card.stride, crops=1, frame="middle", resize="stretch"
    )
    meta = {
        "model": config.model_name,
        "config": comparable_config(config),
        "card": card.to_json(),
        "features": dataclasses.asdict(protocol),
    }

    # No such folder exists, so the model is handed over as if it had been read.
    path = pathlib.Path("random")
    opened = (path, str(path), network, params, batch_stats, meta, card)
    detector = Detector.__new__(Detector)
    detector.clip, detector.force, detector.progress = None, False, False
    detector._prepare(TrainedModel(*opened, snapshot=snapshot), None)
    return detector


def _parts(detector: Detector) -> dict[str, float]:
    """Returns the median times of the tower and the model for one snippet."""
    scorer = LiveScorer(detector)
    size = scorer.encoder.extractor.config.image_size
    picture = np.zeros((scorer.encoder.crops, size, size, 3), np.uint8)
    window = scorer.new_window()
    return {
        "encode_s": _median(lambda: scorer.encoder.features([(picture,)])),
        "score_s": _median(lambda: scorer._scores([window])),
    }


def _median(call: Callable[[], Any]) -> float:
    seconds = []
    for _ in range(CALLS):
        start = time.perf_counter()
        jax.block_until_ready(call())
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _played(detector: Detector, path: pathlib.Path) -> dict[str, Any]:
    """Plays a video at its own speed; returns the delays of its lines."""
    out = io.StringIO()
    live.run(detector, str(path), out=out)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]

    # The last line counts the snippets that were dropped to keep up.
    delays = [line["behind"] for line in lines if line["type"] == "snippet"]
    low, middle, high, most = np.percentile(delays, [25, 50, 75, 95]).tolist()
    return {
        "snippets": len(delays),
        "dropped": lines[-1]["dropped"],
        "median_s": middle,
        "low_s": low,
        "high_s": high,
        "p95_s": most,
    }
