"""`ev report`: one HTML file about a run, several runs or a study."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from escapevelocity.cli._out import require_replaceable
from escapevelocity.cli._parse import parse
from escapevelocity.errors import UserError, cannot_read, require

if TYPE_CHECKING:
    from escapevelocity.health.diagnosis import RunDiagnosis
    from escapevelocity.runs import Run


@dataclasses.dataclass(frozen=True)
class Report:
    """Write a page that says whether a run is healthy and why, in one HTML file that needs no network.

    First the verdict with what to try, then interactive curves with seeds, intervals and onsets, what is compared,
    evidence, settings against the preset, lineage, every metric with its healthy range, versions, and the command that
    makes the run again. Several runs are told side by side; a branch brings its parent along. A study is told cell by
    cell. The file can be sent to anybody: it opens in a browser, in light and dark, on a phone, and prints.
    """

    targets: Annotated[
        tyro.conf.Positional[tuple[str, ...]],
        tyro.conf.arg(metavar="RUN [RUN ...] | STUDY", help_behavior_hint="(required)"),
    ]
    """Runs' folders; or one study: a TOML file or module:attribute, or the folder that holds its runs."""
    out: Path | None = None
    """The file; by default report.html in the first run's folder, or in the study's store."""
    store: str | None = None
    """Where a study's runs are; by default runs/NAME, by the study's name."""


def main(argv: Sequence[str]) -> int:
    """Run `ev report`; returns the exit code."""
    command = parse(Report, argv, "ev report")
    require(
        len(command.targets) > 0, "RUN", (), "one or more runs' folders, or a study; `ev list` shows the runs"
    )
    if command.out is not None:
        require_replaceable(command.out, "page")  # Told now, not after the whole study was read.
    from escapevelocity import __version__
    from escapevelocity.report.page import render
    from escapevelocity.runs.atomic import write_bytes
    from escapevelocity.runs.spec import SPEC_FILE
    from escapevelocity.runs.status import STATUS_FILE

    paths = [Path(target) for target in command.targets]
    try:
        runs = [path for path in paths if any((path / name).exists() for name in (SPEC_FILE, STATUS_FILE))]
    except OSError as error:
        raise cannot_read(error.filename, error) from error
    if len(paths) == 1 and not runs:
        from escapevelocity.study.report_study import gathered, study_page

        found = gathered(command.targets[0], command.store)
        page, out = study_page(found, _advice, __version__, _tell), command.out or found.default_out
    else:
        from escapevelocity.study.report_page import runs_page

        require(command.store is None, "store", command.store, "left out: these are runs")
        page, out = runs_page(paths, _advice, __version__), command.out or paths[0] / "report.html"
    require_replaceable(out, "page")
    write_bytes(out, render(page).encode("utf-8", "replace"))  # Half characters: names from disk.
    print(out)
    return 0


def _advice(run: "Run", diagnosis: "RunDiagnosis") -> list[tuple[str, str]]:
    """What to try, as `ev diagnose` tells it; nothing for settings that cannot be read here."""
    from escapevelocity.cli._remedies import commands_by_remedy
    from escapevelocity.report.diagnosis import first_onset

    try:
        return commands_by_remedy(run, diagnosis.remedies, first_onset(diagnosis))
    except (
        UserError
    ):  # A remedy of a module that nobody has imported: the rest of the page is none the worse.
        return [(remedy, remedy) for remedy in diagnosis.remedies]


def _tell(line: str) -> None:
    import sys

    print(line, file=sys.stderr)
