"""VadCLIP's properties: switches, prompts, order, padding."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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


def build(videos, text, **fields):
    model = vadclip.Model(visual_layers=1, **fields)
    x, length, _ = videos
    init = jax.jit(lambda: model.init(jax.random.key(0), x, length, text, train=True))

    @jax.jit
    def objective(params, x, length, label):
        outputs = model.apply({"params": params}, x, length, text, train=True)
        bags = types.SimpleNamespace(label=label, length=length)
        return vadclip.loss_fn(outputs, bags, WEIGHTS)

    return model, init()["params"], jax.value_and_grad(objective, has_aux=True)


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
def test_switches_of_the_ablation(videos, tiny_text, off, terms, scored):
    model, params, objective = build(videos, tiny_text, **dict.fromkeys(off, False))
    (loss, found), grads = objective(params, *videos)
    assert np.isfinite(float(loss)) and set(found) == terms
    assert all(bool(jnp.isfinite(g).all()) for g in jax.tree.leaves(grads))
    assert ("prompt_learner" in params) == ("learn_prompt" not in off)
    x, length, _ = videos
    text = model.encode_text(params, tiny_text)
    outputs = model.apply({"params": params}, x, length, text, train=False)
    if scored is not None:
        assert set(vadclip.scores(outputs)) == scored


def test_init_scale_makes_the_first_anomaly_logits_small(videos, tiny_text):
    """They must not rank the snippets before anything is learnt."""
    x, length, _ = videos

    def first_logits(**changes):
        model, params, _ = build(videos, tiny_text, **changes)
        text = model.encode_text(params, tiny_text)
        outputs = model.apply({"params": params}, x, length, text, train=False)
        return params, np.asarray(outputs.anomaly_logits)

    params, logits = first_logits()
    smaller, small = first_logits(classifier_init_scale=0.01)
    assert 0 < small.std() < 0.02 * logits.std()

    # Nothing but the classifier's kernel differs.
    differ = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), params, smaller)
    assert differ["classifier_branch"]["classifier"].pop("kernel")
    assert not any(jax.tree.leaves(differ))


def test_order_of_the_batch_does_not_matter(videos, tiny_text):
    _, params, objective = build(videos, tiny_text)
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
