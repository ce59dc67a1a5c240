"""An exported policy as a PyTorch module. It needs neither JAX nor the run that it came from."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from escapevelocity.errors import UserError, require
from escapevelocity.interop.escort import scaled_magnitudes
from escapevelocity.ppo.export.description import (
    LOG_STD_LIMIT,
    MIN_STD,
    SOFTPLUS_SHIFT,
    TORCH_FILE,
    HeadDescription,
    Layer,
    PolicyDescription,
    read_description,
)

__all__ = ["CReLU", "ExportedPolicy", "load_policy"]


class CReLU(nn.Module):
    """relu(x) and relu(−x) side by side along axis 1: features of vectors, channels of images.

    Source: Shang et al. 2016 (arXiv 1603.05201).

    Example:
        >>> CReLU()(torch.tensor([[1.0, -2.0]]))
        tensor([[1., 0., 0., 2.]])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Twice as many features or channels as `x` has."""
        return torch.cat([x.relu(), (-x).relu()], dim=1)


_MODULES: dict[str, Callable[[Layer], nn.Module]] = {
    "Conv2d": lambda layer: nn.Conv2d(layer.inputs, layer.outputs, layer.kernel, layer.stride),
    "Linear": lambda layer: nn.Linear(layer.inputs, layer.outputs),
    "LayerNorm": lambda layer: nn.LayerNorm(layer.inputs),
    "GroupNorm": lambda layer: nn.GroupNorm(1, layer.inputs),
    "Flatten": lambda layer: nn.Flatten(),
    "Tanh": lambda layer: nn.Tanh(),
    "ReLU": lambda layer: nn.ReLU(),
    "GELU": lambda layer: nn.GELU(),
    "LeakyReLU": lambda layer: nn.LeakyReLU(),
    "CReLU": lambda layer: CReLU(),
}


class ExportedPolicy(nn.Module):
    """A trained policy that takes what the environment gives and gives what the environment takes.

    Attributes:
        description: what `policy.json` says.
        network: an `nn.Sequential` of ordinary modules; its state_dict is `policy.safetensors`. It takes vectors
            normalised and with the time appended, or images as (batch, channels, height, width) in [0, 1].
    """

    observation_mean: Tensor | None
    observation_std: Tensor | None
    low: Tensor
    high: Tensor
    log_std: Tensor

    def __init__(self, description: PolicyDescription) -> None:
        """Make the module without values for its weights; `load_policy` gives them.

        Args:
            description: what `policy.json` says.
        """
        super().__init__()
        self.description = description
        with torch.device("meta"):  # No memory, and no random numbers.
            self.network = nn.Sequential(*(_MODULES[layer.kind](layer) for layer in description.layers))
        observation, head = description.observation, description.head
        for name, values in (("mean", observation.mean), ("std", observation.std)):
            known = None if values is None else torch.tensor(values, dtype=torch.float64)
            self.register_buffer(f"observation_{name}", known, persistent=False)
        low = [-np.inf if bound is None else bound for bound in head.low]
        high = [np.inf if bound is None else bound for bound in head.high]
        for name, bounds in (("low", low), ("high", high), ("log_std", head.log_std)):
            self.register_buffer(name, torch.tensor(bounds, dtype=torch.float64), persistent=False)

    def forward(self, observation: Tensor, elapsed: Tensor) -> dict[str, Tensor]:
        """The most likely actions and their distributions; gradients flow.

        Args:
            observation: (batch, …) as the environment gives it, of any dtype.
            elapsed: (batch,) steps since the start of the episode; only policies that see the time look at it.

        Returns:
            `action` (batch, size) float32 or (batch,) int64, as the environment takes it, and the parameters of its
            distribution: `mean` and `std` (batch, size) of the normal before it is squashed or clipped, or
            `probabilities` (batch, actions).
        """
        outputs = self.network(self._network_input(observation, elapsed))
        head = self.description.head
        return self._discrete(outputs, head) if head.is_discrete else self._box(outputs, head)

    @torch.no_grad()
    def act(self, observation: Any, elapsed: int | np.ndarray = 0) -> np.ndarray | np.integer:
        """The most likely action for one observation or for a batch of them; as `TrainedAgent.act`.

        Args:
            observation: array or tensor as the environment gives it, (size,) or (n, size), images in their shape or
                flattened.
            elapsed: steps since the start of the episode, one number or one per row. Policies of the preset `mujoco`
                see the time: count your steps and pass them.

        Returns:
            What the environment's `step` takes: (size,) floats or an integer; with a leading n for a batch.

        Raises:
            UserError: an observation or `elapsed` of another shape.
        """
        device = next(self.network.parameters()).device
        # By way of NumPy, which keeps all digits of a list's floats.
        given = observation if isinstance(observation, Tensor) else torch.tensor(np.asarray(observation))
        shape = self.description.observation.shape
        shapes = [shape, (int(np.prod(shape)),)]
        single = tuple(given.shape) in shapes
        rows = given[None] if single else given
        accepted = f"of shape {shape} or (n, {', '.join(map(str, shape))})"
        fits = rows.ndim > 1 and tuple(rows.shape[1:]) in shapes
        require(fits, "observation", tuple(given.shape), accepted)
        steps = torch.as_tensor(elapsed, device=device)
        accepted = f"one number, or one for each of {len(rows)} rows"
        require(tuple(steps.shape) in ((), (len(rows),)), "elapsed", elapsed, accepted)
        actions = self(rows.to(device).reshape(-1, *shape), steps.expand(len(rows)))["action"].cpu().numpy()
        return actions[0] if single else actions

    def _network_input(self, x: Tensor, elapsed: Tensor) -> Tensor:
        seen = self.description.observation
        if seen.dtype == "uint8":
            x = x.float() / 255
        elif self.observation_mean is not None and self.observation_std is not None:
            # In float64: entries that hardly vary are divided by a tiny std.
            x = (x.double() - self.observation_mean) / self.observation_std
        x = x.float()
        if self.description.sees_images:
            return x.permute(0, 3, 1, 2)
        x = x.flatten(start_dim=1)
        if seen.time_limit is None:
            return x
        time = elapsed.double() * (2.0 / seen.time_limit) - 1.0
        return torch.cat([x, time.float()[:, None]], dim=1)

    def _box(self, outputs: Tensor, head: HeadDescription) -> dict[str, Tensor]:
        if head.log_std:
            mean = outputs
            std = self.log_std.clamp(-LOG_STD_LIMIT, LOG_STD_LIMIT).exp().to(outputs.dtype).expand_as(mean)
        else:
            mean, raw = outputs.chunk(2, dim=1)
            std = nn.functional.softplus(raw + SOFTPLUS_SHIFT) + MIN_STD
        low, high = self.low, self.high
        action = mean
        if head.kind == "tanh_normal":
            centre, half_range = low / 2 + high / 2, high / 2 - low / 2
            action = centre.to(mean.dtype) + half_range.to(mean.dtype) * mean.tanh()
        return {"action": action.clamp(low.to(mean.dtype), high.to(mean.dtype)), "mean": mean, "std": std}

    def _discrete(self, outputs: Tensor, head: HeadDescription) -> dict[str, Tensor]:
        if head.kind == "softmax":
            score, probabilities = outputs, outputs.softmax(dim=1)
        else:
            score, largest = scaled_magnitudes(1 + outputs)
            powers = torch.where(largest > 0, score**head.p, 1)
            probabilities = powers / powers.sum(dim=1, keepdim=True)
        return {"action": score.argmax(dim=1) + head.start, "probabilities": probabilities}


def load_policy(folder: str | os.PathLike[str]) -> ExportedPolicy:
    """Load what `ev export` wrote. Nothing in the folder is executed.

    Args:
        folder: holds `policy.json` and `policy.safetensors`.

    Returns:
        The policy, in evaluation mode, on the CPU.

    Raises:
        UserError: a file is missing or damaged, or the two do not fit together.
    """
    path = Path(folder) / TORCH_FILE
    policy = ExportedPolicy(read_description(Path(folder)))
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read {path}: {reason}; export the policy again") from error
    try:
        policy.network.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise UserError(
            f"{path} does not fit {path.with_name('policy.json')}: {' '.join(str(error).split())}"
        ) from error
    return policy.eval()
