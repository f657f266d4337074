"""How many pictures an image tower encodes at once, where the user doesn't say."""

import os

import jax

from wsvad_jax.clip.towers import VisionConfig

# Accelerators need large batches; on a CPU they only add padding to the last one.
CPU_BATCH_SIZE, ACCELERATOR_BATCH_SIZE = 8, 64
# On few cores, large towers are faster with few pictures, whose activations fit the
# caches better (docs/performance.md).
LARGE_ACTIVATION = 1 << 20  # bytes of a picture's widest activation, in float32
PICTURES_PER_CORE = 2


def default_batch_size(config: VisionConfig) -> int:
    """Returns the pictures per call of a tower: 64, and 8 or fewer on a CPU.

    The number changes features by rounding alone.
    """
    if jax.default_backend() != "cpu":
        return ACCELERATOR_BATCH_SIZE

    tokens = (config.image_size // config.patch_size) ** 2 + 1
    if 4 * tokens * config.intermediate_size < LARGE_ACTIVATION:
        return CPU_BATCH_SIZE
    return min(PICTURES_PER_CORE * max(os.cpu_count() or 1, 2), CPU_BATCH_SIZE)
