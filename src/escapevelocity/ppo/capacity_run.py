"""Capacity loss of a run's snapshots, while it trains or afterwards; both give the same numbers."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple

import numpy as np

from escapevelocity.errors import UserError, require
from escapevelocity.ppo.best import BestKeeper
from escapevelocity.ppo.capacity import CapacityConfig, CapacityMeter
from escapevelocity.ppo.config import PPOSpec
from escapevelocity.ppo.job import PPOJob, TrainingState, state_template
from escapevelocity.ppo.networks import Agent
from escapevelocity.ppo.saved import saved_spec
from escapevelocity.runs import Damaged, Emit, Run, Saved, open_run
from escapevelocity.runs.measured import add_measured, measured_path, read_measured


def table_name(config: CapacityConfig) -> str:
    """Name of the table in RUN/measured: `capacity` for the default probe, which readers prefer."""
    if config == CapacityConfig():
        return "capacity"
    return f"capacity-{config.data}-{config.probe_seed}"


class CapacityJob(PPOJob):
    """Training that measures each snapshot as it is taken; what is computed of the run stays the same.

    Args:
        path: the run's folder.
        keeper: as of `PPOJob`.
    """

    def __init__(self, path: Path, keeper: BestKeeper | None = None) -> None:
        super().__init__(keeper)
        self._path = path
        self._meter: CapacityMeter | None = None

    def segment(self, spec: PPOSpec, state: TrainingState, k: int, emit: Emit) -> TrainingState:
        """Train from boundary `k` to boundary `k + 1`, and measure the snapshots between them."""
        if self._meter is None:
            self._meter = CapacityMeter(spec, state.mean, state.std)
        return super().segment(spec, state, k, _MeasuringEmit(emit, self._path, spec.seeds, self._meter))


class _MeasuringEmit:
    """Passes everything on, and measures snapshots."""

    def __init__(self, emit: Emit, path: Path, seeds: Sequence[int], meter: CapacityMeter) -> None:
        self._emit, self._path, self._seeds, self._meter = emit, path, seeds, meter

    def __call__(self, row: Mapping[str, Any]) -> bool:
        return self._emit(row)

    def snapshot(self, index: int, step: int, arrays: Agent) -> None:
        """Save it, then measure it."""
        self._emit.snapshot(index, step, arrays)
        for block in self._meter.blocks:
            rows = _rows(self._seeds[block], index, step, self._meter.measure(arrays, block))
            add_measured(self._path, table_name(CapacityConfig()), rows)

    def fault(self, name: str, reason: str, arrays: Mapping[str, Any]) -> None:
        """Pass it on."""
        self._emit.fault(name, reason, arrays)


class Part(NamedTuple):
    """One thing that is measured at a time: a snapshot of some members."""

    snapshot: Saved
    members: slice


class RunCapacity:
    """Measures the snapshots of a run on disk, and adds them to RUN/measured as they are done.

    What has been measured before, in training or by a measurement that was stopped, is kept.

    Args:
        path: the run's folder.
        config: what is fitted to what.
        snapshots: at most so many, evenly spread, with the first and the last; by default all.

    Raises:
        UserError: not a PPO run; one without snapshots or a whole checkpoint; a number of snapshots below 2.
    """

    def __init__(
        self, path: str | os.PathLike[str], config: CapacityConfig | None = None, snapshots: int | None = None
    ) -> None:
        require(
            snapshots is None or snapshots >= 2, "snapshots", snapshots, "at least 2, the first and the last"
        )
        self.run: Run = open_run(path)
        self.spec = saved_spec(path)
        self.config = config or CapacityConfig()
        self.damaged: list[str] = []
        """A line for each snapshot that could not be read."""
        self.chosen = _spread(self.run.snapshots(), snapshots)
        if not self.chosen:
            raise UserError(
                f"{self.run.path} has no snapshots to measure: it was interrupted before the first; "
                f"`ev resume {quote(str(self.run.path))}` takes them"
            )
        like = state_template(self.spec)
        self._like = like.learner.agent
        number, _ = self.run.latest_checkpoint()
        state: TrainingState = self.run.load_checkpoint(number, like)
        self._meter = CapacityMeter(self.spec, state.mean, state.std, self.config)

    def missing(self) -> list[Part]:
        """What has not been measured yet."""
        known = {(row["seed"], row["snapshot"]) for row in self.rows()}
        return [
            Part(snapshot, block)
            for block in self._meter.blocks
            for snapshot in self.chosen
            if any((seed, snapshot.number) not in known for seed in self.spec.seeds[block])
        ]

    def measure(self, part: Part) -> None:
        """Measure one part and write it to disk.

        Raises:
            UserError: a snapshot of another network shape, or nothing can be written.
        """
        self._meter.keep_only(part.members)
        number, seeds = part.snapshot.number, self.spec.seeds[part.members]
        try:
            agents = self.run.load_snapshot(number, self._like)
        except Damaged as error:
            self.damaged.append(f"{error}; it is left out")
            return
        rows = _rows(seeds, number, part.snapshot.step, self._meter.measure(agents, part.members))
        add_measured(self.run.path, table_name(self.config), rows)

    @property
    def path(self) -> Path:
        """The table's file."""
        return measured_path(self.run.path, table_name(self.config))

    def rows(self) -> list[dict[str, Any]]:
        """All that has been measured with this probe: one row per seed and snapshot."""
        return read_measured(self.run.path, table_name(self.config))


def has_capacity(path: Path) -> bool:
    """Say whether a run's snapshots were measured with the default probe."""
    return measured_path(path, table_name(CapacityConfig())).exists()


def _rows(
    seeds: Sequence[int], index: int, step: int, measured: Mapping[str, np.ndarray]
) -> list[dict[str, Any]]:
    return [
        {
            "seed": seed,
            "snapshot": index,
            "env_steps": step,
            **{name: float(values[i]) for name, values in measured.items()},
        }
        for i, seed in enumerate(seeds)
    ]


def _spread(snapshots: Sequence[Saved], count: int | None) -> list[Saved]:
    if count is None or count >= len(snapshots):
        return list(snapshots)
    chosen = np.unique(np.rint(np.linspace(0, len(snapshots) - 1, count)).astype(int))
    return [snapshots[index] for index in chosen]
