"""`ev show`: all about one run."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from escapevelocity.cli._parse import parse


@dataclasses.dataclass(frozen=True)
class Show:
    """Show a run: how it ended, settings that differ from its preset, last values, faults, checkpoints."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """The run's folder."""


def main(argv: Sequence[str]) -> int:
    """Run `ev show`; returns the exit code."""
    command = parse(Show, argv, "ev show")
    from escapevelocity.cli._console import console
    from escapevelocity.report.overview import run_page

    screen = console()
    screen.print(run_page(command.run, screen.width), highlight=False)
    return 0
