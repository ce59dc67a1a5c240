"""A model that Stable-Baselines3 saved, read without running anything that the file holds."""

import io
import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gymnasium import Space
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.policies import (
    ActorCriticCnnPolicy,
    ActorCriticPolicy,
    MultiInputActorCriticPolicy,
)
from torch import Tensor, nn

from escapevelocity.errors import UserError, require
from escapevelocity.interop._sb3_escort import EscortPolicy

ACTIVATIONS: dict[str, type[nn.Module]] = {
    module.__name__: module
    for module in (nn.Tanh, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Softplus)
}
"""Activations that a file may name; Stable-Baselines3's default is Tanh."""

_POLICIES: dict[tuple[str, str], type[ActorCriticPolicy]] = {
    (policy.__module__, policy.__name__): policy
    for policy in (ActorCriticPolicy, ActorCriticCnnPolicy, MultiInputActorCriticPolicy, EscortPolicy)
}
_EXTRACTORS = ("FlattenExtractor", "NatureCNN", "CombinedExtractor")
_PLAIN = (
    "full_std",
    "features_extractor_kwargs",
    "log_std_init",
    "normalize_images",
    "ortho_init",
    "p",
    "share_features_extractor",
    "squash_output",
    "use_expln",
)
"""Settings of a policy that the file holds as plain JSON."""
_WITHOUT_EFFECT = (
    "optimizer_class",
    "optimizer_kwargs",
    "net_arch",
    "activation_fn",
    "features_extractor_class",
)
"""Read elsewhere, or of no importance for a policy that is not trained."""
_PICKLED, _TYPE = ":serialized:", ":type:"
_SAFE_TORCH = (2, 6)
"""Before it, `weights_only=True` could be made to run code (CVE-2025-32434)."""
_OR_TRUST = "if you trust who made the file, --trust loads it as PPO.load does, which runs what it holds"


@dataclass(frozen=True)
class SavedModel:
    """What a model's file says, as data.

    Attributes:
        path: the file.
        data: its settings; values that are pickled stay base64 text inside {":type:", ":serialized:", …}.
        weights: the policy's parameters by name.
    """

    path: Path
    data: Mapping[str, Any]
    weights: Mapping[str, Tensor]

    @property
    def pickled(self) -> list[str]:
        """Names of the entries that are pickled, and stay unopened."""
        return sorted(k for k, value in self.data.items() if isinstance(value, dict) and _PICKLED in value)

    @property
    def training_steps(self) -> int | None:
        """Environment steps of its training, by its own word."""
        steps = self.data.get("num_timesteps")
        return steps if isinstance(steps, int) else None

    @property
    def saw_normalised(self) -> bool:
        """Whether it was trained inside a VecNormalize: only then does the file hold original observations."""
        return self.data.get("_last_original_obs") is not None

    @property
    def observation_shape(self) -> list[int] | None:
        """Shape of the observations it was trained on; None where that is not in plain text."""
        space = self.data.get("observation_space")
        shape = space.get("_shape") if isinstance(space, dict) else None
        return shape if isinstance(shape, list) else None


def read_model(path: Path) -> SavedModel:
    """Read a model's file: its JSON as text, its weights as tensors.

    Raises:
        UserError: not a file of Stable-Baselines3, one without an actor-critic policy, weights that hold more than
            tensors, or a PyTorch that cannot tell.
    """
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    require(version >= _SAFE_TORCH, "torch", torch.__version__, "at least 2.6, which reads weights safely")
    try:
        with zipfile.ZipFile(path) as archive:
            data = json.loads(archive.read("data"))
            stored = archive.read("policy.pth")
        weights = torch.load(io.BytesIO(stored), map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(
            f"{path} cannot be read: {error.strerror or error}; give the file that model.save wrote"
        ) from None
    except (zipfile.BadZipFile, KeyError, ValueError, RecursionError):
        raise UserError(
            f"{path} is no model that Stable-Baselines3 saved: no zip with data and policy.pth; give the file that "
            "model.save wrote"
        ) from None
    except Exception as error:  # torch's and pickle's ways to refuse are many.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{path}: its weights are not plain tensors ({reason}); they were not loaded"
        ) from None
    tensors = isinstance(weights, dict) and all(isinstance(x, Tensor) for x in weights.values())
    if not (
        isinstance(data, dict) and tensors and {"action_net.weight", "value_net.weight"} <= weights.keys()
    ):
        raise UserError(f"{path} holds no actor-critic policy: it must be a PPO or A2C of Stable-Baselines3")
    return SavedModel(path, data, weights)


