"""What `ev study history` does: gather the history of a study, or of a store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from escapevelocity.errors import require
from escapevelocity.study._folders import run_folders
from escapevelocity.study.history import History, collect, read_history, write_history
from escapevelocity.study.plan import Planned, plan
from escapevelocity.study.store import Store
from escapevelocity.study.target import open_target


def gather_study(
    target: str,
    store: str | None = None,
    out: Path | None = None,
    columns: Sequence[str] = (),
    tell: Callable[[str], None] = lambda text: None,
    imports: Sequence[str] = (),
) -> tuple[Path, Mapping[str, str]]:
    """Gather a study's history, or a store's; see `collect`.

    Args:
        target: a study's file, or a store.
        store: the store of a study; by default runs/NAME.
        out: the file. It then holds the study's runs alone; the store's own file, the default, holds all of its runs.
        columns: only these columns of the records; by default all. Needs `out`.
        tell: is told one line for each run that is read.
        imports: modules that the study imports beside those that it names.

    Returns:
        The file's path, and the runs that were left out with the reason.

    Raises:
        UserError: a mistake in the study's file, columns without `out` or unknown ones, or as `collect`.
    """
    require(out is not None or not columns, "columns", list(columns), "given with --out")
    study, opened = open_target(target, store, imports)
    if opened.is_remote:
        require(out is not None, "out", None, f"a file of this machine, as {opened.url} is elsewhere")
    names, no_runs = None, {}
    if study is not None and out is not None:
        names, no_runs = _names(plan(study, opened, record=False), opened)
    if not columns or out is None:
        path = collect(opened, out, names, tell)
        return path, {**read_history(path).left_out, **no_runs}
    whole = read_history(collect(opened, None, None, tell))
    runs = tuple(run for run in whole.runs if names is None or run.name in names)
    left_out = {name: why for name, why in whole.left_out.items() if names is None or name in names}
    path = write_history(History(runs, whole.rows, left_out), out, columns)
    return path, {**left_out, **no_runs}


def _names(planned: Sequence[Planned], store: Store) -> tuple[list[str], dict[str, str]]:
    """The names of the runs that are there; and of the folders that are no runs, or none yet, with the reason."""
    there = dict(run_folders(store.path))
    begun = {one.order.name: one.why for one in planned if one.state != "missing"}
    no_runs = {name: why or "it has only just begun" for name, why in begun.items() if name not in there}
    return [name for name in begun if name in there], no_runs
