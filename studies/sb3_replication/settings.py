"""Our settings in Stable-Baselines3's words."""

from typing import Any

import torch

from escapevelocity.errors import require
from escapevelocity.ppo.config import PPOSpec

ACTIVATIONS = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}

_ONLY = {
    "environment": {
        "backend": "auto",
        "frame_skip": 1,
        "sticky_actions": 0.0,
        "rewards": "raw",
        "time_limit": "truncation",
        "episode_limit": None,
        "append_time": False,
    },
    "network": {
        "convolutions": "none",
        "layer_norm": False,
        "spectral_norm": "none",
        "trunk": "separate",
        "head": "normal_independent",
    },
    "objective": {"clip_value": False},
    "optimizer": {"anneal": "none", "clip_gradients": "jointly"},
    "monitoring": {"health_every": None, "on_nonfinite": "stop"},
}
"""Settings that have a single value here, because Stable-Baselines3's PPO does it so or this study asks no more."""


def require_expressible(spec: PPOSpec) -> None:
    """Raise `UserError` for a setting that Stable-Baselines3's PPO does not have."""
    require(
        len(spec.seeds) == 1, "seeds", spec.seeds, "a single seed: Stable-Baselines3 trains one at a time"
    )
    require(not spec.remedies, "remedy", [remedy.name for remedy in spec.remedies], "none here")
    require(spec.branch is None, "branch", spec.branch, "None here")
    for part, settings in _ONLY.items():
        for name, value in settings.items():
            given = getattr(getattr(spec, part), name)
            require(given == value, name, given, f"{value!r} for Stable-Baselines3's PPO")
    activation = spec.network.activation
    require(activation in ACTIVATIONS, "activation", activation, f"one of {', '.join(ACTIVATIONS)} here")


def model_arguments(spec: PPOSpec) -> dict[str, Any]:
    """The arguments of `stable_baselines3.PPO` that mean what the spec says; every one that matters is written out."""
    hidden, objective, optimizer = list(spec.network.hidden), spec.objective, spec.optimizer
    return {
        "learning_rate": optimizer.learning_rate,
        "n_steps": spec.environment.rollout_length,
        "batch_size": optimizer.minibatch_size,
        "n_epochs": optimizer.epochs,
        "gamma": objective.gamma,
        "gae_lambda": objective.gae_lambda,
        "clip_range": objective.clip_epsilon,
        "clip_range_vf": None,
        "normalize_advantage": objective.normalize_advantages,
        "ent_coef": objective.entropy_coef,
        "vf_coef": objective.value_coef,
        "max_grad_norm": optimizer.max_grad_norm,
        "policy_kwargs": {
            "net_arch": {"pi": hidden, "vf": hidden},
            "activation_fn": ACTIVATIONS[spec.network.activation],
            # Without it PyTorch's own start stays: uniform ±1/√fan_in, as in the paper's code.
            "ortho_init": spec.network.initialization == "orthogonal",
            "log_std_init": 0.0,
            "optimizer_kwargs": {
                "eps": optimizer.adam_eps,
                "betas": (optimizer.adam_beta1, optimizer.adam_beta2),
            },
        },
        "seed": spec.seeds[0],
        "device": "cpu",
    }
