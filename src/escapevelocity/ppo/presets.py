"""The presets: `mujoco` and `atari` are the paper's columns, `classic` CleanRL's values, `minatar` our own."""

from collections.abc import Sequence

from escapevelocity.errors import require
from escapevelocity.ppo.config import (
    EnvironmentConfig,
    NetworkConfig,
    ObjectiveConfig,
    OptimizerConfig,
    PPOSpec,
)

PRESETS = ("mujoco", "atari", "classic", "minatar")


def preset_spec(name: str, task: str, discrete: bool, seeds: Sequence[int] = (1,)) -> PPOSpec:
    """The settings of preset `name` for `task`.

    Args:
        name: `mujoco` (Moalla et al. 2024, Table 3 and code) or `classic` (CleanRL: ppo.py for discrete actions,
            ppo_continuous_action.py for Box; its running observation and reward scaling is replaced by the fixed
            normalisation of observations, its advantage std is the biased one, and a time limit is bootstrapped,
            where CleanRL takes it for a termination), `atari` (Moalla et al. 2024, Table 2 and code) or `minatar`
            (MinAtar's own convolution and 128 units, with batches small enough for dozens of seeds at once).
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
    if name == "atari":
        return _atari(task, seeds)
    if name == "minatar":
        return _minatar(task, seeds)
    return _classic_discrete(task, seeds) if discrete else _classic_continuous(task, seeds)


def _atari(task: str, seeds: Sequence[int]) -> PPOSpec:
    return PPOSpec(
        task=task,
        preset="atari",
        seeds=tuple(seeds),
        steps=100_000_000,
        environment=EnvironmentConfig(
            num_envs=8,
            rollout_length=128,
            frame_skip=3,
            sticky_actions=0.25,
            rewards="sign",
            append_time=False,
            normalization="none",
        ),
        network=NetworkConfig(convolutions="nature", hidden=(512,), activation="relu", head="softmax"),
        objective=ObjectiveConfig(clip_epsilon=0.1, entropy_coef=0.01),
        optimizer=OptimizerConfig(learning_rate=2.5e-4, epochs=4, minibatch_size=256),
    )


def _minatar(task: str, seeds: Sequence[int]) -> PPOSpec:
    return PPOSpec(
        task=task,
        preset="minatar",
        seeds=tuple(seeds),
        steps=10_000_000,
        environment=EnvironmentConfig(
            num_envs=16,
            rollout_length=64,
            time_limit="truncation",
            append_time=False,
            normalization="none",
        ),
        network=NetworkConfig(convolutions="minatar", hidden=(128,), activation="relu", head="softmax"),
        objective=ObjectiveConfig(entropy_coef=0.01),
        optimizer=OptimizerConfig(
            learning_rate=1e-3, anneal="linear", adam_eps=1e-5, epochs=4, minibatch_size=256
        ),
    )


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
