"""Optimisers and schedules of the four papers, as optax transformations.

torch_adamw          AdamW with PyTorch's defaults (VadCLIP, DSANet)
stable_adamw         AMSGrad with update clipping, for DSANet's SG-NM
adam_l2, adagrad_l2  L2 weight decay added to the gradient (CLIP-TSA, MIL ranking)
cosine_epochs, steps_epochs, warmup_cosine    learning rate by step
"""

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from wsvad_jax.utils.errors import InputError


class StableAdamWState(NamedTuple):
    """Moments of `scale_by_stable_adamw`."""

    count: Array
    mu: Any
    nu: Any
    nu_max: Any


def scale_by_stable_adamw(
    b1: float = 0.9, b2: float = 0.999, eps: float = 1e-10
) -> optax.GradientTransformation:
    """Adam direction with AMSGrad, scaled down per tensor where the gradient jumps.

    With ν̂ the running maximum of the raw second moment and d = √ν̂ / √(1 − β2^t) + ε,
    the update is μ / d / (1 − β1^t) / max(1, RMS(gradient / d)). From Wortsman et al.
    (arXiv 2304.13013), as DSANet (arXiv 2511.10334) uses it.

    Two optax functions differ from the released runs. optax.amsgrad takes the maximum
    after bias correction. optax.clip_by_block_rms clips the update instead of scaling
    it by the gradient's size.
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
            # The RMS is that of this gradient, not of its moment: a jump shrinks the
            # step at once.
            rms = jnp.sqrt(jnp.mean(jnp.square(g / denominator)))
            return m / denominator / ((1 - b1**t) * jnp.maximum(rms, 1))

        new = jax.tree.map(direction, mu, nu_max, updates)
        return new, StableAdamWState(count, mu, nu, nu_max)

    return optax.GradientTransformation(init, update)


def stable_adamw(
    schedule: optax.Schedule, weight_decay: float = 1e-4
) -> optax.GradientTransformation:
    """StableAdamW with AMSGrad; update clipping doesn't scale the weight decay."""
    # In this order, the decay isn't scaled by the update clipping.
    return optax.chain(
        scale_by_stable_adamw(),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(schedule),
    )


def torch_adamw(
    schedule: optax.Schedule, weight_decay: float = 0.01
) -> optax.GradientTransformation:
    """AdamW with PyTorch's default decay, a hundred times that of optax."""
    return optax.adamw(schedule, weight_decay=weight_decay)


def adam_l2(
    schedule: optax.Schedule, weight_decay: float
) -> optax.GradientTransformation:
    """Adam with L2 penalty: weight_decay · parameter is added to the gradient."""
    # The decay comes first, so Adam's moments see it as part of the gradient.
    return optax.chain(
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_adam(),
        optax.scale_by_learning_rate(schedule),
    )


def adagrad_l2(
    schedule: optax.Schedule, weight_decay: float
) -> optax.GradientTransformation:
    """Adagrad with L2 penalty: weight_decay · kernel is added to kernels' gradients."""

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
    """Constant learning rate."""
    return optax.constant_schedule(lr)


def cosine_epochs(lr: float, epochs: int, steps_per_epoch: int) -> optax.Schedule:
    """Cosine decay from lr to 0 that changes once per epoch, as in the releases."""
    # PyTorch's schedulers step once per epoch in the releases. A decay of one step takes
    # the fraction epoch / epochs, see `warmup_cosine`.
    cosine = optax.cosine_decay_schedule(lr, 1)
    return lambda count: cosine(jnp.floor_divide(count, steps_per_epoch) / epochs)


def steps_epochs(
    lr: float, milestones: Sequence[int], factor: float, steps_per_epoch: int
) -> optax.Schedule:
    """Step decay: lr is multiplied by `factor` after each epoch of `milestones`."""
    bounds = {epoch * steps_per_epoch: factor for epoch in milestones}
    return optax.piecewise_constant_schedule(lr, bounds)


def warmup_cosine(
    lr: float, total: int, warmup: int, *, final: float = 0.1
) -> optax.Schedule:
    """Linear warm-up from 0 to lr, then a cosine decay to final · lr.

    The warm-up has `warmup` evenly spaced values, both ends included. The cosine takes
    total − warmup steps; the rate stays at final · lr after it.
    """
    # A run shorter than its warm-up still reaches the full rate.
    warmup = max(min(warmup, total - 1), 0)

    # The cosine takes the fraction of its steps, and the rise is a plain product. Both
    # round as in the recorded runs; optax's own steps and rise differ in the last bit.
    cosine = optax.cosine_decay_schedule(lr, 1, final)

    def rise(count):
        return lr * count / max(warmup - 1, 1)

    def fall(count):
        return cosine(count / max(total - warmup, 1))

    return optax.join_schedules([rise, fall], [warmup])


