"""`ev study plan`: the runs of a study, what is done, and what the rest will cost."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from escapevelocity.cli._parse import parse


@dataclasses.dataclass(frozen=True)
class StudyPlan:
    """Print the runs of a study with their state, what is done of each, and the time that is left.

    The time is that of the recorded runs of the same task that differ least. Which seeds run together is decided when
    a study is planned for the first time, and kept in STORE/_study/plan.json.
    """

    file: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="FILE")]
    """The study: a TOML file, or module:attribute naming a Study in Python."""
    store: str | None = None
    """Where its runs are: a folder or an fsspec URL; by default runs/NAME, by the study's name."""
    history: Path | None = None
    """A kept history (`ev study history`): runs that it holds to their end are done."""
    import_modules: Annotated[tuple[str, ...], tyro.conf.arg(name="import")] = ()
    """Modules to import first, beside those that the study names: those that register environments, remedies or kinds
    of runs."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print the plan as JSON."""


def main(argv: Sequence[str]) -> int:
    """Run `ev study plan`; returns the exit code."""
    command = parse(StudyPlan, argv, "ev study plan")
    from escapevelocity.cli._console import console
    from escapevelocity.study.ended import ended_runs
    from escapevelocity.study.grid import read_study
    from escapevelocity.study.plan import default_store, plan
    from escapevelocity.study.plan_view import plan_json, plan_page

    study = read_study(command.file)
    study = dataclasses.replace(study, imports=(*study.imports, *command.import_modules))
    store = command.store or default_store(study)
    planned = plan(study, store, kept=ended_runs(command.history))
    if command.json:
        print(json.dumps(plan_json(planned, study.name, store), indent=2))
    else:
        console().print(plan_page(planned))
    return 0
