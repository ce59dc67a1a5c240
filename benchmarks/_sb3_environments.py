"""Our environments behind Stable-Baselines3's `VecEnv`, so that both trainers see the very same task."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from escapevelocity.envs import (
    BoxActions,
    Observer,
    describe_task,
    environment_seeds,
    make_environments,
    measure_observations,
)


class SharedEnvironments(VecEnv):
    """The environments and fixed observation normalisation that our trainer uses for the same seed.

    Ended environments are reset at once; the final observation and whether it was the time limit go into `info`,
    where Stable-Baselines3 looks for them to bootstrap.

    Args:
        task: a task with Box actions.
        seed: the member's seed.
        num_envs: environments.
    """

    def __init__(self, task: str, seed: int, num_envs: int):
        described = describe_task(task)
        if not isinstance(described.actions, BoxActions):
            raise TypeError(f"task = {task!r}: must have Box actions")
        statistics = measure_observations(described, [seed], num_envs)
        self._host = make_environments(described, environment_seeds([seed], num_envs))
        self._observer = Observer(
            type(statistics)(*(np.repeat(x, num_envs, axis=0) for x in statistics)), None
        )
        low, high = (np.array(bound, np.float32) for bound in (described.actions.low, described.actions.high))
        unbounded = np.full(described.observation_size, np.inf, np.float32)
        super().__init__(num_envs, spaces.Box(-unbounded, unbounded), spaces.Box(low, high))
        self._returns = np.zeros(num_envs)
        self._finished: list[float] = []
        self._observations = np.empty((num_envs, described.observation_size), np.float32)

    def reset(self) -> np.ndarray:
        self._write(self._host.reset(), np.arange(self.num_envs))
        self._returns[:] = 0
        return self._observations.copy()

    def step_async(self, actions: np.ndarray) -> None:
        self._host.send(actions)

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        step = self._host.receive()
        self._write(step.next_observations, np.arange(self.num_envs))
        self._returns += step.rewards
        ended = step.terminated | step.truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        rows = np.flatnonzero(ended)
        for row in rows:
            infos[row]["terminal_observation"] = self._observations[row].copy()
            infos[row]["TimeLimit.truncated"] = bool(step.truncated[row])
            self._finished.append(float(self._returns[row]))
        if len(rows):
            self._returns[rows] = 0
            self._write(self._host.reset(rows), rows)
        return self._observations.copy(), step.rewards.astype(np.float32), ended, infos

    def finished_returns(self) -> list[float]:
        """Returns of the episodes that ended since the last call, in the task's own reward."""
        finished, self._finished = self._finished, []
        return finished

    def close(self) -> None:
        self._host.close()

    def _write(self, observations: np.ndarray, rows: np.ndarray) -> None:
        out = np.empty((len(rows), self._observations.shape[1]), np.float32)
        self._observer.write(observations, np.zeros(len(rows), np.int64), out, rows)
        self._observations[rows] = out

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self, attr_name, None)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise NotImplementedError("these environments have no attributes to set")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        raise NotImplementedError("these environments have no methods to call")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * self.num_envs

    def seed(self, seed: int | None = None) -> Sequence[None]:
        """The seed was given when the environments were made; EnvPool takes no other later."""
        return [None] * self.num_envs
