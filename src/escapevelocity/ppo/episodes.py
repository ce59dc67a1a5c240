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
        cumulated = np.cumsum(rewards, axis=0, dtype=np.float64)
        summaries = []
        for member in range(rewards.shape[1]):
            returns: list[float] = []
            lengths: list[int] = []
            for env in range(rewards.shape[2]):
                before, start = -self._returns[member, env], -self._lengths[member, env]
                for t in np.flatnonzero(ended[:, member, env]):
                    returns.append(float(cumulated[t, member, env] - before))
                    lengths.append(int(t + 1 - start))
                    before, start = cumulated[t, member, env], t + 1
                self._returns[member, env] = cumulated[-1, member, env] - before
                self._lengths[member, env] = len(rewards) - start
            summaries.append(_summary(returns, lengths))
        return summaries

    def unfinished(self) -> np.ndarray:
        """Episodes under way, per member."""
        return (self._lengths > 0).sum(axis=1)


def _summary(returns: list[float], lengths: list[int]) -> EpisodeSummary:
    if not returns:
        return EpisodeSummary(float("nan"), float("nan"), float("nan"), 0)
    return EpisodeSummary(float(np.mean(returns)), max(returns), float(np.mean(lengths)), len(returns))
