"""`ev reproduce`: the papers' figures from real runs, with what was claimed and what we measured."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from escapevelocity.cli._parse import parse
from escapevelocity.errors import UserError


@dataclasses.dataclass(frozen=True)
class Reproduce:
    """Regenerate figures of the papers: train the runs that are missing, draw, and say what was claimed and measured.

    Runs are shared between figures through the store, so each is trained once; what was interrupted goes on when the
    command is given again. For every figure PAPER/FIGURE[-TASK].png, .pdf, .parquet and .md are written to --out.
    """

    figures: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="ID")] = ()
    """Figures, such as nrnt/figure-6."""
    list: tyro.conf.FlagCreatePairsOff[bool] = False
    """Only list the figures, those that are named or all: id, title, tasks, and what scale small costs."""
    all: tyro.conf.FlagCreatePairsOff[bool] = False
    """Every figure of every paper."""
    paper: str = ""
    """Every figure of this paper: nrnt, sgw or asr."""
    task: str = ""
    """On which task; by default each figure's first."""
    scale: Literal["small", "paper"] = "small"
    """small: under an hour per figure on two cores; paper: the paper's own size."""
    store: str = ""
    """Folder or fsspec URL of the runs; by default runs/reproduce-small or runs/reproduce-paper."""
    out: Path | None = None
    """Folder of the figures; by default runs/figures-small or runs/figures-paper."""
    executor: Literal["local", "ray"] = "local"
    """Where missing runs train: worker processes on this machine, or a Ray cluster."""
    address: str | None = None
    """Of the Ray cluster; by default the one that Ray finds, or a new one on this machine."""
    workers: int | None = None
    """Worker processes of the local executor; by default one per core."""
    history: Path | None = None
    """A kept history (`ev study history`): runs that it holds to their end are not trained, but drawn from it."""
    draw_only: tyro.conf.FlagCreatePairsOff[bool] = False
    """Train and compute nothing; draw from what the store holds."""
    dry_run: tyro.conf.FlagCreatePairsOff[bool] = False
    """Only print which runs the figures need, and in which state those are; the plan is kept in the store."""


def main(argv: Sequence[str]) -> int:
    """Run `ev reproduce`; returns the exit code: 1 where a run failed or a figure could not be drawn, 3 where another
    process still trains some of the runs.
    """
    command = parse(Reproduce, argv, "ev reproduce")
    if command.all and command.paper:
        raise UserError(f"paper = {command.paper!r}: must be left out with --all, which takes every paper")
    if command.list:
        _print_list(command)
        return 0
    if not (command.figures or command.paper or command.all):
        raise UserError("figures: missing; name some, such as nrnt/figure-6, or see ev reproduce --list")
    if command.out is not None:
        from escapevelocity.runs.atomic import require_writable

        require_writable(command.out)  # Told now, not after hours of training.
    return _reproduce(command)


def _reproduce(command: Reproduce) -> int:
    from escapevelocity.cli.study_run import exit_code
    from escapevelocity.report.lab.progress import track
    from escapevelocity.study import reproduce
    from escapevelocity.study.ended import ended_runs
    from escapevelocity.study.store import open_store

    papers = reproduce.every_paper() if command.all else [command.paper] if command.paper else []
    wanted = reproduce.select(command.figures, papers, command.task, command.scale)
    wanted = [dataclasses.replace(one, store=command.store, history=command.history) for one in wanted]
    executor = None if command.draw_only or command.dry_run else _executor(command)
    ended_runs(command.history)  # Before the store's folder is made: a mistake here leaves nothing.
    # A kept history can be drawn from without any run.
    create = not command.draw_only or command.history is not None
    store = open_store(command.store or f"runs/reproduce-{command.scale}", create=create)
    out = command.out or Path(f"runs/figures-{command.scale}")
    plans = reproduce.plan_figures(wanted, store, command.history)
    if command.dry_run:
        _print_plans(plans)
        return 0
    code = 0
    if executor is not None:
        code = exit_code(_train(plans, store, executor))
        if code == 130:
            return code
        plans = reproduce.plan_figures(wanted, store, command.history)
        for line in reproduce.measure(wanted, plans, store, track):
            print(f"ev: {line}", file=sys.stderr)
    for one in wanted:
        shown = None if command.draw_only else track
        drawn = reproduce.draw_figure(one, plans, store, out, shown, command.history)
        code = 1 if drawn.problem else code
        _print_drawn(drawn)
    return code


