"""DSANet's properties: order, padding, switches, finite gradients."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_models import TEXT_MODELS

from wsvad_jax.models import dsanet
from wsvad_jax.models.lgt_adapter import LGTAdapter

B, T, D, C = 4, 32, 32, 5
WEIGHTS = dict.fromkeys(
    ("mil", "align", "text", "event", "background", "consistency", "gather"), 1.0
)
SMALL = TEXT_MODELS["dsanet"]


@pytest.fixture(scope="module")
def videos():
    r = np.random.RandomState(0)
    x = r.standard_normal((B, 1, T, D)).astype(np.float32)
    length = np.array([32, 20, 9, 1], np.int32)
    x *= (np.arange(T) < length[:, None])[:, None, :, None]
    label = np.eye(C, dtype=np.float32)[[0, 0, 2, 3]]
    return jnp.asarray(x), jnp.asarray(length), jnp.asarray(label)


@pytest.fixture(scope="module")
def classes():
    """Class features in the place of prompts, where the text tower doesn't matter."""
    return jnp.asarray(np.random.RandomState(2).standard_normal((C, D)), jnp.float32)


def drawn(model, videos, text):
    """Parameters of the right shapes; initialising them would be one more program."""
    r = np.random.RandomState(3)
    x, length, _ = videos

    def init(text):
        return model.init(jax.random.key(0), x, length, text, train=True)

    def draw(path, leaf):
        if path[-1].key in ("scale", "learn_scale"):
            return jnp.asarray(1 + 0.1 * r.standard_normal(leaf.shape), jnp.float32)
        fan_in = max(leaf.shape[0], 1) if len(leaf.shape) > 1 else 100
        return jnp.asarray(r.standard_normal(leaf.shape) / fan_in**0.5, jnp.float32)

    return jax.tree.map_with_path(draw, jax.eval_shape(init, text)["params"])


def objective(model, weights=WEIGHTS):
    """(params, features, length, label, text) → loss, terms, scores, gradients."""

    def loss(params, x, length, label, text):
        outputs = model.apply({"params": params}, x, length, text, train=True)
        bags = types.SimpleNamespace(label=label, length=length)
        total, terms = dsanet.loss_fn(outputs, bags, weights)
        return total, (terms, dsanet.scores(outputs))

    step = jax.jit(jax.value_and_grad(loss, has_aux=True))

    def run(*args):
        (total, (terms, scores)), grads = jax.device_get(step(*args))
        return float(total), terms, scores, grads

    return run


@pytest.fixture(scope="module")
def full(videos, tiny_text):
    """The model with all its parts: (model, params, objective)."""
    model = dsanet.Model(**SMALL)
    return model, drawn(model, videos, tiny_text), objective(model)


def assert_close(found, wanted, tolerance):
    """Trees agree within `tolerance` of each array's largest entry."""
    for (path, a), b in zip(
        jax.tree.leaves_with_path(found), jax.tree.leaves(wanted), strict=True
    ):
        np.testing.assert_allclose(
            a,
            b,
            rtol=0,
            atol=tolerance * float(np.abs(b).max()) + 1e-12,
            err_msg=jax.tree_util.keystr(path),
        )


def test_order_of_the_batch_does_not_matter(videos, tiny_text, full):
    _, params, step = full
    loss, _, _, grads = step(params, *videos, tiny_text)
    order = jnp.array([2, 0, 3, 1])
    permuted, _, _, permuted_grads = step(
        params, *(v[order] for v in videos), tiny_text
    )
    assert abs(loss - permuted) < 1e-6 * abs(loss)
    assert_close(permuted_grads, grads, 1e-6)


def test_padding_changes_nothing_under_mask_padding(videos, classes):
    """32 snippets and the same ones within 48 give the same loss and gradient."""
    x, length, label = videos
    longer = jnp.pad(x, ((0, 0), (0, 0), (0, 16), (0, 0)))
    model = dsanet.Model(**SMALL, mask_padding=True)
    params = drawn(model, (longer, length, label), classes)
    step = objective(model)
    wanted, wanted_terms, _, wanted_grads = step(params, longer, length, label, classes)

    def cut(tree):  # positions past T are not read
        table = tree["encoder"]["frame_position_embeddings"]
        encoder = tree["encoder"] | {"frame_position_embeddings": table[:T]}
        return tree | {"encoder": encoder}

    found, terms, _, grads = step(cut(params), x, length, label, classes)
    assert abs(found - wanted) < 1e-6 * abs(wanted)
    assert_close(terms, wanted_terms, 1e-6)
    assert_close(grads, cut(wanted_grads), 1e-5)


def test_padding_matters_as_released(videos, classes):
    """Without the mask the padded snippets take part, as in the released code."""
    x, length, _ = videos
    models = [dsanet.Model(**SMALL, mask_padding=mask) for mask in (False, True)]
    params = drawn(models[0], videos, classes)

    def logits(params):
        return [
            m.apply({"params": params}, x, length, classes, train=False).anomaly_logits
            for m in models
        ]

    released, masked = jax.jit(logits)(params)
    assert np.abs(released - masked)[2, :9].max() > 1e-4


