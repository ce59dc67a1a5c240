"""A tiny environment of any spaces and short Stable-Baselines3 runs on it."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from stable_baselines3 import PPO

VECTOR = spaces.Box(-2.0, 2.0, (5,), np.float32)
IMAGE = spaces.Box(0, 255, (1, 36, 36), np.uint8)  # The smallest that the Nature CNN takes.


class Noise(gymnasium.Env):
    """Observations and rewards are noise; every seventh step ends an episode."""

    def __init__(self, observations: spaces.Space = VECTOR, actions: spaces.Space | None = None):
        self.observation_space = observations
        self.action_space = actions or spaces.Discrete(3)
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None):
        super().reset(seed=seed)
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self.steps += 1
        ended = self.steps == 7
        return self.observation_space.sample(), float(self.np_random.normal()), ended, False, {}


def small(algorithm, env=None, policy="MlpPolicy", steps=32, **settings):
    """An algorithm with a rollout of `steps`, large steps and little work."""
    if issubclass(algorithm, PPO):
        settings = {"batch_size": 16, "n_epochs": 2, "learning_rate": 1e-2, **settings}
    return algorithm(policy, env or Noise(), n_steps=steps, seed=3, device="cpu", **settings)


def parameters(model) -> list[np.ndarray]:
    return [p.detach().numpy().copy() for p in model.policy.parameters()]
