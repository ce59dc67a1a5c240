"""Vector environments with one set of semantics: steps return true successors, the caller resets."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from escapevelocity.envs._tasks import BoxActions, DiscreteActions, Task, quiet


class Transition(NamedTuple):
    """What one step of n environments did. Every row is a real transition, also the last of an episode."""

    next_observations: np.ndarray
    """(n, observation_size) float, or of a game the screens, (n, 84, 84) uint8: the true successors, the final
    observation where an episode ended. (The screen on which a game ends is out of ale-py's reach, see _atari.py.)"""
    rewards: np.ndarray
    """(n,) float."""
    terminated: np.ndarray
    """(n,) bool: the task ended the episode."""
    truncated: np.ndarray
    """(n,) bool: the time limit ended the episode. Where the task ends exactly at its limit, Gymnasium's row
    is terminated; EnvPool does not tell the two apart, and its row is truncated."""


@runtime_checkable
class HostEnvironments(Protocol):
    """n environments that run on the host. Between `send` and `receive` there is time for other work."""

    num_envs: int

    def reset(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Start new episodes in `rows` (indices; default all); returns their first observations in order.

        Environments start from their seeds at the first call, which therefore resets all of them.
        """
        ...

    def send(self, actions: np.ndarray) -> None:
        """Start one step: (n, size) float for Box actions, (n,) int for Discrete, counted from 0."""
        ...

    def receive(self) -> Transition:
        """Wait for the step that `send` started."""
        ...

    def close(self) -> None:
        """Free the simulators."""
        ...


def make_environments(task: Task, seeds: Sequence[int], threads: int = 1) -> HostEnvironments:
    """Make environments of `task`, one per seed.

    Args:
        task: the task. Gymnax's are stepped inside the program when they train; here they wear the host's face, for
            evaluation.
        seeds: one per environment, each in [0, 2³¹).
        threads: EnvPool's and ale-py's; they change the speed, never a result.
    """
    with quiet():
        if task.backend == "gymnax":
            from escapevelocity.envs.device import HostedEnvironments

            return HostedEnvironments(task, seeds)
        if task.backend == "ale":
            from escapevelocity.envs._atari import AtariEnvironments

            return AtariEnvironments(task, seeds, threads)
        if task.backend == "envpool":
            return _EnvPool(task, seeds, threads)
        return _Gymnasium(task, seeds)


class _EnvPool:
    """EnvPool's send / receive; its convenience layer costs more than a small network's forward pass."""

    def __init__(self, task: Task, seeds: Sequence[int], threads: int):
        import envpool

        options: dict[str, Any] = {"seed": [int(s) for s in seeds], "num_threads": min(threads, len(seeds))}
        if task.episode_limit is not None:
            options["max_episode_steps"] = task.episode_limit
        self.num_envs = len(seeds)
        self._pool: Any = envpool.make_gymnasium(task.name, num_envs=len(seeds), **options)
        keys = self._pool._state_keys
        self._obs, self._reward = keys.index("obs"), keys.index("reward")
        self._done, self._truncated = keys.index("done"), keys.index("trunc")
        self._ids = np.arange(self.num_envs, dtype=np.int32)
        self._dtype = self._pool.spec.action_array_spec["action"].dtype
        self._start = task.actions.start if isinstance(task.actions, DiscreteActions) else 0
        space = self._pool.spec.gymnasium_observation_space
        discrete = isinstance(space, gymnasium.spaces.Discrete)
        self._one_hot = np.eye(int(space.n), dtype=np.float32) if discrete else None

    def reset(self, rows: np.ndarray | None = None) -> np.ndarray:
        self._pool._reset(self._ids if rows is None else np.asarray(rows, np.int32))
        return self._flat(self._pool._recv()[self._obs])

    def send(self, actions: np.ndarray) -> None:
        if self._start:
            actions = actions + self._start
        # A copy in any case: EnvPool refuses read-only arrays, and that is what NumPy sees of JAX's.
        self._pool._send([self._ids, self._ids, np.array(actions, self._dtype, order="C")])

    def receive(self) -> Transition:
        state = self._pool._recv()
        observations, truncated = self._flat(state[self._obs]), state[self._truncated]
        return Transition(observations, state[self._reward], state[self._done] & ~truncated, truncated)

    def close(self) -> None:
        self._pool.close()

    def _flat(self, observations: np.ndarray) -> np.ndarray:
        if self._one_hot is not None:
            return self._one_hot[observations.reshape(-1)]
        return observations.reshape(len(observations), -1)


class _Gymnasium:
    """Gymnasium's in-process vector environment with autoreset switched off, so that no row is a dummy."""

    def __init__(self, task: Task, seeds: Sequence[int]):
        limit = {} if task.episode_limit is None else {"max_episode_steps": task.episode_limit}

        def make() -> gymnasium.Env:
            environment = gymnasium.make(task.name, disable_env_checker=True, **limit)
            if isinstance(environment.observation_space, gymnasium.spaces.Discrete):
                environment = gymnasium.wrappers.FlattenObservation(environment)
            return environment

        self.num_envs = len(seeds)
        self._envs = SyncVectorEnv([make] * len(seeds), autoreset_mode=AutoresetMode.DISABLED)
        self._seeds: list[int | None] | None = [int(s) for s in seeds]
        self._discrete = not isinstance(task.actions, BoxActions)
        self._start = task.actions.start if isinstance(task.actions, DiscreteActions) else 0
        self._actions: np.ndarray | None = None

    def reset(self, rows: np.ndarray | None = None) -> np.ndarray:
        chosen = slice(None) if rows is None else rows
        if self._seeds is not None:
            # The very first reset seeds every environment; later ones go on from there.
            observations, _ = self._envs.reset(seed=self._seeds)
            self._seeds = None
        else:
            mask = np.zeros(self.num_envs, bool)
            mask[chosen] = True
            observations, _ = self._envs.reset(options={"reset_mask": mask})
        return observations.reshape(self.num_envs, -1)[chosen]

    def send(self, actions: np.ndarray) -> None:
        self._actions = actions + self._start if self._discrete else actions

    def receive(self) -> Transition:
        observations, rewards, terminated, truncated, _ = self._envs.step(self._actions)
        # A step at the limit that also terminates is a termination: the time limit changed nothing.
        return Transition(
            observations.reshape(self.num_envs, -1), rewards, terminated, truncated & ~terminated
        )

    def close(self) -> None:
        self._envs.close()
