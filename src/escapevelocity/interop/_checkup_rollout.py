"""A saved model in its environment: let it act, and measure its networks on the states it meets."""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize, VecTransposeImage

from escapevelocity import health
from escapevelocity.envs import describe_task
from escapevelocity.errors import UserError
from escapevelocity.interop._columns import health_row
from escapevelocity.interop.torch import TorchMonitor

Row = dict[str, float | str]

_STATES_AT_ONCE = 512
"""All pre-activations of one Atari frame are 21,632 numbers: a whole batch of them would not fit everywhere."""


@contextmanager
def environment(
    env: str, seed: int, trained_shape: list[int] | None, vec_normalize: str | os.PathLike[str] | None
) -> Iterator[VecEnv]:
    """Make the environment as Stable-Baselines3 wraps it, and close it afterwards.

    Raises:
        UserError: an unknown environment, or one whose observations the model was not trained on.
    """
    venv: VecEnv = DummyVecEnv([lambda: Monitor(_make(env))])
    try:
        space = venv.observation_space
        if (
            isinstance(space, spaces.Box)
            and is_image_space(space)
            and not is_image_space_channels_first(space)
        ):
            venv = VecTransposeImage(venv)
        shape = list(venv.observation_space.shape or ())
        if trained_shape is not None and shape != trained_shape:
            raise UserError(
                f"env = {env!r}: its observations have shape {shape}, must have {trained_shape}, those that the model "
                "was trained on; for wrappers of the training, register an environment that has them, and --import it"
            )
        if vec_normalize is not None:
            venv = VecNormalize.load(os.fspath(vec_normalize), venv)
            venv.training = venv.norm_reward = False
        venv.seed(seed)
        yield venv
    finally:
        venv.close()


def _make(env: str) -> gymnasium.Env:
    try:
        with warnings.catch_warnings():
            # Hopper-v4 and its like are the papers' tasks; Gymnasium says on each make() that v5 exists.
            warnings.simplefilter("ignore", DeprecationWarning)
            return gymnasium.make(env)
    except (gymnasium.error.Error, ModuleNotFoundError) as error:
        describe_task(env, "gymnasium")  # Knows the nearest names.
        raise UserError(f"env = {env!r}: must be an environment that Gymnasium can make: {error}") from None


def rollout(policy: ActorCriticPolicy, venv: VecEnv, steps: int, stochastic: bool) -> tuple[Any, list[float]]:
    """Let the policy act; give the states as it takes them, and the returns of the episodes that ended."""
    policy.set_training_mode(False)
    states: list[Any] = []
    returns: list[float] = []
    observation: Any = venv.reset()
    for _ in range(steps):
        states.append(policy.obs_to_tensor(observation)[0])
        action, _ = policy.predict(observation, deterministic=not stochastic)
        observation, _, _, infos = venv.step(action)
        returns += [float(info["episode"]["r"]) for info in infos if "episode" in info]
    if isinstance(states[0], Mapping):
        return {key: torch.cat([state[key] for state in states]) for key in states[0]}, returns
    return torch.cat(states), returns


def measure(policy: ActorCriticPolicy, states: Any) -> tuple[Row, int]:
    """Give the columns of docs/metrics.md for a policy at rest, with the reasons of those that are NaN; and the units
    of the actor's last hidden layer, which may lie in a head of its own.
    """
    policy.set_training_mode(False)
    monitor = TorchMonitor(policy.action_net, policy.value_net, forward=policy.forward)
    with torch.no_grad():
        snapshot = monitor.snapshot(states)
        outputs = [_outputs(policy, part) for part in _parts(states)]
    entropy, parameters, values = (np.concatenate(part) for part in zip(*outputs, strict=True))
    named = {"entropy": float(np.mean(entropy)), "variance": health.policy_variance(parameters)}
    extra = {
        "policy/": health.explain(named, {"entropy": "a squashed normal has no closed form"}),
        "value/": health.explain({"std": health.value_std(values)}),
    }
    return health_row(snapshot, extra=extra), snapshot.networks["actor"].features.shape[1]


def _outputs(policy: ActorCriticPolicy, states: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Entropy (samples,), what the action distribution is made of (samples, _) and values (samples,)."""
    found: Any = policy.get_distribution(states)
    values = policy.predict_values(states).flatten().numpy()
    entropy = found.entropy()
    bases = found.distribution if isinstance(found.distribution, list) else [found.distribution]
    # Only distributions over finitely many actions have probabilities.
    parts = [
        base.probs if hasattr(base, "probs") else torch.cat([base.mean, base.stddev], -1) for base in bases
    ]
    known = np.full(len(values), np.nan) if entropy is None else entropy.numpy()
    return known, torch.cat(parts, dim=-1).numpy(), values


def _parts(states: Any) -> Sequence[Any]:
    if isinstance(states, Mapping):
        split = {key: x.split(_STATES_AT_ONCE) for key, x in states.items()}
        return [dict(zip(split, part, strict=True)) for part in zip(*split.values(), strict=True)]
    return states.split(_STATES_AT_ONCE)
