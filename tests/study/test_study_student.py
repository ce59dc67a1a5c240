"""Student's interval against SciPy's t-test, and how often it holds the truth."""

import math

import numpy as np
import pytest
from scipy import stats

from escapevelocity.errors import UserError
from escapevelocity.study.student import student_interval


@pytest.mark.parametrize("count", [2, 3, 5, 40])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_the_interval_is_that_of_the_t_test(rng, count, level):
    values = rng.normal(1.0, 2.0, count)
    found = student_interval(values, level)
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(level)
    np.testing.assert_allclose(
        (found.estimate, found.low, found.high), (values.mean(), expected.low, expected.high), rtol=1e-12
    )
    assert found.level == level


@pytest.mark.parametrize("count", [3, 5])
def test_it_holds_the_truth_as_often_as_it_promises(rng, count):
    studies = 4000
    held = 0
    for values in rng.normal(0.0, 1.0, (studies, count)):
        found = student_interval(values)
        held += found.low <= 0 <= found.high
    # Four standard deviations of a share of 0.95; the bootstrap's 0.75 and 0.85 are far off.
    assert held / studies == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / studies))


def test_an_interval_ends_where_the_mean_cannot_be():
    assert student_interval([0.0, 0.0, 3.0], least=0.0).low == 0.0
    assert student_interval([0.0, 0.0, 3.0]).low < 0
    assert student_interval([2.9, 3.0, 3.1], least=0.0) == student_interval([2.9, 3.0, 3.1])


def test_one_value_has_no_interval_and_equal_ones_have_no_width():
    one = student_interval([2.0])
    assert one.estimate == 2.0
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    same = student_interval([2.0, 2.0, 2.0])
    assert (same.low, same.high) == (2.0, 2.0)


@pytest.mark.parametrize(
    ("values", "level", "said"),
    [([], 0.95, "values"), ([1.0, np.nan], 0.95, "values"), ([[1.0, 2.0]], 0.95, "values"), ([1.0, 2.0], 1.0, "level")],
)  # fmt: skip
def test_what_has_no_interval_is_refused_by_name(values, level, said):
    with pytest.raises(UserError, match=said):
        student_interval(np.array(values, float), level)
