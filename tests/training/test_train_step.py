"""Steps over a resident split are those over batches from the host, on every model."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_models import TEXT_MODELS

from wsvad_jax.data.records import Batch
from wsvad_jax.experiment import build
from wsvad_jax.experiment.config import load_config
from wsvad_jax.parallel import mesh
from wsvad_jax.training import state, train_step

S, B, T, D = 12, 4, 16, 32
STEPS = 3
SMALL = {
    "mil_ranking": {"segments": 16},
    "clip_tsa": {"samples": 8, "kappa": 0.5},
    **TEXT_MODELS,
}


class Case:
    """A small model with its objective, a split of S videos, the rows of each step."""

    def __init__(self, name, text, order=0):
        self.config = load_config([f"--config={name}:ucf"])
        self.config.model.update(SMALL[name])
        self.text = text if "clip" in self.config else None
        self.model = build.build_model(self.config)
        self.mesh = mesh.make_mesh()
        C, r = (5, np.random.RandomState(0))
        label = np.zeros((S, C), np.float32)
        label[: S // 2, 0] = 1
        label[np.arange(S // 2, S), r.randint(1, C, S // 2)] = 1
        features = r.standard_normal((S, 1, T, D)) * 0.4
        length = r.randint(T // 2, T + 1, S).astype(np.int32)
        self.split = Batch(features.astype(np.float16), length, label, np.ones(S, bool))
        r = np.random.RandomState(order)
        sides = [np.arange(S // 2), np.arange(S // 2, S)]
        self.rows = np.stack(
            [np.concatenate([r.choice(x, B // 2) for x in sides]) for _ in range(STEPS)]
        ).astype(np.int32)
        # Plain descent: others make whole steps of gradients that are 0 but for rounding.
        self.optimiser = optax.sgd(0.01)
        example = features[:2], np.ones(2, np.int32), self.text
        self.init = state.make_init(self.model, self.optimiser, example, self.mesh)

    def step(self, parts=1):
        spec = build.get_model_spec(self.config)
        weights = dict(self.config.loss)
        return train_step.make_train_step(
            self.model, spec, self.optimiser, weights, parts
        )

    def batch(self, i):
        return jax.tree.map(lambda x: x[self.rows[i]], self.split)

    def one_by_one(self, seed=0):
        """State and metrics after STEPS batches from the host."""
        key = jax.random.key(seed)
        current, found = self.init(key), []
        step = train_step.compile_host_step(self.step(), self.mesh)
        for i in range(STEPS):
            current, metrics = step(current, self.batch(i), self.text, key)
            found.append(jax.device_get(metrics))
        return current, {k: [m[k] for m in found] for k in found[0]}


def ahead(rows):
    return np.concatenate(
        [rows, np.zeros((train_step.MAX_STEPS_PER_CALL - STEPS, B), np.int32)]
    )


close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", SMALL)
def test_a_chunk_of_steps_is_the_steps_one_by_one(name, tiny_text):
    case = Case(name, tiny_text)
    key = jax.random.key(0)
    wanted, wanted_metrics = case.one_by_one()
    steps = train_step.compile_device_steps(case.step(), case.mesh)
    inputs = case.split, ahead(case.rows), np.int32(STEPS), case.text, key
    found, metrics = steps(case.init(key), *inputs)
    jax.tree.map(close, jax.device_get(found), jax.device_get(wanted))
    for k, values in wanted_metrics.items():
        close(metrics[k][:STEPS], values)
        assert not metrics[k][STEPS:].any()  # steps that were not asked for


@pytest.mark.parametrize("name", SMALL)
def test_seeds_side_by_side_are_the_seeds_alone(name, tiny_text):
    """Each with its own weights, order and noise."""
    cases = [Case(name, tiny_text, order=seed) for seed in (0, 1)]
    case = cases[0]
    keys = [jax.random.key(seed) for seed in (0, 1)]
    steps = train_step.compile_device_steps(case.step(), case.mesh, seeds=True)
    states = [case.init(key) for key in keys]
    together = jax.tree.map(lambda *x: jnp.stack(x), *states)
    rows = np.stack([ahead(c.rows) for c in cases])
    inputs = case.split, rows, np.int32(STEPS), case.text, jnp.stack(keys)
    found, metrics = steps(together, *inputs)
    for i, one in enumerate(cases):
        wanted, wanted_metrics = one.one_by_one(seed=i)
        jax.tree.map(lambda x, y: close(x[i], y, rtol=1e-3), found, wanted)  # noqa: B023
        for k, values in wanted_metrics.items():
            close(metrics[k][i, :STEPS], values)


@pytest.mark.parametrize("masked, parts", [(False, 4), (True, 2)])
@pytest.mark.parametrize("name", ["vadclip", "dsanet"])
def test_a_batch_in_parts_is_the_batch(name, masked, parts, tiny_text):
    """Terms, loss and gradients, where videos differ in length, with random weights."""
    case = Case(name, tiny_text)
    case.config.model.mask_padding = masked
    case.model = build.build_model(case.config)
    start = case.init(jax.random.key(0))
    r = np.random.RandomState(1)
    params = jax.tree.map(
        lambda x: x + 0.05 * r.standard_normal(x.shape).astype(np.float32), start.params
    )
    batch, key = case.batch(0), jax.random.key(0)
    assert len(set(batch.length.tolist())) > 2
    start, found = start.replace(params=params), []
    for n in (1, parts):
        after, metrics = jax.jit(case.step(n))(start, batch, case.text, key)
        found.append(jax.device_get((after.params, metrics)))
    jax.tree.map(close, *found)


def test_parts_need_less_memory(tiny_text):
    case = Case("dsanet", tiny_text)
    taken = []
    for parts in (1, 4):
        step = train_step.compile_host_step(case.step(parts), case.mesh)
        start = jax.eval_shape(case.init, jax.random.key(0))
        batch = jax.tree.map(
            lambda x: np.tile(x, (16,) + (1,) * (x.ndim - 1)), case.batch(0)
        )
        lowered = step.lower(start, batch, case.text, jax.random.key(0))  # type: ignore
        taken.append(lowered.compile().memory_analysis().temp_size_in_bytes)
    assert taken[1] < 0.5 * taken[0]
