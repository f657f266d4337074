"""Optimisers against plain recurrences and PyTorch; schedules against their words."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from wsvad_jax.training import optim
from wsvad_jax.utils.errors import InputError

STEPS, LR = 6, 0.1


def gradients():
    r = np.random.RandomState(0)
    # A jump in size, so that clipping and the running maximum both matter.
    return [r.standard_normal((3, 4)) * (10 if i == 3 else 1) for i in range(STEPS)]


def run(optimiser, start):
    params = {"kernel": jnp.asarray(start, jnp.float32)}
    state = optimiser.init(params)
    for g in gradients():
        g = {"kernel": jnp.asarray(g, jnp.float32)}
        updates, state = optimiser.update(g, state, params)
        params = optax.apply_updates(params, updates)
    return np.asarray(params["kernel"])


@pytest.fixture
def start():
    return np.random.RandomState(1).standard_normal((3, 4))


def test_stable_adamw_equals_its_recurrence(start):
    p, m, v, v_max = start.copy(), *np.zeros((3, 3, 4))
    b1, b2, eps, decay = 0.9, 0.999, 1e-10, 1e-4
    for t, g in enumerate(gradients(), 1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        v_max = np.maximum(v_max, v)
        denominator = np.sqrt(v_max) / np.sqrt(1 - b2**t) + eps
        rms = np.sqrt(np.mean((g / denominator) ** 2))
        p = p - LR * decay * p - LR / (1 - b1**t) / max(1, rms) * m / denominator
    found = run(optim.stable_adamw(optim.constant(LR), decay), start)
    np.testing.assert_allclose(found, p, rtol=1e-4)


def test_it_is_neither_amsgrad_nor_a_clipped_update(start):
    found = run(optim.stable_adamw(optim.constant(LR), 0.0), start)
    for other in (
        optax.amsgrad(LR),
        optax.chain(
            optax.scale_by_amsgrad(), optax.clip_by_block_rms(1.0), optax.scale(-LR)
        ),
    ):
        assert np.abs(found - run(other, start)).max() > 1e-3


@pytest.mark.parametrize("kind", ["adamw", "adam_l2", "adagrad_l2"])
def test_equal_to_pytorch(start, kind):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    makers = {
        "adamw": torch.optim.AdamW,
        "adam_l2": torch.optim.Adam,
        "adagrad_l2": torch.optim.Adagrad,
    }
    parameter = torch.nn.Parameter(torch.tensor(start, dtype=torch.float32))
    theirs = makers[kind]([parameter], lr=LR, weight_decay=0.05)
    for g in gradients():
        parameter.grad = torch.tensor(g, dtype=torch.float32)
        theirs.step()
    ours = run(optim.OPTIMISERS[kind](optim.constant(LR), 0.05), start)
    np.testing.assert_allclose(ours, parameter.detach().numpy(), rtol=1e-4, atol=1e-6)


def test_adagrad_decays_kernels_alone():
    optimiser = optim.adagrad_l2(optim.constant(LR), 0.5)
    params = {"fc": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}}
    zero = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimiser.update(zero, optimiser.init(params), params)
    assert float(jnp.abs(updates["fc"]["bias"]).max()) == 0
    assert float(updates["fc"]["kernel"].max()) < 0


def test_schedules():
    cosine = optim.cosine_epochs(1.0, 4, 3)
    np.testing.assert_allclose(
        [cosine(s) for s in (0, 2, 3, 6, 12, 99)],
        [1, 1, (1 + np.cos(np.pi / 4)) / 2, 0.5, 0, 0],
        atol=1e-6,
    )
    steps = optim.steps_epochs(1.0, (2, 3), 0.1, 5)
    np.testing.assert_allclose(
        [steps(s) for s in (0, 9, 10, 14, 15)], [1, 1, 0.1, 0.1, 0.01], rtol=1e-6
    )
    warm = optim.warmup_cosine(1.0, 20, 5)
    np.testing.assert_allclose(
        [warm(s) for s in range(5)], np.linspace(0, 1, 5), atol=1e-6
    )
    assert float(warm(5)) == pytest.approx(1)
    assert float(warm(20)) == pytest.approx(0.1) == float(warm(1000))


@pytest.mark.parametrize(
    ("total", "warmup", "final"),
    [(300, 30, 0.1), (10, 0, 0.1), (10, 1, 0.1), (5, 20, 0.1), (200, 50, 0.0)],
)
def test_warmup_cosine_equals_its_formula(total, warmup, final):
    schedule = optim.warmup_cosine(1e-3, total, warmup, final=final)
    count = np.arange(2 * total)
    w = min(warmup, total - 1)
    progress = np.clip((count - w) / (total - w), 0, 1)
    fall = final + (1 - final) * (1 + np.cos(np.pi * progress)) / 2
    wanted = 1e-3 * np.where(count < w, count / max(w - 1, 1), fall)
    values = [float(schedule(c)) for c in jnp.asarray(count)]
    np.testing.assert_allclose(values, wanted, rtol=2e-6, atol=3e-10)


@pytest.mark.parametrize(("epochs", "steps"), [(10, 30), (7, 13), (50, 3), (10, 1)])
def test_cosine_epochs_equals_its_formula(epochs, steps):
    schedule = optim.cosine_epochs(1e-3, epochs, steps)
    count = np.arange((epochs + 2) * steps)
    epoch = np.minimum(count // steps / epochs, 1)
    wanted = 1e-3 * (1 + np.cos(np.pi * epoch)) / 2
    values = jax.vmap(schedule)(jnp.asarray(count))
    np.testing.assert_allclose(values, wanted, atol=3e-10)


def test_rates_are_those_of_recorded_runs_to_the_last_bit():
    """Recorded results, and the resuming of older runs, depend on each rate's rounding."""
    count = jnp.arange(80)

    def recorded(count):
        rise = 5e-4 * count / 19
        fraction = jnp.clip((count - 20) / 40, 0, 1)
        fall = 5e-4 * (0.1 + (1 - 0.1) * (1 + jnp.cos(jnp.pi * fraction)) / 2)
        return jnp.where(count < 20, rise, fall)

    schedule = optim.warmup_cosine(5e-4, 60, 20)
    rates = [jax.jit(jax.vmap(f))(count) for f in (schedule, recorded)]
    np.testing.assert_array_equal(*rates)

    def per_epoch(count):
        fraction = jnp.minimum(jnp.floor_divide(count, 7) / 10, 1)
        return 7e-5 * (1 + jnp.cos(jnp.pi * fraction)) / 2

    schedule = optim.cosine_epochs(7e-5, 10, 7)
    rates = [jax.jit(jax.vmap(f))(count) for f in (schedule, per_epoch)]
    np.testing.assert_array_equal(*rates)