def rebuild(
    model: SavedModel, observations: Space, actions: Space, activation: str | None = None
) -> tuple[ActorCriticPolicy, ActorCriticPolicy]:
    """Build the policy anew and put the weights in; nothing that is pickled in the file is opened.

    Args:
        model: what the file says.
        observations: the environment's observation space.
        actions: its action space.
        activation: one of `ACTIVATIONS`, in place of what the file names.

    Returns:
        The policy, and one of the same shape as it is initialised.

    Raises:
        UserError: a policy of unknown code, or weights that do not fit the environment.
    """
    kind, settings = _policy_class(model), _settings(model, activation)
    try:
        policy, fresh = (kind(observations, actions, lambda _: 0.0, **settings) for _ in range(2))
    except Exception as error:  # The settings are a stranger's, and may be anything.
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(
            f"{model.path}: its settings make no {kind.__name__} for this environment ({reason}); {_OR_TRUST}"
        ) from None
    try:
        policy.load_state_dict(dict(model.weights), strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split("\n", 1)[-1].split())
        raise UserError(
            f"{model.path}: its weights do not fit a {kind.__name__} for this environment: {reason[:300]}; {_OR_TRUST}"
        ) from None
    return policy, fresh


def load_trusted(model: SavedModel) -> tuple[ActorCriticPolicy, ActorCriticPolicy]:
    """Load a model as Stable-Baselines3 does, which unpickles and so runs whatever code the file holds.

    Returns:
        The policy, and one of the same shape as it is initialised.
    """
    loaded: Any = (PPO if "clip_range" in model.data else A2C).load(model.path, device="cpu")
    sde = {"use_sde": True} if loaded.use_sde else {}
    spaces = loaded.observation_space, loaded.action_space
    return loaded.policy, loaded.policy_class(*spaces, lambda _: 0.0, **sde, **loaded.policy_kwargs)


def _policy_class(model: SavedModel) -> type[ActorCriticPolicy]:
    stored = model.data.get("policy_class")
    stored = stored if isinstance(stored, dict) else {}
    named = re.match(r"<function (\w+)\.__init__ ", str(stored.get("__init__", "")))
    module = str(stored.get("__module__", ""))
    kind = _POLICIES.get((module, named[1])) if named else None
    if kind is None:
        where = f" from {module}" if module else ""
        raise UserError(f"{model.path}: its policy is custom code{where}, which is not loaded; {_OR_TRUST}")
    return kind


def _settings(model: SavedModel, activation: str | None) -> dict[str, Any]:
    stored = model.data.get("policy_kwargs")
    stored = stored if isinstance(stored, dict) else {}
    unknown = stored.keys() - {*_PLAIN, *_WITHOUT_EFFECT, _PICKLED, _TYPE}
    extractor = str(stored.get("features_extractor_class", _EXTRACTORS[0])).rstrip("'>").split(".")[-1]
    if unknown or extractor not in _EXTRACTORS:
        custom = ", ".join(sorted(unknown)) or f"features_extractor_class {extractor}"
        raise UserError(
            f"{model.path}: its policy has settings that are not plain data: {custom}; {_OR_TRUST}"
        )
    settings = {name: stored[name] for name in _PLAIN if name in stored}
    settings |= {"use_sde": True} if model.data.get("use_sde") is True else {}
    return {
        **settings,
        "net_arch": {"pi": _widths(model, "policy_net"), "vf": _widths(model, "value_net")},
        "activation_fn": ACTIVATIONS[activation or _activation(model.path, stored.get("activation_fn"))],
    }


def _widths(model: SavedModel, network: str) -> list[int]:
    """Read the widths of the hidden layers off the weights."""
    name = re.compile(rf"mlp_extractor\.{network}\.(\d+)\.weight")
    found = {int(match[1]): len(x) for key, x in model.weights.items() if (match := name.fullmatch(key))}
    return [found[place] for place in sorted(found)]


def _activation(path: Path, stored: object) -> str:
    """Give the activation that a class's text names: "<class 'torch.nn.modules.activation.ReLU'>"."""
    if stored is None:
        return "Tanh"
    named = re.fullmatch(r"<class 'torch\.nn\.modules\.activation\.(\w+)'>", str(stored))
    if named is None or named[1] not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise UserError(f"{path}: its activation {stored} is not known; name one with --activation: {known}")
    return named[1]
