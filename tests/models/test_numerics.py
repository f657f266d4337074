"""Numbers worth trusting: finite at every edge, as in double precision, repeatable."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_models import TEXT_MODELS, drawn

from wsvad_jax import models
from wsvad_jax.data.records import Batch
from wsvad_jax.metrics import frame_level
from wsvad_jax.metrics.frame_level import EvalVideo
from wsvad_jax.training.run import train_and_evaluate
from wsvad_jax.training.train_step import make_loss
from wsvad_jax.utils.files import read_json
from wsvad_jax.weights.model_folder import load_params

B, T, D, C = 4, 16, 32, 5
SMALL: dict[str, dict[str, Any]] = {
    "mil_ranking": {"segments": 8, "dropout": 0.0},
    "clip_tsa": {"samples": 10, "kappa": 0.5, "dropout": 0.0},
    **TEXT_MODELS,
}
WEIGHTS = {
    "mil_ranking": {"smooth": 8e-5, "sparse": 8e-5, "pairing": "pairs"},
    "clip_tsa": {"magnitude": 1e-4, "smooth": 8e-4, "sparse": 8e-3},
    "vadclip": {"mil": 1.0, "align": 1.0, "text": 0.1},
    "dsanet": {
        "mil": 1.0,
        "align": 0.5,
        "text": 0.1,
        "event": 1.0,
        "background": 1.0,
        "consistency": 1.0,
        "gather": 0.1,
    },
}
# What gives every snippet the logit at which a sigmoid rounds to 0 or 1.
LAST = {
    "mil_ranking": ("fc3",),
    "clip_tsa": ("fc3",),
    "vadclip": ("classifier_branch", "classifier"),
    "dsanet": ("classifier_branch", "classifier"),
}


class Case:
    """A small model with its objective, compiled once for all inputs."""

    def __init__(self, name: str, text: Any, dtype: str = "float32"):
        self.name, self.text = name, text if name in ("vadclip", "dsanet") else None
        spec = models.MODELS[name]
        self.model = spec.Model(**SMALL[name], dtype=dtype)
        self.gradient = jax.jit(
            jax.value_and_grad(
                make_loss(self.model, spec.loss_fn, WEIGHTS[name]), has_aux=True
            )
        )

    def rngs(self) -> dict[str, Any]:
        return {k: jax.random.key(0) for k in ("params", "dropout", "noise")}

    def variables(self) -> dict[str, Any]:
        """Random weights of the right shapes."""
        return drawn(self.model, batch().features, batch().length, self.text)

    def __call__(self, variables: dict[str, Any], batch: Batch):
        return self.gradient(
            variables["params"],
            variables.get("batch_stats", {}),
            batch,
            self.text,
            self.rngs(),
        )


def batch(kind: str = "random") -> Batch:
    """Two normal videos before two abnormal ones, padded with zeros."""
    x = np.random.RandomState(0).standard_normal((B, 1, T, D)).astype(np.float32)
    length = np.array([T, 9, 5, T], np.int32)
    if kind == "zero":
        x[:] = 0
    elif kind == "constant":
        x[:] = 0.37
    elif kind == "one snippet":
        length[:] = 1
    elif kind == "whole window":
        length[:] = T
    elif kind == "identical":
        x[:], length[:] = x[:1], T
    elif kind == "1e4":
        x *= 1e4
    elif kind == "1e-20":  # whose squares are no float32 any more
        x *= 1e-20
    x = np.where((np.arange(T) < length[:, None])[:, None, :, None], x, 0)
    label = np.eye(C, dtype=np.float32)[[0, 0, 1, 3]]
    label[3, 4] = 1  # a video of two classes
    return Batch(
        features=jnp.asarray(x),
        length=jnp.asarray(length),
        label=jnp.asarray(label),
        mask=jnp.ones(B, bool),
    )


KINDS = (
    *("random", "zero", "constant", "one snippet", "whole window", "identical"),
    *("1e4", "1e-20"),
)


@pytest.fixture(scope="module", params=list(SMALL))
def case(request, tiny_text):
    found = Case(request.param, tiny_text)
    return found, found.variables()


def assert_finite(case, variables, kind):
    (loss, (terms, stats)), grads = case(variables, batch(kind))
    for name, value in {"loss": loss, **terms}.items():
        assert np.isfinite(value), name
    for path, leaf in jax.tree_util.tree_leaves_with_path((grads, stats)):
        assert np.isfinite(leaf).all(), jax.tree_util.keystr(path)


@pytest.mark.parametrize("kind", KINDS)
def test_losses_and_gradients_are_finite(case, kind):
    assert_finite(*case, kind)


@pytest.mark.parametrize("logit", [-1e4, -40.0, 40.0, 1e4])
@pytest.mark.parametrize("kind", ["zero", "random", "one snippet"])
def test_finite_where_every_score_is_exactly_0_or_1(case, kind, logit):
    model, variables = case
    params = jax.tree.map(lambda x: x, variables["params"])
    layer = params
    for name in LAST[model.name]:
        layer = layer[name]
    layer["bias"] = jnp.full_like(layer["bias"], logit)
    assert_finite(model, {**variables, "params": params}, kind)


def test_float32_is_close_to_float64(case, tiny_text, monkeypatch):
    """The same code in double precision: every term, every gradient, every statistic."""
    single, variables = case
    (_, (terms, stats)), grads = single(variables, batch())
    found = jax.device_get((terms, stats, grads))
    with jax.enable_x64(True), monkeypatch.context() as patch:
        patch.setattr(jnp, "float32", jnp.float64)  # what reductions are cast to
        same_noise = functools.partial(jax.random.normal, dtype=np.float32)
        patch.setattr(jax.random, "normal", same_noise)

        def wide(x):
            floating = jnp.issubdtype(jnp.asarray(x).dtype, jnp.floating)
            return jnp.asarray(x, jnp.float64) if floating else jnp.asarray(x)

        text = jax.tree.map(wide, jax.device_get(tiny_text))
        double = Case(single.name, text, "float64")
        same = jax.tree.map(wide, jax.device_get((variables, batch())))
        (_, (terms, stats)), grads = double(*same)
        wanted = jax.device_get((terms, stats, grads))
    assert all(x.dtype == np.float64 for x in jax.tree.leaves(wanted))
    largest = max(abs(x).max() for x in jax.tree.leaves(wanted[2]))
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(wanted), strict=True
    ):
        at = jax.tree_util.keystr(path)
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5 * largest, err_msg=at)


def videos(dtype: Any, seed: int = 0) -> list[EvalVideo]:
    random, found = np.random.RandomState(seed), []
    for i in range(12):
        n, label = 5 + i, (0, 1, 0, 2)[i % 4]
        segments = ((16, 16 * (3 + i // 2), label),) if label else ()
        # Values of float32, so that both types tell the same scores apart.
        scores = random.uniform(size=(2, n)).astype(np.float32).astype(dtype)
        classes = random.dirichlet(np.ones(3), n).astype(np.float32).astype(dtype)
        extra = {"align": scores[1]}
        found.append(
            EvalVideo(f"v{i}", scores[0], classes, segments, 16 * n, (label,), extra)
        )
    return found


def test_metrics_of_float32_scores_are_those_of_float64():
    names = ("Normal", "Fire", "Fight")
    single = frame_level.evaluate(videos(np.float32), names)
    double = frame_level.evaluate(videos(np.float64), names)
    assert single.keys() == double.keys()
    for key, value in double.items():
        np.testing.assert_allclose(single[key], value, rtol=1e-12, err_msg=key)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.37])
def test_metrics_of_constant_scores(value):
    """Every score exactly 0 or 1: chance, never NaN."""
    flat = []
    for v in videos(np.float32):
        same = np.full_like(v.anomaly, value)
        whole = np.full_like(v.classes, 1 / 3)
        flat.append(
            dataclasses.replace(v, anomaly=same, classes=whole, extra={"align": same})
        )
    found = frame_level.evaluate(flat, ("Normal", "Fire", "Fight"))
    assert found["auc"] == found["video_auc"] == found["ano_auc"] == 0.5
    assert found["far"] == (value >= 0.5)
    frames = sum(16 * len(v.anomaly) for v in flat)
    true = sum(end - start for v in flat for start, end, _ in v.segments)
    assert found["ap"] == pytest.approx(true / frames)
    assert all(0 <= x <= 1 for x in (*found["map"], found["map_avg_clean"]))


@pytest.mark.slow  # a stopped run is compared with another in test_train.py
def test_two_runs_of_one_seed_are_identical(tiny, tmp_path):
    """Of the model that draws noise in every step and drops activations."""
    for folder in ("a", "b"):
        config = tiny.config("clip_tsa", checkpoint_every_steps=6)
        train_and_evaluate(config, tmp_path / folder)
    first, second = (load_params(tmp_path / f / "model") for f in ("a", "b"))
    jax.tree.map(np.testing.assert_array_equal, first[:2], second[:2])
    results = [read_json(tmp_path / f / "results.json") for f in ("a", "b")]
    assert results[0] == results[1]
    with (
        np.load(tmp_path / "a/scores.npz") as a,
        np.load(tmp_path / "b/scores.npz") as b,
    ):
        for key in a.files:
            np.testing.assert_array_equal(a[key], b[key])
