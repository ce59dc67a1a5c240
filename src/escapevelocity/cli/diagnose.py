"""`ev diagnose`: what happened to a run, when it began, how sure that is, and what to try."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from escapevelocity.cli._parse import parse


@dataclasses.dataclass(frozen=True)
class Diagnose:
    """Name the cause: the verdict on a run, the onset of every sign, the confidence, and what to try.

    Reads what the run has recorded, finished or not, and says what was not measured. The exit code is 0 whatever the
    verdict.
    """

    runs: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUN [RUN ...]")]
    """The runs' folders."""
    seed: int | None = None
    """Only this member of the population; by default all, with one told in full."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print JSON: a list with an entry for each run."""


def main(argv: Sequence[str]) -> int:
    """Run `ev diagnose`; returns the exit code."""
    command = parse(Diagnose, argv, "ev diagnose")
    from escapevelocity.cli._remedies import commands
    from escapevelocity.report.diagnosis import diagnose_run, diagnosis_text
    from escapevelocity.runs import open_run

    # All runs first, so that a mistake in the last path does not come after pages of text.
    runs = [open_run(path) for path in command.runs]
    seeds = () if command.seed is None else (command.seed,)
    found = [(run, diagnose_run(run, seeds)) for run in runs]
    told = [(run, d, commands(run, d.remedies)) for run, d in found]
    if command.json:
        entries = [{"run": str(run.path), **d.to_json(), "commands": lines} for run, d, lines in told]
        print(json.dumps(entries, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        print("\n\n".join(diagnosis_text(*entry) for entry in told))
    return 0
