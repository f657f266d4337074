"""Properties of CLIP-TSA that no golden file shows: padding, order, memory, limits."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params
from small_models import drawn

from wsvad_jax.models import clip_tsa

KEY = jax.random.key(0)
WEIGHTS = {"magnitude": 1e-4, "smooth": 8e-4, "sparse": 8e-3}
APART = {"smooth_across_videos": False}  # switches of the loss
D = 16


def features(videos, T, crops=1, seed=0):
    draws = np.random.default_rng(seed).standard_normal((videos, crops, T, D))
    return jnp.asarray(draws, jnp.float32)


@pytest.fixture(scope="module")
def variables():
    """Random values in place of the zero and unit ones that hide a leak."""
    return drawn(clip_tsa.Model(), features(1, 8), jnp.array([8]))


@functools.partial(jax.jit, static_argnums=0, static_argnames=("train", "mutable"))
def apply(model, variables, x, length, train=False, rngs=None, noise=None, mutable=()):
    return model.apply(
        variables, x, length, train=train, rngs=rngs, noise=noise, mutable=mutable
    )


def train_loss(params, variables, x, length, **switches):
    """Loss without dropout, and all that a training step gives."""
    outputs, state = clip_tsa.Model(kappa=0.5, dropout=0.0).apply(
        {**variables, "params": params},
        x,
        length,
        train=True,
        rngs={"noise": KEY},
        mutable=["batch_stats"],
    )
    return loss_of(outputs, length, **switches), (outputs, state)


step = jax.jit(jax.value_and_grad(train_loss, has_aux=True))


def loss_of(outputs, length, **switches):
    batch = batch_of(*outputs.scores.shape)
    batch.length = length
    return clip_tsa.loss_fn(outputs, batch, WEIGHTS | switches)[0]


def batch_of(videos, T):
    label = jax.nn.one_hot(jnp.arange(videos) // (videos // 2), 2)
    return types.SimpleNamespace(label=label, length=jnp.full(videos, T))


@pytest.mark.parametrize("train", [False, True])
def test_padding_changes_nothing(variables, train):
    """What lies past a video's end does not count, whatever values stand there."""
    model = clip_tsa.Model(kappa=0.4, dropout=0.0)
    x, n = features(2, 57, crops=2), 37
    garbage = x.at[:, :, n:].set(1e3)
    noise = None
    if train:  # with a key, training draws other noise for another batch
        draws = np.random.default_rng(0).standard_normal((4, 100, 57))
        noise = jnp.asarray(draws, jnp.float32)

    def run(x, noise):
        options = {"train": train, "noise": noise, "mutable": ("batch_stats",)}
        return apply(model, variables, x, jnp.array([n, n]), **options)

    want, want_state = run(x[:, :, :n], noise if noise is None else noise[..., :n])
    got, got_state = run(garbage, noise)
    for name in ("scores", "magnitudes", "attention"):
        value, valid = getattr(got, name), getattr(want, name)
        np.testing.assert_allclose(value[..., :n], valid, rtol=1e-5, err_msg=name)
        assert not value[..., n:].any()
    np.testing.assert_allclose(got.video_scores, want.video_scores, rtol=1e-5)
    np.testing.assert_allclose(got.selected, want.selected, rtol=1e-4, atol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        got_state,
        want_state,
    )


def test_a_video_scores_the_same_in_any_batch(variables):
    model = clip_tsa.Model(kappa=0.5)
    x, length = features(4, 40), jnp.array([40, 17, 1, 0])
    together, _ = apply(model, variables, x, length)
    for b, n in ((1, 17), (2, 1)):
        alone, _ = apply(model, variables, x[b : b + 1, :, :n], jnp.array([n]))
        np.testing.assert_allclose(together.scores[b, :n], alone.scores[0], rtol=1e-5)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(together))


def test_noise_at_test_time_is_a_switch(variables):
    x, length = features(2, 40), jnp.array([40, 40])

    def attention(seed, test_noise):
        model = clip_tsa.Model(kappa=0.5, test_noise=test_noise)
        rngs = {"noise": jax.random.key(seed)}
        return apply(model, variables, x, length, rngs=rngs)[0].attention

    np.testing.assert_array_equal(attention(0, False), attention(1, False))
    a, b = attention(0, True), attention(1, True)
    assert (a != b).any()
    np.testing.assert_allclose(a, attention(0, False), atol=0.3)  # one expectation
    np.testing.assert_allclose(a.sum(-1), 20, rtol=1e-5)  # ⌊0.5 · 40⌋ a draw


