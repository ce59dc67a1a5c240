"""Pytrees as named arrays, and named arrays as safetensors bytes. No pickle: only numbers are stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import UserError

_FORMAT_NAMES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}


def to_safetensors(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Encode named arrays. Equal arrays give equal bytes, whatever order they come in."""
    from safetensors.numpy import save

    # The format wants C order; np.ascontiguousarray would turn a scalar into a vector.
    return save({name: np.asarray(arrays[name], order="C") for name in sorted(arrays)})


def from_safetensors(data: bytes) -> dict[str, np.ndarray]:
    """Decode `to_safetensors`; the arrays are fresh and writable."""
    from safetensors import deserialize

    return {
        name: np.frombuffer(view["data"], dtype=_dtype(_FORMAT_NAMES[view["dtype"]]))
        .reshape(view["shape"])
        .copy()
        for name, view in deserialize(data)
    }


def to_arrays(tree: Any) -> dict[str, np.ndarray]:
    """Name every array leaf of a pytree by its key path and fetch it to the host.

    Leaves may be NumPy or JAX arrays (typed PRNG keys too), NumPy scalars, Python numbers, or functions (the
    activation inside an Equinox module), which are not data and are left out.

    Raises:
        TypeError: for a leaf that cannot be stored as numbers; it is named.
    """
    import jax

    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): _to_array(path, leaf) for path, leaf in leaves if not callable(leaf)}


def from_arrays(arrays: Mapping[str, np.ndarray], like: Any, source: str) -> Any:
    """Build a pytree with the structure, shapes, dtypes and leaf kinds of `like` from named arrays.

    Args:
        arrays: what `to_arrays` returned.
        like: a pytree of the same structure; its functions are taken over, its numbers are not used.
        source: named in the error message.

    Raises:
        UserError: naming the first leaf that is missing, superfluous, or of another shape or dtype.
    """
    import jax

    leaves, structure = jax.tree_util.tree_flatten_with_path(like)
    left = dict(arrays)
    restored = []
    for path, leaf in leaves:
        if callable(leaf):
            restored.append(leaf)
            continue
        name = jax.tree_util.keystr(path)
        if name not in left:
            raise UserError(f"{source} has no array {name}: it was saved by another version or another spec")
        restored.append(_restore(name, left.pop(name), leaf, source))
    if left:
        raise UserError(
            f"{source} has an unknown array {min(left)}: it was saved by another version or another spec"
        )
    return jax.tree_util.tree_unflatten(structure, restored)


def signature(tree: Any) -> dict[str, str]:
    """Describe every leaf by kind, dtype and shape: what must not change from segment to segment.

    The kind counts too: a segment that was handed NumPy in one run and JAX in a resumed one could round
    differently.
    """
    import jax

    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): _describe(leaf) for path, leaf in leaves if not callable(leaf)}


def _describe(leaf: Any) -> str:
    import jax

    kind = "jax.Array" if isinstance(leaf, jax.Array) else type(leaf).__name__
    return f"{kind} {getattr(leaf, 'dtype', '')}{list(np.shape(leaf))}"


def _to_array(path: Any, leaf: Any) -> np.ndarray:
    import jax

    if isinstance(leaf, jax.Array) and jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    array = np.asarray(leaf)
    if array.dtype.name not in _FORMAT_NAMES.values():
        name = jax.tree_util.keystr(path)
        raise TypeError(
            f"state leaf {name} is a {type(leaf).__name__} of dtype {array.dtype}: only numbers can be stored"
        )
    return array


def _restore(name: str, array: np.ndarray, leaf: Any, source: str) -> Any:
    """Give `array` the kind of `leaf`: typed key, JAX array, NumPy array, NumPy scalar or Python number."""
    import jax

    expected = _to_array((), leaf)
    if (array.shape, array.dtype.name) != (expected.shape, expected.dtype.name):
        raise UserError(
            f"{source}: array {name} is {array.dtype.name}{list(array.shape)}, the spec needs "
            f"{expected.dtype.name}{list(expected.shape)}: it was saved by another version or another spec"
        )
    if isinstance(leaf, jax.Array):
        if jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(_to_jax(array), impl=jax.random.key_impl(leaf))
        return _to_jax(array)
    if isinstance(leaf, np.ndarray):
        return array.astype(leaf.dtype, copy=False)
    if isinstance(leaf, np.generic):
        return array[()]
    return type(leaf)(array.item())


def _to_jax(array: np.ndarray) -> Any:
    """Copy to JAX, which then owns the memory, without the silent cast to 32 bits of its default mode."""
    import jax
    import jax.numpy as jnp

    if array.dtype.itemsize == 8:
        with jax.enable_x64(True):
            return jnp.array(array)
    return jnp.array(array)


def _dtype(name: str) -> np.dtype:
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)
