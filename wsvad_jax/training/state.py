"""The training state: step, parameters, batch statistics and optimiser state."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.sharding import Mesh
from jaxtyping import Array, Int

from wsvad_jax.parallel.mesh import fsdp_shardings

LossFn = Callable[..., tuple[Array, dict[str, Array]]]


Step = Callable[..., tuple["State", dict[str, Array]]]


@struct.dataclass
class State:
    """Training state: everything that a step changes."""

    # Any, since JAX also builds this tree from shardings and shapes.
    step: Int[Array, ""] | Any
    params: Any
    batch_stats: Any
    opt_state: Any


def make_init(
    model: Any,
    optimiser: optax.GradientTransformation,
    example: tuple[Any, Any, Any],
    mesh: Mesh,
) -> functools.partial[State]:
    """Returns the compiled function that maps a random key to the initial state.

    Args:
      model: linen module of wsvad_jax.models.
      optimiser: optax transformation.
      example: (features, length, text) of a batch, for its shapes and dtypes.
      mesh: mesh of the devices that will hold the state.
    """

    # The program is one per process for examples of the same shapes and types.
    leaves, tree = jax.tree.flatten(example)
    shapes = tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in leaves)
    return functools.partial(
        _compile_init(model, optimiser, tree, shapes, mesh), example
    )


@functools.lru_cache(maxsize=4)
def _compile_init(model, optimiser, tree, shapes, mesh):
    def init(example, key):
        keys = jax.random.split(key, 3)
        rngs = dict(zip(("params", "dropout", "noise"), keys, strict=True))
        variables = model.init(rngs, *example, train=True)

        params = variables["params"]
        return State(
            step=jnp.zeros((), jnp.int32),
            params=params,
            batch_stats=variables.get("batch_stats", {}),
            opt_state=optimiser.init(params),
        )

    # Initialised in place: no device ever holds the whole of a sharded state.
    state = jax.eval_shape(init, jax.tree.unflatten(tree, shapes), jax.random.key(0))
    return jax.jit(init, out_shardings=fsdp_shardings(state, mesh))
