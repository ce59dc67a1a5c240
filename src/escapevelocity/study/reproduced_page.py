"""Writes a regenerated figure: picture, data, and a page with the claim, what we measured, and how it was made."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from escapevelocity.errors import UserError
from escapevelocity.report import _figure
from escapevelocity.report.lab.page import markdown_table
from escapevelocity.runs import provenance
from escapevelocity.runs.atomic import make_folder, write_bytes, write_table
from escapevelocity.study.papers.figure import LabFigure, PaperFigure
from escapevelocity.study.papers.kept_findings import find_or_run, findings_path, read_findings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from escapevelocity.lab.experiments.experiment import Findings, Track
    from escapevelocity.study.grid import Study
    from escapevelocity.study.history import History
    from escapevelocity.study.plan import Planned
    from escapevelocity.study.reproduce import Wanted
    from escapevelocity.study.store import Store

LAB_FOLDER = "lab"
"""Where a store keeps the lab's findings, below STORE/_study."""
_VERSIONS = ("escapevelocity", "jax", "jaxlib", "numpy")


class Written(NamedTuple):
    """What was written for one figure."""

    paths: list[Path]
    said: list[str]
    """What we measured."""


def write_lab(wanted: Wanted, figure: LabFigure, store: Store, out: Path, track: Track | None) -> Written:
    """Compute (or find in the store), draw and write a figure of the lab; with track None only draw.

    Raises:
        UserError: a folder that cannot be written, or nothing to draw from.
    """
    experiment = figure.settings(wanted.scale)
    folder = store.study_path / LAB_FOLDER
    if track is None:
        findings = read_findings(findings_path(folder, figure.experiment, experiment))
    else:
        findings = find_or_run(folder, figure.experiment, experiment, track)
    said = figure.measured(findings)
    with _figure.paper_style():
        pictures = _pictures(out, wanted.stem, figure.draw(experiment, findings))
    paths = [*pictures, *_tables(out, wanted.stem, findings)]
    settings = [f"    {name} = {value!r}" for name, value in vars(experiment).items()]
    how = [
        f"Computed by the lab (`ev lab {figure.experiment}`), scale {wanted.scale}; settings:",
        "",
        *settings,
    ]
    page = _page(wanted, pictures, said, [*markdown_table(findings.summary), "", *how], [])
    paths.append(out / f"{wanted.stem}.md")
    write_bytes(paths[-1], page.encode())
    return Written(paths, said)


def write_study(
    wanted: Wanted,
    figure: PaperFigure,
    planned: Sequence[Planned],
    store: Store,
    out: Path,
    kept: Path | None = None,
) -> Written:
    """Gather a figure's runs, from the store and the kept history, draw it and write it.

    Raises:
        UserError: none of its runs is there, or what is there does not suffice.
    """
    path = out / f"{wanted.stem}.parquet"
    make_folder(path.parent)
    history = _gathered(planned, store, path, kept)
    if history is None:
        raise UserError(
            f"{figure.id}: none of its {len(planned)} runs is in {store.url}; run without --draw-only"
        )
    if not history.runs:
        why = next(iter(history.left_out.values()), "they have no records yet")
        raise UserError(f"{figure.id}: none of its runs can be drawn ({why})")
    said = figure.measured(history, wanted.task)
    with _figure.paper_style():
        pictures = _pictures(out, wanted.stem, {"": figure.draw(history, wanted.task)})
    commits = sorted({commit for run in history.runs for commit in _commits(store.run_path(run.name))})
    how = _runs(figure.study(wanted.task, wanted.scale), wanted.scale, planned, history.left_out)
    page = _page(wanted, pictures, said, how, commits)
    paths = [*pictures, path, out / f"{wanted.stem}.md"]
    write_bytes(paths[-1], page.encode())
    return Written(paths, said)


