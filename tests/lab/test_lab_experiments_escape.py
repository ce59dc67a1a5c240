"""The escape experiment's own arithmetic; its steps are held against the design in tests/cli and tests/lab."""

import math

import numpy as np
import pytest

from escapevelocity.errors import UserError
from escapevelocity.lab.experiments.escape import Escape, fitted_slope
from escapevelocity.lab.experiments.experiment import require_all, silently, stack_rows

SMALL = Escape(best_probs=(1e-2, 1e-3), escort_powers=(2.0, 3.0), max_steps=300)


def test_the_slope_of_a_power_law_is_its_exponent_over_the_four_deepest_starts():
    probs = np.array([1e-6, 1e-5, 1e-4, 1e-3, 1e-2])
    steps = 3 * probs**-0.7
    steps[-1] = 1e9  # the shallowest start is not among the four
    assert fitted_slope(probs, steps, np.zeros(5, bool)) == pytest.approx(-0.7, abs=1e-12)


def test_a_censored_start_is_left_out_of_the_slope():
    probs = np.array([1e-5, 1e-4, 1e-3, 1e-2])
    steps = np.array([77.0, 1e4, 1e3, 1e2])
    assert fitted_slope(probs, steps, np.array([True, False, False, False])) == pytest.approx(-1, abs=1e-12)


def test_two_starts_are_too_few_for_a_slope():
    assert math.isnan(fitted_slope([1e-2, 1e-3], [10, 100], np.zeros(2, bool)))


def test_a_start_that_does_not_escape_is_marked_and_shown_as_more_than_the_limit():
    findings = SMALL.run()
    rows = findings.tables[""]
    deep_spg = (rows["method"] == "SPG") & (rows["best_prob"] == 1e-3)
    assert rows["censored"][deep_spg].tolist() == [True]
    assert rows["steps"][deep_spg].tolist() == [300]
    (line,) = (row for row in findings.summary.rows if row[0] == "SPG")
    assert line[1:3] == [254, "> 300"]
    assert "SPG needs more than 300 steps" in findings.answers[0]


def test_only_methods_with_a_law_have_a_prediction_and_it_is_the_formula():
    rows = SMALL.run().tables[""]
    by_method = {m: rows["predicted_steps"][rows["method"] == m] for m in set(rows["method"])}
    np.testing.assert_allclose(by_method["SPG"], [250, 2500])  # 1/(2·0.4·0.5·π₁)
    # p·(π₁^(−1/3) − (1/9)^(−1/3))/(η·Δ) at p = 3, from the escort's gradient flow
    expected = [3 / 0.2 * (q ** (-1 / 3) - 9 ** (1 / 3)) for q in (1e-2, 1e-3)]
    np.testing.assert_allclose(by_method["EPG(3)"], expected)
    np.testing.assert_allclose(by_method["GNPG"], np.log(1 / 9 / np.array([1e-2, 1e-3])) / math.sqrt(2) * 6)
    assert np.isnan(by_method["Tsallis(0.5)"]).all()


def test_the_same_settings_find_the_same():
    first, again = SMALL.run(), SMALL.run()
    for name, column in first.tables[""].items():
        np.testing.assert_array_equal(column, again.tables[""][name])
    assert first.answers == again.answers


def test_rows_become_columns_of_their_own_kind():
    columns = stack_rows([{"p": 2.5, "steps": 1, "name": "a"}, {"p": 3.0, "steps": 2, "name": "b"}])
    assert columns["steps"].dtype.kind == "i"
    assert columns["p"].tolist() == [2.5, 3.0]
    assert columns["name"].tolist() == ["a", "b"]


def test_a_silent_track_yields_every_part_in_order():
    assert list(silently([3, 1, 2])) == [3, 1, 2]


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ((), r"xs = \(\): must be one or more"),
        ((1, -1), r"xs\[1\] = -1: must be > 0"),
        ((2, 1, 2), r"xs\[2\] = 2: must be given once"),
    ],
)
def test_a_list_with_a_wrong_value_or_none_is_refused(values, complaint):
    with pytest.raises(UserError, match=complaint):
        require_all(values, "xs", lambda x: x > 0, "> 0")


def test_a_value_may_be_given_twice_where_it_means_something():
    require_all((0.2, 0.2), "rewards", lambda x: x > 0, "> 0", distinct=False)


def test_a_start_that_has_escaped_already_is_refused():
    """From π₁ = 0.1 on no more than 0.9·Δ is missing."""
    with pytest.raises(UserError, match=r"best_probs\[0\] = 0\.15: must be in \(0, 0\.1\)"):
        Escape(best_probs=(0.15, 0.01)).run()
