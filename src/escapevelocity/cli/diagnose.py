"""`ev diagnose`: what happened to a run, when it began, how sure that is, and what to try."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from escapevelocity.cli._parse import parse
from escapevelocity.errors import require
from escapevelocity.imports import import_modules

if TYPE_CHECKING:
    from escapevelocity.health.diagnosis import RunDiagnosis
    from escapevelocity.runs import Run


@dataclasses.dataclass(frozen=True)
class Diagnose:
    """Name the cause: the verdict on a run, the onset of every sign, the confidence, and what to try.

    Reads what the run has recorded, finished or not, and says what was not measured. Also reads logs of other
    trainers (Stable-Baselines3, CleanRL, RLlib): TensorBoard event files, progress.csv, monitor.csv, result.json, CSV
    exports of Weights & Biases. The exit code is 0 whatever the verdict.
    """

    runs: Annotated[
        tyro.conf.Positional[tuple[Path, ...]],
        tyro.conf.arg(metavar="RUN [RUN ...]", help_behavior_hint="(required)"),
    ]
    """The runs' folders; of another trainer, a log or the folder that holds it."""
    seed: int | None = None
    """Only this member of the population; by default all, with one told in full."""
    env: str | None = None
    """Environment of another trainer's log, where the log does not name it: the limits of the entropy depend on it."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print JSON: a list with an entry for each run."""
    import_modules: Annotated[tuple[str, ...], tyro.conf.arg(name="import")] = ()
    """Modules to import first: those that register your own remedies, from the current folder or installed."""


def main(argv: Sequence[str]) -> int:
    """Run `ev diagnose`; returns the exit code."""
    command = parse(Diagnose, argv, "ev diagnose")
    require(len(command.runs) > 0, "RUN", "", "one or more runs' folders or logs")
    import_modules(command.import_modules)
    from escapevelocity.report.diagnosis import diagnosis_text

    # All runs first, so that a mistake in the last path does not come after pages of text.
    seeds = () if command.seed is None else (command.seed,)
    told = [_diagnosed(path, seeds, command.env, command.import_modules) for path in command.runs]
    if command.json:
        entries = [
            {
                "run": str(run.path),
                **found.to_json(),
                **_branch(run, seeds),
                "commands": lines,
                "notes": notes,
            }
            for run, found, lines, notes in told
        ]
        print(json.dumps(entries, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        texts = [_with_notes(diagnosis_text(run, found, lines), notes) for run, found, lines, notes in told]
        print("\n\n".join(texts))
    return 0


def _diagnosed(
    path: Path, seeds: Sequence[int], env: str | None, imports: Sequence[str]
) -> "tuple[Run, RunDiagnosis, list[str], list[str]]":
    """Diagnose a run of ours or another trainer's log; with what to try, and notes on how the log was read."""
    from escapevelocity.cli._remedies import commands
    from escapevelocity.errors import UserError, require
    from escapevelocity.health.diagnosis import combine, diagnose, seeds_of
    from escapevelocity.interop.foreign import advice, read_foreign
    from escapevelocity.report.diagnosis import diagnose_run, first_onset
    from escapevelocity.runs import Run, Status, open_run

    log = read_foreign(path, env)
    if log is None:
        run = open_run(path)
        require(env is None, "env", env, f"left out: {path} is a run of ours, which knows its task")
        found = diagnose_run(run, seeds)
        try:
            lines = commands(run, found.remedies, first_onset(found), imports)
        except UserError as error:  # The records are read without what the run was made of.
            lines = [f"no commands: {error}"]
        return run, found, lines, []
    members = seeds or seeds_of(log.records)
    found = combine([diagnose(log.records, log.context, seed) for seed in members])
    # Whether such a run has finished is not known: nothing is said of it.
    run = Run(path, "foreign", {}, Status("finished", steps_total=log.context.total_steps or 0))
    return run, found, advice(found.remedies), log.notes


def _branch(run: "Run", seeds: Sequence[int]) -> dict[str, Any]:
    """Where a branch began and what its parent went on to, as JSON values; nothing for a run that is no branch."""
    from escapevelocity.report.diagnosis import parents_diagnosis

    if run.job == "foreign" or run.parent is None:
        return {}
    parent, theirs, why = parents_diagnosis(run, seeds)
    where = {"path": run.parent.path if parent is None else str(parent.path), "step": run.parent.step}
    return {"parent": {**where, **({"missing": why} if theirs is None else theirs.to_json())}}


def _with_notes(text: str, notes: Sequence[str]) -> str:
    return "\n".join([text, "", "how the log was read", *(f"  {note}" for note in notes)]) if notes else text
