"""CLIP-TSA against numbers that its released implementation computed."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fill import golden, state_dict

from wsvad_jax.models import clip_tsa
from wsvad_jax.weights import torch_mapping

CASES = {"clip_tsa": (512, 1), "clip_tsa_i3d": (2048, 2)}  # width, crops
WEIGHTS = {"magnitude": 1e-4, "smooth": 8e-4, "sparse": 8e-3}


def inputs(width, crops):
    """The golden run's training batch and its test video."""
    r = np.random.RandomState(7)

    def draw(videos, T):
        x = 0.3 * r.standard_normal((videos, crops, 1, width))
        x = x + 0.3 * r.standard_normal((videos, crops, T, width))
        return jnp.asarray(x, jnp.float32)

    return draw(6, 32), draw(1, 90)


def gaussian(rows, T):
    draws = np.random.RandomState(99).standard_normal((rows, 100, T))
    return jnp.asarray(draws, jnp.float32)


@pytest.fixture(scope="module", params=CASES)
def run(request):
    """One training step of a golden case: values, gradients, statistics."""
    width, crops = CASES[request.param]
    x, test_video = inputs(width, crops)
    imported, _ = torch_mapping.import_state("clip_tsa", state_dict(request.param))
    variables = {name: imported[name] for name in ("params", "batch_stats")}
    model = clip_tsa.Model(kappa=0.7, dropout=0.0)
    length = jnp.full(6, 32)
    batch = types.SimpleNamespace(
        label=jax.nn.one_hot(jnp.array([0, 0, 0, 1, 1, 1]), 2), length=length
    )

    def loss(params, x):
        outputs, state = model.apply(
            {**variables, "params": params},
            x,
            length,
            train=True,
            noise=gaussian(6 * crops, 32),
            mutable=["batch_stats"],
        )
        total, terms = clip_tsa.loss_fn(outputs, batch, WEIGHTS)
        return total, (terms, outputs, state["batch_stats"])

    step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    (total, aux), grads = step(variables["params"], x)
    after = {"params": grads[0], "batch_stats": aux[2]}
    return types.SimpleNamespace(
        golden=golden(request.param),
        model=model,
        variables={"params": variables["params"], "batch_stats": aux[2]},
        total=total,
        terms=aux[0],
        outputs=aux[1],
        # Gradients and statistics under the released names, in PyTorch's layout.
        after=torch_mapping.export_state("clip_tsa", after),
        grad_input=grads[1],
        crops=crops,
        test_video=test_video,
    )


def test_scores_and_selection(run):
    want, outputs = run.golden, run.outputs
    close = {"rtol": 1e-5}
    np.testing.assert_allclose(outputs.scores, want["scores"][..., 0], **close)
    np.testing.assert_allclose(outputs.magnitudes, want["magnitudes"], **close)
    video = np.concatenate([want["score_normal"], want["score_abnormal"]])[:, 0]
    np.testing.assert_allclose(outputs.video_scores, video, **close)
    # The release stacks crops first.
    selected = np.concatenate(
        [
            want[f"feat_{kind}"].reshape(run.crops, 3, 3, 512).swapaxes(0, 1)
            for kind in ("normal", "abnormal")
        ]
    )
    np.testing.assert_allclose(
        outputs.selected, selected, rtol=1e-5, atol=1e-5 * np.abs(selected).max()
    )


def test_loss_terms(run):
    got = {name: WEIGHTS.get(name, 1.0) * term for name, term in run.terms.items()}
    want = {name: run.golden[f"loss/{name}"] for name in ("rtfm", "sparse", "smooth")}
    got["rtfm"] = got.pop("bce") + got.pop("magnitude")
    assert got.keys() == want.keys()
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(run.total, run.golden["loss/total"], rtol=1e-5)


def test_gradients_of_every_tensor(run):
    names = [n.removeprefix("grad_norm/") for n in run.golden if "grad_norm/" in n]
    assert len(names) == len(jax.tree.leaves(run.variables["params"]))
    for name in names:
        size, head = (run.golden[f"grad_{kind}/{name}"] for kind in ("norm", "head"))
        grad = run.after[name]
        # A bias just before a batch normalisation has gradient 0 but for rounding.
        np.testing.assert_allclose(
            np.linalg.norm(grad), size, rtol=1e-4, atol=5e-6, err_msg=name
        )
        np.testing.assert_allclose(
            grad.ravel()[:4], head, rtol=1e-4, atol=1e-4 * size + 1e-6, err_msg=name
        )


def test_gradient_of_the_input(run):
    norms = np.linalg.norm(np.asarray(run.grad_input).reshape(6, -1), axis=1)
    np.testing.assert_allclose(norms, run.golden["grad_input_norm"], rtol=1e-4)


def test_running_statistics(run):
    for key, want in run.golden.items():
        if key.startswith("buffer_after/"):
            name = key.removeprefix("buffer_after/")
            np.testing.assert_allclose(
                run.after[name], want, rtol=1e-5, atol=1e-6, err_msg=name
            )


@pytest.mark.parametrize("padding", [0, 38])
def test_evaluation(run, padding):
    T = run.golden["eval/scores"].shape[1]
    noise = jnp.concatenate([gaussian(1, T)] * run.crops)
    outputs = jax.jit(run.model.apply, static_argnames="train")(
        run.variables,
        jnp.pad(run.test_video, ((0, 0), (0, 0), (0, padding), (0, 0))),
        jnp.array([T]),
        train=False,
        noise=jnp.pad(noise, ((0, 0), (0, 0), (0, padding))),
    )
    want = run.golden["eval/scores"][..., 0]
    np.testing.assert_allclose(outputs.scores[:, :T], want, rtol=1e-5)
