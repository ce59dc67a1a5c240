"""Gymnasium's environments behind Stable-Baselines3's wrappers, with observations normalised once and for all."""

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

SMALLEST_VARIANCE = 1e-12
"""Added to the variance; our trainer takes a standard deviation of at least 1e-6."""


def make_environments(task: str, num_envs: int) -> VecNormalize:
    """Make `num_envs` environments of Gymnasium's; before they have been measured, observations
    pass as they are (mean 0, variance 1).

    Args:
        task: a task with Box actions, such as Hopper-v4.
        num_envs: how many.
    """
    plain = DummyVecEnv([lambda: Monitor(gym.make(task)) for _ in range(num_envs)])
    return VecNormalize(
        plain,
        training=False,
        norm_reward=False,
        clip_obs=float("inf"),
        epsilon=SMALLEST_VARIANCE,
    )


def measure_observations(environments: VecNormalize, steps: int, seed: int) -> None:
    """Take mean and variance of a uniform policy's first steps, by `VecNormalize`, and normalise by them from now on.

    Moalla et al. 2024 normalise so (their code); left to itself `VecNormalize` would go on changing the observations
    of a state, and with them its features.

    Args:
        environments: with Box actions.
        steps: environment steps, all environments together.
        seed: of the policy; that of the environments has been set before.
    """
    space = environments.action_space
    assert isinstance(space, spaces.Box)
    generator = np.random.default_rng(seed)
    environments.training = True
    environments.reset()
    shape = (environments.num_envs, *space.shape)
    for _ in range(steps // environments.num_envs):
        environments.step(generator.uniform(space.low, space.high, shape).astype(np.float32))
    environments.training = False
