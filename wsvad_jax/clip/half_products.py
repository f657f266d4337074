"""Matrix products in half precision, in the forms that XLA's CPU backend has fast.

In float32, they are JAX's own. In half precision, two forms are several times faster on
CPUs with units for it:
- JAX 0.10 has fast programs only for products that return float32, so the result is
  rounded afterwards. Later versions return half precision, as accelerators do.
- The gradient of a kernel is xᵀg as it is. JAX's own form, gᵀx transposed, has no fast
  program.
Either way, a product is summed in float32 and rounded once.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

# The first version whose CPU backend returns half precision from a fast program.
FIRST_DIRECT = (0, 11)
FORWARD = "...d,de->...e"


def product(
    x: Float[Array, "*B D"], kernel: Float[Array | np.ndarray, "D E"]
) -> Float[Array, "*B E"]:
    """Returns x · kernel, in the dtype of both."""
    if x.dtype.itemsize >= 4:
        return x @ kernel
    if x.dtype != kernel.dtype:
        raise TypeError(f"product of {x.dtype} and {kernel.dtype}; expected one dtype")
    return _half_product(x, kernel)


def einsum_f32(equation: str, *arrays: Array) -> Array:
    """Einsum of half-precision arrays that accumulates and returns float32."""
    # Half-precision products are exact in float32; only their sum needs it.
    dtype = jnp.promote_types(arrays[0].dtype, jnp.float32)
    return jnp.einsum(equation, *arrays, preferred_element_type=dtype)


@jax.custom_vjp
def _half_product(x, kernel):
    return _rounded(FORWARD, x, kernel)


def _half_product_forward(x, kernel):
    # Frozen towers have kernels, and input features have rows, without a gradient.
    rows = x.value if kernel.perturbed else None
    columns = kernel.value if x.perturbed else None
    return _rounded(FORWARD, x.value, kernel.value), (rows, columns)


def _half_product_backward(saved, gradient):
    x, kernel = saved
    if isinstance(gradient, jax.custom_derivatives.SymbolicZero):
        return None, None  # of a result that nothing depends on

    # einsum sums over named axes alone, so the rows' axes have names.
    names = "bcfgh"[: gradient.ndim - 1]
    to_rows = f"{names}e,de->{names}d"
    to_kernel = f"{names}d,{names}e->de"
    return (
        None if kernel is None else _rounded(to_rows, gradient, kernel),
        None if x is None else _rounded(to_kernel, x, gradient),
    )


_half_product.defvjp(_half_product_forward, _half_product_backward, symbolic_zeros=True)


def _rounded(equation, x, y):
    """An einsum of half-precision arrays, in their dtype."""
    # Decided while a program is traced, so compiled code has one form.
    direct = jax.default_backend() != "cpu" or jax.__version_info__ >= FIRST_DIRECT
    dtype = None if direct else jnp.float32
    return jnp.einsum(equation, x, y, preferred_element_type=dtype).astype(x.dtype)


def _dense_product(x, kernel, dimension_numbers, **options):
    """`product` as Flax's Dense calls it."""
    if x.dtype.itemsize >= 4:
        return jax.lax.dot_general(x, kernel, dimension_numbers, **options)
    return _half_product(x, kernel)


# Flax's dense layer, with `product`.
Dense = functools.partial(nn.Dense, dot_general=_dense_product)
