"""Environments as pure functions, stepped inside jit: the counterpart of the vector environments on the host."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int32, Key, Num

from escapevelocity.envs._tasks import Task
from escapevelocity.envs._vector import Transition


@runtime_checkable
class Simulator(Protocol):
    """One environment without a time limit, as pure functions. States are pytrees of arrays that keep their dtypes."""

    def reset(self, key: Array) -> tuple[Any, Array]:
        """Start an episode: the state, and the float32 observation of the task's shape."""
        ...

    def step(self, key: Array, state: Any, action: Array) -> tuple[Any, Array, Array, Array]:
        """Do one step: the next state, its observation, the float32 reward, and whether the task ended the episode."""
        ...


class DeviceState(NamedTuple):
    """One environment within an episode."""

    simulator: Any
    """The simulator's state."""
    elapsed: Int32[Array, ""]
    """Steps since the start of the episode."""


class DeviceTransition(NamedTuple):
    """What one step of one environment did."""

    next_observation: Float[Array, "*shape"]
    """The true successor, the final observation where the episode ended."""
    reward: Float[Array, ""]
    """As the task gave it."""
    terminated: Bool[Array, ""]
    """The task ended the episode, be it exactly at the time limit."""
    truncated: Bool[Array, ""]
    """The time limit alone ended the episode."""


@dataclass(frozen=True)
class DeviceEnvironment:
    """One environment as pure functions; `jax.vmap` makes many. Nothing is reset inside: that is the caller's part.

    Attributes:
        simulator: the task itself.
        episode_limit: steps after which an episode is truncated, or None.
    """

    simulator: Simulator
    episode_limit: int | None

    def reset(self, key: Key[Array, ""]) -> tuple[DeviceState, Float[Array, "*shape"]]:
        """Start an episode.

        Args:
            key: decides the start.

        Returns:
            The state and the first observation.
        """
        state, observation = self.simulator.reset(key)
        return DeviceState(state, jnp.int32(0)), observation

    def step(
        self, key: Key[Array, ""], state: DeviceState, action: Num[Array, "*size"]
    ) -> tuple[DeviceState, DeviceTransition]:
        """Do one step. What a step after the end of an episode gives is undefined.

        Args:
            key: decides the task's own randomness.
            state: as `reset` or `step` gave it.
            action: () int32 counted from 0, or (size,) float32.

        Returns:
            The next state and the transition.
        """
        simulated, observation, reward, terminated = self.simulator.step(key, state.simulator, action)
        elapsed = state.elapsed + 1
        at_limit = jnp.bool_(False) if self.episode_limit is None else elapsed >= self.episode_limit
        transition = DeviceTransition(observation, reward, terminated, at_limit & ~terminated)
        return DeviceState(simulated, elapsed), transition


@lru_cache(maxsize=32)
def make_device_environment(task: Task) -> DeviceEnvironment:
    """The task as pure functions; the same object each time, so that what was compiled for it is found again.

    Args:
        task: one whose backend is `gymnax`.

    Raises:
        UserError: Gymnax is not installed.
    """
    from escapevelocity.envs._gymnax import GymnaxSimulator

    return DeviceEnvironment(GymnaxSimulator(task.name), task.episode_limit)


class HostedEnvironments:
    """Device environments with the face of `HostEnvironments`, for evaluation and for measuring observations.

    Args:
        task: one whose backend is `gymnax`.
        seeds: one for each environment; its episodes depend on its seed and its own actions alone.
    """

    def __init__(self, task: Task, seeds: Sequence[int]):
        self.num_envs = len(seeds)
        self._reset, self._step = _vectorised(make_device_environment(task))
        self._keys = jax.vmap(jax.random.key)(jnp.asarray(seeds, jnp.uint32))
        self._draws = np.zeros(self.num_envs, np.uint32)
        self._states, _ = self._reset(self._keys, self._draws)
        self._transition: DeviceTransition | None = None

    def reset(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Start new episodes in `rows` (indices; default all); returns their first observations in order, flattened."""
        chosen = np.arange(self.num_envs) if rows is None else np.asarray(rows)
        fresh, observations = self._reset(self._keys, self._draws)
        started = np.zeros(self.num_envs, bool)
        started[chosen] = True
        self._draws = self._draws + started
        self._states = jax.tree.map(
            lambda new, old: jnp.where(started.reshape(-1, *[1] * (new.ndim - 1)), new, old),
            fresh,
            self._states,
        )
        return np.asarray(observations).reshape(self.num_envs, -1)[chosen]

    def send(self, actions: np.ndarray) -> None:
        """Do one step: (n, size) float for Box actions, (n,) int for Discrete, counted from 0."""
        kind = np.int32 if np.issubdtype(actions.dtype, np.integer) else np.float32
        self._states, self._transition = self._step(
            self._keys, self._draws, self._states, np.asarray(actions, kind)
        )
        self._draws = self._draws + np.uint32(1)

    def receive(self) -> Transition:
        """What the step that `send` started did, observations flattened."""
        observations, *others = map(np.asarray, self._transition or ())
        return Transition(observations.reshape(self.num_envs, -1), *others)

    def close(self) -> None:
        """Nothing to free."""


@lru_cache(maxsize=8)
def _vectorised(environment: DeviceEnvironment) -> tuple[Any, Any]:
    def reset(key: Array, draw: Array) -> tuple[DeviceState, Array]:
        return environment.reset(jax.random.fold_in(key, draw))

    def step(
        key: Array, draw: Array, state: DeviceState, action: Array
    ) -> tuple[DeviceState, DeviceTransition]:
        return environment.step(jax.random.fold_in(key, draw), state, action)

    return jax.jit(jax.vmap(reset)), jax.jit(jax.vmap(step))
