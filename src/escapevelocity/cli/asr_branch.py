"""`ev asr branch`: the same past of an embedding, another future."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

from escapevelocity.cli._options import HELP, split
from escapevelocity.cli._parents_help import help_of, with_settings_of
from escapevelocity.cli._parse import parse
from escapevelocity.errors import UserError
from escapevelocity.metric_learning.config import ASRSpec, ControllerConfig, LearnerConfig, SamplerConfig

_SECTIONS = ("learner", "sampler", "controller")


@dataclasses.dataclass(frozen=True)
class ASRBranch:
    """Go on from a checkpoint of a run of adaptive sampling with other settings.

    Without any change the branch repeats its parent's own future bit for bit. Another --init puts its distribution in
    the place of the parent's; another --head, --method or --hidden begins with a new policy.
    `ev asr branch RUN --help` shows the parent's settings.

    Sources of the settings: [A] Dou et al. 2022 (ASR, arXiv 2208.08056), [P] Roth et al. 2020 (PADS, arXiv 2003.11113)
    and its code, [W] Wu et al. 2017 (arXiv 1706.07567), [S] Schulman et al. 2017 (arXiv 1707.06347).
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """The parent's folder. It may have finished, failed or been interrupted."""
    at: Annotated[str, tyro.conf.arg(help_behavior_hint="(required)")] = ""
    """Where to leave it, at the nearest checkpoint: a share of its steps from 0 to 1, or a number of steps above 1; or
    onset: at the last checkpoint before the first sign of what `ev diagnose` finds."""
    steps: int | None = None
    """Training steps per seed at the end, those of the shared past included; by default as many as the parent."""
    learner: Annotated[LearnerConfig, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=LearnerConfig
    )
    """The embedding."""
    sampler: Annotated[SamplerConfig, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=SamplerConfig
    )
    """The choice of negatives."""
    controller: Annotated[ControllerConfig, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=ControllerConfig
    )
    """The agent."""
    out: Path = Path("runs")
    """Folder that holds runs."""
    name: str | None = None
    """Name of the branch; by default the data set and the hash of its settings and its past."""
    track: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Also write the records for these trackers (pip install 'escapevelocity[track]'); wandb works offline."""
    dry_run: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print the resolved settings and the planned segments, and stop."""


def main(argv: Sequence[str]) -> int:
    """Run `ev asr branch`; returns the exit code."""
    if any(argument in HELP for argument in argv):
        command, default = help_of(ASRBranch, _SECTIONS, argv, _saved)
        parse(command, argv, "ev asr branch", default)
    given = split(ASRBranch, argv)
    if not given.positionals:
        raise UserError("RUN: missing; it is the run's folder; see ev asr branch --help")
    from escapevelocity.cli._note import StartNote
    from escapevelocity.cli.asr_train import plan, rounding
    from escapevelocity.cli.branch import branched_from, point_at, require_job
    from escapevelocity.metric_learning.branching import branch_spec
    from escapevelocity.metric_learning.training import run_path, saved_spec, train
    from escapevelocity.report.table import terminal_observer
    from escapevelocity.report.trackers import make_trackers
    from escapevelocity.report.warning import EarlyWarning
    from escapevelocity.runs import open_run

    parent = open_run(given.positionals[0])
    require_job(parent, "asr")
    old = saved_spec(parent.path)
    command = parse(
        ASRBranch, argv, "ev asr branch", default=with_settings_of(ASRBranch, _SECTIONS, old, parent.path)
    )
    changed = {name: getattr(command, name) for name in _SECTIONS}
    steps = old.steps if command.steps is None else command.steps
    point = point_at(parent, command.at, command.steps is not None)
    spec = branch_spec(parent, point.number, dataclasses.replace(old, steps=steps, **changed))
    path = run_path(spec, command.out, command.name)
    notes = [branched_from(parent, point)]
    notes += rounding(spec) if command.steps is not None else []
    if command.dry_run:
        print("\n".join([*plan(spec, path), *notes]))
        return 0
    screen = terminal_observer()
    warning = EarlyWarning(screen.on_message)
    observers = [*make_trackers(command.track, path), StartNote(notes), screen, warning]
    return train(spec, command.out, command.name, observers).status.exit_code


def _saved(run: Path) -> ASRSpec:
    from escapevelocity.metric_learning.training import (
        saved_spec,  # It takes JAX, which help without a run has no need of.
    )

    return saved_spec(run)
