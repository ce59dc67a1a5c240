"""From a raw observation to what the network sees: fixed normalisation, and the time appended.

Source: Moalla et al. 2024 (arXiv 2405.00662), code: (x − mean) / max(std, 1e-6) with the statistics of
a uniform policy's first 4,000 steps, fixed for the whole run, unclipped; then 2t/limit − 1 as a last entry.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from escapevelocity.envs._seeding import Purpose, environment_seeds
from escapevelocity.envs._tasks import BoxActions, Task
from escapevelocity.envs._vector import make_environments
from escapevelocity.errors import require

MIN_STD = 1e-6


class ObservationStatistics(NamedTuple):
    """Mean and standard deviation (ddof 1) of each observation entry: (members, observation_size) float64."""

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def identity(cls, members: int, size: int) -> "ObservationStatistics":
        """Statistics that change nothing."""
        return cls(np.zeros((members, size)), np.ones((members, size)))


class Observer:
    """Writes n rows of network inputs: normalised observations as float32, then the time on request.

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
        self.output_shape: tuple[int, ...] = (self.output_size,)
        self.dtype = np.dtype(np.float32)

    def write(
        self, observations: np.ndarray, elapsed: np.ndarray, out: np.ndarray, rows: np.ndarray | None = None
    ) -> None:
        """Write network inputs into `out`.

        Args:
            observations: (n, observation_size), as the environments gave them.
            elapsed: (n,) steps since the start of each episode.
            out: (n, output_size) float32, which is filled.
            rows: indices of the environments that the three arrays hold; default all.
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

    Raises:
        UserError: the task's observations are images.
    """
    require(
        not task.pixels, "task", task.name, "one without images for a measured normalisation; theirs is none"
    )
    members = len(member_seeds)
    seeds = environment_seeds(member_seeds, num_envs, purpose=Purpose.NORMALIZATION)
    envs = make_environments(task, seeds, threads)
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
    per_member = seen.reshape(-1, members, num_envs, task.observation_size)
    return ObservationStatistics(per_member.mean(axis=(0, 2)), per_member.std(axis=(0, 2), ddof=1))


def _uniform_actions(task: Task, generator: np.random.Generator, count: int) -> np.ndarray:
    if isinstance(task.actions, BoxActions):
        low, high = np.array(task.actions.low), np.array(task.actions.high)
        # No uniform distribution without both bounds: the reach of a fresh normal head, [−1, 1], stands in.
        low = np.where(np.isfinite(low), low, np.minimum(high, 1) - 2)
        high = np.where(np.isfinite(high), high, low + 2)
        return generator.uniform(low, high, (count, task.actions.size))
    return generator.integers(task.actions.size, size=count)
