"""bfloat16 for activations and matrix products; the rest stays in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_models import TEXT_MODELS, drawn

from wsvad_jax.benchmarks import step_time
from wsvad_jax.clip import half_products
from wsvad_jax.data.records import Batch
from wsvad_jax.experiment import build
from wsvad_jax.experiment.config import load_config
from wsvad_jax.training import train_step

C = 5
SMALL = {
    "mil_ranking": {"segments": 16, "dropout": 0.0},
    "clip_tsa": {"samples": 20, "kappa": 0.5, "dropout": 0.0},
    **TEXT_MODELS,
}


class Case:
    """A small model with its objective, and a batch."""

    def __init__(self, name, text, dtype, B=4, T=16, D=32, **changes):
        config = load_config([f"--config={name}:ucf"])
        config.model.update(SMALL[name] | {"dtype": dtype} | changes)
        self.spec, self.model = build.get_model_spec(config), build.build_model(config)
        self.text = text if "clip" in config else None
        r = np.random.RandomState(0)
        label = np.zeros((B, C), np.float32)
        label[: B // 2, 0] = 1
        label[np.arange(B // 2, B), r.randint(1, C, B // 2)] = 1
        x = (0.4 * r.standard_normal((B, 1, T, D))).astype(np.float16)
        batch = Batch(x, np.full(B, T, np.int32), label, np.ones(B, bool))
        self.batch = jax.tree.map(jnp.asarray, batch)
        self.rngs = {k: jax.random.key(1) for k in ("params", "dropout", "noise")}
        self.loss = train_step.make_loss(
            self.model, self.spec.loss_fn, dict(config.loss)
        )

    def init(self):
        x = jnp.asarray(self.batch.features, jnp.float32), self.batch.length, self.text
        return self.model.init(self.rngs, *x, train=True)

    def gradient(self, params, batch_stats):
        """((loss, (terms, batch_stats)), gradients)."""
        gradient = jax.value_and_grad(self.loss, has_aux=True)
        return gradient(params, batch_stats, self.batch, self.text, self.rngs)

    def variables(self):
        """Parameters and batch statistics, random."""
        x = self.batch.features, self.batch.length, self.text
        return parts(drawn(self.model, *x))

    def all(self, params, batch_stats):
        """Gradient and scores, as one program."""
        return self.gradient(params, batch_stats), self.scores(params, batch_stats)

    def scores(self, params, batch_stats):
        x = jnp.asarray(self.batch.features, jnp.float32), self.batch.length, self.text
        variables = {"params": params, "batch_stats": batch_stats}
        return self.spec.scores(self.model.apply(variables, *x, train=False))


def parts(variables):
    return variables["params"], variables.get("batch_stats", {})


@pytest.mark.parametrize(
    "name",
    [
        *("mil_ranking", "clip_tsa"),
        pytest.param("vadclip", marks=pytest.mark.slow),
        pytest.param("dsanet", marks=pytest.mark.slow),
    ],
)
def test_half_precision_is_near_and_gives_float32(name, tiny_text):
    full, half = (Case(name, tiny_text, dtype) for dtype in ("float32", "bfloat16"))
    weights = full.variables()
    if name == "mil_ranking":  # random weights nearly tie its best segments
        weights = parts(jax.jit(full.init)())
    if full.text is not None:
        # Logits of both signs nearly cancel in the visual prompt, whose direction is
        # then anybody's guess.
        weights[0]["classifier_branch"]["classifier"]["bias"] -= 1
    ((a, _), slope), scores = jax.device_get(jax.jit(full.all)(*weights))
    found = jax.device_get(jax.jit(half.all)(*weights))
    ((b, (terms, _)), half_slope), half_scores = found
    floats = jax.tree.leaves((parts(jax.eval_shape(half.init)), b, terms, half_slope))
    assert {x.dtype for x in floats} == {jnp.dtype("float32")}
    assert b == pytest.approx(float(a), rel=0.05)
    # Together: single entries of a gradient that is nearly 0 may well differ.
    flat, half_flat = (
        np.concatenate([x.ravel() for x in jax.tree.leaves(gradient)])
        for gradient in (slope, half_slope)
    )
    cosine = flat @ half_flat / np.linalg.norm(flat) / np.linalg.norm(half_flat)
    assert cosine > 0.98
    for key, value in half_scores.items():
        assert value.dtype == jnp.float32
        np.testing.assert_allclose(value, scores[key], atol=0.05)


@pytest.mark.parametrize("name", SMALL)
def test_matrix_products_are_in_half_precision(name, tiny_text):
    """Nine tenths of the operations at least, at a width that lets them count."""
    case = Case(name, tiny_text, "bfloat16", B=8, T=32, D=256)
    if case.text is not None:  # its projection is 32 wide
        case = Case(name, tiny_text, "bfloat16", B=32, T=32, D=32)
    weights = parts(jax.eval_shape(case.init))
    program = jax.make_jaxpr(case.gradient)(*weights)
    count: dict[str, float] = {"bfloat16": 0, "float32": 0}
    for equation, times in step_time.equations(program.jaxpr):
        if flops := times * step_time.flops(equation):
            count[str(equation.invars[0].aval.dtype)] += flops
    assert count["bfloat16"] > 9 * count["float32"], count


@pytest.mark.parametrize("shape", [(6,), (5, 6), (3, 5, 6), (1, 1, 6), (2, 3, 5, 6)])
def test_gradients_of_a_half_product_are_those_of_a_product(shape):
    r = np.random.RandomState(0)
    x, kernel = (
        jnp.asarray(r.standard_normal(s), jnp.bfloat16) for s in (shape, (6, 4))
    )
    y, wanted = jax.vjp(lambda x, k: x @ k, x, kernel)
    found, gradients = jax.vjp(half_products.product, x, kernel)
    np.testing.assert_array_equal(found, y)

    g = jnp.asarray(r.standard_normal(y.shape), jnp.bfloat16)
    for a, b in zip(gradients(g), wanted(g), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(*(np.asarray(v, "f") for v in (a, b)), 2e-2, 2e-2)


def shapes_of_products(function, *arguments):
    """(dtype of the operands, dtype and shape of the result) of each product."""
    program = jax.make_jaxpr(function)(*arguments)
    return {
        (
            str(e.invars[0].aval.dtype),
            str(e.outvars[0].aval.dtype),
            e.outvars[0].aval.shape,
        )
        for e, _ in step_time.equations(program.jaxpr)
        if e.primitive.name == "dot_general"
    }


@pytest.mark.parametrize(
    ("backend", "version", "result"),
    [
        ("cpu", (0, 10, 2), "float32"),  # the only fast program there
        ("cpu", (0, 12, 0), "bfloat16"),
        ("gpu", (0, 10, 2), "bfloat16"),
    ],
)
def test_half_products_return_what_the_backend_has_fast(
    backend, version, result, monkeypatch
):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(jax, "__version_info__", version)
    x, kernel = jnp.ones((3, 5, 6), jnp.bfloat16), jnp.ones((6, 4), jnp.bfloat16)

    def gradient(x, kernel):
        return jax.vjp(half_products.product, x, kernel)[1](x[..., :4])

    assert shapes_of_products(gradient, x, kernel) == {
        ("bfloat16", result, shape) for shape in ((3, 5, 4), (3, 5, 6), (6, 4))
    }


def test_a_product_of_two_precisions_is_refused():
    with pytest.raises(TypeError, match="product of bfloat16 and float32"):
        half_products.product(jnp.ones((2, 3), jnp.bfloat16), jnp.ones((3, 4)))


def test_no_gradient_of_a_frozen_kernel_is_computed():
    x, kernel = jnp.ones((3, 5, 6), jnp.bfloat16), jnp.ones((6, 4), jnp.bfloat16)

    def total(x, kernel):
        return half_products.product(x, kernel).astype("float32").sum()

    by_rows, by_kernel, result = (3, 5, 6), (6, 4), (3, 5, 4)
    for number, computed in ((0, by_rows), (1, by_kernel)):
        products = shapes_of_products(jax.grad(total, number), x, kernel)
        assert {shape for *_, shape in products} == {result, computed}


@pytest.mark.parametrize("name", SMALL)
def test_gradients_of_half_kernels_have_the_fast_form(name, tiny_text):
    """xᵀg as it is: XLA has no fast program on CPUs for gᵀx that is then transposed."""
    case = Case(name, tiny_text, "bfloat16")
    weights = parts(jax.eval_shape(case.init))
    program = jax.make_jaxpr(case.gradient)(*weights)

    made, transposed, kernels = set(), set(), 0
    for equation, _ in step_time.equations(program.jaxpr):
        if equation.primitive.name == "transpose":
            transposed.add(equation.invars[0])
        if equation.primitive.name != "dot_general":
            continue

        (left, right), batch = equation.params["dimension_numbers"]
        rows = tuple(range(equation.invars[0].aval.ndim - 1))
        half = equation.invars[0].aval.dtype == jnp.bfloat16
        if half and left == right == rows and batch == ((), ()):
            made.add(equation.outvars[0])
            kernels += 1

    assert kernels > 2
    assert not made & transposed


@pytest.fixture(scope="module")
def classes():
    """Class features in the place of prompts, where the text tower doesn't matter."""
    return jnp.asarray(np.random.RandomState(2).standard_normal((C, 32)), jnp.float32)


