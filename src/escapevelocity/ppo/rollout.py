"""Collecting experience: the policy acts in one lane of environments while simulators work on the others."""

import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from escapevelocity.envs import (
    BoxActions,
    HostEnvironments,
    ObservationStatistics,
    Observer,
    Task,
    environment_seeds,
    make_environments,
)
from escapevelocity.ppo.config import EnvironmentConfig

PolicyStep = Callable[[tuple, np.ndarray, np.ndarray], np.ndarray]
"""(parameters, observations (m, e, inputs), noise (m, e, _)) -> actions (m, e), or for Box tasks actions and
environment actions side by side (m, e, 2 × size)."""


@dataclass
class Rollout:
    """A batch of real transitions of a group of members. Arrays are (time, members, environments, …)."""

    observations: np.ndarray
    """Network inputs, float32."""
    next_observations: np.ndarray
    """The true successors, as network inputs."""
    actions: np.ndarray
    """As the distribution drew them."""
    noise: np.ndarray
    """Standard noise the actions were made from."""
    rewards: np.ndarray
    """As the task gave them, float32."""
    terminated: np.ndarray
    """The task ended the episode."""
    truncated: np.ndarray
    """The time limit ended the episode."""

    @classmethod
    def empty(cls, length: int, members: int, envs: int, inputs: int, task: Task) -> "Rollout":
        """Buffers for one batch; `noise` comes with each batch."""
        shape = (length, members, envs)
        box = isinstance(task.actions, BoxActions)
        return cls(
            observations=np.zeros((*shape, inputs), np.float32),
            next_observations=np.zeros((*shape, inputs), np.float32),
            actions=np.zeros((*shape, task.actions.size), np.float32) if box else np.zeros(shape, np.int32),
            noise=np.zeros((*shape, task.actions.size), np.float32),
            rewards=np.zeros(shape, np.float32),
            terminated=np.zeros(shape, bool),
            truncated=np.zeros(shape, bool),
        )


class Lane:
    """Some environments of some members, stepped together. Lanes take turns, to keep the simulators busy."""

    def __init__(
        self,
        rollout: Rollout,
        members: slice,
        envs: slice,
        host: HostEnvironments,
        observer: Observer,
        box: bool,
    ):
        self._rollout, self._index = rollout, (slice(None), members, envs)
        self._host, self._observer, self._box = host, observer, box
        self._members, self._num_envs = members, envs.stop - envs.start
        self._num_members = members.stop - members.start
        self.elapsed = np.zeros(host.num_envs, np.int64)
        """Steps since the start of each environment's episode."""
        self._inputs = np.empty((host.num_envs, observer.output_size), np.float32)
        observer.write(host.reset(), self.elapsed, self._inputs)

    def begin(self, policy: PolicyStep, parameters: tuple) -> None:
        """Start a batch with the members' parameters (a tuple of arrays) and send the first actions."""
        self._policy, self._parameters = policy, parameters
        r, index = self._rollout, self._index
        self._observations, self._next = r.observations[index], r.next_observations[index]
        self._actions, self._noise, self._rewards = r.actions[index], r.noise[index], r.rewards[index]
        self._terminated, self._truncated = r.terminated[index], r.truncated[index]
        self._act(0)

    def finish_step(self, t: int, last: bool) -> None:
        """Take in step t's outcome, reset what ended, and unless it is the `last`, send the next actions."""
        step = self._host.receive()
        shape = (self._num_members, self._num_envs)
        self.elapsed += 1
        inputs = self._inputs
        self._observer.write(step.next_observations, self.elapsed, inputs)
        self._next[t] = inputs.reshape(*shape, -1)
        self._rewards[t] = step.rewards.reshape(shape)
        ended = step.terminated | step.truncated
        if ended.any():
            self._terminated[t] = step.terminated.reshape(shape)
            self._truncated[t] = step.truncated.reshape(shape)
            self._restart(np.flatnonzero(ended))
        else:
            self._terminated[t] = self._truncated[t] = False
        if not last:
            self._act(t + 1)

    def close(self) -> None:
        """Free the simulators."""
        self._host.close()

    def _act(self, t: int) -> None:
        self._observations[t] = self._inputs.reshape(self._num_members, self._num_envs, -1)
        drawn = np.asarray(self._policy(self._parameters, self._observations[t], self._noise[t]))
        if self._box:
            size = drawn.shape[-1] // 2
            self._actions[t] = drawn[..., :size]
            self._host.send(drawn[..., size:].reshape(-1, size))
        else:
            self._actions[t] = drawn
            self._host.send(drawn.reshape(-1))

    def _restart(self, rows: np.ndarray) -> None:
        self.elapsed[rows] = 0
        first = np.empty((len(rows), self._inputs.shape[1]), np.float32)
        self._observer.write(self._host.reset(rows), self.elapsed[rows], first, rows)
        self._inputs[rows] = first


def make_lanes(
    task: Task,
    config: EnvironmentConfig,
    rollout: Rollout,
    seeds: Sequence[int],
    statistics: ObservationStatistics,
    segment: int,
    count: int,
    threads: int,
) -> list[Lane]:
    """Fresh environments of a group of members for one segment, split into lanes.

    Args:
        task: the task.
        config: how it is observed.
        rollout: the group's buffers, which the lanes fill.
        seeds: the members' seeds.
        statistics: one row of observation statistics per member.
        segment: number of the segment, from which the environments' seeds derive.
        count: lanes; each takes an equal part of every member's environments, and none is left without one.
        threads: simulator threads per lane.
    """
    members = len(seeds)
    all_seeds = np.array(environment_seeds(seeds, config.num_envs, segment)).reshape(members, config.num_envs)
    count = min(count, config.num_envs)
    edges = [config.num_envs * i // count for i in range(count + 1)]
    lanes = []
    for start, stop in itertools.pairwise(edges):
        repeated = ObservationStatistics(*(np.repeat(s, stop - start, axis=0) for s in statistics))
        observer = Observer(repeated, task.episode_limit if config.append_time else None)
        host = make_environments(task, all_seeds[:, start:stop].ravel().tolist(), threads)
        box = isinstance(task.actions, BoxActions)
        lanes.append(Lane(rollout, slice(0, members), slice(start, stop), host, observer, box))
    return lanes


def collect(lanes: Sequence[Lane], length: int) -> None:
    """Run every lane for `length` steps, in turn; each has been given its parameters by `begin`."""
    for t in range(length):
        for lane in lanes:
            lane.finish_step(t, last=t == length - 1)


def simulator_threads(num_lanes: int) -> int:
    """Threads for each of `num_lanes` lanes that share this machine's cores."""
    return max(1, (os.cpu_count() or 1) // num_lanes)
