"""Capacity losses for the figures that show them: measured on the snapshots of finished runs, after training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from escapevelocity.ppo.capacity_run import Part, RunCapacity
from escapevelocity.runs import open_run
from escapevelocity.runs.measured import read_measured
from escapevelocity.runs.process import trainer_process
from escapevelocity.study.store import Store

if TYPE_CHECKING:
    from escapevelocity.lab.experiments.experiment import Track
    from escapevelocity.study.plan import Planned

TABLE = "capacity"
"""Where `RunCapacity` puts what its default probe measures."""


class _Measurement(NamedTuple):
    run: RunCapacity
    part: Part

    def __str__(self) -> str:
        return f"capacity of {self.run.run.path.name}, snapshot {self.part.snapshot.number}"


def measure_capacity(planned: Iterable[Planned], store: Store, track: Track) -> list[str]:
    """Measure what has not been measured of the finished runs, and add it to RUN/measured.

    Networks with convolutions are passed over: their 41 snapshots × 36,000 steps take longer than the training of a
    small run, and `ev capacity RUN --snapshots N` says how many of them are wanted.

    Args:
        planned: runs.
        store: where they are. In a store behind a URL nothing is measured: whoever trains there has the snapshots.
        track: shows how far it is.

    Returns:
        A line for each snapshot that could not be read.
    """
    paths = [store.run_path(one.order.name) for one in planned if one.state == "finished"]
    if store.is_remote:
        return []
    runs = [path for path in paths if _is_wanted(path)]
    if not runs:
        return []
    damaged: list[str] = []
    with trainer_process():
        for path in runs:
            capacity = RunCapacity(path)
            _measure(capacity, track)
            damaged += capacity.damaged
    return damaged


def _measure(capacity: RunCapacity, track: Track) -> None:
    parts: Sequence[_Measurement] = [_Measurement(capacity, part) for part in capacity.missing()]
    for one in track(parts, str):
        capacity.measure(one.part)


def _is_wanted(path: Path) -> bool:
    run = open_run(path)
    if run.job != "ppo" or run.spec["network"]["convolutions"] != "none":
        return False
    return len(read_measured(path, TABLE)) < len(run.snapshots()) * len(run.spec["seeds"])
