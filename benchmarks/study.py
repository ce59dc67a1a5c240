"""A study of 40 short runs on all cores: how busy they are, and what the scheduling itself costs.

python -m benchmarks.study            # trains in a temporary folder, prints a table for README.md
python -m benchmarks.study --steps 4096 --runs 8
"""

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks._common import machine, machine_line, positive, table

BUSY_ASKED, SCHEDULER_ASKED = 0.90, 0.01  # Issue 6, "Speed".
_HEADER = (
    "study",
    "wall time (s)",
    "cores busy",
    "workers occupied",
    "CPU of the workers (s)",
    "CPU of the scheduler (s)",
    "scheduler's share",
    "import and plan, CPU (s)",
    "load before, after",
)


@dataclass(frozen=True)
class Measured:
    """One study."""

    runs: int
    steps: int
    """Of each run."""
    workers: int
    wall: float
    """Seconds from the first order to the last outcome, the start of the workers and their end included."""
    busy: float
    """Share of the time that our cores were not idle, whoever used them."""
    occupied: float
    """Share of the time that a worker had an order; on a machine that is shared this is what scheduling can do."""
    workers_cpu: float
    """Seconds, of all worker processes."""
    scheduler_cpu: float
    """Seconds, of the parent while it schedules."""
    start_cpu: float
    """Seconds, of the parent before that: imports, and the plan."""
    load: tuple[float, float]
    """Load average over one minute, before and after."""

    @property
    def scheduler_share(self) -> float:
        """CPU seconds of the scheduling parent over those of all processes."""
        return self.scheduler_cpu / (self.scheduler_cpu + self.workers_cpu)

    def row(self) -> list[str]:
        """A row of the README's table."""
        return [
            f"{self.runs} × {self.steps:,} steps of Hopper-v4 on {self.workers} workers",
            f"{self.wall:.1f}",
            f"{self.busy:.1%}",
            f"{self.occupied:.1%}",
            f"{self.workers_cpu:.1f}",
            f"{self.scheduler_cpu:.2f}",
            f"{self.scheduler_share:.2%}",
            f"{self.start_cpu:.1f}",
            f"{self.load[0]:.1f}, {self.load[1]:.1f}",
        ]


def main(argv: Sequence[str] | None = None) -> int:
    """Train the study and print the table; exit code 1 when a run did not finish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=positive, default=40)
    parser.add_argument("--steps", type=positive, default=10_240, help="environment steps per run")
    parser.add_argument("--workers", type=positive, default=None, help="default: one per core")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        measured, unfinished = measure(Path(folder), arguments.runs, arguments.steps, arguments.workers)
    print(machine_line(machine()))
    print(f"\nAsked: cores busy over {BUSY_ASKED:.0%}, scheduler's share under {SCHEDULER_ASKED:.0%}.\n")
    print(table(_HEADER, [measured.row()]))
    for line in unfinished:
        print(line, file=sys.stderr)
    return 1 if unfinished else 0


def measure(folder: Path, runs: int, steps: int, workers: int | None) -> tuple[Measured, list[str]]:
    """Train `runs` runs of one seed each; the measurements, and a line for each run that did not finish."""
    from escapevelocity.study.grid import Study
    from escapevelocity.study.local import LocalExecutor, own_cores
    from escapevelocity.study.plan import plan
    from escapevelocity.study.screen import study_screen
    from escapevelocity.study.store import open_store

    rates = (1e-4, 3e-4)  # Two cells, so that runs differ in more than their seed.
    seeds = tuple(range(1, 1 + -(-runs // len(rates))))
    study = Study(
        "busy", {"task": "Hopper-v4", "steps": steps}, {"learning_rate": rates}, seeds, population=1
    )
    store = open_store(folder / "store", create=True)
    planned = plan(study, store)[:runs]
    cores, load = own_cores(), os.getloadavg()[0]
    start_cpu, children = time.process_time(), _children()
    idle, began = _idle(cores), time.monotonic()
    with study_screen(planned, store) as screen:
        outcomes = LocalExecutor(workers).run([one.order for one in planned], store, screen.tell)
    wall = time.monotonic() - began
    idle = _idle(cores) - idle
    count = workers or len(cores)
    measured = Measured(
        runs=len(planned),
        steps=planned[0].order.steps,
        workers=count,
        wall=wall,
        busy=1 - idle / (wall * len(cores)),
        occupied=sum(outcome.seconds for outcome in outcomes) / (wall * count),
        workers_cpu=_children() - children,
        scheduler_cpu=time.process_time() - start_cpu,
        start_cpu=start_cpu,
        load=(load, os.getloadavg()[0]),
    )
    return measured, [f"{o.state} {o.name}: {o.why}" for o in outcomes if o.state != "finished"]


def _idle(cores: Sequence[int]) -> float:
    """Seconds that our cores have been idle since the machine started, waiting for its disks included."""
    times = psutil.cpu_times(percpu=True)
    return sum(times[core].idle + getattr(times[core], "iowait", 0.0) for core in cores)


def _children() -> float:
    """CPU seconds of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())
