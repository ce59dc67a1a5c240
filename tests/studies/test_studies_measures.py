import dataclasses

import numpy as np
import pytest
from studies.measures import (
    DEAD_RETURN,
    at_end,
    at_start,
    by_seed,
    difference_interval,
    iqm_interval,
    known,
    on_average,
    side_by_side,
    written,
)
from studies.running import command, core_hours, dead_seeds, finished, gathered

from escapevelocity.errors import UserError
from escapevelocity.study.bootstrap import Interval
from escapevelocity.study.history import History, RunArrays, write_history
from studies import running

STEPS = np.arange(1, 11) * 100.0


@pytest.fixture
def history():
    """Two runs of one setting that hold the seeds 1 and 2, and 3; seed s returns s × 1, …, s × 10."""
    line = np.arange(1.0, 11.0)
    hours = {"wall_time": np.full((2, 10), 5400.0)}
    first = {"perf/return_mean": np.stack([line, 2 * line])} | hours
    second = {"perf/return_mean": 3 * line[None], "wall_time": np.full((1, 10), 1800.0)}
    return History.from_arrays(
        [
            RunArrays("a", {"task": "T"}, (1, 2), STEPS, first),
            RunArrays("b", {"task": "T"}, (3,), STEPS, second),
        ]
    )


def test_seeds_of_several_runs_are_put_together(history):
    # The last tenth: points at 0.9 of the run or later, 9 and 10. The mean of 1 to 10 is 5.5.
    assert by_seed(history, "perf/return_mean", at_end(0.1)) == {1: 9.5, 2: 19.0, 3: 28.5}
    assert by_seed(history, "perf/return_mean", on_average()) == {1: 5.5, 2: 11.0, 3: 16.5}
    assert by_seed(history, "perf/return_mean", at_start(3)) == {1: 2.0, 2: 4.0, 3: 6.0}
    together = side_by_side(history, "perf/return_mean")
    assert together.steps.tolist() == STEPS.tolist()
    assert together.values[:, -1].tolist() == [10.0, 20.0, 30.0]
    assert np.isnan(together.died).all()


def test_a_dead_seed_is_read_where_it_ended_or_counts_as_dead_since_then(history, kill):
    died = kill(history, {"a": {2: 400}, "b": {3: 900}})
    # Seed 2 returned 2, 4, 6, 8 in the first 400 of 1,000 steps: its own last quarter is its last two points.
    assert by_seed(died, "perf/return_mean", at_end(0.25))[2] == 7.0
    # Seed 3 lived for half of the last fifth, in which it returned 24 and 27.
    last = by_seed(died, "perf/return_mean", at_end(0.2, DEAD_RETURN))
    assert last == pytest.approx({1: 9.0, 2: 0.0, 3: 12.75})
    # Means of 5 over 40 % of the run, and of 15 over 90 %; seed 1 lives, and keeps its mean of 1 to 10.
    whole = by_seed(died, "perf/return_mean", on_average(DEAD_RETURN))
    assert whole == pytest.approx({1: 5.5, 2: 2.0, 3: 13.5})
    assert side_by_side(died, "perf/return_mean").died[1] == 400


def test_runs_that_have_ended_are_those_that_finished_and_those_whose_seeds_are_all_dead(history, kill):
    one_dead = kill(history, {"a": {2: 400}})
    assert [run.name for run in finished(one_dead).runs] == ["a", "b"]
    all_dead = kill(history, {"a": {1: 300, 2: 400}})
    assert [run.name for run in finished(all_dead).runs] == ["a", "b"]
    assert dead_seeds(all_dead) == 2
    fell_over = dataclasses.replace(history.runs[0], state="failed")
    young = dataclasses.replace(history.runs[1], state="running")
    assert finished(History((fell_over, young), history.rows)).runs == ()
    half = dataclasses.replace(one_dead.runs[0], state="failed")  # Something else went wrong afterwards.
    assert finished(History((half,), one_dead.rows)).runs == ()


def test_a_number_that_is_infinite_in_the_last_row_of_a_dead_seed_is_left_out(kill):
    norm = np.ones((1, STEPS.size))
    norm[0, 3] = np.inf
    history = kill(History.from_arrays([RunArrays("a", {}, (1,), STEPS, {"norm": norm})]), {"a": {1: 400}})
    assert by_seed(finished(history), "norm", at_end(1.0)) == {1: 1.0}


def test_the_time_of_a_program_counts_once_however_many_seeds_it_trains(history):
    assert core_hours(history) == 2.0


def test_a_seed_without_a_value_is_left_out_and_no_seed_is_no_interval():
    assert known({1: 2.0, 2: np.nan}).tolist() == [2.0]
    assert iqm_interval({1: np.nan}) is None
    assert difference_interval({1: 1.0}, {}) is None
    assert written(None) == "–"
    assert written(iqm_interval({1: 2.0, 2: np.nan}), 1) == "2.0 (one seed)"


def test_the_difference_of_two_settings_far_apart_excludes_nothing_but_the_gap():
    x, y = ({s: base + s for s in range(1, 5)} for base in (100.0, 0.0))
    found = difference_interval(x, y)
    assert found is not None
    # Each IQM lies within its scores, 101 to 104 and 1 to 4.
    assert found.estimate == 100.0
    assert 97 <= found.low <= found.high <= 103


def test_numbers_are_written_with_their_interval():
    assert written(Interval(1234.5, -1.0, 2000.0), 0, "+") == "+1,234 [-1, +2,000]"


def test_a_mistake_of_the_user_is_one_line_and_exit_code_2(capsys):
    def main():
        raise UserError("seeds are missing")

    assert command(main) == 2
    assert capsys.readouterr().err == "error: seeds are missing\n"


def test_what_another_machine_trained_stays_in_the_kept_file(tmp_path):
    """The store of a new machine has none of the runs of the sitting before."""
    kept = tmp_path / "history.parquet"
    for name, value in (("first", 1.0), ("second", 2.0)):
        run = RunArrays(name, {"task": "T"}, (1,), [10.0, 20.0], {"x": [[value, value]]})
        store = tmp_path / name
        (store / "_study").mkdir(parents=True)
        write_history(History.from_arrays([run]), store / "_study" / "history.parquet")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(running, "collect", lambda store: store / "_study" / "history.parquet")
            history = gathered(store, kept)
    assert [run.name for run in history.runs] == ["first", "second"]
    assert gathered(tmp_path / "no store", kept).values(history.runs[0], "x").values.tolist() == [[1.0, 1.0]]
