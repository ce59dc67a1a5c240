"""Gymnasium environments small enough to know their values by hand. Import this module to have them registered."""

from typing import ClassVar

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete


class Sign(gymnasium.Env):
    """One step long: the observation is −1 or +1, and the reward is 1 for the action that names it, else −1.

    The best policy has value 1 in both states; the uniform one 0.
    """

    observation_space = Box(-1, 1, (1,), np.float32)
    action_space = Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = int(self.np_random.integers(2))
        return np.array([2 * self.state - 1], np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), 1.0 if action == self.state else -1.0, True, False, {}


class Delay(gymnasium.Env):
    """Two steps long, observations 0 and 1; the first is for nothing, the second pays 1 − (a − ½)².

    The best policy has V(1) = 1 and V(0) = γ.
    """

    observation_space = Box(0, 1, (1,), np.float32)
    action_space = Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.state += 1
        reward = 0.0 if self.state == 1 else 1.0 - (float(action[0]) - 0.5) ** 2
        return np.ones(1, np.float32), reward, self.state == 2, False, {}


class Walk(gymnasium.Env):
    """A random walk in three dimensions that the action steers a little, six steps long or until it has gone far.

    `faults` maps an environment seed to (what, step): in that step of its life the environment seeded so gives a NaN,
    in its reward, in the observation, or in the first observation of the next episode.
    """

    faults: ClassVar[dict[int, tuple[str, int]]] = {}
    observation_space = Box(-np.inf, np.inf, (3,), np.float32)
    action_space = Discrete(3)
    life = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.fault, self.life = self.faults.get(seed, ("", 0)), 0
        self.state = self.np_random.normal(size=3)
        if self.fault[0] == "first observation" and self.life >= self.fault[1]:
            self.fault = ("", 0)
            return np.full(3, np.nan, np.float32), {}
        return self.state.astype(np.float32), {}

    def step(self, action):
        self.life += 1
        self.state = self.state + 0.3 * self.np_random.normal(size=3)
        self.state[action] += 0.5
        reward, observation = float(self.state[0]), self.state
        if self.life == self.fault[1] and self.fault[0] == "reward":
            reward = np.nan
        if self.life == self.fault[1] and self.fault[0] == "observation":
            observation = self.state * np.nan
        return observation.astype(np.float32), reward, bool(self.state.max() > 3), False, {}


for entry, limit in ((Sign, None), (Delay, None), (Walk, 6)):
    name = f"Ev{entry.__name__}-v0"
    if name not in gymnasium.registry:
        gymnasium.register(name, entry, max_episode_steps=limit)