def _train(plans: Mapping[str, Sequence[Any]], store: Any, executor: Any) -> set[str]:
    """Train what is missing; the states in which the runs ended."""
    from escapevelocity.study.executors import sigterm_as_ctrl_c
    from escapevelocity.study.reproduce import distinct, unfinished
    from escapevelocity.study.screen import study_screen, summary_lines

    orders, planned = unfinished(plans), distinct(plans)
    if not orders:
        return set()
    with sigterm_as_ctrl_c(), study_screen(planned, store) as screen:
        outcomes = executor.run(orders, store, screen.tell)
    in_history = sum(one.state == "kept" for one in planned)
    print("\n".join(summary_lines(outcomes, len(planned) - len(orders), store, in_history)))
    return {outcome.state for outcome in outcomes}


def _executor(command: Reproduce) -> Any:
    local = command.executor == "local"
    name, value = ("address", command.address) if local else ("workers", command.workers)
    if value is not None:
        raise UserError(f"{name} = {value!r}: must be left out with --executor {command.executor}")
    if not local:
        from escapevelocity.study.ray_executor import RayExecutor

        return RayExecutor(command.address)
    from escapevelocity.study.local import LocalExecutor

    return LocalExecutor(command.workers)


def _print_list(command: Reproduce) -> None:
    """List the figures that are named; all where none is."""
    from rich.table import Table
    from rich.text import Text

    from escapevelocity.cli._console import console
    from escapevelocity.study.reproduce import every_paper, listing, select

    papers = [command.paper] if command.paper else []
    if command.all or not (papers or command.figures):
        papers = every_paper()
    rows = listing(one.figure for one in select(command.figures, papers, command.task, command.scale))
    table = Table(header_style="bold", title=Text("ev reproduce ID --task TASK"), title_justify="left")
    for heading in ("id", "title", "tasks", "scale small costs"):
        table.add_column(heading, no_wrap=heading == "id")
    for row in rows:
        first, *others = row.tasks or ("–",)
        tasks = f"{first} and {len(others)} others" if len(others) > 1 else ", ".join((first, *others))
        table.add_row(Text(row.id), Text(row.title), Text(tasks), Text(row.cost))
    console().print(table)
    for tasks in dict.fromkeys(row.tasks for row in rows if len(row.tasks) > 2):
        ids = [row.id for row in rows if row.tasks == tasks]
        print(f"Tasks of {', '.join(ids)}: {', '.join(tasks)}")


def _print_plans(plans: Mapping[str, Sequence[Any]]) -> None:
    from escapevelocity.cli._console import console
    from escapevelocity.study.plan_view import plan_page, total_lines
    from escapevelocity.study.reproduce import distinct

    for stem, runs in plans.items():
        print(f"{stem}:" if runs else f"{stem}: computed by the lab, no runs")
        if runs:
            console().print(plan_page(runs))
    if len(plans) > 1:
        print("all figures, every run once:", *total_lines(distinct(plans)), sep="\n")


def _print_drawn(drawn: Any) -> None:
    if drawn.problem:
        print(f"{drawn.wanted.stem}: not drawn: {drawn.problem}", file=sys.stderr)
        return
    print(f"\n{drawn.wanted.stem}: {drawn.wanted.figure.claim}")
    for sentence in drawn.said:
        print(f"  {sentence}")
    for path in drawn.paths:
        print(path)
