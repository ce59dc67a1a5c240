"""Keep the best: of each member, the parameters with which its smoothed return was highest."""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from escapevelocity.errors import UserError
from escapevelocity.runs import open_run, read_records
from escapevelocity.runs.best import has_best, load_best, save_best

WINDOW = 5
"""A return is smoothed over so many batches in which an episode ended."""

Best = dict[str, Any]
"""agent: pytree, members first; return: the smoothed return of each member, −inf before it has one; step: environment
steps at the end of the batch that it collected."""


class BestKeeper:
    """Follows a run's returns and keeps, in memory, the parameters that collected the best batches.

    What is kept are the parameters *before* the update of the best batch: they earned its return, and a single
    update can ruin them. The file is written where a segment ends, however it ends, and before the first batch: it also
    says that the best is wanted, whenever the run is resumed. A run that goes on after a crash meets the same batches
    again, so nothing is lost.

    Args:
        path: the run's folder.
        seeds: its members.
    """

    def __init__(self, path: Path, seeds: Sequence[int]) -> None:
        self._path, self._seeds = path, tuple(seeds)
        self._returns: dict[int, deque[float]] = {seed: deque(maxlen=WINDOW) for seed in seeds}
        self._agents: list[PyTree] = []
        self._best: Best | None = None

    def restore(self, like: PyTree) -> None:
        """Pick up what was known when the committed segments were done; start anew, with a warning, after damage.

        Args:
            like: an agent with the members as first axis.
        """
        try:
            done, _ = open_run(self._path).latest_checkpoint()
            rows = read_records(self._path, done).to_pylist()  # Whatever has become of what is behind them.
            best = load_best_agents(self._path, like, len(self._seeds)) if has_best(self._path) else None
        except UserError as error:  # Resuming repairs the run; the best must not stand in its way.
            warnings.warn(f"the best checkpoint starts anew: {error}", RuntimeWarning, stacklevel=2)
            return
        for row in rows:
            self._add(row)
        self._best = best

    def before_update(self, agents: Sequence[PyTree]) -> None:
        """Remember the parameters with which the batch is collected: of each group, members first."""
        self._agents = list(agents)
        if self._best is None:
            self._best = _empty(self._joined(), len(self._seeds))
            self.save()

    def offer(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take in the batch's rows; keep the parameters of members that did better than ever."""
        better = [(row, smoothed) for row in rows if self._is_better(row, smoothed := self._add(row))]
        if not better or self._best is None:
            return
        agents = self._joined()
        for row, smoothed in better:
            index = self._seeds.index(row["seed"])
            self._best["return"][index] = smoothed
            self._best["step"][index] = row["env_steps"]
            for kept, now in zip(jax.tree.leaves(self._best["agent"]), jax.tree.leaves(agents), strict=True):
                kept[index] = now[index]

    def save(self) -> None:
        """Write the file, if a batch has begun."""
        if self._best is not None:
            save_best(self._path, self._best)

    def _joined(self) -> PyTree:
        return jax.tree.map(lambda *parts: np.concatenate(parts), *self._agents)

    def _is_better(self, row: Mapping[str, Any], smoothed: float) -> bool:
        if self._best is None:
            return False
        return bool(smoothed > self._best["return"][self._seeds.index(row["seed"])])  # False for NaN.

    def _add(self, row: Mapping[str, Any]) -> float:
        """Take in a row; give the smoothed return, NaN where no episode ended or too few batches had one."""
        value, recent = row["perf/return_mean"], self._returns[row["seed"]]
        if value is None or not math.isfinite(value):
            return math.nan
        recent.append(float(value))
        return float(np.mean(recent)) if len(recent) == WINDOW else math.nan


def load_best_agents(path: Path, like: PyTree, members: int) -> Best:
    """Load the best parameters of a run.

    Args:
        path: the run's folder.
        like: an agent with the members as first axis.
        members: how many.

    Raises:
        UserError: when none were kept, or the file is damaged.
    """
    return load_best(path, _empty(like, members))


def _empty(like: PyTree, members: int) -> Best:
    return {
        "agent": jax.tree.map(lambda leaf: np.array(leaf), like),
        "return": np.full(members, -np.inf),
        "step": np.zeros(members, np.int64),
    }