def _gathered(planned: Sequence[Planned], store: Store, path: Path, kept: Path | None) -> History | None:
    """The records of the runs, also written to `path`; None where there is none."""
    from escapevelocity.study.history import History, collect, read_history, write_history

    there = [one.order.name for one in planned if one.state not in ("missing", "damaged", "kept")]
    for name in there:
        store.pull(name)
    history = read_history(collect(store, path, there)) if there else None
    wanted = {one.order.name for one in planned if one.state == "kept"}
    if kept is None or not wanted:
        return history
    old = read_history(kept)
    old = History(tuple(run for run in old.runs if run.name in wanted), old.rows)
    write_history(old if history is None else old.updated(history), path)
    return read_history(path)


def _pictures(out: Path, stem: str, figures: dict[str, Figure]) -> list[Path]:
    paths = []
    for part, figure in figures.items():
        for kind in ("png", "pdf"):
            paths.append(out / f"{_part(stem, part)}.{kind}")
            write_bytes(paths[-1], _figure.encode(figure, kind))
    return paths


def _tables(out: Path, stem: str, findings: Findings) -> list[Path]:
    paths = []
    for part, columns in findings.tables.items():
        paths.append(out / f"{_part(stem, part)}.parquet")
        write_table(paths[-1], pa.table({name: np.asarray(column) for name, column in columns.items()}))
    return paths


def _part(stem: str, part: str) -> str:
    return f"{stem}-{part}" if part else stem


def _page(wanted: Wanted, paths: list[Path], said: list[str], how: list[str], commits: Sequence[str]) -> str:
    figure = wanted.figure
    task = f" ({wanted.task})" if wanted.task else ""
    found = provenance.collect()
    versions = ", ".join(f"{name} {found[f'version/{name}']}" for name in _VERSIONS)
    lines = [f"# {figure.id}: {figure.title}{task}", ""]
    for path in paths:
        if path.suffix == ".png":
            lines += [f"![{path.stem}]({path.name})", ""]
    lines += [
        f"**What was claimed.** {figure.claim}",
        "",
        f"**What we measured.** {said[0] if said else 'Nothing.'}",
        "",
    ]
    lines += [line for sentence in said[1:] for line in (sentence, "")]
    lines += ["## How", "", *how, "", "Regenerated by", "", f"    {shlex.join(wanted.command)}", ""]
    lines += [f"Drawn with {versions}, commit {found['commit'] or 'unknown'}."]
    if commits:
        lines += [f"Trained at commit {', '.join(commits)}."]
    return "\n".join([*lines, ""])


def _runs(study: Study, scale: str, planned: Sequence[Planned], left_out: Mapping[str, str]) -> list[str]:
    """Number, seeds, steps and settings of the runs."""
    states = Counter(one.state for one in planned)
    counted = ", ".join(f"{count} {state}" for state, count in states.items())
    steps = sorted({one.order.steps for one in planned})
    seeds = sorted({seed for one in planned for seed in one.order.seeds})
    lines = [
        f"Scale {scale}: {len(planned)} runs ({counted}), {len(seeds)} seeds "
        f"({', '.join(map(str, seeds))}), {' or '.join(f'{number:,}' for number in steps)} environment steps per seed.",
        "",
        "    [base]",
        *(f"    {name} = {_toml(value)}" for name, value in study.base.items()),
        "    [axes]",
        *(f"    {name} = {_toml(list(values))}" for name, values in study.axes.items()),
        *(f"    # excluded: {_toml(dict(labels))}" for labels in study.exclude),
        *(f"    # where {_toml(dict(rule.match))}: {_toml(dict(rule.set))}" for rule in study.when),
    ]
    left = [f"Left out: {name} ({why})." for name, why in left_out.items()]
    return [*lines, "", *left] if left else lines


def _toml(value: object) -> str:
    return json.dumps(value, default=list, ensure_ascii=False)


def _commits(run: Path) -> list[str]:
    """The commits that a run was trained at, one per session."""
    return [str(session.get("commit") or "unknown") for session in provenance.sessions_of(run)] or ["unknown"]