def test_windows_do_not_see_each_other():
    """Attention alone: a snippet depends on its own block of W snippets only."""
    W = 8
    encoder = LGTAdapter(layers=2, window=W, use_graph=False)
    x = jax.random.normal(jax.random.key(0), (1, T, D))
    args = jnp.array([T], jnp.int32), jnp.ones((1, T), bool)
    params = jax.jit(encoder.init)(jax.random.key(1), x, *args)
    encode = jax.jit(encoder.apply)
    changed = encode(params, x.at[0, 11].add(1.0), *args)
    moved = np.abs(changed - encode(params, x, *args))[0].max(-1) > 0
    assert moved[8:16].all()
    assert not moved[:8].any() and not moved[16:].any()


def test_nothing_is_larger_than_it_must_be(classes):
    """No T×T attention, only the similarity graph; no [B, M, P, D] distances."""
    n, P = 72, 16
    M = int(0.8 * n)
    x, length = jnp.zeros((2, 1, n, D)), jnp.full(2, n)
    model = dsanet.Model(**SMALL | {"prototypes": P, "visual_layers": 2})
    program = jax.make_jaxpr(
        lambda: model.init(jax.random.key(0), x, length, classes, train=True)
    )()
    equations = list(all_equations(program.jaxpr))
    products = [
        e for e in equations if e.primitive.name == "dot_general" and over(e, n, n)
    ]
    assert len(products) == 1
    assert not [e for e in equations if over(e, M, P, D)]
    assert [e for e in equations if over(e, M, P)]  # the sizes tell the parts apart


def over(equation, *sizes):
    """Whether an array that the equation makes has axes of all these sizes."""
    return any(
        all(v.aval.shape.count(n) >= sizes.count(n) for n in sizes)
        for v in equation.outvars
    )


def all_equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", None)
            if inner is not None:
                yield from all_equations(inner)


def check_switches(off, terms, params, loss, grads):
    assert ("event" in terms) == ("dcsa" not in off)
    assert ("consistency" in terms) == ("sgnm" not in off)
    assert ("video_anomaly_refiner" in params) == ("sgnm" not in off)
    assert np.isfinite(loss)
    for path, leaf in jax.tree.leaves_with_path(grads):
        name = jax.tree_util.keystr(path)
        assert np.isfinite(leaf).all(), name
        if path[-1].key != "disAdj_sigma":  # which the release doesn't use either
            assert np.abs(leaf).max() > 0, name


def test_every_part_learns(videos, tiny_text, full):
    _, params, step = full
    loss, terms, _, grads = step(params, *videos, tiny_text)
    check_switches((), terms, params, loss, grads)
    assert "text_prompt_embeddings" not in params["clip_adapter"]


@pytest.mark.parametrize("off", ["dcsa", "sgnm"])
def test_switches_of_the_ablation(videos, classes, off):
    model = dsanet.Model(**SMALL, **{off: False})
    params = drawn(model, videos, classes)
    step = objective(model, WEIGHTS | {"align": 5.0})
    loss, terms, _, grads = step(params, *videos, classes)
    check_switches((off,), terms, params, loss, grads)
    weight = 1 if off == "sgnm" else 5  # the paper's λ is 1 without SG-NM
    wanted = sum(float(x) for x in terms.values()) + (weight - 1) * float(
        terms["align"]
    )
    assert loss == pytest.approx(wanted, rel=1e-5)


def test_learned_prompts_without_the_adapter(videos, tiny_text):
    """The baseline of the ablation, all three parts off."""
    off = ("adapter", "dcsa", "sgnm")
    model = dsanet.Model(**SMALL, **dict.fromkeys(off, False))
    params = drawn(model, videos, tiny_text)
    loss, terms, _, grads = objective(model)(params, *videos, tiny_text)
    assert set(terms) == {"mil", "align", "text"}
    assert set(params["clip_adapter"]) == {"text_prompt_embeddings"}
    grads["clip_adapter"] = {}  # not every position is learned
    check_switches(off, terms, params, loss, grads)


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
@pytest.mark.parametrize("bias", [-500.0, 0.0, 500.0])
def test_finite_where_scores_saturate(videos, tiny_text, full, scale, bias):
    """σ(a) exactly 0 or 1 turns the released code to NaN."""
    _, params, step = full
    x, length, label = videos
    branch = params["classifier_branch"]
    classifier = branch["classifier"] | {"bias": jnp.array([bias])}
    params = params | {"classifier_branch": branch | {"classifier": classifier}}
    loss, terms, scores, grads = step(params, x * scale, length, label, tiny_text)
    assert np.isfinite(loss), terms
    for path, leaf in jax.tree.leaves_with_path({"scores": scores, "grads": grads}):
        assert np.isfinite(leaf).all(), jax.tree_util.keystr(path)


def test_scoring_needs_neither_text_tower_nor_sgnm(videos, tiny_text, full):
    """Class features that are encoded once give the scores of the whole model."""
    model, params, step = full
    x, length, label = videos
    _, _, wanted, _ = step(params, x, length, label, tiny_text)
    lean = {k: v for k, v in params.items() if k != "video_anomaly_refiner"}

    @jax.jit
    def score(params, features):
        outputs = model.apply({"params": params}, x, length, features, train=False)
        assert outputs.reconstructed is None and outputs.event_logits is None
        return dsanet.scores(outputs)

    found = score(lean, jax.jit(model.encode_text)(params, tiny_text))
    assert found.keys() == wanted.keys()
    for name, value in found.items():
        np.testing.assert_allclose(value, wanted[name], atol=1e-6, err_msg=name)
    np.testing.assert_allclose(found["classes"].sum(-1), 1, atol=1e-5)
