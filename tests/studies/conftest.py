"""Studies stand beside the package: they are imported from the repository's root."""

import dataclasses
import sys
from pathlib import Path

import pyarrow as pa
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


@pytest.fixture
def kill():
    """A function that ends seeds of a history as a fault does; a run without a living seed has then failed."""
    from escapevelocity.study._rows import TableRows
    from escapevelocity.study._thin import KEYS
    from escapevelocity.study.history import History

    def killed(history, ends):
        """Give the history in which the seeds of the run NAME have died: ends[NAME] is a seed's last step by seed."""
        tables, runs = [], []
        for run in history.runs:
            table = history.rows.table(run.name, [*KEYS, *history.columns])
            own = ends.get(run.name, {})
            at = list(zip(table["seed"].to_pylist(), table["env_steps"].to_pylist(), strict=True))
            kept = [step <= own.get(seed, step) for seed, step in at]
            faults = pa.array(["the loss is NaN" if own.get(seed) == step else "" for seed, step in at])
            tables.append(table.append_column("fault", faults.dictionary_encode()).filter(pa.array(kept)))
            runs.append(dataclasses.replace(run, state="failed" if len(own) == len(run.seeds) else run.state))
        return History(tuple(runs), TableRows(pa.concat_tables(tables)))

    return killed
