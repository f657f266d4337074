"""Optimisers and schedules of the four papers, as optax transformations.

torch_adamw          AdamW as PyTorch has it (VadCLIP, DSANet)
stable_adamw         AMSGrad with update clipping, for DSANet's SG-NM
adam_l2, adagrad_l2  L2 weight decay added to the gradient (CLIP-TSA, MIL ranking)
cosine_epochs, steps_epochs, warmup_cosine    learning rates by step
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from wsvad_jax.errors import InputError


class StableAdamWState(NamedTuple):
    """Moments of `scale_by_stable_adamw`."""

    count: Array
    mu: Any
    nu: Any
    nu_max: Any


def scale_by_stable_adamw(
    b1: float = 0.9, b2: float = 0.999, eps: float = 1e-10
) -> optax.GradientTransformation:
    """Adam's direction under AMSGrad, shrunk per tensor where its gradient jumps.

    With ν̂ the running maximum of the raw second moment and d = √ν̂ / √(1 − β2^t) + ε,
    the update is μ / d / (1 − β1^t) / max(1, RMS(gradient / d)). optax.amsgrad takes
    the maximum after bias correction, and optax.clip_by_block_rms clips the update
    rather than scaling by the gradient's size: both differ from the released runs
    (DSANet, arXiv 2511.10334, which takes it from Wortsman et al., arXiv 2304.13013).
    """

    def init(params):
        def zeros():
            return jax.tree.map(jnp.zeros_like, params)

        return StableAdamWState(jnp.zeros((), jnp.int32), zeros(), zeros(), zeros())

    def update(updates, state, params=None):
        del params
        count = state.count + 1
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, updates)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.nu, updates)
        nu_max = jax.tree.map(jnp.maximum, state.nu_max, nu)
        t = count.astype(jnp.float32)

        def direction(m, v, g):
            denominator = jnp.sqrt(v) / jnp.sqrt(1 - b2**t) + eps
            rms = jnp.sqrt(jnp.mean(jnp.square(g / denominator)))
            return m / denominator / ((1 - b1**t) * jnp.maximum(rms, 1))

        new = jax.tree.map(direction, mu, nu_max, updates)
        return new, StableAdamWState(count, mu, nu, nu_max)

    return optax.GradientTransformation(init, update)


def stable_adamw(
    schedule: optax.Schedule, weight_decay: float = 1e-4
) -> optax.GradientTransformation:
    """StableAdamW with AMSGrad; the decay follows the schedule, not the clipping."""
    return optax.chain(
        scale_by_stable_adamw(),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(schedule),
    )


def torch_adamw(
    schedule: optax.Schedule, weight_decay: float = 0.01
) -> optax.GradientTransformation:
    """AdamW with PyTorch's default decay (optax's is a hundred times smaller)."""
    return optax.adamw(schedule, weight_decay=weight_decay)


def adam_l2(
    schedule: optax.Schedule, weight_decay: float
) -> optax.GradientTransformation:
    """Adam whose gradient includes weight_decay · parameter (not decoupled)."""
    return optax.chain(
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_adam(),
        optax.scale_by_learning_rate(schedule),
    )


def adagrad_l2(
    schedule: optax.Schedule, weight_decay: float
) -> optax.GradientTransformation:
    """Adagrad; the kernels' gradient includes weight_decay · kernel."""

    def kernels(params):
        return jax.tree_util.tree_map_with_path(
            lambda path, _: path[-1].key == "kernel", params
        )

    return optax.chain(
        optax.add_decayed_weights(weight_decay, mask=kernels),
        optax.scale_by_rss(initial_accumulator_value=0.0, eps=1e-10),
        optax.scale_by_learning_rate(schedule),
    )


def constant(lr: float) -> optax.Schedule:
    """The same learning rate throughout."""
    return optax.constant_schedule(lr)


def cosine_epochs(lr: float, epochs: int, steps_per_epoch: int) -> optax.Schedule:
    """Cosine from lr to 0, changed at the end of each epoch as the releases do."""

    def schedule(count):
        epoch = jnp.floor_divide(count, steps_per_epoch)
        return lr * (1 + jnp.cos(jnp.pi * jnp.minimum(epoch / epochs, 1))) / 2

    return schedule


