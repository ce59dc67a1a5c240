"""`ev list`: the runs below a folder."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from escapevelocity.cli._parse import parse


@dataclasses.dataclass(frozen=True)
class ListRuns:
    """List runs with their state, progress, speed, last return and what is outside its healthy range."""

    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")] = Path("runs")
    """The folder that holds runs."""


def main(argv: Sequence[str]) -> int:
    """Run `ev list`; returns the exit code."""
    command = parse(ListRuns, argv, "ev list")
    from escapevelocity.cli._console import console
    from escapevelocity.report.overview import RUNS_WIDTH, runs_table

    console(RUNS_WIDTH).print(runs_table(command.out))
    return 0
