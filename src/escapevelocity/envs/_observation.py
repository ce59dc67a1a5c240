"""From a raw observation to what the network sees: fixed normalisation, and the time appended.

Source: Moalla et al. 2024 (arXiv 2405.00662), code: (x − mean) / max(std, 1e-6) with the statistics of a uniform policy's
first 4,000 steps, fixed for the whole run and not clipped; then 2t/limit − 1 as a last entry.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from escapevelocity.envs._seeding import Purpose, environment_seeds
from escapevelocity.envs._tasks import BoxActions, Task
from escapevelocity.envs._vector import make_environments

MIN_STD = 1e-6


class ObservationStatistics(NamedTuple):
    """Mean and standard deviation (ddof 1) per member and observation entry, each (members, observation_size) float64."""

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def identity(cls, members: int, size: int) -> "ObservationStatistics":
        """Statistics that change nothing."""
        return cls(np.zeros((members, size)), np.ones((members, size)))


class Observer:
    """Writes n rows of network inputs: normalised observations as float32, with the time appended where `time_limit` is given.

    Args:
        statistics: one row of mean and std per environment, each (n, observation_size).
        time_limit: the episode limit that scales the appended time, or None to append nothing.
    """

    def __init__(self, statistics: ObservationStatistics, time_limit: int | None):
        self._mean = statistics.mean
        self._scale = 1.0 / np.maximum(statistics.std, MIN_STD)
        self._size = self._mean.shape[-1]
        self._limit = time_limit
        self.output_size = self._size + (time_limit is not None)

    def write(self, observations: np.ndarray, elapsed: np.ndarray, out: np.ndarray, rows: np.ndarray | None = None) -> None:
        """Fill `out` (n, output_size) from `observations` (n, observation_size) after `elapsed` (n,) steps of their episodes.

        With `rows` (indices of environments), the three arrays hold just these.
        """
        mean, scale = (self._mean, self._scale) if rows is None else (self._mean[rows], self._scale[rows])
        normalized = np.subtract(observations, mean)
        np.multiply(normalized, scale, out=out[:, : self._size], casting="same_kind")
        if self._limit is not None:
            out[:, self._size] = elapsed * (2.0 / self._limit) - 1.0


def measure_observations(
    task: Task, member_seeds: Sequence[int], num_envs: int, steps: int = 4000, threads: int = 1
) -> ObservationStatistics:
    """Observation statistics of a uniform policy, for each member from its own environments and actions.

    Args:
        task: the task to measure.
        member_seeds: one set of statistics is measured for each.
        num_envs: environments per member.
        steps: steps per member, all environments together, rounded up to whole vector steps.
        threads: EnvPool threads.
    """
    members = len(member_seeds)
    envs = make_environments(task, environment_seeds(member_seeds, num_envs, purpose=Purpose.NORMALIZATION), threads)
    generators = [np.random.default_rng((seed, int(Purpose.NORMALIZATION))) for seed in member_seeds]
    seen = np.empty((-(-steps // num_envs), members * num_envs, task.observation_size))
    envs.reset()
    for row in seen:
        envs.send(np.concatenate([_uniform_actions(task, generator, num_envs) for generator in generators]))
        step = envs.receive()
        row[:] = step.next_observations
        ended = np.flatnonzero(step.terminated | step.truncated)
        if len(ended):
            envs.reset(ended)
    envs.close()
    per_member = seen.reshape(-1, members, num_envs, task.observation_size).swapaxes(0, 1).reshape(members, -1, task.observation_size)
    return ObservationStatistics(per_member.mean(axis=1), per_member.std(axis=1, ddof=1))


def _uniform_actions(task: Task, generator: np.random.Generator, count: int) -> np.ndarray:
    if isinstance(task.actions, BoxActions):
        # Unbounded dimensions have no uniform distribution: a unit range stands in.
        low, high = np.clip(task.actions.low, -1e3, 1e3), np.clip(task.actions.high, -1e3, 1e3)
        return generator.uniform(low, high, (count, task.actions.size))
    return generator.integers(task.actions.size, size=count)
