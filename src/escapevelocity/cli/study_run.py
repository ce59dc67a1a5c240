"""`ev study run`: train what is missing of a study."""

import dataclasses
import math
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from escapevelocity.cli._parse import parse
from escapevelocity.errors import UserError, require

if TYPE_CHECKING:
    from escapevelocity.study.executors import Executor
    from escapevelocity.study.grid import Study
    from escapevelocity.study.groups import Group
    from escapevelocity.study.store import Store

_GIB = 2**30
ELSEWHERE = 3
"""Exit code: nothing failed, but other processes still train runs of the study."""


@dataclasses.dataclass(frozen=True)
class StudyRun:
    """Train the runs of a study that are not finished yet, on all cores or on a Ray cluster.

    It can be stopped (Ctrl-C leaves every run at a point from which it goes on), extended and given again: only what is
    missing is trained. Several such commands may work on one study: each run is claimed by whoever trains it. A run
    that failed before is tried again from its last checkpoint.

    Exit code: 0 when all is finished, 1 when a run failed, 3 when another process still trains some, 130 when it was
    stopped.
    """

    file: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="FILE")]
    """The study: a TOML file, or module:attribute naming a Study in Python."""
    store: str | None = None
    """Where its runs are: a folder or an fsspec URL; by default runs/NAME, by the study's name."""
    history: Path | None = None
    """A kept history (`ev study history`): runs that it holds to their end are not trained again."""
    executor: Literal["local", "ray"] = "local"
    """Worker processes on this machine, or tasks on a Ray cluster."""
    workers: int | None = None
    """local: worker processes; by default one per core. Fewer share the cores out evenly."""
    memory: float | None = None
    """local: GiB that all runs together may need; by default what the system has left."""
    retries: int | None = None
    """How often a run may lose its worker before it counts as failed; by default 2, and 3 on Ray."""
    address: str | None = None
    """ray: HOST:PORT of the cluster's head node, auto for the cluster that this machine belongs to, or local for one on
    this machine for the time being; by default $RAY_ADDRESS, else local."""
    cpus: int | None = None
    """ray: cores per run; by default 1."""
    gpus: float | None = None
    """ray: GPUs per run, also a fraction; by default none."""
    import_modules: Annotated[tuple[str, ...], tyro.conf.arg(name="import")] = ()
    """Modules to import first, beside those that the study names: those that register environments, remedies or kinds
    of runs."""


def main(argv: Sequence[str]) -> int:
    """Run `ev study run`; returns the exit code."""
    command = parse(StudyRun, argv, "ev study run")
    executor = _executor(command)
    from escapevelocity.study.ended import ended_runs
    from escapevelocity.study.grid import read_study
    from escapevelocity.study.plan import default_store
    from escapevelocity.study.store import open_store

    study = read_study(command.file)
    study = dataclasses.replace(study, imports=(*study.imports, *command.import_modules))
    kept = ended_runs(command.history)
    store = open_store(command.store or default_store(study), create=True)
    return train_missing(study, store, executor, kept)


def train_missing(
    study: "Study", store: "Store", executor: "Executor", kept: "Mapping[str, Group] | None" = None
) -> int:
    """Train what is missing of a study, but for the runs that are kept elsewhere, and say what became of it.

    Returns:
        The exit code.
    """
    from escapevelocity.study.executors import sigterm_as_ctrl_c
    from escapevelocity.study.plan import plan
    from escapevelocity.study.screen import study_screen, summary_lines

    planned = plan(study, store, kept=kept)
    left = [one.order for one in planned if not one.is_done]
    outcomes = []
    if left:
        with sigterm_as_ctrl_c(), study_screen(planned, store) as screen:
            outcomes = executor.run(left, store, screen.tell)
    in_history = sum(one.state == "kept" for one in planned)
    print("\n".join(summary_lines(outcomes, len(planned) - len(left), store, in_history)))
    return exit_code({outcome.state for outcome in outcomes})


def exit_code(states: Set[str]) -> int:
    """What a command that trains should exit with, by the states in which its runs ended."""
    if states & {"interrupted", "waiting"}:
        return 130
    return 1 if "failed" in states else ELSEWHERE if "claimed" in states else 0


def _executor(command: StudyRun) -> "Executor":
    """The executor that was asked for; an option of the other is a mistake."""
    own = {"local": ("workers", "memory"), "ray": ("address", "cpus", "gpus")}
    given = {
        name: value
        for names in own.values()
        for name in names
        if (value := getattr(command, name)) is not None
    }
    for name, value in given.items():
        if name not in own[command.executor]:
            other = next(executor for executor, names in own.items() if name in names)
            raise UserError(
                f"{name} = {value!r}: must be left out with --executor {command.executor}; it is for {other}"
            )
    if command.retries is not None:
        given["retries"] = command.retries
    if command.executor == "ray":
        from escapevelocity.study.ray_executor import RayExecutor

        return RayExecutor(**given)
    from escapevelocity.study.local import LocalExecutor

    if command.memory is not None:
        require(0 < command.memory < math.inf, "memory", command.memory, "above 0 GiB and finite")
        given["memory"] = max(1, int(command.memory * _GIB))
    return LocalExecutor(**given)
