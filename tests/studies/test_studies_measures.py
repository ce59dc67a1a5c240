import numpy as np
import pytest
from studies.measures import (
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
from studies.running import command, core_hours

from escapevelocity.errors import UserError
from escapevelocity.study.bootstrap import Interval
from escapevelocity.study.history import History, RunArrays

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
    assert by_seed(history, "perf/return_mean", on_average) == {1: 5.5, 2: 11.0, 3: 16.5}
    assert by_seed(history, "perf/return_mean", at_start(3)) == {1: 2.0, 2: 4.0, 3: 6.0}
    steps, values = side_by_side(history, "perf/return_mean")
    assert steps.tolist() == STEPS.tolist()
    assert values[:, -1].tolist() == [10.0, 20.0, 30.0]


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