def test_a_warm_up_longer_than_the_training_still_ends_finite():
    warm = optim.warmup_cosine(1.0, 3, 100)
    values = [float(warm(s)) for s in range(6)]
    assert np.isfinite(values).all() and max(values) <= 1


def test_release_counts_both_loaders():
    config = {
        "schedule": "warmup_cosine",
        "lr": 1.0,
        "warmup": 2,
        "final": 0.1,
        "schedule_counts_loader_batches": True,
    }
    counted = optim.learning_rate(
        config, epochs=2, steps_per_epoch=10, loader_batches_per_epoch=20
    )
    plain = optim.learning_rate(
        {**config, "schedule_counts_loader_batches": False},
        epochs=2,
        steps_per_epoch=10,
        loader_batches_per_epoch=20,
    )
    assert float(counted(20)) > 0.5 > float(plain(20))


def test_each_module_gets_its_optimiser():
    params = {"refiner": {"w": jnp.ones(2)}, "rest": {"w": jnp.ones(2)}}
    optimiser = optim.by_module(
        {"refiner": optax.sgd(1.0), "absent": optax.sgd(9.0)}, optax.sgd(0.1)
    )
    updates, _ = optimiser.update(params, optimiser.init(params), params)
    assert float(updates["refiner"]["w"][0]) == -1
    assert float(updates["rest"]["w"][0]) == pytest.approx(-0.1)


@pytest.mark.parametrize(
    ("change", "said"),
    [({"name": "adams"}, "adams"), ({"schedule": "linear"}, "linear")],
)
def test_unknown_names_are_one_sentence(change, said):
    plan = {
        "optim": {
            "default": {
                "name": "adamw",
                "lr": 1.0,
                "weight_decay": 0.0,
                "schedule": "constant",
            }
            | change
        }
    }
    with pytest.raises(InputError, match=said):
        optim.build_optimiser(
            plan, epochs=1, steps_per_epoch=1, loader_batches_per_epoch=1
        )
