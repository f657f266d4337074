"""bfloat16 for activations and matrix products; the rest stays in float32."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from small_models import TEXT_MODELS

from wsvad_jax.benchmarks import step_time
from wsvad_jax.data.records import Batch
from wsvad_jax.experiment import build
from wsvad_jax.experiment.config import load_config
from wsvad_jax.models import common
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

    def scores(self, params, batch_stats):
        x = jnp.asarray(self.batch.features, jnp.float32), self.batch.length, self.text
        variables = {"params": params, "batch_stats": batch_stats}
        return self.spec.scores(self.model.apply(variables, *x, train=False))


def parts(variables):
    return variables["params"], variables.get("batch_stats", {})


@pytest.mark.parametrize("name", SMALL)
def test_half_precision_is_near_and_gives_float32(name, tiny_text):
    full, half = (Case(name, tiny_text, dtype) for dtype in ("float32", "bfloat16"))
    weights = parts(jax.jit(full.init)())
    if full.text is not None:
        # Logits of both signs nearly cancel in the visual prompt, whose direction is
        # then anybody's guess.
        weights[0]["classifier_branch"]["classifier"]["bias"] -= 1
    (a, _), slope = jax.jit(full.gradient)(*weights)
    (b, (terms, _)), half_slope = jax.jit(half.gradient)(*weights)
    floats = jax.tree.leaves((parts(jax.eval_shape(half.init)), b, terms, half_slope))
    assert {x.dtype for x in floats} == {jnp.dtype("float32")}
    assert b == pytest.approx(float(a), rel=0.05)
    # Together: single entries of a gradient that is nearly 0 may well differ.
    flat, half_flat = (jax.flatten_util.ravel_pytree(x)[0] for x in (slope, half_slope))
    cosine = flat @ half_flat / jnp.linalg.norm(flat) / jnp.linalg.norm(half_flat)
    assert cosine > 0.98
    scores, half_scores = jax.jit(full.scores)(*weights), jax.jit(half.scores)(*weights)
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


@pytest.mark.parametrize("shape", [(5, 6), (3, 5, 6), (2, 3, 5, 6)])
def test_gradients_of_a_half_product_are_those_of_a_product(shape):
    r = np.random.RandomState(0)
    x, kernel = (
        jnp.asarray(r.standard_normal(s), jnp.bfloat16) for s in (shape, (6, 4))
    )
    y, wanted = jax.vjp(lambda x, k: x @ k, x, kernel)
    found, gradients = jax.vjp(common.product, x, kernel)
    np.testing.assert_array_equal(found, y)

    g = jnp.asarray(r.standard_normal(y.shape), jnp.bfloat16)
    for a, b in zip(gradients(g), wanted(g), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(*(np.asarray(v, "f") for v in (a, b)), 2e-2, 2e-2)


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


def test_recomputed_blocks_change_no_gradient(tiny_text):
    several = {"decoder_layers": 2, "visual_layers": 2}
    case = Case("dsanet", tiny_text, "float32", **several)
    weights = parts(jax.jit(case.init)())
    (loss, _), wanted = jax.jit(case.gradient)(*weights)
    again_case = Case("dsanet", tiny_text, "float32", remat=True, **several)
    assert "remat" in str(jax.make_jaxpr(again_case.gradient)(*weights))
    (again, _), found = jax.jit(again_case.gradient)(*weights)
    assert again == pytest.approx(float(loss), rel=1e-6)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, 1e-4, 3e-6), found, wanted
    )


def test_recomputed_blocks_need_less_memory(tiny_text):
    """Wherever the compiler puts the second computation."""
    used = []
    for remat in (False, True):
        changes = {"decoder_layers": 8, "remat": remat}
        case = Case("dsanet", tiny_text, "float32", B=8, T=64, **changes)
        weights = parts(jax.eval_shape(case.init))
        program = jax.jit(case.gradient).lower(*weights).compile()
        used.append(program.memory_analysis().temp_size_in_bytes)
    assert used[1] < 0.5 * used[0], used
