"""How many microbatches a training step processes one after the other.

On a CPU, a step is fastest where the activations of a microbatch fit into the largest
cache. `config.data.microbatches=auto` chooses by that rule, `num_microbatches` alone
decides, and the losses and gradients are those of the whole batch up to rounding.
"""

import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np

from wsvad_jax.parallel import multihost
from wsvad_jax.utils.errors import InputError
from wsvad_jax.utils.progress import status

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from wsvad_jax.experiment.build import Experiment
    from wsvad_jax.models.spec import ModelSpec

AUTO = "auto"
CACHES = pathlib.Path("/sys/devices/system/cpu/cpu0/cache")  # of Linux
# Bytes, where the system doesn't tell, and at most: a virtual machine reports the whole
# cache of its host, of which it has a share.
CACHE_LIMIT = 32 * 2**20
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}
# Arrays [rows, length, width] in float32 that a block of a model has in use at a time.
ACTIVATIONS = 8
# Fewest snippets of a microbatch, so that a small run, as on the demo, is not split on a
# machine with a small cache and rounds alike everywhere.
MIN_SNIPPETS = 1024


def num_microbatches(
    config: Any,
    spec: "ModelSpec",
    batch_size: int,
    mesh: "Mesh",
    shape: tuple[int, int],
) -> int:
    """Returns the number of gradient-accumulation microbatches of a training step.

    Of several processes, all must call this, since the first one decides for all.

    Args:
      config: recipe; `config.data.microbatches` is a number or "auto".
      spec: spec of its model.
      batch_size: number of videos in a batch, over all devices.
      mesh: mesh of the devices.
      shape: (T, D), snippets of a video and width of the features.

    Raises:
      InputError: the batch isn't divisible by the recipe's number, or the model doesn't
        support microbatches.
    """
    microbatches = config.data.microbatches
    if microbatches == AUTO:
        # Accelerators are faster with large products, and have other caches.
        on_cpu = mesh.devices.flat[0].platform == "cpu"
        if spec.microbatch_term_weights is None or not on_cpu:
            return 1
        number = microbatches_for_cache(
            batch_size // mesh.size, mesh.size, shape, largest_cache()
        )
        # Processes with other caches would compile another program.
        return multihost.broadcast_from_process_zero(number)

    # Without term weights, microbatch means can't be combined into the full batch's.
    if microbatches > 1 and spec.microbatch_term_weights is None:
        raise InputError(
            f"config.data.microbatches is {microbatches}, but the objective of "
            f"{config.model_name} needs the whole batch at once; leave it at 1"
        )

    if microbatches < 1 or batch_size % (microbatches * mesh.size):
        raise InputError(
            f"config.data.microbatches is {microbatches}, which doesn't divide the "
            f"{batch_size} videos of a batch over the devices ({mesh.size}); choose a "
            f"divisor of {max(batch_size // mesh.size, 1)}, or auto"
        )

    return microbatches


def run_microbatches(
    experiment: "Experiment", batch_size: int, *, say: bool = False
) -> int:
    """Returns `num_microbatches` of a run's batches.

    Args:
      experiment: recipe, model and mesh.
      batch_size: number of videos in a batch, over all devices.
      say: whether a line says that several were chosen.

    Raises:
      InputError: as in `num_microbatches`.
    """
    config, shape = experiment.config, (experiment.T, experiment.width)
    number = num_microbatches(
        config, experiment.spec, batch_size, experiment.mesh, shape
    )

    chosen = number > 1 and config.data.microbatches == AUTO
    if say and chosen and multihost.is_process_zero():
        status(
            f"each batch of {batch_size} is processed in {number} microbatches "
            f"(config.data.microbatches={AUTO})"
        )
    return number


def required_microbatches(config: Any) -> int:
    """Returns what a batch must be divisible by, per device: "auto" fits any batch."""
    microbatches = config.data.microbatches
    return 1 if microbatches == AUTO else microbatches


def microbatches_for_cache(
    videos: int, devices: int, shape: tuple[int, int], cache: int
) -> int:
    """Returns the smallest power of two whose microbatches fit into a cache.

    It divides the batch, and leaves at least `MIN_SNIPPETS` snippets in a microbatch.

    Args:
      videos: number of videos in a batch, per device.
      devices: number of devices, which share the cache.
      shape: (T, D), snippets of a video and width of the features.
      cache: size of the cache in bytes.
    """
    T, D = shape
    bytes_per_snippet = ACTIVATIONS * D * np.dtype(np.float32).itemsize

    number, snippets = 1, videos * devices * T
    while (
        snippets * bytes_per_snippet > cache
        and videos % (2 * number) == 0
        and snippets // 2 >= MIN_SNIPPETS
    ):
        number, snippets = 2 * number, snippets // 2
    return number


def largest_cache(folder: pathlib.Path = CACHES) -> int:
    """Returns the size in bytes of a processor's largest cache, at most `CACHE_LIMIT`.

    It is `CACHE_LIMIT` where the system doesn't tell, as on macOS and Windows.

    Args:
      folder: folder of the caches, index0/size and so on.
    """
    sizes = []
    for path in folder.glob("index*/size"):
        try:
            text = path.read_text().strip()
            sizes.append(int(text.rstrip("KMG")) * UNITS.get(text[-1:], 1))
        except (OSError, ValueError):
            continue
    return min(max(sizes, default=0) or CACHE_LIMIT, CACHE_LIMIT)
