"""`ev resume`: go on with an unfinished run."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

from escapevelocity.cli._parse import parse
from escapevelocity.errors import require
from escapevelocity.imports import import_modules


@dataclasses.dataclass(frozen=True)
class Resume:
    """Go on with an interrupted, killed or failed run from its last committed segment.

    What is computed is bit-identical to a run that was never stopped, on the same machine type, thread count and
    versions.
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """The run's folder."""
    track: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Also write the records for these trackers."""
    stop_on: Literal["collapse"] | None = None
    """Stop the run once every seed has collapsed: its features are lost, or its return has fallen from its best."""
    keep_best: tyro.conf.FlagCreatePairsOff[bool] = False
    """Keep each seed's best parameters from here on; a run that was started with it does so anyway."""
    import_modules: Annotated[tuple[str, ...], tyro.conf.arg(name="import")] = ()
    """Modules to import first: those that register your own environments or remedies, from the current folder or
    installed."""


def main(argv: Sequence[str]) -> int:
    """Run `ev resume`; returns the exit code."""
    command = parse(Resume, argv, "ev resume")
    import_modules(command.import_modules)
    from escapevelocity.report.table import terminal_observer
    from escapevelocity.report.trackers import make_trackers
    from escapevelocity.report.warning import EarlyWarning
    from escapevelocity.runs import read_spec
    from escapevelocity.runs.browse import require_folder

    require_folder(command.run)
    screen = terminal_observer()
    warning = EarlyWarning(screen.on_message, command.stop_on)
    observers = [*make_trackers(command.track, command.run), screen, warning]
    if read_spec(command.run)["job"] == "asr":
        for option in ("stop_on", "keep_best"):
            given = getattr(command, option)
            require(not given, option.replace("_", "-"), given, "left out: it is for PPO's runs")
        from escapevelocity.metric_learning.training import resume_training as resume_embedding

        return resume_embedding(command.run, observers).status.exit_code
    from escapevelocity.ppo.training import resume_training

    return resume_training(command.run, observers, command.keep_best).status.exit_code
