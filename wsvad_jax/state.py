"""Training state, the device mesh, and the compiled training steps.

Randomness is fold_in(seed, step), so that a resumed run needs the step alone.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int

from wsvad_jax.errors import InputError

AXES = ("data", "fsdp")  # of the mesh
SHARDED = 1024  # entries of an array that is worth sharding, at least
CHUNK = 32  # steps a call, at most, where the split lies on the device
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


def make_mesh(sizes: Mapping[str, int] | None = None) -> Mesh:
    """Two axes over all devices, from one CPU to a TPU slice: `data` and `fsdp`.

    Both split the batch; `fsdp` splits parameters and optimiser, too.

    Args:
      sizes: devices along each axis, `config.mesh`; 0 or nothing is what is left over,
        1 for `fsdp`.

    Raises:
      InputError: they are not as many devices as there are.
    """
    devices, sizes = jax.device_count(), sizes or {}
    fsdp = sizes.get("fsdp", 0) or 1
    data = sizes.get("data", 0) or devices // fsdp
    if data * fsdp != devices:
        raise InputError(
            f"config.mesh is {max(data, 1)} x {fsdp} (data x fsdp) devices, but there "
            f"are {devices}; leave data at 0 and choose an fsdp that divides {devices}"
        )
    return jax.make_mesh((data, fsdp), AXES, axis_types=(AxisType.Auto,) * 2)


def check_batch(batch_size: int, mesh: Mesh, key: str) -> None:
    """Raises InputError unless the devices divide the batch of config key `key`."""
    if batch_size % mesh.size:
        raise InputError(
            f"{key} is {batch_size}, which {mesh.size} devices don't divide; choose a "
            f"multiple of {mesh.size}"
        )


def parts_of(config: Any, paper: Any, batch_size: int, mesh: Mesh) -> int:
    """Returns `config.data.parts`, in which a batch of training goes through.

    Raises:
      InputError: the batch can't be divided so, or the paper's objective can't.
    """
    parts = config.data.get("parts", 1)
    if parts > 1 and not hasattr(paper, "shares"):
        raise InputError(
            f"config.data.parts is {parts}, but the objective of {config.model_name} "
            "needs the whole batch at once; leave it at 1"
        )
    if parts < 1 or batch_size % (parts * mesh.size):
        raise InputError(
            f"config.data.parts is {parts}, which doesn't divide the {batch_size} videos "
            f"of a batch over the devices ({mesh.size}); choose a divisor of "
            f"{max(batch_size // mesh.size, 1)}"
        )
    return parts


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
    """The first axis, the batch, is split over the devices."""
    return NamedSharding(mesh, PartitionSpec(AXES))


def shardings(tree: Any, mesh: Mesh) -> Any:
    """Where the arrays of a state lie: over `fsdp`, each split along its longest axis.

    Arrays that are small, or have no axis that `fsdp` divides, are on every device.
    """

    def place(x: Any) -> NamedSharding:
        n = mesh.shape["fsdp"]
        axes = [i for i, size in enumerate(x.shape) if size % n == 0]
        if n == 1 or not axes or np.prod(x.shape) < SHARDED:
            return replicated(mesh)
        axis = max(axes, key=lambda i: x.shape[i])
        return NamedSharding(mesh, PartitionSpec(*[None] * axis, "fsdp"))

    return jax.tree.map(place, tree)


def make_init(
    model: Any,
    optimiser: optax.GradientTransformation,
    example: tuple[Any, Any, Any],
    mesh: Mesh,
) -> functools.partial[State]:
    """Returns the compiled function from a key to initial parameters and optimiser.

    Args:
      model: a linen module of wsvad_jax.models.
      optimiser: an optax transformation.
      example: (features, length, text) of a batch; shapes and types are used.
      mesh: of the devices that will hold the state.
    """

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

    shapes = jax.eval_shape(init, example, jax.random.key(0))
    program = jax.jit(init, out_shardings=shardings(shapes, mesh))
    return functools.partial(program, example)


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


def in_parts(
    model: Any, paper: Any, weights: dict[str, float], parts: int
) -> Callable[..., Any]:
    """Returns the function that `value_and_grad` makes of `objective`, up to rounding.

    A batch goes through in `parts`, one after the other, so that the activations of one
    part alone are held. Class texts are encoded once. For papers that have `shares`:
    their videos don't see each other, and their models draw nothing at random.
    """

    def gradient(params, batch_stats, batch, text, rngs):
        del rngs
        features, pull = jax.vjp(lambda p: model.encode_text(p, text), params)

        def contribution(params, features, part):
            variables, x = {"params": params}, part.features.astype(jnp.float32)
            outputs = model.apply(variables, x, part.length, features, train=True)
            share = paper.shares(model, part, batch)
            return paper.loss_fn(outputs, part, weights, share)

        of_part = jax.value_and_grad(contribution, (0, 1), has_aux=True)

        def add(total, part):
            found = of_part(params, features, part)
            return jax.tree.map(jnp.add, total, found), None

        # Every n-th video, so that each part has normal and abnormal ones, and each
        # device its share of them.
        pieces = jax.tree.map(
            lambda x: jnp.moveaxis(x.reshape(-1, parts, *x.shape[1:]), 1, 0), batch
        )
        first = jax.tree.map(lambda x: x[0], pieces)
        shapes = jax.eval_shape(of_part, params, features, first)
        zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        ((loss, terms), (grads, of_text)), _ = jax.lax.scan(add, zero, pieces)
        grads = jax.tree.map(jnp.add, grads, *pull(of_text))
        return (loss, (terms, batch_stats)), grads

    return gradient


def make_step(
    model: Any,
    paper: Any,
    optimiser: optax.GradientTransformation,
    weights: dict[str, float],
    parts: int = 1,
) -> Step:
    """Returns the training step (state, batch, text, key) → (state, metrics).

    Metrics are the loss terms, `loss` and `grad_norm`.

    Args:
      model: a linen module of wsvad_jax.models.
      paper: the module that it comes from.
      optimiser: an optax transformation.
      weights: of the loss terms.
      parts: in which a batch goes through, `config.data.parts`.
    """
    gradient = in_parts(model, paper, weights, parts)
    if parts == 1:
        loss = objective(model, paper.loss_fn, weights)
        gradient = jax.value_and_grad(loss, has_aux=True)

    def step(
        state: State, batch: Any, text: Any, key: Array
    ) -> tuple[State, dict[str, Array]]:
        key = jax.random.fold_in(key, state.step)
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

    return step


def compile_step(step: Step, mesh: Mesh) -> Step:
    """Compiles a step whose batch comes from the host, split over the devices.

    The state is donated; `text`, with the frozen text tower, is an argument and never a
    constant of the program. Metrics stay on the device.
    """
    whole = replicated(mesh)
    return jax.jit(
        placed(step, mesh),
        donate_argnums=0,
        in_shardings=(None, split(mesh), whole, whole),
        out_shardings=(None, whole),
    )


def placed(step: Step, mesh: Mesh) -> Step:
    """Returns `step` with the new state where `shardings` has it."""

    def one(state: State, *inputs: Any) -> tuple[State, dict[str, Array]]:
        state, metrics = step(state, *inputs)
        where = shardings(state, mesh)
        return jax.lax.with_sharding_constraint(state, where), metrics

    return one


def compile_steps(step: Step, mesh: Mesh, *, seeds: bool = False) -> Callable[..., Any]:
    """Compiles up to CHUNK steps into one program over a split that lies on the devices.

    Returns (state, resident, rows, n, text, key) → (state, metrics): `rows` [CHUNK, B]
    names each step's samples in `resident`, of which n steps are taken, and metrics are
    [CHUNK], valid up to n. As n is an argument, one program serves chunks of any
    length, and their length changes no number. With `seeds`, state, rows, key and
    metrics have a further leading axis, of seeds that are trained side by side.
    """
    whole, step = replicated(mesh), placed(step, mesh)

    def steps(state, resident, rows, n, text, key):
        def batch(i):
            taken = jax.tree.map(lambda x: jnp.take(x, rows[i], axis=0), resident)
            return jax.lax.with_sharding_constraint(taken, split(mesh))

        def one(i, carry):
            state, kept = carry
            state, metrics = step(state, batch(i), text, key)
            return state, jax.tree.map(lambda all, x: all.at[i].set(x), kept, metrics)

        _, shapes = jax.eval_shape(step, state, batch(0), text, key)
        kept = jax.tree.map(lambda x: jnp.zeros((CHUNK, *x.shape), x.dtype), shapes)
        return jax.lax.fori_loop(0, n, one, (state, kept))

    return jax.jit(
        jax.vmap(steps, (0, None, 0, None, None, 0)) if seeds else steps,
        donate_argnums=0,
        in_shardings=(None, whole, whole, whole, whole, whole),
        out_shardings=(None, whole),
    )


def count(params: Any) -> int:
    """Returns the number of entries of all arrays."""
    return sum(int(np.prod(x.shape)) for x in jax.tree.leaves(params))
