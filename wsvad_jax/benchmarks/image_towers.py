"""Times image towers: pictures per call, half precision, and PyTorch's CLIP beside them.

Towers are the packaged CLIP's and one of ViT-B/16's size with random weights. PyTorch and
`transformers` are optional: without them, their row is missing.
"""

import dataclasses
import importlib.util
import os
import pathlib
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32

from wsvad_jax.benchmarks.step_time import MatrixRate, Timing
from wsvad_jax.clip.packaged import PACKAGED
from wsvad_jax.clip.random_snapshot import EOS_TOKEN_ID, VOCAB_SIZE, random_params
from wsvad_jax.clip.snapshot import Snapshot, load_snapshot
from wsvad_jax.clip.towers import TextConfig, VisionConfig, encode_image
from wsvad_jax.extraction.batch_size import CPU_BATCH_SIZE
from wsvad_jax.utils.processes import peak_memory_bytes

SIZES = (1, 2, 4, 8, 16, 32)  # pictures per call
LARGE = 16  # most pictures per call of a tower of ViT-B/16's size, which takes seconds
DEMO, VIT = "demo's CLIP", "ViT-B/16"


@dataclasses.dataclass(frozen=True)
class TowerRun:
    """One way to encode pictures, and its times."""

    tower: str
    batch: int  # pictures per call
    kind: str  # float32, bfloat16, or PyTorch
    call: Callable[[], Any]
    seconds: list[float] = dataclasses.field(default_factory=list)  # per picture

    def measure(self, pictures: int) -> None:
        """Adds the time of so many pictures, rounded up to whole calls."""
        calls = -(-pictures // self.batch)
        start = time.perf_counter()
        for _ in range(calls):
            self.call()
        self.seconds.append((time.perf_counter() - start) / (calls * self.batch))


def vit_snapshot(image_size: int = 224, depth: int = 12) -> Snapshot:
    """Returns a snapshot of random weights, whose image tower has ViT-B/16's widths.

    Args:
      image_size: side of a picture, in pixels.
      depth: number of blocks.
    """
    text = TextConfig(*(VOCAB_SIZE, 64, 64, 1, 1, 77, 512), eos_token_id=EOS_TOKEN_ID)
    vision = VisionConfig(image_size, 16, 768, 3072, depth, 12, 512)
    params = random_params(text, vision, 0)
    return Snapshot(params, text, vision, pathlib.Path(), "random", "0" * 12)


def measure_towers(repeats: int, large: Snapshot | None = None) -> dict[str, Any]:
    """Times both towers, all ways in turn.

    Args:
      repeats: number of timed rounds, after one that compiles.
      large: the second tower's snapshot; None is one of ViT-B/16's size.

    Returns:
      `towers`, one dict per tower and way: `tower`, `batch`, `kind`, `picture_s`, the
      median seconds per picture, `ratio`, the median over rounds of its time to that of
      float32 with eight pictures per call, and, for bfloat16, `cosine`, the smallest to
      float32. The other keys are those of each workload, of the second tower.
    """
    rate = MatrixRate("float32")
    rows: list[dict[str, Any]] = []
    base: Any = None
    for name, snapshot in (
        (DEMO, load_snapshot(PACKAGED)),
        (VIT, large or vit_snapshot()),
    ):
        most = SIZES[-1] if name == DEMO else LARGE
        runs, cosine = _runs(name, snapshot, [size for size in SIZES if size <= most])

        # Rounds go through all ways in turn, so a busy machine slows them alike. The
        # small tower's calls are short, so it encodes more pictures.
        default = CPU_BATCH_SIZE
        for _ in range(repeats):
            for run in runs:
                run.measure(4 * default if name == DEMO else default)

        # Ratios are taken within a round, then their median over rounds.
        (base,) = (r for r in runs if (r.kind, r.batch) == ("float32", default))
        for run in runs:
            pairs = zip(run.seconds, base.seconds, strict=True)
            rows.append(
                {
                    "tower": name,
                    "batch": run.batch,
                    "kind": run.kind,
                    "picture_s": statistics.median(run.seconds),
                    "ratio": statistics.median(a / b for a, b in pairs),
                }
            )
            if run.kind == "bfloat16":
                rows[-1]["cosine"] = cosine

    return {
        "dtype": "float32",
        "towers": rows,
        **Timing(tuple(base.seconds)).summary(),
        "product_flop_per_s": rate(),
        "peak_bytes": {"process": peak_memory_bytes()},
    }


def _runs(
    name: str, snapshot: Snapshot, sizes: Sequence[int]
) -> tuple[list[TowerRun], float]:
    """Returns compiled ways of a tower, and the smallest cosine of bfloat16."""
    S, default = snapshot.vision.image_size, CPU_BATCH_SIZE
    names = ("vision_model", "visual_projection")
    params = jax.device_put({key: snapshot.params[key] for key in names})
    random = np.random.RandomState(0)
    pixels = random.standard_normal((max(sizes), S, S, 3)).astype(np.float32)

    def encoder(dtype: str, batch: int) -> Callable[[], np.ndarray]:
        def encode(params, pixels):
            # As in `Extractor`: accelerators would multiply in lower precision.
            with jax.default_matmul_precision(dtype):
                kind = jnp.dtype(dtype)
                return encode_image(params, snapshot.vision, pixels, dtype=kind)

        program = jax.jit(encode)
        return lambda: np.asarray(program(params, pixels[:batch]), np.float32)

    ways = [("float32", size) for size in sizes] + [("bfloat16", default)]
    runs = [TowerRun(name, size, kind, encoder(kind, size)) for kind, size in ways]
    if call := torch_tower(snapshot.vision, pixels[:default]):
        runs.append(TowerRun(name, default, "PyTorch, float32", call))

    # The first calls compile.
    outputs = {(run.kind, run.batch): run.call() for run in runs}
    cosine = smallest_cosine(outputs["float32", default], outputs["bfloat16", default])
    return runs, cosine


def smallest_cosine(
    a: Float32[np.ndarray, "B D"], b: Float32[np.ndarray, "B D"]
) -> float:
    """Returns the smallest cosine between rows of the same number."""
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    return float((a * b).sum(1).min())


def torch_tower(
    config: VisionConfig, pixels: Float32[np.ndarray, "B S S 3"]
) -> Callable[[], Any] | None:
    """Returns a call of `transformers`' PyTorch tower, None if it isn't installed.

    Args:
      config: sizes of the tower; its weights are random.
      pixels: pictures that each call encodes, as ours takes them.
    """
    if not all(map(importlib.util.find_spec, ("torch", "transformers"))):
        return None
    import torch
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    # As many threads as XLA has.
    torch.set_num_threads(os.cpu_count() or 1)
    sizes = dataclasses.asdict(config)
    model = CLIPVisionModelWithProjection(CLIPVisionConfig(**sizes)).eval()
    values = torch.tensor(pixels).permute(0, 3, 1, 2).contiguous()

    def call() -> Any:
        with torch.inference_mode():
            return model(pixel_values=values).image_embeds.numpy()

    return call
