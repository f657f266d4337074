"""MIL ranking against a plain NumPy transcription of the paper and of its code."""

import functools
import itertools
import types

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from wsvad_jax.models import mil_ranking
from wsvad_jax.utils.errors import InputError

LAMBDA = 8e-5
KEY = jax.random.key(0)


def numpy_score(params, segments, relu_hidden):
    """The score network on [I, D] segment features."""
    x = segments / np.linalg.norm(segments, axis=1, keepdims=True)
    x = np.maximum(x @ params["fc1"]["kernel"] + params["fc1"]["bias"], 0)
    x = x @ params["fc2"]["kernel"] + params["fc2"]["bias"]
    x = np.maximum(x, 0) if relu_hidden else x
    x = x @ params["fc3"]["kernel"] + params["fc3"]["bias"]
    return 1 / (1 + np.exp(-x[:, 0]))


def numpy_loss(normal, abnormal, pairing):
    """Eq. 6 by loops; `pairs` as printed, averaged, `all` as released."""
    total = 0.0
    for i, a in enumerate(abnormal):
        hinges = [max(0.0, 1 - max(a) + max(g)) for g in normal]
        hinge = hinges[i] if pairing == "pairs" else sum(hinges) / len(hinges)
        smooth = sum((a[j] - a[j + 1]) ** 2 for j in range(len(a) - 1))
        total += hinge + LAMBDA * smooth + LAMBDA * sum(a)
    return total / len(abnormal) if pairing == "pairs" else total


def numpy_pool(features, segments):
    """Mean of features [n, D] over `segments` parts, by the rule of the pipeline."""
    edges = np.linspace(0, len(features), segments + 1).astype(int)
    return np.stack(
        [
            features[a:b].mean(0) if b > a else features[a]
            for a, b in itertools.pairwise(edges)
        ]
    )


@functools.partial(jax.jit, static_argnums=1)
def objective(segment_scores, pairing):
    weights = {"smooth": LAMBDA, "sparse": LAMBDA, "pairing": pairing}
    B = len(segment_scores)
    batch = types.SimpleNamespace(label=jnp.zeros((B, 2)), length=jnp.full(B, 32))
    outputs = mil_ranking.Outputs(segment_scores, segment_scores)
    return mil_ranking.loss_fn(outputs, batch, weights)


@pytest.fixture(scope="module")
def features():
    draws = np.random.default_rng(0).standard_normal((6, 2, 90, 16))
    return jnp.asarray(draws, jnp.float32)


@pytest.fixture(scope="module")
def variables(features):
    model = mil_ranking.Model()
    return jax.jit(lambda: model.init(KEY, features, jnp.full(6, 90), train=False))()


@pytest.mark.parametrize("relu_hidden", [True, False])
def test_scores_of_videos_of_any_length(features, variables, relu_hidden):
    model = mil_ranking.Model(relu_hidden=relu_hidden)
    length = jnp.array([90, 1, 2, 31, 33, 64])
    outputs = jax.jit(model.apply, static_argnames="train")(
        variables, features, length, train=False
    )
    params = jax.tree.map(np.asarray, variables["params"])
    for b, n in enumerate(length):
        video = np.asarray(features[b, :, :n], np.float64)
        want = np.mean(
            [numpy_score(params, numpy_pool(x, 32), relu_hidden) for x in video], 0
        )
        np.testing.assert_allclose(outputs.segment_scores[b], want, rtol=1e-5)
        # A snippet has the score of the last segment that starts at or before it.
        edges = np.linspace(0, int(n), 33).astype(int)[:-1]
        spread = [want[np.flatnonzero(edges <= t)[-1]] for t in range(n)]
        np.testing.assert_allclose(outputs.scores[b, :n], spread, rtol=1e-5)
        assert not outputs.scores[b, n:].any()
    assert mil_ranking.scores(outputs)["anomaly"] is outputs.scores


@pytest.mark.parametrize("pairing", ["pairs", "all"])
def test_loss_equals_numpy(pairing):
    scores = np.random.default_rng(1).uniform(size=(10, 32)).astype(np.float32)
    total, terms = objective(jnp.asarray(scores), pairing)
    want = numpy_loss(scores[:5].tolist(), scores[5:].tolist(), pairing)
    np.testing.assert_allclose(total, want, rtol=1e-6)
    assert terms.keys() == {"hinge", "smooth", "sparse"}


@pytest.mark.parametrize("pairing", ["pairs", "all"])
def test_gradient_is_finite_at_ties(pairing):
    # Equal segments tie in the maximum; 1 against 0 sits on the hinge's corner.
    for high in (0.5, 1.0):
        scores = jnp.concatenate([jnp.zeros((3, 32)), jnp.full((3, 32), high)])
        grad = jax.jit(jax.grad(lambda s: objective(s, pairing)[0]))(scores)
        assert jnp.isfinite(grad).all()


def test_order_of_the_batch():
    scores = jax.random.uniform(KEY, (8, 32))
    same = jnp.array([2, 0, 3, 1])
    other = jnp.array([1, 3, 2, 0])
    for pairing, normal in (("pairs", same), ("all", other)):
        shuffled = jnp.concatenate([scores[normal], scores[same + 4]])
        got, want = objective(shuffled, pairing)[0], objective(scores, pairing)[0]
        np.testing.assert_allclose(got, want, rtol=1e-6)


def test_unknown_pairing_is_refused():
    with pytest.raises(InputError, match="config.loss.pairing is 'some'"):
        objective(jnp.zeros((2, 32)), "some")


pool = jax.jit(mil_ranking.pool_segments, static_argnames="segments")


@hypothesis.given(n=st.integers(1, 300), segments=st.sampled_from([1, 8, 32]))
@hypothesis.settings(max_examples=30, deadline=None)
def test_pooling_follows_the_pipelines_rule(n, segments):
    x = np.random.default_rng(n).standard_normal((n, 3)).astype(np.float32)
    padded = np.full((1, 1, 310, 3), 1e3, np.float32)
    padded[0, 0, :n] = x
    got = pool(jnp.asarray(padded), jnp.array([n]), segments)
    np.testing.assert_allclose(got[0, 0], numpy_pool(x, segments), atol=1e-5)


def test_training_segments_are_taken_as_they_are(features):
    x = features[:, :, :32]
    pooled = mil_ranking.pool_segments(x, jnp.full(6, 32), 32)
    np.testing.assert_array_equal(pooled, x)


def test_training_learns_to_rank(features, variables):
    """A step lowers the loss and moves every parameter, zero features included."""
    model = mil_ranking.Model(dropout=0.0)
    x = features[:, :, :32].at[3:].add(1.0).at[0].set(0.0)
    length = jnp.full(6, 32)
    params = variables["params"]

    @jax.jit
    def loss(params):
        outputs = model.apply({"params": params}, x, length, train=True)
        return objective(outputs.segment_scores, "pairs")[0]

    before, grads = jax.jit(jax.value_and_grad(loss))(params)
    assert all(np.isfinite(g).all() and np.any(g) for g in jax.tree.leaves(grads))
    after = loss(jax.tree.map(lambda p, g: p - 0.1 * g, params, grads))
    assert after < before


def test_dropout_uses_its_rng(features, variables):
    model = mil_ranking.Model()
    length = jnp.full(6, 90)
    apply = jax.jit(
        lambda key: (
            model.apply(
                variables, features, length, train=True, rngs={"dropout": key}
            ).segment_scores
        )
    )
    a, b = apply(KEY), apply(jax.random.key(1))
    assert not np.allclose(a, b)
    np.testing.assert_array_equal(a, apply(KEY))
