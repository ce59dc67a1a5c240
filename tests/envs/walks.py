"""Walks through environments, written down step by step with the bookkeeping done anew here."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from escapevelocity.envs import HostEnvironments, Task, Transition, make_environments


class Walk(NamedTuple):
    """Everything that happened, time first; `elapsed` is t of the successor."""

    observations: np.ndarray
    actions: np.ndarray
    next_observations: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    elapsed: np.ndarray


def walk(
    task: Task, seeds: list[int], steps: int, act: Callable[[np.ndarray], np.ndarray], threads: int = 1
) -> Walk:
    """`steps` steps of one environment per seed; `act` sees the observations."""
    envs: HostEnvironments = make_environments(task, seeds, threads)
    before = envs.reset().copy()
    elapsed = np.zeros(len(seeds), int)
    rows = []
    for _ in range(steps):
        actions = act(before)
        envs.send(actions)
        after: Transition = envs.receive()
        elapsed += 1
        rows.append((before.copy(), actions, *(np.array(x) for x in after), elapsed.copy()))
        before = np.array(after.next_observations)
        ended = np.flatnonzero(after.terminated | after.truncated)
        if len(ended):
            before[ended] = envs.reset(ended)
            elapsed[ended] = 0
    envs.close()
    return Walk(*(np.stack(column) for column in zip(*rows, strict=True)))


def uniform(task: Task, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    """A uniform policy for Box tasks, in float32 as the trainer sends actions."""
    rng = np.random.default_rng(seed)
    low, high = np.array(task.actions.low), np.array(task.actions.high)
    return lambda before: rng.uniform(low, high, (len(before), task.actions.size)).astype(np.float32)
