"""Many starts advance in blocks: a block's numbers stay in the nearest cache, and each block ends by itself."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array

R = TypeVar("R")

BLOCK = 128
"""Starts in a block, at most. Few enough for the cache and for XLA's own loops: reductions of more than some
4,000 numbers are handed to a library that needs up to ten times as long (XLA of jaxlib 0.10 on a CPU)."""

COMPILER_OPTIONS = {"xla_cpu_prefer_vector_width": 512}
"""XLA prefers half vectors on CPUs with AVX-512, which takes these loops almost twice as long."""


def over_blocks(run: Callable[[Any, Array], R], state: Any, key: Array) -> R:
    """Return `run(state, key)`, computed block by block, each with a key of its own if there are several.

    Args:
        run: traceable; what it does with one start must not depend on the others.
        state: arrays with the starts on their last axis, as in the result.
        key: JAX PRNG key.
    """
    starts = jax.tree.leaves(state)[0].shape[-1]
    count = -(-starts // BLOCK)
    if count == 1 or jax.default_backend() != "cpu":  # An accelerator wants all starts at once.
        return run(state, key)
    blocks = jax.tree.map(lambda array: _split(array, count), state)
    results = jax.lax.map(lambda block: run(*block), (blocks, jax.random.split(key, count)))
    return jax.tree.map(lambda array: _joined(array, starts), results)


def _split(array: Array, count: int) -> Array:
    """(..., B) as blocks of one size, (count, ..., size), the last one filled up with the last start."""
    size = -(-array.shape[-1] // count)
    if count > 1:  # whole vectors: of 127 starts the last 7 would be computed one by one
        size = -(-size // 8) * 8
    missing = count * size - array.shape[-1]
    filled = jnp.concatenate([array, jnp.repeat(array[..., -1:], missing, axis=-1)], axis=-1)
    return jnp.moveaxis(filled.reshape(*array.shape[:-1], count, size), -2, 0)


def _joined(blocks: Array, starts: int) -> Array:
    """(count, ..., size) as (..., B)."""
    last = jnp.moveaxis(blocks, 0, -2)
    return last.reshape(*last.shape[:-2], -1)[..., :starts]
