"""`ev capacity`: how well each snapshot of a run can still learn."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from escapevelocity.cli._parse import parse
from escapevelocity.errors import require
from escapevelocity.imports import import_modules

if TYPE_CHECKING:
    from rich.table import Table


@dataclasses.dataclass(frozen=True)
class Capacity:
    """Measure how well each snapshot of a run can still learn: fit it to a random network, and see what loss is left.

    Actor and critic are fitted to one freshly initialised network, the same for all snapshots of a seed (Moalla et al.
    2024, Fig. 1): a loss that rises over the run means that plasticity is being lost. What was measured before is
    kept. `ev diagnose RUN` reads the losses, `ev plot RUN --columns capacity/actor` draws them.
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """The run's folder. It may have finished, failed or been interrupted."""
    data: Literal["initial", "target"] = "initial"
    """Whose rollouts the data are: the run's initial policy's, as in the paper's code, or the random network's, as in
    its text."""
    probe_seed: int = 0
    """Another one gives another random network and other data. Readers prefer the data initial with probe seed 0."""
    snapshots: int | None = None
    """Measure at most so many, evenly spread, the first and the last among them; by default all."""
    import_modules: Annotated[tuple[str, ...], tyro.conf.arg(name="import")] = ()
    """Modules to import first: those that register your own environments or remedies, from the current folder or
    installed."""

    def __post_init__(self) -> None:
        require(0 <= self.probe_seed < 2**31, "probe-seed", self.probe_seed, "from 0 to 2147483647")
        accepted = "at least 2, the first and the last"
        require(self.snapshots is None or self.snapshots >= 2, "snapshots", self.snapshots, accepted)


def main(argv: Sequence[str]) -> int:
    """Run `ev capacity`; returns the exit code."""
    command = parse(Capacity, argv, "ev capacity")
    import_modules(command.import_modules)
    from escapevelocity.cli._console import print_numbers
    from escapevelocity.ppo.capacity import CapacityConfig
    from escapevelocity.ppo.capacity_run import RunCapacity
    from escapevelocity.report.lab.progress import track
    from escapevelocity.runs.process import trainer_process

    with trainer_process():
        capacity = RunCapacity(
            command.run, CapacityConfig(command.data, command.probe_seed), command.snapshots
        )
        for part in track(capacity.missing(), lambda part: f"snapshot {part.snapshot.number}"):
            capacity.measure(part)
    for line in capacity.damaged:
        print(f"ev: {line}", file=sys.stderr)
    print_numbers(_table(capacity.rows()))
    print(capacity.path)
    return 0


def _table(rows: Sequence[Mapping[str, Any]]) -> "Table":
    """One line per snapshot, with the median over seeds."""
    import numpy as np

    from escapevelocity.cli._console import numbers_table
    from escapevelocity.ppo.capacity import COLUMNS

    seeds = {row["seed"] for row in rows}
    title = "capacity loss" + (f", median of {len(seeds)} seeds" if len(seeds) > 1 else "")
    headings = ("snapshot", "env steps", "actor", "critic", "actor, all data", "critic, all data")
    made = numbers_table(headings, title)
    for number in sorted({row["snapshot"] for row in rows}):
        members = [row for row in rows if row["snapshot"] == number]
        medians = (np.median([row[column] for row in members]) for column in COLUMNS)
        made.add_row(str(number), f"{members[0]['env_steps']:,}", *(f"{median:.3g}" for median in medians))
    return made
