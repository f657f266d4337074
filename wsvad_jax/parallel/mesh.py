"""The device mesh, and the shardings of batches and states over it."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from wsvad_jax.utils.errors import InputError

AXES = ("data", "fsdp")  # axes of the device mesh


MIN_SHARDED_SIZE = 1024  # fewest entries of a sharded array


def make_mesh(sizes: Mapping[str, int | None] | None = None) -> Mesh:
    """Builds the mesh over all devices, with the axes `data` and `fsdp`.

    Both axes split the batch; `fsdp` splits parameters and optimiser state as well.

    Args:
      sizes: number of devices along each axis, `config.mesh`. None or a missing key means
        1 for `fsdp` and all remaining devices for `data`.

    Raises:
      InputError: the product of the sizes isn't the number of devices.
    """
    # A size of None is inferred, so a recipe without mesh runs on any machine.
    devices, sizes = jax.device_count(), sizes or {}
    fsdp = sizes.get("fsdp") or 1
    data = sizes.get("data") or devices // fsdp
    if data * fsdp != devices:
        raise InputError(
            f"config.mesh is {max(data, 1)} x {fsdp} (data x fsdp) devices, but there "
            f"are {devices}; leave data at None and choose an fsdp that divides {devices}"
        )
    return jax.make_mesh((data, fsdp), AXES, axis_types=(AxisType.Auto,) * 2)


def check_batch(batch_size: int, mesh: Mesh, key: str) -> None:
    """Raises InputError unless the batch is a multiple of the number of devices.

    Args:
      batch_size: number of videos or windows.
      mesh: mesh of the devices.
      key: config key of the batch size, for the message.
    """
    if batch_size % mesh.size:
        raise InputError(
            f"{key} is {batch_size}, which {mesh.size} devices don't divide; choose a "
            f"multiple of {mesh.size}"
        )


def replicated_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of an array that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of a batch: its first axis is split over the devices."""
    return NamedSharding(mesh, PartitionSpec(AXES))


def fsdp_shardings(tree: Any, mesh: Mesh) -> Any:
    """Returns the shardings of a state's arrays: longest axis split over `fsdp`.

    Arrays that are small, or have no axis divisible by `fsdp`, are on every device.
    """

    def sharding_of(x: Any) -> NamedSharding:
        # Small arrays aren't worth the communication.
        n = mesh.shape["fsdp"]
        axes = [i for i, size in enumerate(x.shape) if size % n == 0]

        if n == 1 or not axes or np.prod(x.shape) < MIN_SHARDED_SIZE:
            return replicated_sharding(mesh)

        axis = max(axes, key=lambda i: x.shape[i])
        return NamedSharding(mesh, PartitionSpec(*[None] * axis, "fsdp"))

    return jax.tree.map(sharding_of, tree)
