"""The report page of a study: how its cells fare, group by group; gathered without changing its store."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from typing import NamedTuple

from escapevelocity.errors import UserError, require
from escapevelocity.health.diagnosis import RunDiagnosis
from escapevelocity.health.verdict import Verdict
from escapevelocity.report._shown import UNDEFINED
from escapevelocity.report.diagnosis import diagnose_run, is_ill
from escapevelocity.report.page import Cell, Heading, Page, Part, Table
from escapevelocity.report.page_curves import charts_of
from escapevelocity.report.page_parts import settings_parts
from escapevelocity.report.page_words import WORDS
from escapevelocity.report.reproduce import reproduce_lines
from escapevelocity.runs import open_run
from escapevelocity.study._folders import run_folders
from escapevelocity.study.gather import collect
from escapevelocity.study.history import History, read_history
from escapevelocity.study.plan import plan
from escapevelocity.study.report_cells import (
    REMEDY,
    CellGroup,
    StudyCell,
    cells_of,
    grouped,
    study_panels,
    told,
    traced_cell,
    varying,
)
from escapevelocity.study.report_environments import environments_part
from escapevelocity.study.report_page import FOOT, Advice, reading
from escapevelocity.study.report_tables import Compared, last_table, paired_table
from escapevelocity.study.target import open_target

MOST_SEED_LINES = 40
"""A group with more seeds shows their cells' means and intervals alone."""
_COMMANDS = 40
_LISTED = 6  # More groups would be a list of contents that nobody reads: the table leads to each.


class Gathered(NamedTuple):
    """A study's runs as they are now."""

    name: str
    target: str
    """As it was given, for the command that goes on with it."""
    history: History
    folders: Mapping[str, Path]
    """By run."""
    missing: int
    """Planned runs that nobody has begun."""
    default_out: Path


def gathered(target: str, store: str | None = None) -> Gathered:
    """Read a study's runs, or those of a store; what its history has already is not read again, nothing is written.

    Args:
        target: a study's TOML file or module:attribute, or the folder that holds runs.
        store: the store of a study; by default runs/NAME.

    Raises:
        UserError: as `open_target`; or it has no run with records yet.
    """
    study, opened = open_target(target, store)
    require(
        not opened.is_remote,
        "store",
        opened.url,
        "a folder of this machine: copy the runs that are to be told of",
    )
    folders = dict(run_folders(opened.path))
    names, missing = list(folders), 0
    if study is not None:
        planned = [one.order.name for one in plan(study, opened, record=False)]
        missing = sum(name not in folders for name in planned)
        names = [name for name in planned if name in folders]
    if not names:
        hint = f"`ev study run {target}` trains them" if study is not None else "`ev train TASK` makes one"
        raise UserError(f"no runs in {opened.path} to report; {hint}")
    with tempfile.TemporaryDirectory() as folder:
        # The store's own file is read, so that only new runs are; a report does not write it.
        history = read_history(collect(opened, Path(folder) / "history.parquet", names))
        history = _in_memory(history)
    if not history.runs:
        raise UserError(
            f"no run in {opened.path} has records yet; `ev study watch {target}` says how far they are"
        )
    name = study.name if study is not None else opened.path.resolve().name
    # As it was given, which is shorter than the store's own path.
    out = Path(target) if study is None else Path(store) if store is not None else opened.path
    return Gathered(name, target, history, folders, missing, out / "report.html")


def study_page(
    found: Gathered, advice: Advice, version: str, tell: Callable[[str], None] = lambda line: None
) -> Page:
    """Gather the page of a study.

    Args:
        found: its runs.
        advice: what to try for a diagnosis; not used for a study, whose cells are the remedies tried.
        version: of this package.
        tell: is told one line for each run that is diagnosed.

    Raises:
        UserError: runs of different jobs.
    """
    history = found.history
    jobs = list(dict.fromkeys(str(run.settings.get("job", "ppo")) for run in history.runs))
    if len(jobs) > 1:
        raise UserError(f"runs of different kinds ({', '.join(jobs)}) do not fit one page; report them apart")
    verdicts: dict[str, RunDiagnosis] = {}
    for run in history.runs:
        tell(f"diagnosing {run.name}")
        verdicts[run.name] = diagnose_run(open_run(found.folders[run.name]))
    cells = cells_of(history.runs)
    groups = grouped(cells)
    labels = list(dict.fromkeys(label for group in groups for label in group.labels))
    colors = {label: index for index, label in enumerate(labels)}
    parts = [_overview(groups, verdicts, colors)]
    parts += [
        _group_part(found, group, index, verdicts, colors, jobs[0]) for index, group in enumerate(groups)
    ]
    tasks = list(
        dict.fromkeys(
            told(run.settings.get("task") or run.settings.get("data", jobs[0])) for run in history.runs
        )
    )
    seeds = sum(len(one.members) for one in verdicts.values())
    return Page(
        title=found.name,
        kicker=f"Report of a study · {', '.join(tasks)}",
        lead=_lead(verdicts),
        facts=(
            *map(_counted, (len(cells), len(history.runs), seeds), ("cell", "run", "seed")),
            *_states(found),
        ),
        cards=(),
        parts=(*parts, *_rest(found, cells)),
        foot=FOOT.format(version=version),
    )


def _in_memory(history: History) -> History:
    """The same history, without the file."""
    from escapevelocity.study._rows import TableRows

    tables = [history.rows.table(run.name, history.rows.schema.names) for run in history.runs]
    return History(history.runs, TableRows.of(tables, history.rows.schema), history.left_out)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _lead(verdicts: Mapping[str, RunDiagnosis]) -> str:
    """How many seeds are well, and what is the matter with the others."""
    counts = Counter(member.verdict for one in verdicts.values() for member in one.members)
    total = sum(counts.values())
    well = counts[Verdict.HEALTHY] + counts[Verdict.LEARNING]
    ill = [f"{counts[v]} {v}" for v in Verdict if is_ill(v) and counts[v]]
    unclear = counts[Verdict.NOT_MEASURED]
    text = f"{well} of {total} seeds are healthy or still learning."
    text += f" The others: {', '.join(ill)}." if ill else ""
    return text + (f" Of {unclear} it cannot be told." if unclear else "")


