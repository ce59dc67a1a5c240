"""Collecting experience: the policy acts in one lane of environments while simulators work on the others."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import numpy as np

from escapevelocity.envs import (
    BoxActions,
    FrameStack,
    HostEnvironments,
    ObservationStatistics,
    Observer,
    Task,
    environment_seeds,
    make_environments,
)
from escapevelocity.ppo.config import EnvironmentConfig

Array = np.ndarray | jax.Array
PolicyStep = Callable[[tuple, Array, Array], Array]
"""(parameters, observations (m, e, *shape), noise (m, e, _)) -> actions (m, e), or for Box tasks actions and
environment actions side by side (m, e, 2 × size)."""


@dataclass
class Rollout:
    """A batch of real transitions of a group of members. Arrays are (time, members, environments, …)."""

    observations: Array
    """Network inputs: float32, or bytes of images."""
    next_observations: Array
    """The true successors, as network inputs."""
    actions: Array
    """As the distribution drew them."""
    noise: Array
    """Standard noise the actions were made from."""
    rewards: Array
    """As the task gave them, float32."""
    terminated: Array
    """The task ended the episode."""
    truncated: Array
    """The time limit ended the episode."""

    @classmethod
    def empty(cls, length: int, members: int, envs: int, inputs: tuple[int, ...], task: Task) -> "Rollout":
        """Buffers for one batch, with observations of shape `inputs`; `noise` comes with each batch."""
        shape = (length, members, envs)
        box = isinstance(task.actions, BoxActions)
        dtype = np.uint8 if task.pixels else np.float32
        return cls(
            observations=np.zeros((*shape, *inputs), dtype),
            next_observations=np.zeros((*shape, *inputs), dtype),
            actions=np.zeros((*shape, task.actions.size), np.float32) if box else np.zeros(shape, np.int32),
            noise=np.zeros((*shape, task.actions.size), np.float32),
            rewards=np.zeros(shape, np.float32),
            terminated=np.zeros(shape, bool),
            truncated=np.zeros(shape, bool),
        )

    def of_members(self, members: slice) -> "Rollout":
        """The same buffers, seen for some members."""
        return Rollout(**{name: array[:, members] for name, array in vars(self).items()})


class Lane:
    """Some environments of some members, stepped together. Lanes take turns, to keep the simulators busy."""

    def __init__(
        self,
        rollout: Rollout,
        members: slice,
        envs: slice,
        host: HostEnvironments,
        observer: Observer | FrameStack,
        box: bool,
    ):
        self._rollout, self._index = rollout, (slice(None), members, envs)
        self._host, self._observer, self._box = host, observer, box
        self._members, self._num_envs = members, envs.stop - envs.start
        self._num_members = members.stop - members.start
        self.kept: list[jax.Array] | None = None
        """What the policy saw in each step, on the device; None where it is not kept there."""
        self.elapsed = np.zeros(host.num_envs, np.int64)
        """Steps since the start of each environment's episode."""
        self._inputs = np.empty((host.num_envs, *observer.output_shape), observer.dtype)
        self._inputs_by_member = self._inputs.reshape(
            self._num_members, self._num_envs, *observer.output_shape
        )
        observer.write(host.reset(), self.elapsed, self._inputs)

    def begin(self, policy: PolicyStep, parameters: tuple) -> None:
        """Start a batch and send the first actions; `parameters` are arrays of the whole rollout's members."""
        # A slice that takes all members would cost a copy per array.
        all_members = self._num_members == self._rollout.rewards.shape[1]
        self._policy = policy
        self._parameters = parameters if all_members else tuple(p[self._members] for p in parameters)
        r, index = self._rollout, self._index
        self._observations, self._next = r.observations[index], r.next_observations[index]
        self._actions, self._noise, self._rewards = r.actions[index], r.noise[index], r.rewards[index]
        self._terminated, self._truncated = r.terminated[index], r.truncated[index]
        self._terminated[...] = self._truncated[...] = False
        self._act(0)

    def finish_step(self, t: int, last: bool) -> None:
        """Take in step t's outcome, reset what ended, and unless it is the `last`, send the next actions."""
        step = self._host.receive()
        shape = (self._num_members, self._num_envs)
        self.elapsed += 1
        self._observer.write(step.next_observations, self.elapsed, self._inputs)
        self._next[t] = self._inputs_by_member
        self._rewards[t] = step.rewards.reshape(shape)
        ended = step.terminated | step.truncated
        if ended.any():
            self._terminated[t] = step.terminated.reshape(shape)
            self._truncated[t] = step.truncated.reshape(shape)
            self._restart(np.flatnonzero(ended))
        if not last:
            self._act(t + 1)

    def close(self) -> None:
        """Free the simulators."""
        self._host.close()

    def _act(self, t: int) -> None:
        self._observations[t] = self._inputs_by_member
        seen = self._observations[t]
        if self.kept is not None:
            seen = jax.device_put(seen)
            self.kept.append(seen)
        drawn = np.asarray(self._policy(self._parameters, seen, self._noise[t]))
        if self._box:
            size = drawn.shape[-1] // 2
            self._actions[t] = drawn[..., :size]
            self._host.send(drawn[..., size:].reshape(-1, size))
        else:
            self._actions[t] = drawn
            self._host.send(drawn.reshape(-1))

    def _restart(self, rows: np.ndarray) -> None:
        self.elapsed[rows] = 0
        first = np.empty((len(rows), *self._inputs.shape[1:]), self._inputs.dtype)
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
    """Fresh environments of a population for one segment, split into lanes.

    Args:
        task: the task.
        config: how it is observed.
        rollout: the population's buffers, which the lanes fill.
        seeds: the members' seeds.
        statistics: one row of observation statistics per member.
        segment: number of the segment, from which the environments' seeds derive.
        count: lanes; each takes an equal part of every member's environments (of the members, where each has
            but one environment), and none is left without one.
        threads: simulator threads per lane.
    """
    members = len(seeds)
    all_seeds = np.array(environment_seeds(seeds, config.num_envs, segment)).reshape(members, config.num_envs)
    everyone, each = slice(0, members), slice(0, config.num_envs)
    if config.num_envs == 1:
        blocks = [(part, each) for part in _parts(members, count)]
    else:
        blocks = [(everyone, part) for part in _parts(config.num_envs, count)]
    lanes = []
    for rows, columns in blocks:
        observer: Observer | FrameStack = FrameStack()
        if not task.pixels:
            own = (np.repeat(s[rows], columns.stop - columns.start, axis=0) for s in statistics)
            limit = task.episode_limit if config.append_time else None
            observer = Observer(ObservationStatistics(*own), limit)
        host = make_environments(task, all_seeds[rows, columns].ravel().tolist(), threads)
        box = isinstance(task.actions, BoxActions)
        lanes.append(Lane(rollout, rows, columns, host, observer, box))
    return lanes


def _parts(size: int, count: int) -> list[slice]:
    """Cut `size` things into `count` parts as equal as can be, fewer if there are fewer things."""
    count = min(count, size)
    return [slice(size * i // count, size * (i + 1) // count) for i in range(count)]


def collect(lanes: Sequence[Lane], length: int) -> None:
    """Run every lane for `length` steps, in turn; each has been given its parameters by `begin`."""
    for t in range(length):
        for lane in lanes:
            lane.finish_step(t, last=t == length - 1)


def simulator_threads(num_lanes: int) -> int:
    """Threads for each of `num_lanes` lanes that share this machine's cores."""
    return max(1, (os.cpu_count() or 1) // num_lanes)