def test_selection_size_is_the_double_precision_floor():
    # 0.29 · 100 is 28.999999999999996 in double precision, 29 in single.
    assert clip_tsa.selection_sizes(0.29, 100, 1000)[100] == 28
    assert clip_tsa.selection_sizes(0.01, 32, 32)[[0, 1, 32]].tolist() == [1, 1, 1]
    assert clip_tsa.selection_sizes(0.95, 6750, 1000)[[20, 6750]].tolist() == [
        19,
        1000,
    ]


def numpy_perturbed_top_k(s, k, noise, sigma, g):
    """Value and gradient by the definition, with the one-hot rows in full."""
    p, grad = np.zeros_like(s), np.zeros_like(s)
    for r, (row, draws) in enumerate(zip(s, noise, strict=True)):
        for epsilon in draws:
            top = np.argsort(-(row + sigma * epsilon))[: k[r]]
            p[r, top] += 1 / len(draws)
            grad[r, top] += (g[r] @ epsilon) / (len(draws) * sigma)
    return p, grad


@pytest.mark.parametrize("few", [64, 0])
@pytest.mark.parametrize("limit", [2**22, 1])
def test_perturbed_top_k_is_its_definition(monkeypatch, limit, few):
    """At once and draw by draw, by pairs and sorted; k differs between the rows."""
    monkeypatch.setattr(clip_tsa, "DRAW_LIMIT", limit)
    monkeypatch.setattr(clip_tsa, "MAX_PAIRWISE", few)
    r = np.random.default_rng(3)
    s, g = r.uniform(size=(2, 3, 12)).astype(np.float32) / 10
    noise = r.standard_normal((3, 20, 12)).astype(np.float32)
    k = np.array([1, 5, 12])

    def select(s):
        where = jnp.ones((3, 12), bool)
        return clip_tsa.perturbed_top_k(
            s, where, jnp.asarray(k), jnp.asarray(noise), 20, 0.05, 3
        )

    p, pullback = jax.vjp(select, jnp.asarray(s))
    want_p, want_grad = numpy_perturbed_top_k(s, k, noise, 0.05, g)
    np.testing.assert_allclose(p, want_p, rtol=1e-5)
    np.testing.assert_allclose(pullback(jnp.asarray(g))[0], want_grad, rtol=1e-4)


def array_sizes(jaxpr):
    """Sizes of all values that a program makes, inner programs included."""
    for equation in jaxpr.eqns:
        yield from (v.aval.size for v in equation.outvars)
        for inner in jaxprs_in_params(equation.params):
            yield from array_sizes(inner)


@pytest.mark.parametrize("values", [1, 3])  # and many that are equal
def test_pairs_select_what_sorting_selects(monkeypatch, values):
    r = np.random.default_rng(7)
    x = jnp.asarray(r.integers(0, 10**values, (5, 4, 40)), jnp.float32)
    x = x.at[:, 2:, 30:].set(-jnp.inf)
    k = jnp.array([1, 17, 29, 30])
    found = clip_tsa._top_k(x, k)
    np.testing.assert_array_equal(np.sum(found, -1), np.tile(k, (5, 1)))
    monkeypatch.setattr(clip_tsa, "MAX_PAIRWISE", 0)
    np.testing.assert_array_equal(found, clip_tsa._top_k(x, k))


@pytest.mark.parametrize("T", [60, 100])  # by pairs, sorted
def test_selection_never_builds_the_one_hot_rows(T):
    S, k = 100, 57

    def value_and_grad(s, key):
        def loss(s):
            where, ks = jnp.ones((1, T), bool), jnp.array([k])
            p = clip_tsa.perturbed_top_k(s, where, ks, key, S, 0.05, 1)
            return jnp.sum(p**2)

        return jax.value_and_grad(loss)(s)

    jaxpr = jax.make_jaxpr(value_and_grad)(jnp.zeros((1, T)), KEY)
    largest = max(array_sizes(jaxpr.jaxpr))
    assert largest <= 3 * S * T < S * k * T  # three indices scatter a mark


@pytest.mark.parametrize("crops, width", [(1, 512), (10, 2048)])
def test_the_longest_video_needs_little_memory(crops, width):
    """6750 snippets, the longest test video of UCF-Crime."""
    model = clip_tsa.Model()

    def init(x):
        return model.init(KEY, x, jnp.array([8]), train=False)

    shapes = jax.eval_shape(init, jax.ShapeDtypeStruct((1, 1, 8, width), jnp.float32))
    x = jax.ShapeDtypeStruct((1, crops, 6750, width), jnp.float32)
    length = jax.ShapeDtypeStruct((1,), jnp.int32)
    usage = apply.lower(model, shapes, x, length).compile().memory_analysis()
    assert usage is not None
    assert usage.temp_size_in_bytes < 1.25 * 2**30  # features alone: 0.5


