"""The benchmarks of image towers and of live detection, on tiny towers."""

import jax
import numpy as np
import pytest

from wsvad_jax.benchmarks import image_towers, live_delay, step_time, suite
from wsvad_jax.benchmarks.step_time import BenchmarkShapes
from wsvad_jax.clip.towers import encode_image
from wsvad_jax.experiment.config import load_config
from wsvad_jax.parallel.precision import resolve_dtype


@pytest.fixture
def tiny_towers(monkeypatch):
    """Both towers are one of a block and small pictures."""
    monkeypatch.setattr(step_time, "MATRIX_ROWS", {"cpu": 256})
    small = image_towers.vit_snapshot(32, depth=1)
    for module in (image_towers, live_delay):
        monkeypatch.setattr(module, "load_snapshot", lambda name: small)
    return small


def test_towers_are_timed_in_all_ways(tiny_towers, monkeypatch):
    monkeypatch.setattr(image_towers, "SIZES", (1, 8))
    found = image_towers.measure_towers(1, tiny_towers)
    rows = found["towers"]
    kinds = [(row["tower"], row["batch"], row["kind"]) for row in rows]
    for tower in (image_towers.DEMO, image_towers.VIT):
        for way in ((1, "float32"), (8, "float32"), (8, "bfloat16")):
            assert (tower, *way) in kinds
    for row in rows:
        assert row["picture_s"] > 0 and row["ratio"] > 0
        assert ("cosine" in row) == (row["kind"] == "bfloat16")
        assert row.get("cosine", 1.0) == pytest.approx(1, abs=1e-2)
    report = {"device": "here", "models": {"clip": {"towers": found}}}
    lines = suite.table(report).splitlines()
    assert sum("bfloat16" in line for line in lines) == 2


def test_torchs_tower_has_the_same_sizes():
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    snapshot = image_towers.vit_snapshot(32, depth=2)
    pixels = np.random.RandomState(0).standard_normal((2, 32, 32, 3)).astype("f4")
    torch.manual_seed(0)

    def encode(params, pixels):
        return encode_image(params, snapshot.vision, pixels)

    ours = jax.eval_shape(encode, snapshot.params, pixels)
    assert image_towers.torch_tower(snapshot.vision, pixels)().shape == ours.shape


def test_live_detection_is_timed(tiny_towers):
    config = load_config(["--config=mil_ranking:ucf", "--config.model.dtype=auto"])
    shapes = BenchmarkShapes(batch_size=1, length=32, width=8, classes=14)
    found = live_delay.measure_live(config, shapes, snippets=2, large=tiny_towers)
    assert found["dtype"] == resolve_dtype("auto")
    for row in found["live"]:
        assert row["snippets"] + row["dropped"] == 2 and row["window"] == 32
        assert 0 <= row["median_s"] <= row["p95_s"]
        assert row["encode_s"] > 0 and row["score_s"] > 0
    table = suite.table({"device": "here", "models": {"mil_ranking": {"live": found}}})
    assert "mil_ranking  ViT-B/16" in table
