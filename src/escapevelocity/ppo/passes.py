"""Large batches in several passes: what convolutions compute on the way takes 170 KB per image and network."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

LARGEST = 256
"""Samples in a pass."""


def in_passes(function: Callable[[Array], Any], samples: int) -> Any:
    """Call `function` on the indices of all samples, at most 256 at once, and put its answers together.

    Args:
        function: indices (size,) int32 -> a pytree of arrays with these samples as first axis; it is traced.
        samples: how many there are.
    """
    size = max(divisor for divisor in range(1, LARGEST + 1) if samples % divisor == 0)
    parts = jax.lax.map(function, jnp.arange(samples, dtype=jnp.int32).reshape(-1, size))
    return jax.tree.map(lambda x: x.reshape(samples, *x.shape[2:]), parts)