def test_order_inside_the_halves_changes_no_loss():
    """Pairs may move together; without pairs each half may move alone."""
    r = np.random.default_rng(4)
    outputs = clip_tsa.Outputs(
        scores=jnp.asarray(r.uniform(size=(8, 32)), jnp.float32),
        video_scores=jnp.asarray(r.uniform(size=8), jnp.float32),
        magnitudes=jnp.zeros((8, 32)),
        selected=jnp.asarray(5 * r.standard_normal((8, 2, 3, D)), jnp.float32),
        chosen=jnp.ones((8, 3), bool),
        attention=jnp.zeros((8, 2, 32)),
    )

    @functools.partial(jax.jit, static_argnames=("smooth_across_videos", "pair_videos"))
    def in_order(order, **switches):
        shuffled = jax.tree.map(lambda a: a[order], outputs)
        return loss_of(shuffled, jnp.full(8, 32), **switches)

    def loss(normal, **switches):
        return in_order(np.concatenate([normal, abnormal + 4]), **switches)

    abnormal = straight = np.arange(4)
    paired = loss(straight, **APART)
    unpaired = loss(straight, pair_videos=False, **APART)
    released = loss(straight)
    abnormal, other = np.array([2, 0, 3, 1]), np.array([1, 0, 3, 2])
    np.testing.assert_allclose(loss(abnormal, **APART), paired, atol=1e-6)
    got = loss(other, pair_videos=False, **APART)
    np.testing.assert_allclose(got, unpaired, atol=1e-6)
    # The release smooths the last snippet of a video with the first of the next.
    assert abs(loss(abnormal) - released) > 1e-6


def test_smoothness_skips_padding():
    s = jnp.array([[0.1, 0.4, 0.0, 0.0], [0.9, 0.5, 0.6, 0.0]])
    length = jnp.array([2, 3])
    inside = 0.3**2 + 0.4**2 + 0.1**2
    got = clip_tsa.smoothness(s, length, False)
    np.testing.assert_allclose(got, inside, rtol=1e-6)
    got = clip_tsa.smoothness(s, length, True)
    np.testing.assert_allclose(got, inside + 0.5**2, rtol=1e-6)


@pytest.mark.parametrize("kind", ["zero", "constant", "one snippet", "no snippet"])
def test_limits_stay_finite(variables, kind):
    x = features(4, 32)
    x = {"zero": 0 * x, "constant": 0 * x + 3}.get(kind, x)
    length = jnp.full(4, {"one snippet": 1, "no snippet": 0}.get(kind, 32))
    everything = step(variables["params"], variables, x, length)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(everything))


def test_every_parameter_learns(variables):
    x, length = features(4, 32), jnp.full(4, 32)
    _, grads = step(variables["params"], variables, x, length)
    flat = jax.tree_util.tree_leaves_with_path(grads)
    assert not [jax.tree_util.keystr(path) for path, g in flat if not np.any(g)]


def test_dropout_hides_features_and_magnitudes(variables):
    """Both draws of the rng give another selection; the same one the same."""
    x, length = features(4, 32), jnp.full(4, 32)

    def magnitudes(seed):
        rngs = {"dropout": jax.random.key(seed), "noise": KEY}
        model = clip_tsa.Model(kappa=0.5)
        options = {"train": True, "rngs": rngs, "mutable": ("batch_stats",)}
        return apply(model, variables, x, length, **options)[0].magnitudes

    assert (magnitudes(0) != magnitudes(1)).any()
    np.testing.assert_array_equal(magnitudes(0), magnitudes(0))


def test_without_attention_there_is_no_scorer(variables):
    x, length = features(2, 12), jnp.array([12, 5])
    model = clip_tsa.Model(attention=False)
    made = jax.eval_shape(lambda: model.init(KEY, x, length, train=False))
    assert variables["params"].keys() - made["params"].keys() == {
        "hard_attention_scorer_fc1",
        "hard_attention_scorer_fc2",
    }
    outputs, _ = apply(model, variables, x, length)
    np.testing.assert_array_equal(outputs.attention[1, 0], np.arange(12) < 5)


def test_bfloat16_activations_give_float32_scores(variables):
    x, length = features(2, 40), jnp.array([40, 9])
    exact, _ = apply(clip_tsa.Model(kappa=0.5), variables, x, length)
    model = clip_tsa.Model(kappa=0.5, dtype="bfloat16")
    coarse, _ = apply(model, variables, x, length)
    assert coarse.scores.dtype == jnp.float32
    np.testing.assert_allclose(coarse.scores, exact.scores, atol=0.05)
