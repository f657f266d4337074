"""Zero-shot scores: known answers, the rules of its fields, and properties of a softmax."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wsvad_jax.clip.towers import encode_text
from wsvad_jax.models import zero_shot

C, D, T = 5, 32, 12


@pytest.fixture(scope="module")
def classes(tiny_text):
    """Unit features of the class texts [C, D]."""
    encode = jax.jit(zero_shot.Model(temperature=1.0).encode_text)
    return np.asarray(encode({}, tiny_text))


@functools.cache
def compiled(fields):
    """The scoring program of a model with these fields, as items."""
    model = zero_shot.Model(**dict(fields))

    def apply(x, length, text):
        return zero_shot.scores(model.apply({}, x, length, text, train=False))

    return jax.jit(apply)


def score(text, x, length=None, **fields):
    """Scores of `x` [N, T, D], one video."""
    length = jnp.array([x.shape[1] if length is None else length], jnp.int32)
    program = compiled(tuple(sorted(fields.items())))
    found = program(jnp.asarray(x)[None], length, text)
    return np.asarray(found.anomaly[0]), np.asarray(found.classes[0])


def noisy(classes, labels, seed=0):
    random = np.random.RandomState(seed)
    noise = 0.02 * random.standard_normal((1, len(labels), D))
    return (10 * (classes[labels] + noise)).astype(np.float16)


def test_features_of_a_class_get_its_name(tiny_text, classes):
    labels = np.arange(20) % C
    anomaly, probabilities = score(tiny_text, noisy(classes, labels), temperature=0.01)
    assert (probabilities.argmax(-1) == labels).all()
    assert anomaly[labels > 0].min() > anomaly[labels == 0].max()


def test_probabilities_are_a_softmax_of_cosines(tiny_text, classes):
    x = np.random.RandomState(0).standard_normal((1, T, D)).astype(np.float32)
    scale = np.exp(tiny_text.params["logit_scale"])
    for fields, factor in (({}, scale), ({"temperature": 0.5}, 2.0)):
        unit = x[0].astype(np.float64) / np.linalg.norm(x[0], axis=-1, keepdims=True)
        logits = factor * unit @ classes.T
        wanted = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        anomaly, probabilities = score(tiny_text, x, **fields)
        np.testing.assert_allclose(probabilities, wanted, rtol=1e-4)
        np.testing.assert_allclose(anomaly, 1 - wanted[:, 0], rtol=1e-4, atol=1e-6)


def test_a_class_is_the_normalised_mean_of_its_normalised_prompts(tiny_text, classes):
    raw = encode_text(
        tiny_text.params, tiny_text.config, tiny_text.tokens, tiny_text.eos
    )
    unit = np.asarray(raw) / np.linalg.norm(raw, axis=-1, keepdims=True)
    mean = unit[4:].mean(0)  # the last class has two prompts
    np.testing.assert_allclose(classes[4], mean / np.linalg.norm(mean), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(classes, axis=-1), 1, rtol=1e-5)


def test_score_rules_read_the_probabilities(tiny_text):
    x = np.random.RandomState(1).standard_normal((1, T, D)).astype(np.float32)
    rest, probabilities = score(tiny_text, x)
    np.testing.assert_allclose(rest, 1 - probabilities[:, 0], atol=1e-6)
    largest, _ = score(tiny_text, x, score="max_anomaly")
    np.testing.assert_allclose(largest, probabilities[:, 1:].max(-1), atol=1e-6)


def test_the_own_mean_takes_out_what_all_snippets_share(tiny_text, classes):
    # A place that looks like class 2 all the time, with class 3 for two snippets.
    labels = np.zeros(T, int)
    labels[4:6] = 3
    x = 0.3 * classes[labels] + classes[2]
    largest = {"temperature": 0.05, "score": "max_anomaly"}
    wrong, _ = score(tiny_text, x[None], **largest)
    right, found = score(tiny_text, x[None], subtract_mean=True, **largest)
    assert (found[4:6].argmax(-1) == 3).all()
    assert right[4:6].min() > 2 * right[labels == 0].max()
    assert wrong[labels == 0].min() > 0.5

    # A video whose snippets are all alike has no snippet of any class.
    same = np.repeat(x[None, :1], T, 1)
    _, found = score(tiny_text, same, subtract_mean=True, temperature=0.05)
    np.testing.assert_allclose(found, 1 / C, atol=1e-3)


@pytest.mark.parametrize("subtract_mean", [False, True])
def test_padding_changes_no_score(tiny_text, subtract_mean):
    x = np.random.RandomState(2).standard_normal((2, T, D)).astype(np.float32)
    padded = np.concatenate([x, np.zeros((2, 7, D), np.float32)], 1)
    fields = {"subtract_mean": subtract_mean}
    wanted, found = (
        score(tiny_text, x, **fields),
        score(tiny_text, padded, T, **fields),
    )
    for a, b in zip(wanted, found, strict=True):
        np.testing.assert_allclose(b[:T], a, atol=1e-6)


def test_crops_are_averaged(tiny_text):
    x = np.random.RandomState(3).standard_normal((3, T, D)).astype(np.float32)
    each = np.stack([score(tiny_text, x[n : n + 1])[1] for n in range(3)])
    np.testing.assert_allclose(score(tiny_text, x)[1], each.mean(0), atol=1e-6)


@pytest.mark.parametrize("rule", zero_shot.SCORES)
@pytest.mark.parametrize("temperature", [1e-4, 1e4])
def test_scores_are_finite_probabilities(tiny_text, rule, temperature):
    random = np.random.RandomState(4).standard_normal((1, T, D)).astype(np.float32)
    own_mean = rule == "not_normal"
    fields = {"score": rule, "subtract_mean": own_mean, "temperature": temperature}
    one = np.where(np.arange(T)[:, None] < 1, random, 0)
    for x in (random, 0 * random, 1e4 * random, 1e-20 * random, one):
        anomaly, probabilities = score(tiny_text, x, **fields)
        for values in (anomaly, probabilities):
            assert values.dtype == np.float32 and np.isfinite(values).all()
            assert (values >= 0).all() and (values <= 1 + 1e-6).all()
        np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)


def test_the_model_has_no_parameters(tiny_text):
    x, length = jnp.zeros((1, 1, T, D)), jnp.array([T])
    variables = zero_shot.Model().init(
        jax.random.key(0), x, length, tiny_text, train=False
    )
    assert not jax.tree.leaves(variables)
