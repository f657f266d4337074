"""The precision of a model's activations and matrix products: `config.model.dtype`.

`resolve_dtype` alone decides what `auto` means. Parameters, softmaxes, norms, losses and
scores are float32 in any case.
"""

from typing import Any

AUTO = "auto"
DTYPES = (AUTO, "float32", "bfloat16")
# NVIDIA's first architecture that multiplies bfloat16, Ampere.
FIRST_COMPUTE_CAPABILITY = 8


def resolve_dtype(dtype: str, device: Any = None) -> str:
    """Returns "float32" or "bfloat16", what a recipe's `dtype` means on a device.

    `auto` is bfloat16 on TPUs and on NVIDIA's GPUs with such units, else float32. No
    CPU was measured to train faster in bfloat16.

    Args:
      dtype: one of `DTYPES`.
      device: a JAX device; None for the first one.
    """
    if dtype != AUTO:
        return dtype

    import jax

    device = device or jax.devices()[0]
    if device.platform == "tpu":
        return "bfloat16"

    # A string like "9.0"; those of AMD's GPUs are names.
    capability = str(getattr(device, "compute_capability", "")).partition(".")[0]
    fast = capability.isdigit() and int(capability) >= FIRST_COMPUTE_CAPABILITY
    return "bfloat16" if device.platform == "gpu" and fast else "float32"
