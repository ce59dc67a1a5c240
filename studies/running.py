"""What the studies share that train by `ev study run`: running grids in turn, and gathering their records."""

import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np

from escapevelocity.errors import UserError
from escapevelocity.study.ended import deaths, has_ended
from escapevelocity.study.gather import collect
from escapevelocity.study.history import History, read_history, write_history


def run_studies(
    names: Sequence[str], store: Path, workers: int | None = None, kept: Path | None = None
) -> int:
    """Train what is missing of several studies, in turn, as `ev study run NAME --store STORE` does.

    Args:
        names: each a file, or `module:attribute`.
        store: where their runs are.
        workers: processes at a time; by default one per core.
        kept: the study's kept history, which may not be there yet: runs that it holds are not trained again.

    Returns:
        The exit code: 0; 1 when a run failed; else 3 when another process still trains some; 130 when it was stopped,
        and the studies behind were not begun.
    """
    from escapevelocity.cli.study_run import main

    worst = 0
    for name in names:
        options = [] if workers is None else ["--workers", str(workers)]
        options += ["--history", str(kept)] if kept is not None and kept.exists() else []
        code = main([name, "--store", str(store), *options])
        if code == 130:
            return code
        worst = worse(worst, code)
    return worst


def worse(code: int, other: int) -> int:
    """Of two exit codes the one that matters more: a run that failed (1) before one that others still train (3)."""
    return min(code, other) or max(code, other)


def gathered(store: Path, kept: Path) -> History:
    """Add a store's records, if there is a store, to those that the file `kept` holds from earlier sittings.

    The file keeps runs that the store does not have: a machine that trained some of a study need not have the rest.

    Raises:
        UserError: neither is there.
    """
    if not store.is_dir():
        return read_history(kept)
    history = read_history(collect(store))
    if kept.exists():
        history = read_history(kept).updated(history)
    write_history(history, kept)
    return read_history(kept)


def keep_ended(store: Path, kept: Path, names: Collection[str]) -> History:
    """As `gathered`, but only of runs that have come to their end, and of a study's own: others may use its store.

    Args:
        store: folder of the runs.
        kept: the file.
        names: the study's runs.

    Raises:
        UserError: neither store nor file is there.
    """
    if not store.is_dir():
        return read_history(kept)
    ended = finished(read_history(collect(store)))
    if kept.exists():
        ended = finished(read_history(kept).updated(ended))
    own = History(tuple(run for run in ended.runs if run.name in names), ended.rows)
    write_history(own, kept, columns=kept_columns(own))
    return read_history(kept)


def finished(history: History) -> History:
    """Keep the runs that have come to their end: finished, or failed because every seed has died (`deaths`)."""
    runs = tuple(run for run in history.runs if has_ended(history, run))
    return History(runs, history.rows, history.left_out)


def kept_columns(history: History) -> list[str]:
    """What others need to analyse the runs without training them again; times are not."""
    left_out = ("time/", "norm/", "change/", "segment", "wall_time")
    return [name for name in history.columns if not name.startswith(left_out)]


def dead_seeds(history: History) -> int:
    """How many seeds have died (`deaths`)."""
    return sum(int(np.isfinite(deaths(history, run)).sum()) for run in history.runs)


def core_hours(history: History) -> float:
    """Hours of running of all runs, each on a core of its own."""
    ends = [np.nanmax(history.values(run, "wall_time").values, initial=0.0) for run in history.runs]
    return float(np.sum(ends)) / 3600


def command(main: Callable[[], int]) -> int:
    """Run a study's `main`; a mistake of the user is one line, and exit code 2."""
    try:
        return main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
