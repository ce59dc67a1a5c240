"""Runs that have come to their end: finished, or failed because every seed has died."""

import numpy as np
import pytest

from escapevelocity.runs import RunFailed, start
from escapevelocity.study.ended import deaths, ended_runs, has_ended
from escapevelocity.study.history import collect, read_history, write_history
from escapevelocity.study.kinds import kind


class Dying:
    """Emits `rows` rows for a seed and fails; with `told` the last one tells that its numbers are not finite."""

    name = "dying"

    def __init__(self, rows, told):
        self.rows, self.told = rows, told

    def segments(self, spec):
        return 5

    def step(self, spec, k):
        return 1000 * k

    def initial_state(self, spec):
        return {"count": np.zeros(1)}

    def segment(self, spec, state, k, emit):
        for batch in range(self.rows):
            fault = "the loss is NaN" if self.told and batch == self.rows - 1 else ""
            emit(
                {
                    "seed": spec.seeds[0],
                    "batch": batch,
                    "env_steps": 10 * (batch + 1),
                    "x": 1.0,
                    "fault": fault,
                }
            )
        raise RunFailed("it ended", {})


def died(folder, rows=3, told=True):
    spec = kind("ppo").spec({"task": "Hopper-v4", "steps": 4096}, (1,))
    assert start(Dying(rows, told), spec, folder / "run").state == "failed"
    return read_history(collect(folder))


def test_a_run_whose_seeds_have_all_died_has_ended(tmp_path):
    history = died(tmp_path)
    assert deaths(history, history.runs[0]).tolist() == [30.0]
    assert has_ended(history, history.runs[0])


def test_a_run_that_failed_otherwise_has_not(tmp_path):
    history = died(tmp_path, told=False)
    assert np.isnan(deaths(history, history.runs[0])).all()
    assert not has_ended(history, history.runs[0])


@pytest.mark.parametrize(("told", "expected"), [(True, {"run": (1,)}), (False, {})])
def test_what_a_kept_history_holds_to_its_end_need_not_be_trained(tmp_path, told, expected):
    kept = write_history(died(tmp_path / "store", told=told), tmp_path / "kept.parquet")
    assert ended_runs(kept) == expected
    assert ended_runs(None) == {}


def test_a_death_that_is_kept_is_not_replaced_by_a_training_that_was_stopped(tmp_path):
    old, newer = died(tmp_path / "old"), died(tmp_path / "new", rows=2, told=False)
    for updated in (old.updated(newer), newer.updated(old)):
        assert deaths(updated, updated.runs[0]).tolist() == [30.0]
