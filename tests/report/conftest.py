import pytest
from scripted_runs import Clock, RowsJob, make_spec

from escapevelocity.runs import open_run, start


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def run_of(tmp_path):
    """Make a run on disk: `run_of(rows, name="a", seeds=…)`; `batches` is the length that was planned."""

    def make(rows, name="run", seeds=None, observers=(), batches=None, **changes):
        seeds = tuple(dict.fromkeys(row["seed"] for row in rows)) or (1,) if seeds is None else seeds
        batches = batches or max((row["batch"] for row in rows), default=0) + 1
        start(RowsJob(rows), make_spec(batches, seeds, **changes), tmp_path / name, list(observers))
        return open_run(tmp_path / name)

    return make
