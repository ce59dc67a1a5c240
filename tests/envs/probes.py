"""Hand-written Gymnasium environments with every number known; importing this registers them."""

from importlib.util import find_spec
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary

needs_envpool = pytest.mark.skipif(find_spec("envpool") is None, reason="EnvPool is for Linux")
BACKENDS = (pytest.param("envpool", marks=needs_envpool), "gymnasium")

CORRIDOR_LIMIT = 5
ECHO_LIMIT = 4
ECHO_LOW, ECHO_HIGH = (-1.0, -2.0), (3.0, 0.5)


def real_box(*shape: int) -> Box:
    return Box(-np.inf, np.inf, shape, np.float64)


class Corridor(gymnasium.Env):
    """Observation (seed, episode, step). Action 4 walks on, action 5 jumps out: a termination.

    The reward of a step is 100 · episode + 10 · (step before it) + (1 for a jump).
    """

    observation_space = real_box(3)
    action_space = Discrete(2, start=4)

    def __init__(self) -> None:
        self._number = -1.0
        self._episode = -1

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        if seed is not None:
            self._number = float(seed)
        self._episode += 1
        self._step = 0
        return self._observation(), {}

    def step(self, action):
        if action not in (4, 5):
            raise ValueError(f"the corridor got action {action!r}")
        jump = int(action) == 5
        reward = 100.0 * self._episode + 10.0 * self._step + jump
        self._step += 1
        return self._observation(), reward, jump, False, {}

    def _observation(self) -> np.ndarray:
        return np.array([self._number, self._episode, self._step], np.float64)


class Echo(gymnasium.Env):
    """Never ends by itself; observation (step, last action), reward a₀ + 10 a₁. `seen` logs successors."""

    observation_space = real_box(3)
    action_space = Box(np.array(ECHO_LOW, np.float32), np.array(ECHO_HIGH, np.float32))
    seen: ClassVar[list[np.ndarray]] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self._step = 0
        return np.zeros(3), {}

    def step(self, action):
        self._step += 1
        observation = np.array([self._step, *action], np.float64)
        self.seen.append(observation)
        return observation, float(action[0] + 10 * action[1]), False, False, {}


class Spaces(gymnasium.Env):
    """Any spaces at all; always returns a sample of the observation space and never ends by itself."""

    def __init__(self, observation_space: Any = None, action_space: Any = None):
        self.observation_space = observation_space or Box(-1, 1, (2,))
        self.action_space = action_space or Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, False, False, {}


class Count(gymnasium.Env):
    """Discrete observations 7, 8, 9, 7, …: the step modulo 3, counted from 7."""

    observation_space = Discrete(3, start=7)
    action_space = Discrete(1)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        self._step = 0
        return 7, {}

    def step(self, action):
        self._step += 1
        return 7 + self._step % 3, 0.0, False, False, {}


def missing_package() -> gymnasium.Env:
    raise gymnasium.error.DependencyNotInstalled("simulator\nis not installed")


_HALF_BOUNDED = Box(np.array([-np.inf, 5.0, -np.inf]), np.array([np.inf, np.inf, -3.0]), dtype=np.float64)

for _id, _entry, _kwargs in (
    ("EvCorridor-v0", Corridor, {"max_episode_steps": CORRIDOR_LIMIT}),
    ("EvEcho-v0", Echo, {"max_episode_steps": ECHO_LIMIT}),
    ("EvEndless-v0", Echo, {}),
    ("EvCount-v0", Count, {"max_episode_steps": 10}),
    ("EvMissing-v0", missing_package, {}),
    ("EvGrid-v0", Spaces, {"kwargs": {"observation_space": Box(-1, 1, (2, 3))}}),
    ("EvScalar-v0", Spaces, {"kwargs": {"observation_space": Box(-1, 1, ())}}),
    ("EvHalfBounded-v0", Spaces, {"kwargs": {"action_space": _HALF_BOUNDED}}),
    ("EvImage-v0", Spaces, {"kwargs": {"observation_space": Box(0, 255, (8, 8, 3), np.uint8)}}),
    ("EvDict-v0", Spaces, {"kwargs": {"observation_space": Dict(a=Box(-1, 1))}}),
    ("EvBits-v0", Spaces, {"kwargs": {"action_space": MultiBinary(3)}}),
    ("EvMatrix-v0", Spaces, {"kwargs": {"action_space": Box(-1, 1, (2, 2))}}),
    ("EvWhole-v0", Spaces, {"kwargs": {"action_space": Box(0, 5, (2,), np.int64)}}),
    ("EvNothing-v0", Spaces, {"kwargs": {"observation_space": Box(-1, 1, (0,))}}),
):
    gymnasium.register(_id, entry_point=_entry, **_kwargs)
