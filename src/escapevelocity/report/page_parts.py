"""Parts of the report page that tell of runs as they are on disk: evidence, settings, lineage, values, environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from escapevelocity.report._shown import UNDEFINED
from escapevelocity.report.page import Cell, Heading, Part, Table
from escapevelocity.report.page_verdict import VerdictCard
from escapevelocity.report.reproduce import reproduce_lines
from escapevelocity.report.settings import lineage_lines, settings_changed, settings_of
from escapevelocity.runs import Run
from escapevelocity.runs.provenance import PROVENANCE_FILE, sessions_of


def evidence_part(cards: Sequence[VerdictCard]) -> Part:
    """What the verdicts rest on: every sign with its onset, what speaks for and against, what would refute them."""
    tables = [_onsets(card) for card in cards if card.onsets]
    rows = [
        (
            Cell(card.label, group=card.group),
            *(
                Cell("; ".join(lines) or UNDEFINED)
                for lines in (card.evidence, card.refuted_by, card.not_measured)
            ),
        )
        for card in cards
    ]
    head = tuple(map(Heading, ("run", "speaks for and against", "would refute it", "not measured")))
    tables.append(Table("How far the verdicts can be relied on", head, tuple(rows)))
    intro = "" if any(card.onsets for card in cards) else "No sign of illness has appeared."
    return Part("evidence", "Evidence", intro, tables=tuple(tables))


def _onsets(card: VerdictCard) -> Table:
    head = (
        Heading("sign"),
        Heading("what it means"),
        Heading("what was seen first"),
        Heading("since step", number=True),
        Heading("of the run", number=True),
        Heading("in seeds"),
        Heading("still there"),
    )
    rows = tuple(
        (
            Cell(row.sign, "bad" if row.lasts and card.tone == "bad" else ""),
            Cell(row.meaning),
            Cell(row.text),
            Cell(f"{row.step:,}", number=True),
            Cell(row.share, number=True),
            Cell(row.seeds),
            Cell(row.lasts_told),
        )
        for row in card.onsets
    )
    return Table(f"Signs in {card.label}, those that last first", head, rows)


def differences_table(runs: Sequence[Run], labels: Sequence[str]) -> Table | None:
    """The settings in which several runs differ, a column for each; None where they do not."""
    settings = [_told(settings_of(run)) for run in runs]
    names = dict.fromkeys(name for own in settings for name in own)
    rows = []
    for name in names:
        values = [own.get(name, UNDEFINED) for own in settings]
        if len(set(values)) > 1:
            rows.append((Cell(name, code=True), *(Cell(value) for value in values)))
    if not rows:
        return None
    return Table("What differs between them", (Heading("setting"), *map(Heading, labels)), tuple(rows))


def settings_parts(runs: Sequence[Run], labels: Sequence[str]) -> list[Part]:
    """Settings that differ from the preset's, of several runs side by side; and all of them, folded."""
    changed = [settings_changed(run) for run in runs]
    settings = [_told(settings_of(run)) for run in runs]
    rows = []
    for name in sorted({name for own in changed for name in own}):
        mine = [own.get(name, UNDEFINED) for own in settings]
        cells = [
            Cell(value, "unsure" if name in own else "") for value, own in zip(mine, changed, strict=True)
        ]
        # A run that has not changed it has the value of its own preset, which need not be another run's.
        usual = dict.fromkeys(
            _written(own[name][1]) if name in own else value for value, own in zip(mine, changed, strict=True)
        )
        rows.append((Cell(name, code=True), *cells, Cell(" or ".join(usual))))
    presets = ", ".join(dict.fromkeys(str(run.spec.get("preset") or run.job) for run in runs))
    head = (Heading("setting"), *map(Heading, labels), Heading(f"preset ({presets})"))
    intro = "" if rows else "Every setting is the preset's."
    differing = (Table("Settings that differ from the preset", head, tuple(rows)),) if rows else ()
    everything = tuple(
        (Cell(name, code=True), *(Cell(own.get(name, UNDEFINED)) for own in settings))
        for name in dict.fromkeys(name for own in settings for name in own)
    )
    whole = Table("Every setting", (Heading("setting"), *map(Heading, labels)), everything)
    return [
        Part("settings", "Settings", intro, tables=differing),
        Part("every-setting", "Every setting", tables=(whole,), folded=True, listed=False),
    ]


