"""Loss, gradient accumulation, and the training step as compiled programs.

The random key of a step is fold_in(seed, step), so a checkpoint stores no key.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array

from wsvad_jax.models.cross_pseudo import weights_at
from wsvad_jax.models.spec import ModelSpec
from wsvad_jax.parallel.mesh import batch_sharding, fsdp_shardings, replicated_sharding
from wsvad_jax.training.state import LossFn, State, Step

MAX_STEPS_PER_CALL = 32  # most steps per call with the training split on the device


def make_loss(model: Any, loss_fn: LossFn, weights: dict[str, float]) -> Callable:
    """Returns the loss (params, batch_stats, batch, text, rngs, step) → loss, (terms, …).

    The second result holds the loss terms and the new `batch_stats`. `step` counts the
    steps taken before; None is a step after any warm-up of a term.
    """

    def loss(params, batch_stats, batch, text, rngs, step=None):
        outputs, changed = model.apply(
            {"params": params, "batch_stats": batch_stats},
            batch.features.astype(jnp.float32),  # stored as float16
            batch.length,
            text,
            train=True,
            rngs=rngs,
            mutable=["batch_stats"],
        )

        loss, terms = loss_fn(outputs, batch, weights_at(weights, step))
        return loss, (terms, changed.get("batch_stats", {}))

    return loss


def accumulate_gradients(
    model: Any, spec: ModelSpec, weights: dict[str, float], microbatches: int
) -> Callable[..., Any]:
    """Returns `value_and_grad` of the loss with gradient accumulation.

    The batch is split into `microbatches`, which are processed sequentially, so only
    the activations of one are in memory. The result is equal up to rounding. The
    model's spec must have `microbatch_term_weights`.
    """
    assert spec.loss_fn is not None and spec.microbatch_term_weights is not None
    loss_fn, microbatch_term_weights = spec.loss_fn, spec.microbatch_term_weights

    def gradient(params, batch_stats, batch, text, rngs, step=None):
        del rngs
        # The text encoder runs once per step, since the class texts don't depend on the
        # videos. Its VJP is applied once, to the summed gradient.
        class_features, text_vjp = jax.vjp(lambda p: model.encode_text(p, text), params)

        def microbatch_loss(params, class_features, microbatch):
            variables, x = {"params": params}, microbatch.features.astype(jnp.float32)
            outputs = model.apply(
                variables, x, microbatch.length, class_features, train=True
            )
            term_weights = microbatch_term_weights(model, microbatch, batch)
            own_weights = weights_at(weights, step)
            return loss_fn(outputs, microbatch, own_weights, term_weights)

        value_and_grad = jax.value_and_grad(microbatch_loss, (0, 1), has_aux=True)

        def accumulate(total, microbatch):
            values = value_and_grad(params, class_features, microbatch)
            return jax.tree.map(jnp.add, total, values), None

        # Strided split: each microbatch has normal and abnormal videos, and is spread
        # evenly over the devices.
        stacked = jax.tree.map(
            lambda x: jnp.moveaxis(x.reshape(-1, microbatches, *x.shape[1:]), 1, 0),
            batch,
        )

        # The sum starts at zeros of the shapes that one microbatch returns.
        first = jax.tree.map(lambda x: x[0], stacked)
        shapes = jax.eval_shape(value_and_grad, params, class_features, first)
        zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        ((loss, terms), (grads, text_grads)), _ = jax.lax.scan(
            accumulate, zero, stacked
        )

        grads = jax.tree.map(jnp.add, grads, *text_vjp(text_grads))
        return (loss, (terms, batch_stats)), grads

    return gradient


def make_train_step(
    model: Any,
    spec: ModelSpec,
    optimiser: optax.GradientTransformation,
    weights: dict[str, float],
    microbatches: int = 1,
) -> Step:
    """Returns the training step (state, batch, text, key) → (state, metrics).

    Metrics are the loss terms, `loss` and `grad_norm`.

    Args:
      model: linen module of wsvad_jax.models.
      spec: spec of the model.
      optimiser: optax transformation.
      weights: weight of each loss term.
      microbatches: number of gradient-accumulation microbatches.
    """
    assert spec.loss_fn is not None
    if microbatches == 1:
        loss = make_loss(model, spec.loss_fn, weights)
        gradient = jax.value_and_grad(loss, has_aux=True)
    else:
        gradient = accumulate_gradients(model, spec, weights, microbatches)

    def step(
        state: State, batch: Any, text: Any, key: Array
    ) -> tuple[State, dict[str, Array]]:
        # A function of seed and step alone, so a resumed run draws the same numbers.
        key = jax.random.fold_in(key, state.step)
        rngs = dict(zip(("dropout", "noise"), jax.random.split(key), strict=True))

        (loss, (terms, batch_stats)), grads = gradient(
            state.params, state.batch_stats, batch, text, rngs, state.step
        )

        updates, opt_state = optimiser.update(grads, state.opt_state, state.params)
        state = State(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=batch_stats,
            opt_state=opt_state,
        )
        return state, {**terms, "loss": loss, "grad_norm": optax.tree.norm(grads)}

    return step


@functools.lru_cache(maxsize=4)
def shared_train_step(
    model: Any,
    spec: ModelSpec,
    optimiser: optax.GradientTransformation,
    weights: tuple[tuple[str, Any], ...],
    microbatches: int,
) -> Step:
    """`make_train_step`, one per process for equal arguments, which are hashable.

    Runs of one recipe, such as its seeds, then share the compiled program.
    """
    return make_train_step(model, spec, optimiser, dict(weights), microbatches)


@functools.lru_cache(maxsize=4)
def compile_host_step(step: Step, mesh: Mesh) -> Step:
    """Compiles a step for batches that come from the host, split over the devices.

    The step donates its state. `text`, with the frozen text tower, is an argument and
    never a constant of the program. Metrics stay on the device.
    """
    replicated = replicated_sharding(mesh)
    return jax.jit(
        constrain_state_sharding(step, mesh),
        donate_argnums=0,
        in_shardings=(None, batch_sharding(mesh), replicated, replicated),
        out_shardings=(None, replicated),
    )


def constrain_state_sharding(step: Step, mesh: Mesh) -> Step:
    """Wraps a step so that the new state keeps the shardings of `fsdp_shardings`."""

    def sharded_step(state: State, *inputs: Any) -> tuple[State, dict[str, Array]]:
        state, metrics = step(state, *inputs)
        shardings = fsdp_shardings(state, mesh)
        return jax.lax.with_sharding_constraint(state, shardings), metrics

    return sharded_step


@functools.lru_cache(maxsize=4)
def compile_device_steps(
    step: Step, mesh: Mesh, *, seeds: bool = False
) -> Callable[..., Any]:
    """Compiles several steps as one program over a training split on the devices.

    Returns (state, packed_split, rows, n, text, key) → (state, metrics).
      packed_split: packed training split.
      rows: indices [MAX_STEPS_PER_CALL, B] into it, the samples of each step.
      n: number of steps to take. As an argument, it lets one program serve chunks of
        any length; the length changes no result.
      metrics: arrays [MAX_STEPS_PER_CALL], fetched once per call; 0 after n entries.
    With `seeds`, state, rows, key and metrics have a leading axis of seeds, which are
    trained side by side.
    """
    replicated = replicated_sharding(mesh)
    # Traced once, though it is called for the shapes of its metrics and for the loop.
    step = jax.jit(constrain_state_sharding(step, mesh))

    def steps(state, packed_split, rows, n, text, key):
        # Batches are gathered on the device, so the host sends indices only.
        def gather_batch(i):
            batch = jax.tree.map(lambda x: jnp.take(x, rows[i], axis=0), packed_split)
            return jax.lax.with_sharding_constraint(batch, batch_sharding(mesh))

        def body(i, carry):
            state, table = carry
            state, metrics = step(state, gather_batch(i), text, key)
            return state, jax.tree.map(
                lambda values, x: values.at[i].set(x), table, metrics
            )

        _, shapes = jax.eval_shape(step, state, gather_batch(0), text, key)
        table = jax.tree.map(
            lambda x: jnp.zeros((MAX_STEPS_PER_CALL, *x.shape), x.dtype), shapes
        )
        return jax.lax.fori_loop(0, n, body, (state, table))

    return jax.jit(
        jax.vmap(steps, (0, None, 0, None, None, 0)) if seeds else steps,
        donate_argnums=0,
        in_shardings=(None, *(replicated,) * 5),
        out_shardings=(None, replicated),
    )


def count_entries(params: Any) -> int:
    """Returns the number of entries in all arrays of a tree."""
    return sum(int(np.prod(x.shape)) for x in jax.tree.leaves(params))
