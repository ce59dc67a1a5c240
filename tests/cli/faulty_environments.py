"""Environments that break for one seed only; `--import faulty_environments` registers them.

Each returns 1 as reward and random observations, until its 101st step, where it breaks if it was seeded for the member
of seed 2 in training. With 64 steps per batch that is row 36 of batch 1.
"""

import gymnasium
import numpy as np

from escapevelocity.envs import environment_seeds

SICK_SEED, SICK_STEP, NUM_ENVS = 2, 100, 2
_SICK = {seed for segment in range(8) for seed in environment_seeds([SICK_SEED], NUM_ENVS, segment)}


class Faulty(gymnasium.Env):
    """`fault`: observation (not a number from then on), reward (once not a number) or huge (one reward of 1e30)."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (3,))
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,))

    def __init__(self, fault: str):
        self._fault, self._steps, self._sick = fault, 0, False

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._sick = seed in _SICK if seed is not None else self._sick
        return self._observe(), {}

    def step(self, action):
        reward = 1.0
        if self._sick and self._steps == SICK_STEP:
            reward = {"reward": np.nan, "huge": 1e30}.get(self._fault, 1.0)
        self._steps += 1
        return self._observe(), reward, False, False, {}

    def _observe(self):
        observation = self.np_random.uniform(-1.0, 1.0, 3).astype(np.float32)
        broken = self._sick and self._fault == "observation" and self._steps > SICK_STEP
        return np.full_like(observation, np.nan) if broken else observation


for _fault in ("observation", "reward", "huge"):
    gymnasium.register(f"Faulty{_fault.title()}-v0", Faulty, max_episode_steps=20, kwargs={"fault": _fault})
