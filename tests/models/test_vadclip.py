"""VadCLIP's properties: switches, prompts, order, padding."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_models import drawn

from wsvad_jax.models import lgt_adapter, vadclip
from wsvad_jax.utils.errors import InputError

B, T, D, C = 4, 16, 32, 5
WEIGHTS = {"mil": 1.0, "align": 1.0, "text": 0.1}


@pytest.fixture(scope="module")
def videos():
    r = np.random.RandomState(0)
    length = np.array([16, 12, 9, 1], np.int32)
    x = (
        r.standard_normal((B, 1, T, D))
        * (np.arange(T) < length[:, None])[:, None, :, None]
    )
    label = np.eye(C, dtype=np.float32)[[0, 0, 2, 3]]
    return jnp.asarray(x, jnp.float32), jnp.asarray(length), jnp.asarray(label)


@pytest.fixture(scope="module")
def classes():
    """Class features in the place of prompts, where the text tower doesn't matter."""
    return jnp.asarray(np.random.RandomState(2).standard_normal((C, D)), jnp.float32)


@pytest.fixture(scope="module")
def build(videos, tiny_text):
    """(switches that are off) → model, parameters, objective, each made once."""

    @functools.cache
    def make(*off):
        model = vadclip.Model(visual_layers=1, **dict.fromkeys(off, False))
        x, length, _ = videos

        def objective(params, x, length, label):
            outputs = model.apply({"params": params}, x, length, tiny_text, train=True)
            bags = types.SimpleNamespace(label=label, length=length)
            return vadclip.loss_fn(outputs, bags, WEIGHTS)

        params = drawn(model, x, length, tiny_text)["params"]
        return model, params, jax.jit(jax.value_and_grad(objective, has_aux=True))

    return make


@pytest.mark.parametrize(
    ("off", "terms", "scored"),
    [
        ((), {"mil", "align", "text"}, {"anomaly", "classes", "anomaly_align"}),
        (("classify",), {"align", "text"}, {"anomaly", "classes", "anomaly_align"}),
        (("align",), {"mil"}, {"anomaly"}),
        (("use_local",), {"mil", "align", "text"}, None),
        (("use_graph",), {"mil", "align", "text"}, None),
        (("learn_prompt", "visual_prompt"), {"mil", "align", "text"}, None),
    ],
)
def test_switches_of_the_ablation(videos, tiny_text, build, off, terms, scored):
    model, params, objective = build(*off)
    (loss, found), grads = objective(params, *videos)
    assert np.isfinite(float(loss)) and set(found) == terms
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
    assert ("prompt_learner" in params) == ("learn_prompt" not in off)
    x, length, _ = videos

    def score(params, text):
        text = model.encode_text(params, text)
        outputs = model.apply({"params": params}, x, length, text, train=False)
        return vadclip.scores(outputs)

    found_scores = set(jax.eval_shape(score, params, tiny_text))
    assert scored is None or found_scores == scored


def test_init_scale_makes_the_first_anomaly_logits_small(videos, classes):
    """They must not rank the snippets before anything is learnt."""
    x, length, _ = videos

    @functools.partial(jax.jit, static_argnums=0)
    def first_logits(model):
        params = model.init(jax.random.key(0), x, length, classes, train=True)
        outputs = model.apply(params, x, length, classes, train=False)
        return params["params"], outputs.anomaly_logits

    small_model = functools.partial(vadclip.Model, visual_layers=1, use_graph=False)
    params, logits = jax.device_get(first_logits(small_model()))
    changed = small_model(classifier_init_scale=0.01)
    smaller, small = jax.device_get(first_logits(changed))
    assert 0 < small.std() < 0.02 * logits.std()

    # Nothing but the classifier's kernel differs.
    differ = jax.tree.map(lambda a, b: bool((a != b).any()), params, smaller)
    assert differ["classifier_branch"]["classifier"].pop("kernel")
    assert not any(jax.tree.leaves(differ))


def test_order_of_the_batch_does_not_matter(videos, build):
    _, params, objective = build()
    (loss, _), _ = objective(params, *videos)
    order = jnp.array([3, 1, 0, 2])
    (permuted, _), _ = objective(params, *(v[order] for v in videos))
    assert abs(float(loss - permuted)) < 1e-6 * abs(float(loss))


def test_learned_context_stands_where_the_paper_puts_it(tiny_text):
    """Start, 10 learned, the name, 10 learned, end: by absolute position.

    A class feature depends on exactly the table's rows that its own prompt holds.
    """
    learner = lgt_adapter.PromptLearner(parent=None)
    params = learner.init(jax.random.key(0), tiny_text)["params"]

    def features(table):
        params = {"text_prompt_embeddings": table}
        return learner.apply({"params": params}, tiny_text)[:4].sum(-1)

    jacobian = jax.jit(jax.jacrev(features))(params["text_prompt_embeddings"])
    used = np.abs(jacobian).max(-1) > 0  # [classes with one prompt, positions]
    for row, eos in zip(used, np.asarray(tiny_text.eos)[:4], strict=True):
        wanted = np.zeros(40, bool)
        wanted[1:11] = wanted[10 + eos : 20 + eos] = True
        np.testing.assert_array_equal(row, wanted)


def test_a_prompt_too_long_for_the_tower(tiny_text):
    long = tiny_text.replace(tokens=jnp.zeros((6, 30), jnp.int32))
    with pytest.raises(InputError, match="30 tokens"):
        lgt_adapter.PromptLearner().init(jax.random.key(0), long)


def test_window_that_does_not_divide(videos, tiny_text):
    x, length, _ = videos
    with pytest.raises(InputError, match="attn_window 5"):
        vadclip.Model(attn_window=5).init(
            jax.random.key(0), x, length, tiny_text, train=True
        )
