"""Weights of ResNet-50 from a safetensors file with torchvision's names, every tensor checked before one is used."""

import os
from typing import Any

import numpy as np

from escapevelocity.errors import UserError
from escapevelocity.metric_learning.resnet import tensor_shapes

_IGNORED = ("fc.",)  # The classifier, in whose place the embedding stands.
_COUNTER = ".num_batches_tracked"  # Of batch norms in training.
_DTYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16}


def read_resnet50(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read all tensors of ResNet-50 but those of its classifier.

    Args:
        path: a file such as `safetensors.torch.save_file(torchvision.models.resnet50(…).state_dict(), path)` writes.

    Returns:
        float32 arrays by name, in torchvision's layout.

    Raises:
        UserError: a file that is missing or unreadable, a tensor that is missing, superfluous (another architecture),
            of another shape or kind, or that holds numbers that are not finite.
    """
    from safetensors import SafetensorError, safe_open

    name = os.fspath(path)
    try:
        with safe_open(name, framework="numpy") as file:
            return {key: _tensor(file, name, key, shape) for key, shape in _checked_names(file, name).items()}
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"weights = {name!r}: must be a readable safetensors file with ResNet-50's tensors ({error})"
        ) from None


def _checked_names(file: Any, path: str) -> dict[str, tuple[int, ...]]:
    expected = tensor_shapes()
    given = {key for key in file.keys() if not key.startswith(_IGNORED) and not key.endswith(_COUNTER)}  # noqa: SIM118
    missing, unknown = sorted(expected.keys() - given), sorted(given - expected.keys())
    if missing:
        others = f" and {len(missing) - 1} others" * (len(missing) > 1)
        raise UserError(
            f"weights = {path!r}: lacks ResNet-50's {missing[0]}{others}, in torchvision's naming"
        )
    if unknown:
        raise UserError(f"weights = {path!r}: holds {unknown[0]}, which ResNet-50 does not have")
    return expected


def _tensor(file: Any, path: str, key: str, shape: tuple[int, ...]) -> np.ndarray:
    view = file.get_slice(key)
    given, kind = tuple(view.get_shape()), view.get_dtype()
    if given != shape:
        raise UserError(f"weights = {path!r}: {key} has the shape {given}; must be {shape}")
    if kind not in _DTYPES:
        raise UserError(f"weights = {path!r}: {key} is {kind}; must be one of {', '.join(_DTYPES)}")
    tensor = np.asarray(file.get_tensor(key), np.float32)
    if not np.isfinite(tensor).all():
        raise UserError(f"weights = {path!r}: {key} holds numbers that are not finite")
    return tensor
