"""Steps over a resident split are those over batches from the host, on every model."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_models import TEXT_MODELS, drawn

from wsvad_jax.data.records import Batch
from wsvad_jax.experiment import build
from wsvad_jax.experiment.config import load_config
from wsvad_jax.parallel import mesh
from wsvad_jax.training import state, train_step

S, B, T, D = 12, 64, 16, 32
STEPS = 3
SMALL = {
    "mil_ranking": {"segments": 16},
    "clip_tsa": {"samples": 8, "kappa": 0.5},
    **TEXT_MODELS,
}


class Case:
    """A small model with its objective and compiled step, and a split of S videos."""

    def __init__(self, name, text, **changes):
        self.config = load_config([f"--config={name}:ucf"])
        self.config.model.update(SMALL[name] | changes)
        self.text = text if "clip" in self.config else None
        self.model = build.build_model(self.config)
        self.mesh = mesh.make_mesh()
        C, r = (5, np.random.RandomState(0))
        label = np.zeros((S, C), np.float32)
        label[: S // 2, 0] = 1
        label[np.arange(S // 2, S), r.randint(1, C, S // 2)] = 1
        features = r.standard_normal((S, 1, T, D)) * 0.4
        length = r.randint(T // 2, T + 1, S).astype(np.int32)
        features[length > 12] += 0.4  # so that means over snippets tell these apart
        self.split = Batch(features.astype(np.float16), length, label, np.ones(S, bool))
        # Plain descent: others make whole steps of gradients that are 0 but for rounding.
        self.optimiser = optax.sgd(0.01)
        example = features[:2], np.ones(2, np.int32), self.text
        self.variables = jax.device_get(drawn(self.model, *example))
        # Each is compiled once for all tests.
        self.host_step = functools.cache(self.compile_host_step)
        self.one_by_one = functools.cache(self.take_steps)

    def step(self, parts=1):
        spec = build.get_model_spec(self.config)
        weights = dict(self.config.loss)
        return train_step.make_train_step(
            self.model, spec, self.optimiser, weights, parts
        )

    def compile_host_step(self, parts=1):
        return train_step.compile_host_step(self.step(parts), self.mesh)

    def start(self, seed=0):
        """The first state; seeds differ in their weights."""
        variables = jax.tree.map(
            lambda x: x * np.float32(1 + 0.1 * seed), self.variables
        )
        params, stats = variables["params"], variables.get("batch_stats", {})
        opt_state = self.optimiser.init(params)
        return state.State(np.zeros((), np.int32), params, stats, opt_state)

    def rows(self, seed=0):
        """The rows of each step."""
        r = np.random.RandomState(seed)
        sides = [np.arange(S // 2), np.arange(S // 2, S)]
        chosen = [[r.choice(x, B // 2) for x in sides] for _ in range(STEPS)]
        return np.array(chosen, np.int32).reshape(STEPS, B)

    def batch(self, rows):
        return jax.tree.map(lambda x: x[rows], self.split)

    def take_steps(self, seed):
        """State and metrics after STEPS batches from the host."""
        current, found, key = self.start(seed), [], jax.random.key(seed)
        step = self.host_step(1)
        for rows in self.rows(seed):
            current, metrics = step(current, self.batch(rows), self.text, key)
            found.append(jax.device_get(metrics))
        return jax.device_get(current), {k: [m[k] for m in found] for k in found[0]}


@pytest.fixture(scope="module")
def cases(tiny_text):
    """The case of a model, one for all tests."""
    return functools.cache(lambda name, **changes: Case(name, tiny_text, **changes))


def ahead(rows):
    return np.concatenate(
        [rows, np.zeros((train_step.MAX_STEPS_PER_CALL - STEPS, B), np.int32)]
    )


close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)


def names(*slow):
    """All models, these ones in the slow tests."""
    marks = {name: pytest.mark.slow for name in slow}
    return [pytest.param(name, marks=marks.get(name, ())) for name in SMALL]


@pytest.mark.parametrize("name", names("clip_tsa", "vadclip", "dsanet"))
def test_a_chunk_of_steps_is_the_steps_one_by_one(name, cases):
    case = cases(name)
    wanted, wanted_metrics = case.one_by_one(0)
    steps = train_step.compile_device_steps(case.step(), case.mesh)
    inputs = case.split, ahead(case.rows()), np.int32(STEPS), case.text
    found, metrics = jax.device_get(steps(case.start(), *inputs, jax.random.key(0)))
    jax.tree.map(close, found, wanted)
    for k, values in wanted_metrics.items():
        close(metrics[k][:STEPS], values)
        assert not metrics[k][STEPS:].any()  # steps that were not asked for


@pytest.mark.parametrize("name", names("clip_tsa", "vadclip", "dsanet"))
def test_seeds_side_by_side_are_the_seeds_alone(name, cases):
    """Each with its own weights, order and noise."""
    case, seeds = cases(name), (0, 1)
    steps = train_step.compile_device_steps(case.step(), case.mesh, seeds=True)
    together = jax.tree.map(lambda *x: np.stack(x), *map(case.start, seeds))
    rows = np.stack([ahead(case.rows(seed)) for seed in seeds])
    keys = jnp.stack([jax.random.key(seed) for seed in seeds])
    inputs = case.split, rows, np.int32(STEPS), case.text, keys
    found, metrics = jax.device_get(steps(together, *inputs))
    for i in seeds:
        wanted, wanted_metrics = case.one_by_one(i)
        jax.tree.map(lambda x, y: close(x[i], y, rtol=1e-3), found, wanted)  # noqa: B023
        for k, values in wanted_metrics.items():
            close(metrics[k][i, :STEPS], values)


MASKED = {"mask_padding": True, "use_graph": False, "visual_layers": 0}


@pytest.mark.parametrize(
    "name, changes, parts",
    [
        ("vadclip", {}, 4),
        pytest.param("vadclip", MASKED, 2, marks=pytest.mark.slow),
        pytest.param("dsanet", {}, 4, marks=pytest.mark.slow),
        # Its terms then have other weights.
        pytest.param("dsanet", MASKED, 2, marks=pytest.mark.slow),
    ],
)
def test_a_batch_in_parts_is_the_batch(name, changes, parts, cases):
    """Terms, loss and gradients, where videos differ in length, with random weights."""
    case = cases(name, **changes)
    # Every other video is a long one, so the parts have unlike numbers of snippets.
    rows = case.rows()[0].reshape(2, -1)
    order = case.split.length[rows].argsort()
    ranked = np.take_along_axis(rows, order, axis=1).reshape(2, 2, -1)
    batch = case.batch(ranked.swapaxes(1, 2).ravel())
    assert len(set(batch.length.tolist())) > 2
    before, found = case.start(), []
    for n in (1, parts):
        inputs = before, batch, case.text, jax.random.key(0)
        after, metrics = case.host_step(n)(*inputs)
        moved = jax.tree.map(np.subtract, before.params, jax.device_get(after.params))
        found.append((moved, jax.device_get(metrics)))
    (one, terms), (several, their_terms) = found
    jax.tree.map(lambda x, y: close(x, y, atol=2e-6), several, one)
    jax.tree.map(close, their_terms, terms)


def test_parts_need_less_memory(cases):
    case, taken = cases("vadclip"), []
    inputs = case.batch(case.rows()[0]), case.text, jax.random.key(0)
    for parts in (1, 4):
        lowered = case.host_step(parts).lower(case.start(), *inputs)
        taken.append(lowered.compile().memory_analysis().temp_size_in_bytes)
    assert taken[1] < 0.5 * taken[0], taken
