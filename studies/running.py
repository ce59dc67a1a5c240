"""What the studies share that train by `ev study run`: running grids in turn, and gathering their records."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from escapevelocity.errors import UserError
from escapevelocity.study.gather import collect
from escapevelocity.study.history import History, read_history


def run_studies(names: Sequence[str], store: Path, workers: int | None = None) -> int:
    """Train what is missing of several studies, in turn, as `ev study run NAME --store STORE` does.

    Args:
        names: each a file, or `module:attribute`.
        store: where their runs are.
        workers: processes at a time; by default one per core.

    Returns:
        The exit code: 0; 1 when a run failed; 130 when it was stopped, and the studies behind were not begun.
    """
    from escapevelocity.cli.study_run import main

    worst = 0
    for name in names:
        count = [] if workers is None else ["--workers", str(workers)]
        code = main([name, "--store", str(store), *count])
        if code == 130:
            return code
        worst = max(worst, code)
    return worst


def gathered(store: Path, kept: Path) -> History:
    """Gather a store's records into the file `kept`, if there is a store; read what is kept.

    Raises:
        UserError: neither is there.
    """
    if store.is_dir():
        collect(store, kept)
    return read_history(kept)


def finished(history: History) -> History:
    """Leave out runs that have not come to their end."""
    runs = tuple(run for run in history.runs if run.state == "finished")
    return History(runs, history.rows, history.left_out)


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
