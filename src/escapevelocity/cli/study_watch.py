"""`ev study watch`: follow a study while it trains."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from escapevelocity.cli._parse import parse
from escapevelocity.errors import require

_DAY = 86_400


@dataclasses.dataclass(frozen=True)
class StudyWatch:
    """Follow a study: runs by state, speed, expected end, early warnings, and why runs stopped.

    It only looks: the study goes on without it, and Ctrl-C ends it. Without a terminal it prints plain lines once.
    """

    study: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="FILE|STORE")]
    """The study: a TOML file or module:attribute; or the folder that holds the runs, of a study or of `ev train`."""
    store: str | None = None
    """Where a study's runs are; by default runs/NAME, by the study's name."""
    history: Path | None = None
    """A kept history (`ev study history`): runs that it holds to their end are done, and only counted, as kept."""
    every: float = 2.0
    """Seconds between two looks."""
    once: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print plain lines once."""
    import_modules: Annotated[tuple[str, ...], tyro.conf.arg(name="import")] = ()
    """Modules to import first, beside those that the study names: those that register environments, remedies or kinds
    of runs."""

    def __post_init__(self) -> None:
        require(0 < self.every <= _DAY, "every", self.every, f"above 0 and at most {_DAY}")


def main(argv: Sequence[str]) -> int:
    """Run `ev study watch`; returns the exit code."""
    command = parse(StudyWatch, argv, "ev study watch")
    from rich.console import Console

    from escapevelocity.study.ended import ended_runs
    from escapevelocity.study.watch_view import follow, print_lines
    from escapevelocity.study.watcher import Watcher

    watcher = Watcher(
        command.study, command.store, kept=ended_runs(command.history), imports=command.import_modules
    )
    console = Console()
    if command.once or not console.is_terminal or console.is_dumb_terminal:
        print_lines(watcher.look())
    else:
        follow(watcher.look, console, command.every)
    return 0
