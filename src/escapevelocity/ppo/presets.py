"""The presets: `mujoco` is the paper's column, `classic` is CleanRL's well-known values."""

from collections.abc import Sequence

from escapevelocity.errors import require
from escapevelocity.ppo.config import (
    EnvironmentConfig,
    NetworkConfig,
    ObjectiveConfig,
    OptimizerConfig,
    PPOSpec,
)

PRESETS = ("mujoco", "classic")


def preset_spec(name: str, task: str, discrete: bool, seeds: Sequence[int] = (1,)) -> PPOSpec:
    """The settings of preset `name` for `task`.

    Args:
        name: `mujoco` (Moalla et al. 2024, Table 3 and code) or `classic` (CleanRL: ppo.py for discrete actions,
            ppo_continuous_action.py for Box; its running observation and reward scaling is replaced by the fixed
            normalisation of observations, its advantage std is the biased one, and a time limit is bootstrapped,
            where CleanRL takes it for a termination).
        task: environment id.
        discrete: whether its actions are discrete.
        seeds: seeds of the population.

    Raises:
        UserError: no preset of that name.
    """
    require(name in PRESETS, "preset", name, f"one of {', '.join(PRESETS)}")
    if name == "mujoco":
        head = "softmax" if discrete else "tanh_normal"
        return PPOSpec(task=task, preset="mujoco", seeds=tuple(seeds), network=NetworkConfig(head=head))
    return _classic_discrete(task, seeds) if discrete else _classic_continuous(task, seeds)


def _classic_discrete(task: str, seeds: Sequence[int]) -> PPOSpec:
    return PPOSpec(
        task=task,
        preset="classic",
        seeds=tuple(seeds),
        steps=500_000,
        environment=EnvironmentConfig(
            num_envs=4, rollout_length=128, time_limit="truncation", append_time=False, normalization="none"
        ),
        network=NetworkConfig(initialization="orthogonal", head="softmax"),
        # CleanRL writes the value loss with a factor ½ of its own in front of its coefficient 0.5.
        objective=ObjectiveConfig(entropy_coef=0.01, value_coef=0.25, clip_value=True),
        optimizer=OptimizerConfig(
            learning_rate=2.5e-4,
            anneal="linear",
            adam_eps=1e-5,
            clip_gradients="jointly",
            epochs=4,
            minibatch_size=128,
        ),
    )


def _classic_continuous(task: str, seeds: Sequence[int]) -> PPOSpec:
    return PPOSpec(
        task=task,
        preset="classic",
        seeds=tuple(seeds),
        steps=1_000_000,
        environment=EnvironmentConfig(
            num_envs=1, rollout_length=2048, time_limit="truncation", append_time=False, normalization="fixed"
        ),
        network=NetworkConfig(initialization="orthogonal", head="normal_independent"),
        objective=ObjectiveConfig(value_coef=0.25, clip_value=True),
        optimizer=OptimizerConfig(
            anneal="linear", adam_eps=1e-5, clip_gradients="jointly", epochs=10, minibatch_size=64
        ),
    )
