"""Training state, the device mesh, and the compiled training step.

Randomness is fold_in(seed, step), so that a resumed run needs the step alone.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int

from wsvad_jax.errors import InputError

LossFn = Callable[..., tuple[Array, dict[str, Array]]]
Step = Callable[..., tuple["State", dict[str, Array]]]


@struct.dataclass
class State:
    """Everything that training changes."""

    # Any, since JAX puts shardings and shapes in the places of a tree's arrays.
    step: Int[Array, ""] | Any
    params: Any
    batch_stats: Any
    opt_state: Any


def make_mesh() -> Mesh:
    """One axis, `data`, over all devices: from one CPU to a TPU slice."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def check_batch(batch_size: int, mesh: Mesh, key: str) -> None:
    """Raises InputError unless the devices divide the batch of config key `key`."""
    if batch_size % mesh.size:
        raise InputError(
            f"{key} is {batch_size}, which {mesh.size} devices don't divide; choose a "
            f"multiple of {mesh.size}"
        )


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
    """The first axis, the batch, is split over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def init_state(
    model: Any,
    optimiser: optax.GradientTransformation,
    example: tuple[Any, Any, Any],
    seed: int,
    mesh: Mesh,
) -> State:
    """Initialises parameters and optimiser on the devices that will hold them.

    Args:
      model: a linen module of wsvad_jax.models.
      optimiser: an optax transformation.
      example: (features, length, text) of a batch; shapes and types are used.
      seed: of the initial weights.
      mesh: of the devices.
    """

    def init(example):
        keys = jax.random.split(jax.random.key(seed), 3)
        rngs = dict(zip(("params", "dropout", "noise"), keys, strict=True))
        variables = model.init(rngs, *example, train=True)
        params = variables["params"]
        return State(
            step=jnp.zeros((), jnp.int32),
            params=params,
            batch_stats=variables.get("batch_stats", {}),
            opt_state=optimiser.init(params),
        )

    return jax.jit(init, out_shardings=replicated(mesh))(example)


def objective(model: Any, loss_fn: LossFn, weights: dict[str, float]) -> Callable:
    """Returns (params, batch_stats, batch, text, rngs) → loss, (terms, batch_stats)."""

    def loss(params, batch_stats, batch, text, rngs):
        outputs, changed = model.apply(
            {"params": params, "batch_stats": batch_stats},
            batch.features.astype(jnp.float32),
            batch.length,
            text,
            train=True,
            rngs=rngs,
            mutable=["batch_stats"],
        )
        loss, terms = loss_fn(outputs, batch, weights)
        return loss, (terms, changed.get("batch_stats", {}))

    return loss


def make_step(
    model: Any,
    loss_fn: LossFn,
    optimiser: optax.GradientTransformation,
    weights: dict[str, float],
    seed: int,
    mesh: Mesh,
    to_batch: Callable[[Any], Any] | None = None,
) -> Step:
    """Returns the compiled step (state, inputs, text) → (state, metrics).

    The state is donated; `text`, with the frozen text tower, is an argument and never a
    constant of the program. `to_batch` turns the inputs into a batch inside the program
    (rows of a split that lies on the device). Metrics are the loss terms, `loss` and
    `grad_norm`, still on the device.
    """

    gradient = jax.value_and_grad(objective(model, loss_fn, weights), has_aux=True)

    def step(state: State, inputs: Any, text: Any) -> tuple[State, dict[str, Array]]:
        batch = to_batch(inputs) if to_batch else inputs
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        rngs = dict(zip(("dropout", "noise"), jax.random.split(key), strict=True))
        (loss, (terms, batch_stats)), grads = gradient(
            state.params, state.batch_stats, batch, text, rngs
        )
        updates, opt_state = optimiser.update(grads, state.opt_state, state.params)
        state = State(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=batch_stats,
            opt_state=opt_state,
        )
        return state, {**terms, "loss": loss, "grad_norm": optax.tree.norm(grads)}

    batch_sharding = split(mesh)
    # Where a whole split lies on the devices, only the rows of it are divided.
    inputs_sharding = (replicated(mesh), batch_sharding) if to_batch else batch_sharding
    return jax.jit(
        step,
        donate_argnums=0,
        in_shardings=(replicated(mesh), inputs_sharding, replicated(mesh)),
        out_shardings=replicated(mesh),
    )


def count(params: Any) -> int:
    """Returns the number of entries of all arrays."""
    return sum(int(np.prod(x.shape)) for x in jax.tree.leaves(params))