def _states(found: Gathered) -> list[str]:
    counts = Counter(run.state for run in found.history.runs)
    told_states = [f"{count} {state}" for state, count in counts.items()]
    left_out = len(found.history.left_out)
    told_states += [f"{found.missing} not begun"] if found.missing else []
    return told_states + ([f"{left_out} without records yet"] if left_out else [])


def _overview(
    groups: Sequence[CellGroup], verdicts: Mapping[str, RunDiagnosis], colors: Mapping[str, int]
) -> Part:
    """A row for each cell: how many of its seeds have which verdict."""
    rows = []
    for index, group in enumerate(groups):
        for cell, label in zip(group.cells, group.labels, strict=True):
            counts = _counts(cell, verdicts)
            rows.append(
                (
                    Cell(label, group=colors[label]),
                    Cell(group.title or "curves", href=f"#group-{index}"),
                    Cell(str(sum(counts.values())), number=True),
                    *_verdict_cells(counts),
                    Cell(", ".join(dict.fromkeys(run.state for run in cell.runs))),
                )
            )
    head = (
        Heading("cell"),
        Heading("group"),
        Heading("seeds", number=True),
        Heading("healthy or learning", WORDS[Verdict.HEALTHY].plain, number=True),
        Heading("ill or stalled", number=True),
        Heading("with"),
        Heading("state"),
    )
    table = Table("How many seeds of each cell are well, as ev diagnose finds it", head, tuple(rows))
    return Part("cells", "Which cells are healthy?", tables=(table,), short="Cells")


def _verdict_cells(counts: Counter) -> tuple[Cell, Cell, Cell]:
    well = counts[Verdict.HEALTHY] + counts[Verdict.LEARNING]
    ill = sum(count for verdict, count in counts.items() if is_ill(verdict))
    what = ", ".join(
        f"{counts[v]} {v}" for v in Verdict if counts[v] and (is_ill(v) or v is Verdict.NOT_MEASURED)
    )
    return (
        Cell(str(well), "good" if well else "", number=True),
        Cell(str(ill), "bad" if ill else "", number=True),
        Cell(what or UNDEFINED),
    )


def _counts(cell: StudyCell, verdicts: Mapping[str, RunDiagnosis]) -> Counter:
    return Counter(member.verdict for run in cell.runs for member in verdicts[run.name].members)


def _group_part(
    found: Gathered,
    group: CellGroup,
    index: int,
    verdicts: Mapping[str, RunDiagnosis],
    colors: Mapping[str, int],
    job: str,
) -> Part:
    traced = [
        traced_cell(found.history, cell, label, colors[label])
        for cell, label in zip(group.cells, group.labels, strict=True)
    ]
    lines = sum(len(cell.seeds) for cell in group.cells)
    charts = charts_of(traced, study_panels(job), job, f"group-{index}-", seeds=lines <= MOST_SEED_LINES)
    compared = []
    for cell, one in zip(group.cells, traced, strict=True):
        counts = _counts(cell, verdicts)
        ill = sum(count for verdict, count in counts.items() if is_ill(verdict))
        text = f"{ill} of {sum(counts.values())} ill or stalled"
        compared.append(Compared(one, told(cell.settings.get("task", job)), text, "bad" if ill else "good"))
    tables = [last_table(compared, job, "cell")]
    paired = paired_table(compared, {}, job)
    tables += [] if paired is None else [paired]
    return Part(
        id=f"group-{index}",
        title=group.title or "Curves by cell",
        intro=reading([len(cell.seeds) for cell in group.cells]) if index == 0 else "",
        legend=tuple((one.group, one.label) for one in traced),
        charts=tuple(charts),
        tables=tuple(tables),
        short=group.title or "Curves",
        listed=index < _LISTED,
    )


def _rest(found: Gathered, cells: Sequence[StudyCell]) -> list[Part]:
    """What all runs have in common, where they were computed, and how to make them again."""
    runs = [open_run(found.folders[run.name]) for run in found.history.runs]
    free = set(varying(cells))
    common = [_shared(part, free) for part in settings_parts(runs[:1], ["all cells"])]
    if Path(found.target).is_dir():
        lines = list(dict.fromkeys(line for run in runs[:_COMMANDS] for line in reproduce_lines(run)))
        left = len(runs) - _COMMANDS
        intro = f"The first {_COMMANDS} of {len(runs)} runs; the others alike." if left > 0 else ""
    else:
        lines, intro = (
            [f"ev study run {found.target}"],
            "Trains what is missing; what is there stays as it is.",
        )
    reproduce = Part("reproduce", "Reproduce", intro, commands=tuple(lines))
    return [*common, reproduce, environments_part(found.folders, found.history.runs)]


def _shared(part: Part, free: Set[str]) -> Part:
    """The rows of settings in which no cell differs."""
    tables = []
    for table in part.tables:
        names = [row[0].text for row in table.rows]
        kept = [
            row
            for name, row in zip(names, table.rows, strict=True)
            if not {name, name.split(".")[-1]} & free
            and not (name == "remedies" and REMEDY in free)
            and name != "seeds"
        ]
        tables.append(table._replace(rows=tuple(kept), caption=f"{table.caption}, the same in all cells"))
    return part._replace(tables=tuple(table for table in tables if table.rows))
