"""Returns and lengths of the episodes that end in a batch; an episode counts once."""

from typing import NamedTuple

import numpy as np


class EpisodeSummary(NamedTuple):
    """One member's finished episodes of a batch; mean and max are NaN where none finished."""

    return_mean: float
    return_max: float
    length_mean: float
    episodes: int


class EpisodeTracker:
    """Carries the unfinished episodes of (members, environments) from batch to batch."""

    def __init__(self, members: int, envs: int):
        self._returns = np.zeros((members, envs))
        self._lengths = np.zeros((members, envs), np.int64)

    def add(self, rewards: np.ndarray, ended: np.ndarray) -> list[EpisodeSummary]:
        """Take in a batch.

        Args:
            rewards: (time, members, environments), as the task gave them.
            ended: same shape, true in the last row of an episode.

        Returns:
            One summary per member.
        """
        summaries = []
        for member in range(rewards.shape[1]):
            returns: list[float] = []
            lengths: list[int] = []
            for env in range(rewards.shape[2]):
                at = member, env
                starts = np.array([0, *(np.flatnonzero(ended[:, *at]) + 1)])
                # Sums of stretches, not differences of a running sum: a non-finite reward spoils one episode.
                # The added zero is an empty last stretch where the batch ends with an episode.
                returned = np.add.reduceat(np.append(rewards[:, *at].astype(np.float64), 0.0), starts)
                length = np.diff([*starts, len(rewards)])
                returned[0] += self._returns[at]
                length[0] += self._lengths[at]
                returns += returned[:-1].tolist()
                lengths += length[:-1].tolist()
                self._returns[at], self._lengths[at] = returned[-1], length[-1]
            summaries.append(_summary(returns, lengths))
        return summaries

    def unfinished(self) -> np.ndarray:
        """Episodes under way, per member."""
        return (self._lengths > 0).sum(axis=1)


def _summary(returns: list[float], lengths: list[int]) -> EpisodeSummary:
    if not returns:
        return EpisodeSummary(float("nan"), float("nan"), float("nan"), 0)
    return EpisodeSummary(float(np.mean(returns)), max(returns), float(np.mean(lengths)), len(returns))