def steps_epochs(
    lr: float, milestones: Sequence[int], factor: float, steps_per_epoch: int
) -> optax.Schedule:
    """lr times `factor` once for every epoch of `milestones` that is over."""
    bounds = {epoch * steps_per_epoch: factor for epoch in milestones}
    return optax.piecewise_constant_schedule(lr, bounds)


def warmup_cosine(
    lr: float, total: int, warmup: int, *, final: float = 0.1
) -> optax.Schedule:
    """`warmup` evenly spaced values from 0 to lr, ends included, then a cosine.

    The cosine goes to final · lr over total − warmup steps and stays there.
    """
    warmup = max(min(warmup, total - 1), 0)

    def schedule(count):
        rise = lr * count / max(warmup - 1, 1)
        share = jnp.clip((count - warmup) / max(total - warmup, 1), 0, 1)
        fall = lr * (final + (1 - final) * (1 + jnp.cos(jnp.pi * share)) / 2)
        return jnp.where(count < warmup, rise, fall)

    return schedule


def learning_rate(
    config: Mapping[str, Any], *, epochs: int, steps_per_epoch: int, loader_steps: int
) -> optax.Schedule:
    """Builds the schedule that a recipe names.

    Args:
      config: `schedule` (constant, cosine_epochs, steps_epochs or warmup_cosine), `lr`
        and that schedule's own keys.
      epochs: of the whole training.
      steps_per_epoch: optimiser steps.
      loader_steps: batches of all loaders an epoch; the release counts these for
        SG-NM's cosine, so that with two loaders it stops half-way.
    """
    name, lr = config["schedule"], config["lr"]
    if name == "constant":
        return constant(lr)
    if name == "cosine_epochs":
        return cosine_epochs(lr, epochs, steps_per_epoch)
    if name == "steps_epochs":
        return steps_epochs(lr, config["milestones"], 0.1, steps_per_epoch)
    if name == "warmup_cosine":
        counted = loader_steps if config.get("count_loaders") else steps_per_epoch
        return warmup_cosine(
            lr, epochs * counted, config["warmup"], final=config.get("final", 0.1)
        )
    raise InputError(
        f"optim.schedule is {name!r}; expected constant, cosine_epochs, steps_epochs "
        "or warmup_cosine"
    )


OPTIMISERS = {
    "adamw": torch_adamw,
    "stable_adamw": stable_adamw,
    "adam_l2": adam_l2,
    "adagrad_l2": adagrad_l2,
}


def from_plan(
    plan: Mapping[str, Any], *, epochs: int, steps_per_epoch: int, loader_steps: int
) -> optax.GradientTransformation:
    """Builds a recipe's optimisers.

    `plan["optim"]` maps "default", and any top-level module with one of its own, to
    `name`, `lr`, `weight_decay` and the keys of `learning_rate`.
    """
    groups = {}
    for module, config in plan["optim"].items():
        if config["name"] not in OPTIMISERS:
            raise InputError(
                f"optim.{module}.name is {config['name']!r}; expected one of "
                f"{', '.join(OPTIMISERS)}"
            )
        schedule = learning_rate(
            config,
            epochs=epochs,
            steps_per_epoch=steps_per_epoch,
            loader_steps=loader_steps,
        )
        groups[module] = OPTIMISERS[config["name"]](schedule, config["weight_decay"])
    default = groups.pop("default")
    return by_module(groups, default) if groups else default


def by_module(
    groups: Mapping[str, optax.GradientTransformation],
    default: optax.GradientTransformation,
) -> optax.GradientTransformation:
    """One optimiser for each top-level module named in `groups`, `default` elsewhere.

    A module that the model doesn't have (switched off) is no error.
    """

    def labels(params):
        return {
            name: jax.tree.map(
                lambda _, name=name: name if name in groups else "", leaf
            )
            for name, leaf in params.items()
        }

    return optax.multi_transform({"": default, **groups}, labels)
