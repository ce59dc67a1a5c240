"""What an exported policy is, in words that PyTorch and ONNX share; read and written as `policy.json`.

Importing this module imports no JAX: where a policy is used, there need not be any.
"""

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from escapevelocity.errors import UserError
from escapevelocity.runs import spec_from_json

DESCRIPTION_FILE, TORCH_FILE, ONNX_FILE = "policy.json", "policy.safetensors", "policy.onnx"
VERSION = 1

MIN_STD = 0.01
SOFTPLUS_SHIFT = math.log(math.expm1(1.0 - MIN_STD))
"""softplus(x + shift) + 0.01 is 1 at x = 0 (`policy.continuous`)."""
LOG_STD_LIMIT = math.log(1e30)
"""A log-std is held within ± this (`policy.continuous`)."""
NORM_EPSILON = 1e-5
"""Added to the variance in layer normalisation; PyTorch's default."""
LEAK = 0.01
"""Slope of the leaky ReLU below 0; PyTorch's default."""

Kind = Literal[
    "Conv2d", "Linear", "LayerNorm", "GroupNorm", "Flatten", "Tanh", "ReLU", "GELU", "LeakyReLU", "CReLU"
]


@dataclass(frozen=True)
class Layer:
    """One module of an `nn.Sequential`. Numbers that its kind does not have are 0."""

    kind: Kind
    """The class in `torch.nn`, with its defaults; CReLU is relu of x and of −x side by side, along axis 1."""
    inputs: int = 0
    """Features or channels that go in; of a GroupNorm, which has one group, and a LayerNorm, their number."""
    outputs: int = 0
    """Features or channels that come out."""
    kernel: int = 0
    """Height and width of a convolution's window, in pixels."""
    stride: int = 0
    """Pixels between neighbouring windows."""


@dataclass(frozen=True)
class ObservationDescription:
    """What the policy is shown, and what happens to it before the network."""

    shape: tuple[int, ...]
    """As the environment gives it: (size,), or (height, width, channels)."""
    dtype: Literal["uint8", "float32", "float64"]
    """uint8 for images, which are divided by 255; float64 where it is normalised: entries that hardly vary are divided
    by a tiny std, which only float64 stands."""
    mean: tuple[float, ...] | None
    """Subtracted from each entry, or None."""
    std: tuple[float, ...] | None
    """Divides each entry then, at least 1e-6; or None."""
    time_limit: int | None
    """Where the policy sees the time, 2·elapsed/time_limit − 1 is appended to the observation; elsewhere None."""


@dataclass(frozen=True)
class HeadDescription:
    """How the network's outputs become an action."""

    kind: Literal["tanh_normal", "normal", "normal_independent", "softmax", "escort"]
    """normal: mean and std, clipped to the bounds; tanh_normal: mean and std, then low + (high − low)(tanh + 1)/2."""
    low: tuple[float | None, ...] = ()
    """Lower bounds of a Box; None where there is none."""
    high: tuple[float | None, ...] = ()
    """Upper bounds of a Box; None where there is none."""
    log_std: tuple[float, ...] = ()
    """Of `normal_independent`; elsewhere the std is softplus(x + ln(e^0.99 − 1)) + 0.01 of the outputs' second half."""
    num_actions: int = 0
    """Of discrete actions."""
    start: int = 0
    """The first discrete action's number in the environment."""
    p: float = 0.0
    """Power of `escort`, π(a) ∝ |1 + output(a)|^p."""

    @property
    def is_discrete(self) -> bool:
        """Whether actions are numbers of choices."""
        return self.kind in ("softmax", "escort")

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what the policy gives: the action, and the parameters of its distribution."""
        return ("action", "probabilities") if self.is_discrete else ("action", "mean", "std")


@dataclass(frozen=True)
class PolicyDescription:
    """All of a policy but its weights."""

    version: int
    """Of this format."""
    task: str
    """What it was trained on."""
    seed: int
    """Which member of its run it is."""
    env_steps: int
    """Environment steps it was trained for."""
    observation: ObservationDescription
    """What it is shown."""
    layers: tuple[Layer, ...]
    """The network as an `nn.Sequential`."""
    head: HeadDescription
    """What comes after it."""

    @property
    def sees_images(self) -> bool:
        """Whether the network begins with a convolution: it then takes (batch, channels, height, width)."""
        return self.layers[0].kind == "Conv2d"

    def to_json(self) -> dict[str, Any]:
        """The description as a JSON object, without what the kinds of layers and heads do not have."""
        document = dataclasses.asdict(self)
        document["layers"] = [_without_defaults(layer) for layer in self.layers]
        document["head"] = _without_defaults(self.head)
        return document


def read_description(folder: Path) -> PolicyDescription:
    """Read `policy.json`. Nothing in it is executed.

    Raises:
        UserError: missing, damaged, of a newer version, or with an unknown layer.
    """
    path = folder / DESCRIPTION_FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror}; give a folder that `ev export` wrote"
        ) from error
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}); export the policy again") from error
    version = document.get("version") if isinstance(document, dict) else None
    if version != VERSION:
        raise UserError(f"{path}: version = {version!r}: must be {VERSION}; update escapevelocity")
    try:
        description = spec_from_json(PolicyDescription, document)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    if not description.layers:
        raise UserError(f"{path}: layers = []: must be one or more layers")
    return description


def _without_defaults(item: Layer | HeadDescription) -> dict[str, Any]:
    fields = {field.name: field.default for field in dataclasses.fields(item)}
    return {name: value for name, value in dataclasses.asdict(item).items() if value != fields[name]}
