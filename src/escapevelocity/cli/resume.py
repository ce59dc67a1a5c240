"""`ev resume`: go on with an unfinished run."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import tyro

from escapevelocity.cli._parse import parse


@dataclasses.dataclass(frozen=True)
class Resume:
    """Go on with an interrupted, killed or failed run from its last committed segment.

    What is computed is bit-identical to a run that was never stopped, on the same machine type, thread count and
    versions.
    """

    run: tyro.conf.Positional[Path]
    """The run's folder."""
    track: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Also write the records for these trackers."""


def main(argv: Sequence[str]) -> int:
    """Run `ev resume`; returns the exit code."""
    command = parse(Resume, argv, "ev resume")
    from escapevelocity.ppo.training import resume_training
    from escapevelocity.report.table import terminal_observer
    from escapevelocity.report.trackers import make_trackers

    observers = [terminal_observer(), *make_trackers(command.track, command.run)]
    return resume_training(command.run, observers).status.exit_code
