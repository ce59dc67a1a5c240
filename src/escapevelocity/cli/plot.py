"""`ev plot`: a run's returns and health as PNG and PDF."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from escapevelocity.cli._parse import parse


@dataclasses.dataclass(frozen=True)
class Plot:
    """Draw returns and health of one or several runs: mean and min–max over seeds, smoothed as in the paper."""

    runs: Annotated[
        tyro.conf.Positional[tuple[Path, ...]],
        tyro.conf.arg(metavar="RUN [RUN ...]", help_behavior_hint="(required)"),
    ]
    """The runs' folders; several are drawn into one figure, each in a colour of its own."""
    out: Path | None = None
    """Folder for the files; by default the plots folder of the first run."""
    columns: tuple[str, ...] = ()
    """Draw these columns of the records instead, a panel each (docs/metrics.md lists them)."""
    name: str | None = None
    """The files' name without ending; by default health, or columns with --columns."""
    marks: bool = True
    """Mark the onsets of the diagnosis (`ev diagnose`) with thin lines, where a single run is drawn and is ill."""


def main(argv: Sequence[str]) -> int:
    """Run `ev plot`; returns the exit code."""
    command = parse(Plot, argv, "ev plot")
    from escapevelocity.report.plots import default_folder, plot_columns, plot_run
    from escapevelocity.runs.engine import require_plain

    if command.name is not None:
        require_plain(command.name, "file")
    runs, out = command.runs, command.out or default_folder(command.runs)
    if command.columns:
        name = command.name or "columns"
        paths = [plot_columns(runs, command.columns, out / f"{name}.{kind}") for kind in ("png", "pdf")]
    else:
        paths = plot_run(runs, out, name=command.name or "health", marks=command.marks)
    for path in paths:
        print(path)
    return 0
