"""The precision of activations and matrix products, such as `config.model.dtype`.

`resolve_dtype` alone decides what `auto` means. Parameters, softmaxes, norms, losses and
scores are float32 in any case.
"""

import pathlib
from typing import Any

from wsvad_jax.utils.errors import InputError

AUTO = "auto"
PRECISIONS = ("float32", "bfloat16")
DTYPES = (AUTO, *PRECISIONS)
# NVIDIA's first architecture that multiplies bfloat16, Ampere.
FIRST_COMPUTE_CAPABILITY = 8
# Linux lists a CPU's instructions there. Of those for bfloat16, Intel's matrix units made
# training faster; AVX-512's alone didn't.
CPU_INFO = pathlib.Path("/proc/cpuinfo")
CPU_UNITS = "amx_bf16"


def resolve_dtype(dtype: str, device: Any = None) -> str:
    """Returns "float32" or "bfloat16", what a recipe's `dtype` means on a device.

    `auto` is bfloat16 on TPUs, and on NVIDIA's GPUs and CPUs with matrix units for it,
    else float32. It is float32 on the CPUs of several processes, which may differ.

    Args:
      dtype: one of `DTYPES`.
      device: a JAX device; None for the first one.

    Raises:
      InputError: another value.
    """
    if dtype not in DTYPES:
        raise InputError(f"dtype must be one of {', '.join(DTYPES)}, found {dtype!r}")
    if dtype != AUTO:
        return dtype

    import jax

    device = device or jax.devices()[0]
    if device.platform == "cpu":
        fast = jax.process_count() == 1 and CPU_UNITS in cpu_instructions()
    elif device.platform == "gpu":
        # A string like "9.0"; those of AMD's GPUs are names.
        capability = str(getattr(device, "compute_capability", "")).partition(".")[0]
        fast = capability.isdigit() and int(capability) >= FIRST_COMPUTE_CAPABILITY
    else:
        fast = device.platform == "tpu"
    return "bfloat16" if fast else "float32"


def in_float32(model: Any) -> Any:
    """Returns a Flax module that computes in float32 throughout.

    Exported programs do: they run on any machine, and ONNX Runtime has no products of
    bfloat16 on CPUs.
    """
    return model.clone(dtype="float32") if hasattr(model, "dtype") else model


def cpu_instructions() -> frozenset[str]:
    """Returns Linux's names of this CPU's instructions; empty on other systems."""
    try:
        lines = CPU_INFO.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(flags.partition(":")[2].split())
