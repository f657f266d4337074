"""Prints, as JSON, how far training on meshes of 8 devices is from that on one device.

XLA_FLAGS=--xla_force_host_platform_device_count=8 python tests/support/mesh_training.py dsanet ...
"""

import json
import sys

import jax
import numpy as np
import optax
from jax.sharding import AxisType
from test_train_step import SMALL

from wsvad_jax.clip.prompts import TextInputs
from wsvad_jax.clip.random_snapshot import random_params
from wsvad_jax.clip.towers import TextConfig, VisionConfig
from wsvad_jax.data.records import Batch
from wsvad_jax.experiment import build
from wsvad_jax.experiment.config import load_config
from wsvad_jax.parallel import mesh as state_mesh
from wsvad_jax.training import state, train_step

B, N, T, D, C, STEPS = 8, 1, 16, 32, 5, 20
# At higher ones, choices of snippets make much of little.
RATE, RATES = 1e-3, {"dsanet": 1e-4}
MESHES = {"1x1": (1, 1), "8x1": (8, 1), "4x2": (4, 2)}


def text():
    config = TextConfig(64, 32, 64, 2, 2, 40, D, eos_token_id=63)
    params = random_params(config, VisionConfig(16, 8, 16, 32, 1, 2, D), seed=0)
    tokens = np.random.RandomState(1).randint(1, 60, (C, 5)).astype(np.int32)
    tokens[:, 0], tokens[:, -1] = 62, 63
    frozen = {k: params[k] for k in ("text_model", "text_projection")}
    return TextInputs(tokens, np.full(C, 4, np.int32), np.eye(C), frozen, config)


def batches():
    r = np.random.RandomState(0)
    label = np.zeros((B, C), np.float32)
    label[: B // 2, 0] = 1
    label[np.arange(B // 2, B), r.randint(1, C, B // 2)] = 1
    for _ in range(STEPS):
        features = (0.4 * r.standard_normal((B, N, T, D))).astype(np.float16)
        length = r.randint(T // 2, T + 1, B).astype(np.int32)
        yield Batch(features, length, label, np.ones(B, bool))


def train(name, shape):
    """Returns losses and parameters after each of the steps on a mesh."""
    devices = jax.devices()[: shape[0] * shape[1]]
    kinds = (AxisType.Auto,) * 2
    mesh = jax.make_mesh(shape, state_mesh.AXES, axis_types=kinds, devices=devices)
    config = load_config([f"--config={name}:ucf"])
    config.model.update(SMALL[name])
    model, prompts = build.build_model(config), text() if "clip" in config else None
    # Plain descent: others make whole steps of gradients that are 0 but for rounding.
    optimiser = optax.sgd(RATES.get(name, RATE))
    example = np.zeros((2, N, T, D), np.float32), np.ones(2, np.int32), prompts
    key = jax.random.key(0)
    current = state.make_init(model, optimiser, example, mesh)(key)
    spec = build.get_model_spec(config)
    step = train_step.make_train_step(model, spec, optimiser, dict(config.loss))
    program, losses = train_step.compile_host_step(step, mesh), []
    for batch in batches():
        current, metrics = program(current, batch, prompts, key)
        losses.append(float(metrics["loss"]))
    wanted = state_mesh.fsdp_shardings(current, mesh)
    assert jax.tree.all(
        jax.tree.map(
            lambda x, s: x.sharding.is_equivalent_to(s, x.ndim), current, wanted
        )
    )
    split = [x for x in jax.tree.leaves(current) if not x.is_fully_replicated]
    weights = current.params, current.batch_stats
    return np.array(losses), jax.device_get(weights), len(split)


def main():
    found = {}
    for name in sys.argv[1:]:
        runs = {mesh: train(name, shape) for mesh, shape in MESHES.items()}
        losses, weights, _ = runs["1x1"]
        for mesh in ("8x1", "4x2"):
            more, others, split = runs[mesh]
            away = jax.tree.map(
                lambda a, b: np.abs(a - b).max(initial=0), weights, others
            )
            found[f"{name} {mesh}"] = {
                "loss": float(np.abs(losses - more).max()),
                "weights": float(max(jax.tree.leaves(away))),
                "moved": float(abs(losses[-1] - losses[0])),
                "split": split,
            }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