def learning_rate(
    config: Mapping[str, Any],
    *,
    epochs: int,
    steps_per_epoch: int,
    loader_batches_per_epoch: int,
) -> optax.Schedule:
    """Builds a recipe's learning-rate schedule.

    Args:
      config: `schedule` (constant, cosine_epochs, steps_epochs or warmup_cosine), `lr`
        and the keys of that schedule.
      epochs: number of epochs of the whole training.
      steps_per_epoch: optimiser steps per epoch.
      loader_batches_per_epoch: batches of all loaders per epoch. The release counts
        these for SG-NM's cosine, which therefore stops half-way with two loaders.
    """
    name, lr = config["schedule"], config["lr"]
    # A literal list: no lookup of a function by its name in a config.
    if name == "constant":
        return constant(lr)
    if name == "cosine_epochs":
        return cosine_epochs(lr, epochs, steps_per_epoch)
    if name == "steps_epochs":
        return steps_epochs(lr, config["milestones"], 0.1, steps_per_epoch)

    if name == "warmup_cosine":
        counted = (
            loader_batches_per_epoch
            if config["schedule_counts_loader_batches"]
            else steps_per_epoch
        )
        return warmup_cosine(
            lr, epochs * counted, config["warmup"], final=config["final"]
        )

    raise InputError(
        f"optim.schedule is {name!r}; expected constant, cosine_epochs, steps_epochs "
        "or warmup_cosine"
    )


# Names in recipes. The signatures agree, so recipes differ in values alone.
OPTIMISERS = {
    "adamw": torch_adamw,
    "stable_adamw": stable_adamw,
    "adam_l2": adam_l2,
    "adagrad_l2": adagrad_l2,
}


def build_optimiser(
    plan: Mapping[str, Any],
    *,
    epochs: int,
    steps_per_epoch: int,
    loader_batches_per_epoch: int,
) -> optax.GradientTransformation:
    """Builds the optimiser of a recipe, which may differ by module.

    Args:
      plan: `optim` maps "default", and any top-level module with a separate optimiser,
        to `name`, `lr`, `weight_decay` and the keys of `learning_rate`.
      epochs: number of epochs of the whole training.
      steps_per_epoch: optimiser steps per epoch.
      loader_batches_per_epoch: batches of all loaders per epoch, see `learning_rate`.
    """
    return _build_optimiser(
        json.dumps(plan["optim"]), epochs, steps_per_epoch, loader_batches_per_epoch
    )


@functools.lru_cache(maxsize=4)
def _build_optimiser(optim, epochs, steps_per_epoch, loader_batches_per_epoch):
    # Equal plans give one optimiser, so runs that differ by seed share their programs.
    # The groups differ in their schedules, but all count the same steps.
    groups = {}
    for module, config in json.loads(optim).items():
        if config["name"] not in OPTIMISERS:
            raise InputError(
                f"optim.{module}.name is {config['name']!r}; expected one of "
                f"{', '.join(OPTIMISERS)}"
            )

        schedule = learning_rate(
            config,
            epochs=epochs,
            steps_per_epoch=steps_per_epoch,
            loader_batches_per_epoch=loader_batches_per_epoch,
        )
        groups[module] = OPTIMISERS[config["name"]](schedule, config["weight_decay"])

    # A single optimiser needs no partition of the parameters.
    default = groups.pop("default")
    return by_module(groups, default) if groups else default


def by_module(
    groups: Mapping[str, optax.GradientTransformation],
    default: optax.GradientTransformation,
) -> optax.GradientTransformation:
    """Combines optimisers by top-level module, with `default` for all others.

    Modules of `groups` that are switched off in the model are skipped.
    """

    def labels(params):
        # A label per parameter. Labels of whole modules would do, but change the tree
        # of the optimiser's state, so checkpoints of older versions couldn't be read.
        return {
            name: jax.tree.map(
                lambda _, label=name if name in groups else "": label, subtree
            )
            for name, subtree in params.items()
        }

    return optax.multi_transform({"": default, **groups}, labels)