@pytest.mark.slow
def test_recomputed_blocks_change_no_gradient(classes):
    several = {"decoder_layers": 2, "visual_layers": 2}
    case = Case("dsanet", classes, "float32", **several)
    weights = case.variables()
    (loss, _), wanted = jax.jit(case.gradient)(*weights)
    again_case = Case("dsanet", classes, "float32", remat=True, **several)
    traced = jax.jit(again_case.gradient).trace(*weights)
    assert "remat" in str(traced.jaxpr)
    (again, _), found = traced.lower().compile()(*weights)
    assert again == pytest.approx(float(loss), rel=1e-6)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, 1e-4, 3e-6), found, wanted
    )


@pytest.mark.slow
def test_recomputed_blocks_need_less_memory(classes):
    """Wherever the compiler puts the second computation."""
    used, only_decoder = [], {"use_graph": False, "dcsa": False, "visual_layers": 0}
    for remat in (False, True):
        changes = {"decoder_layers": 5, "remat": remat} | only_decoder
        case = Case("dsanet", classes, "float32", B=8, T=64, **changes)
        weights = parts(jax.eval_shape(case.init))
        program = jax.jit(case.gradient).lower(*weights).compile()
        used.append(program.memory_analysis().temp_size_in_bytes)
    assert used[1] < 0.5 * used[0], used
