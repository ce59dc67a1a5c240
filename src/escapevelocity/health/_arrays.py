"""Bring whatever array we are handed into the form a measure needs."""

from typing import Any

import numpy as np
from array_api_compat import array_namespace, is_torch_array

from escapevelocity.errors import UserError

quiet = np.errstate(over="ignore", invalid="ignore", divide="ignore")
"""Decorator: a NaN or Inf is a finding here, reported in the result and not as a RuntimeWarning of NumPy."""


def on_host(array: Any) -> Any:
    """Return a torch tensor as NumPy array, whatever its device, precision or gradient; others as they are."""
    if not is_torch_array(array):
        return array
    array = array.detach().cpu()
    # NumPy has no bfloat16.
    return (array.float() if array.dtype.is_floating_point and array.dtype.itemsize < 4 else array).numpy()


def as_numpy(array: Any, field: str, min_ndim: int) -> np.ndarray:
    """Return any array (numpy, jax, torch on any device, half precision, with gradient) as NumPy floats.

    float32 and float64 come back as they are, without a copy where the source allows it; half precision and
    integers are raised to a float type that holds them exactly.

    Raises:
        UserError: if it does not hold real numbers or has fewer than `min_ndim` axes.
    """
    try:
        numbers = np.asarray(on_host(array))
        if numbers.dtype.kind == "c":
            raise TypeError("complex")
        if numbers.dtype not in (np.float32, np.float64):
            numbers = numbers.astype(np.float64)
    except (TypeError, ValueError):
        raise UserError(f"{field}: must be an array of real numbers, got {type(array).__name__}") from None
    _require_ndim(numbers, field, min_ndim)
    return numbers


def floating(array: Any, field: str, min_ndim: int) -> tuple[Any, Any]:
    """Return an array in at least single precision together with its Array API namespace.

    Half precision is raised to float32: bfloat16 could not even count beyond 256 units.

    Raises:
        UserError: if it is no numpy, jax or torch array of real floating numbers, or has too few axes.
    """
    try:
        xp = array_namespace(array)
    except TypeError:
        raise UserError(f"{field}: must be a numpy, jax or torch array, got {type(array).__name__}") from None
    if not xp.isdtype(array.dtype, "real floating"):
        raise UserError(f"{field} has dtype {array.dtype}: must be a real floating type, convert it first")
    _require_ndim(array, field, min_ndim)
    if array.dtype.itemsize < 4:
        array = xp.astype(array, xp.float32)
    return array, xp


def scaled_to_one(x: Any, xp: Any) -> tuple[Any, Any]:
    """Return x (..., N, D) divided by its largest finite |entry|, and that scale (..., 1, 1), 1 if x is 0.

    Squares of the result stay in range however huge or tiny the entries were.
    """
    largest = xp.max(xp.abs(x), axis=(-2, -1), keepdims=True)
    scale = xp.where(xp.isfinite(largest) & (largest > 0), largest, xp.ones_like(largest))
    return x / scale, scale


def all_nan(x: Any, axis: int | tuple[int, ...], xp: Any) -> Any:
    """Return NaN in the shape that a reduction of x over `axis` would have."""
    return xp.full_like(xp.sum(x, axis=axis), xp.nan)


def squared_row_norms(x: Any, xp: Any) -> Any:
    """Return Σ_d x_nd² (..., N) without a temporary of the size of x."""
    return xp.vecdot(x, x)


_SHAPES = {1: "(..., N)", 2: "(..., N, D)"}


def _require_ndim(array: Any, field: str, min_ndim: int) -> None:
    if array.ndim < min_ndim:
        raise UserError(f"{field} has shape {tuple(array.shape)}: must be {_SHAPES[min_ndim]}")
