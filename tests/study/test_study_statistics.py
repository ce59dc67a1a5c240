"""Aggregates agree with rliable on the same scores, and with hand arithmetic."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from escapevelocity.errors import UserError
from escapevelocity.study.statistics import iqm, mean, median, optimality_gap, probability_of_improvement

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "rliable.json").read_text())
AGGREGATES = {"iqm": iqm, "mean": mean, "median": median, "optimality_gap": optimality_gap}


@pytest.mark.parametrize("name", AGGREGATES)
@pytest.mark.parametrize("scores", ["x", "wide"])
def test_aggregates_equal_those_of_rliable(name, scores):
    ours = AGGREGATES[name](np.array(GOLDEN["scores"][scores]))
    # Sums of at most 60 numbers of size 1: rounding stays below 1e-13.
    assert ours == pytest.approx(GOLDEN["aggregates"][scores][name]["estimate"], abs=1e-12)


def test_optimality_gap_at_another_goal_equals_that_of_rliable():
    ours = optimality_gap(np.array(GOLDEN["scores"]["x"]), gamma=0.5)
    assert ours == pytest.approx(GOLDEN["optimality_gap_half"], abs=1e-12)


def test_probability_of_improvement_equals_that_of_rliable():
    x, y = (np.array(GOLDEN["scores"][name]) for name in "xy")
    assert probability_of_improvement(x, y) == pytest.approx(GOLDEN["improvement"]["estimate"], abs=1e-12)
    assert probability_of_improvement(y, x) == pytest.approx(1 - GOLDEN["improvement"]["estimate"], abs=1e-12)


def test_probability_of_improvement_is_the_mann_whitney_statistic_over_the_pairs(rng):
    x, y = rng.integers(0, 4, (7, 1)).astype(float), rng.integers(0, 4, (5, 1)).astype(float)  # many ties
    u = stats.mannwhitneyu(x[:, 0], y[:, 0]).statistic
    assert probability_of_improvement(x, y) == pytest.approx(u / 35, abs=1e-15)


def test_a_mapping_and_an_array_of_the_same_scores_give_the_same():
    table = np.array(GOLDEN["scores"]["x"])
    named = {name: list(column) for name, column in zip("abc", table.T, strict=True)}
    for function in AGGREGATES.values():
        assert function(named) == function(table)


def test_tasks_may_have_different_numbers_of_runs():
    scores = {"a": [0.0, 2.0], "b": [4.0, 5.0, 6.0, 100.0, 100.0, 100.0]}
    # pooled: 0 2 | 4 5 6 100 | 100 100; task means 1 and 52.5; min(score, 1): 0 and seven times 1
    assert iqm(scores) == (4 + 5 + 6 + 100) / 4
    assert mean(scores) == median(scores) == (1 + 52.5) / 2
    assert optimality_gap(scores) == 1 / 8


def test_the_interquartile_mean_of_five_runs_is_that_of_the_middle_three():
    assert iqm(np.array([-1e6, 1.0, 2.0, 6.0, 1e6])) == 3.0


def test_the_median_is_of_task_means_and_not_of_runs():
    assert median({"a": [0.0, 0.0, 9.0], "b": [1.0, 1.0, 1.0], "c": [2.0, 2.0, 2.0]}) == 2.0


def test_leading_axes_carry_through(rng):
    batch = {"a": rng.normal(size=(2, 3, 5)), "b": rng.normal(size=(2, 3, 4))}
    for function in AGGREGATES.values():
        each = [[function({k: v[i, j] for k, v in batch.items()}) for j in range(3)] for i in range(2)]
        np.testing.assert_allclose(function(batch), each, rtol=1e-13, atol=1e-15)
    better = probability_of_improvement(batch, batch)
    np.testing.assert_allclose(better, np.full((2, 3), 0.5), rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({}, "at least one task"),
        ({"a": []}, r"scores of a: shape = \(0,\): must be at least one run"),
        (np.zeros((0, 2)), "at least one run"),
        (
            {"a": [1.0, float("nan"), float("inf")]},
            "scores of a: 2 of 3 are not finite: leave those runs out",
        ),
        ({"a": ["good"]}, "scores of a: must be real numbers, got list"),
        ({"a": 1.0}, r"scores of a: shape = \(\): must be at least one run"),
        (np.zeros((1, 2, 3)), r"scores.ndim = 3: must be 1 \(runs\) or 2"),
        ({"a": np.zeros((2, 3)), "b": np.zeros(3)}, "must be the same for all tasks"),
    ],
)
def test_scores_that_are_none_are_refused(scores, message):
    with pytest.raises(UserError, match=message):
        iqm(scores)


def test_a_comparison_over_different_tasks_is_refused():
    with pytest.raises(UserError, match=r"tasks of y = \['b'\]: must be those of x, \['a'\]"):
        probability_of_improvement({"a": [1.0]}, {"b": [1.0]})


def test_a_goal_that_is_not_finite_is_refused():
    with pytest.raises(UserError, match="gamma = inf: must be finite"):
        optimality_gap(np.ones(3), gamma=float("inf"))