def lineage_part(runs: Sequence[Run], labels: Sequence[str]) -> Part | None:
    """Where branches left their parents, and with which settings; None where no run is a branch."""
    rows = []
    for index, (run, label) in enumerate(zip(runs, labels, strict=True)):
        lines = lineage_lines(run)
        if lines:
            changes = (
                "; ".join(" ".join(line.split()) for line in lines[1:]) or "no setting: it repeats its parent"
            )
            rows.append((Cell(label, group=index), Cell(lines[0]), Cell(changes)))
    if not rows:
        return None
    table = Table("Branches", (Heading("run"), Heading("began"), Heading("changed there")), tuple(rows))
    intro = "A branch goes on from a checkpoint of another run: the same past, another future."
    return Part("lineage", "Lineage", intro, tables=(table,))


def environment_part(runs: Sequence[Run], labels: Sequence[str]) -> Part:
    """Versions, machine, flags, seeds and hashes, side by side; what is the same for all is said once."""
    found = [{**_identity(run), **_provenance(run)} for run in runs]
    names = list(dict.fromkeys(name for own in found for name in own))
    rows = []
    for name in names:
        values = [own.get(name, UNDEFINED) for own in found]
        rows.append((Cell(name), *(Cell(value, code=name.endswith("hash")) for value in values)))
    table = Table("Where the runs were computed", (Heading("what"), *map(Heading, labels)), tuple(rows))
    return Part(
        "environment", "Environment, versions and hashes", tables=(table,), folded=True, short="Environment"
    )


def reproduce_part(runs: Sequence[Run]) -> Part:
    """The commands that make the runs again."""
    lines = list(dict.fromkeys(line for run in runs for line in reproduce_lines(run)))
    intro = (
        "With the versions below, on the same machine type with as many threads, these give the same records bit for"
        " bit; elsewhere the numbers differ, and what they say should not."
    )
    return Part("reproduce", "Reproduce", intro, commands=tuple(lines))


def _identity(run: Run) -> dict[str, str]:
    status = run.status
    found = {
        "folder": str(run.path),
        "state": f"{status.state}{f' ({status.why})' if status.why else ''}",
        "steps per seed": f"{status.steps_done:,} of {status.steps_total:,}",
        "seeds": " ".join(map(str, run.spec.get("seeds") or ())) or UNDEFINED,
        "spec hash": run.spec_hash or UNDEFINED,
    }
    checkpoints = run.checkpoints()
    if checkpoints:
        found["last checkpoint's hash"] = str(checkpoints[-1].meta.get("sha256", UNDEFINED))
    return found


def _provenance(run: Run) -> dict[str, str]:
    sessions = sessions_of(run.path)
    if not sessions:
        return {"provenance": f"{PROVENANCE_FILE} is missing or damaged"}
    given = {name: x for name, x in sessions[-1].items() if x is not None and name != "segments_done"}
    names = {name: name.replace("version/", "version of ").replace("/", ": ") for name in given}
    told = {names[name]: _written(value) for name, value in given.items()}
    return {**told, **({"resumed": f"{len(sessions) - 1} times"} if len(sessions) > 1 else {})}


def _told(settings: Mapping[str, Any]) -> dict[str, str]:
    return {name: _written(value) for name, value in settings.items()}


def _written(value: Any) -> str:
    """Write a setting as a person would."""
    if isinstance(value, list | tuple):
        return " ".join(map(_written, value)) or "none"
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)
