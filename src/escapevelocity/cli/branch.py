"""`ev branch`: the same past, another future."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from escapevelocity.cli._imports import modules_in
from escapevelocity.cli._options import HELP, split
from escapevelocity.cli._parents_help import help_of, with_settings_of
from escapevelocity.cli._parse import parse
from escapevelocity.cli._remedy_options import make_remedies, print_help, take_remedies, with_remedies
from escapevelocity.errors import UserError, require
from escapevelocity.imports import import_modules
from escapevelocity.ppo.config import (
    EnvironmentConfig,
    MonitoringConfig,
    NetworkConfig,
    ObjectiveConfig,
    OptimizerConfig,
    PPOSpec,
)

if TYPE_CHECKING:
    from escapevelocity.runs import Run, Saved

_SECTIONS = ("environment", "network", "objective", "optimizer", "monitoring")


@dataclasses.dataclass(frozen=True)
class Branch:
    """Go on from a checkpoint of a run with other settings: would this remedy have saved it?

    The branch has its parent's parameters, moments and observation statistics, and meets the same environments: without
    any change it repeats the parent's own future bit for bit. What is not given stays as in the parent; its remedies
    stay unless --remedy is given. `ev plot BRANCH` and `ev diagnose BRANCH` hold both futures against each other.
    `ev branch RUN --help` shows the parent's settings.

    Sources of the settings: [M] Moalla et al. 2024 (arXiv 2405.00662), [S] Schulman et al. 2017 (arXiv 1707.06347),
    [G] Schulman et al. 2016 (arXiv 1506.02438), [C] CleanRL's ppo.py.
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """The parent's folder. It may have finished, failed or been interrupted."""
    at: Annotated[str, tyro.conf.arg(help_behavior_hint="(required)")] = ""
    """Where to leave it, at the nearest checkpoint: a share of its steps from 0 to 1, or a number of steps above 1; or
    onset: at the last checkpoint before the first sign of what `ev diagnose` finds."""
    steps: int | None = None
    """Environment steps per seed at the end, those of the shared past included; by default as many as the parent."""
    remedy: tuple[str, ...] = ()
    """Remedies against a collapse, any number of them, with their fields as --NAME.FIELD; none takes the parent's away.
    They are listed below."""
    environment: Annotated[EnvironmentConfig, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=EnvironmentConfig
    )
    """How the task is run and observed."""
    network: Annotated[NetworkConfig, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=NetworkConfig
    )
    """Actor and critic."""
    objective: Annotated[ObjectiveConfig, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=ObjectiveConfig
    )
    """Advantages and losses."""
    optimizer: Annotated[OptimizerConfig, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=OptimizerConfig
    )
    """Adam over epochs of minibatches."""
    monitoring: Annotated[MonitoringConfig, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=MonitoringConfig
    )
    """Health and faults."""
    out: Path = Path("runs")
    """Folder that holds runs."""
    name: str | None = None
    """Name of the branch; by default the task and the hash of its settings and its past."""
    track: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Also write the records for these trackers (pip install 'escapevelocity[track]'); wandb works offline."""
    import_modules: Annotated[tuple[str, ...], tyro.conf.arg(name="import")] = ()
    """Modules to import first: those that register your own environments or remedies, from the current folder or
    installed."""
    stop_on: Literal["collapse"] | None = None
    """Stop the branch once every seed has collapsed; one whose parent had collapsed by then stops at once."""
    keep_best: tyro.conf.FlagCreatePairsOff[bool] = False
    """Keep each seed's parameters of its best five batches: RUN/snapshots/best.safetensors, `ev evaluate --best`."""
    dry_run: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print the resolved settings and the planned segments, and stop."""


def main(argv: Sequence[str]) -> int:
    """Run `ev branch`; returns the exit code."""
    import_modules(modules_in(argv))
    line = take_remedies(argv)
    if any(argument in HELP for argument in line.rest):
        command, default = help_of(Branch, _SECTIONS, line.rest, _saved)
        return print_help(command, line, "ev branch", default)
    given = split(Branch, line.rest)
    if not given.positionals:
        raise UserError("RUN: missing; it is the run's folder; see ev branch --help")
    from escapevelocity.ppo.branching import branch_spec
    from escapevelocity.ppo.saved import saved_spec
    from escapevelocity.ppo.training import run_path, train
    from escapevelocity.runs import open_run

    parent = open_run(given.positionals[0])
    require_job(parent, "ppo")
    old = saved_spec(parent.path)
    command = parse(
        Branch, line.rest, "ev branch", default=with_settings_of(Branch, _SECTIONS, old, parent.path)
    )
    point = point_at(parent, command.at, command.steps is not None)
    changed = with_remedies(_changed(old, command), make_remedies(line, "ev branch"), given.options)
    spec = branch_spec(parent, point.number, changed)
    path = run_path(spec, command.out, command.name)
    notes = [branched_from(parent, point)]
    from escapevelocity.cli.train import observers_of, plan, rounding

    notes += rounding(spec) if command.steps is not None else []
    if command.dry_run:
        print("\n".join([*plan(spec, path), *notes]))
        return 0
    observers = observers_of(command.track, path, notes, command.stop_on)
    return train(spec, command.out, command.name, observers, command.keep_best).status.exit_code


def _saved(run: Path) -> PPOSpec:
    from escapevelocity.ppo.saved import saved_spec  # It takes JAX, which help without a run has no need of.

    return saved_spec(run)


def _changed(old: PPOSpec, command: Branch) -> PPOSpec:
    """The parent's settings with all that the command line says but remedies."""
    steps = old.steps if command.steps is None else command.steps
    sections = {name: getattr(command, name) for name in _SECTIONS}
    return dataclasses.replace(old, steps=steps, **sections)


def require_job(parent: "Run", job: str) -> None:
    """Refuse a run of the other trainer, and name the command that branches it."""
    from escapevelocity.runs.spec import COMMANDS

    if parent.job != job and parent.job in COMMANDS:
        raise UserError(
            f"{parent.path} is a run of `{COMMANDS[parent.job]} train`; give "
            f"`{COMMANDS[parent.job]} branch {parent.path}`"
        )


def point_at(parent: "Run", at: str, longer: bool) -> "Saved":
    """The checkpoint that --at means; `longer`: whether --steps was given."""
    from escapevelocity.runs.branch_points import branch_points, last_point_before, nearest_point, points_of

    if at == "onset":
        from escapevelocity.report.diagnosis import diagnose_run, first_onset

        diagnosis = diagnose_run(parent)
        onset = first_onset(diagnosis)
        if onset is None:
            where = points_of(parent, branch_points(parent))
            raise UserError(f"at = 'onset': {parent.path} shows none, it is {diagnosis.verdict}; {where}")
        return last_point_before(parent, onset, at)
    if not at:
        where = points_of(parent, branch_points(parent))
        raise UserError(f"--at: missing; it says where to leave the run, such as --at 0.4; {where}")
    accepted = "a share of the run from 0 to 1, a number of steps above 1, or onset"
    try:
        number = float(at.replace("_", ""))
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise UserError(f"at = {at!r}: must be {accepted}; {points_of(parent, branch_points(parent))}")
    require(number <= parent.status.steps_total or number <= 1, "at", at, accepted)
    step = number * parent.status.steps_total if number <= 1 else number
    return nearest_point(parent, step, at, longer)


def branched_from(parent: "Run", point: "Saved") -> str:
    """Say where a branch leaves its parent."""
    share = point.step / max(1, parent.status.steps_total)
    return f"branches from {parent.path} at checkpoint {point.number}: step {point.step:,}, {share:.0%} of it"
