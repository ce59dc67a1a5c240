"""`ev study history`: the thinned records of every run of a study in one Parquet file."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from escapevelocity.cli._out import require_replaceable
from escapevelocity.cli._parse import parse


@dataclasses.dataclass(frozen=True)
class StudyHistory:
    """Gather the thinned records of every run into one Parquet file: the last point of every 0.1 % of each run.

    Only runs that are new or have changed are read again. Each row has its run, the run's spec, the seed and the steps.
    """

    study: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="FILE|STORE")]
    """The study: a TOML file or module:attribute; or the folder that holds the runs, of a study or of `ev train`."""
    store: str | None = None
    """Where a study's runs are; by default runs/NAME, by the study's name."""
    out: Path | None = None
    """The file, for the study's runs; by default _study/history.parquet in the store, for all runs that are there."""
    columns: tuple[str, ...] = ()
    """Only these columns of the records (docs/metrics.md lists them), which needs --out; by default all numbers."""
    import_modules: Annotated[tuple[str, ...], tyro.conf.arg(name="import")] = ()
    """Modules to import first, beside those that the study names: those that register environments, remedies or kinds
    of runs."""


def main(argv: Sequence[str]) -> int:
    """Run `ev study history`; returns the exit code."""
    command = parse(StudyHistory, argv, "ev study history")
    if command.out is not None:
        require_replaceable(command.out, "history")
    import sys

    from escapevelocity.study.gather_study import gather_study

    path, left_out = gather_study(
        command.study, command.store, command.out, command.columns, print, command.import_modules
    )
    for name, why in left_out.items():
        print(f"ev: {name} is left out: {why}", file=sys.stderr)
    print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")
    return 0
