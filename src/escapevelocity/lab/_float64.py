"""The lab computes in float64, whatever the process around it does; no global flag is touched."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np

from escapevelocity.errors import UserError

P = ParamSpec("P")
R = TypeVar("R")


def in_float64(function: Callable[P, R]) -> Callable[P, R]:
    """Run `function` with JAX's float64 on and give its arrays back as NumPy.

    NumPy, because a float64 JAX array that leaves the context would turn into float32 at its next operation.
    """

    @wraps(function)
    def entry_point(*args: P.args, **kwargs: P.kwargs) -> R:
        with jax.enable_x64(True):
            return jax.tree.map(_to_numpy, function(*args, **kwargs))

    return entry_point


def float64_array(values: Any, field: str, ndim: int | tuple[int, ...]) -> np.ndarray:
    """Return `values` as a finite float64 NumPy array with (one of) `ndim` axes, or raise `UserError`."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise UserError(f"{field}: must be an array of real numbers, got {type(values).__name__}") from None
    accepted = (ndim,) if isinstance(ndim, int) else ndim
    if array.ndim not in accepted or array.size == 0:
        axes = " or ".join(map(str, accepted))
        raise UserError(f"{field} has shape {array.shape}: must be a non-empty array with {axes} axes")
    if not np.isfinite(array).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise UserError(f"{field}{list(where)} = {array[where]}: must be finite")
    return array


def _to_numpy(leaf: Any) -> Any:
    return np.asarray(leaf) if isinstance(leaf, jax.Array) else leaf
