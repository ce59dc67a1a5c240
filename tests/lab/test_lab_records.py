"""A trace of the lab as records: the numbers by hand, and a diagnosis that predicts the escape it has not seen."""

import numpy as np
import pytest

from escapevelocity.errors import UserError
from escapevelocity.health.diagnosis import diagnose
from escapevelocity.health.signs import Sign
from escapevelocity.health.verdict import Verdict
from escapevelocity.lab import Bandit, corner_starts, escape_time, npg, spg, trajectory
from escapevelocity.lab.records import trace_context, trace_records

BANDIT = Bandit([0.7, 0.2, 0.2])
RATE = 0.4
STARTS = corner_starts(3, 2, [1e-3, 1e-4])


def test_the_columns_are_those_of_the_policy_by_hand():
    records = trace_records(BANDIT, trajectory(BANDIT, spg(RATE), corner_starts(3, 2, [0.25]), [0, 1]), RATE)
    assert records["env_steps"].tolist() == [0, 1]
    # π = (1/4, 1/4, 1/2): πᵀr = 0.7/4 + 0.2·3/4 = 0.325; H = (1/2)·ln 4 + (1/2)·ln 2 = 1.5·ln 2.
    assert records["perf/return_mean"][0] == pytest.approx(0.325)
    assert records["policy/entropy"][0] == pytest.approx(1.5 * np.log(2))
    # π∘A = (0.375/4, −0.125/4, −0.125/2).
    by_hand = np.sqrt(0.09375**2 + 0.03125**2 + 0.0625**2)
    assert records["norm/actor_gradient"][0] == pytest.approx(by_hand)
    assert records["gravity/best_prob"][0] == 0.25
    assert records["gravity/gap"].tolist() == pytest.approx([0.5, 0.5])
    assert records["gravity/rate"].tolist() == [0.4, 0.4]


def test_the_gradient_keeps_its_digits_deep_in_the_corner():
    deep = trajectory(BANDIT, spg(RATE), corner_starts(3, 2, [1e-20]), [0, 1])
    # The corner pays as much as the other wrong action: A = (Δ, 0, −π₁Δ) up to π₁, so that π∘A = (π₁Δ, 0, −π₁Δ).
    expected = np.sqrt(2) * 1e-20 * 0.5
    assert trace_records(BANDIT, deep, RATE)["norm/actor_gradient"][0] == pytest.approx(
        expected, rel=1e-12, abs=0
    )


@pytest.mark.parametrize(
    ("method", "name", "until"), [(spg(RATE), "SPG", 400), (npg(RATE), "NPG", 10)], ids=["softmax", "natural"]
)
def test_a_trace_from_a_bad_start_is_a_gravity_well_and_its_escape_is_predicted(method, name, until):
    trace = trajectory(BANDIT, method, STARTS, np.unique(np.linspace(0, until, 11).astype(int)))
    records = trace_records(BANDIT, trace, RATE)
    measured = escape_time(BANDIT, method, STARTS, 0.9 * 0.5, 100_000).steps - until
    for start in (0, 1):
        found = diagnose(records, trace_context(name), seed=start)
        assert found.verdict is Verdict.GRAVITY_WELL
        assert found.onsets[0].sign is Sign.TRAPPED
        assert found.onsets[0].step == 0
        # The law is exact to about π₁·ln(1/π₁), 1 % here; natural steps count in whole updates, of 13 and more.
        tolerance = 0.05 if name == "SPG" else 1.0 / measured[start] + 0.05
        assert found.escape.remaining == pytest.approx(measured[start], rel=tolerance)
        assert found.escape.law_holds
        assert any("the law predicts the escape in" in sentence for sentence in found.evidence)


@pytest.mark.parametrize(
    ("rewards", "corner", "gap"),
    [((1.0, 0.8, 0.1), 2, 0.9), ((0.7, 0.65, 0.2), 2, 0.5), ((0.9, 0.85, 0.8, 0.1), 3, 0.8)],
)
def test_the_law_is_told_what_is_lost_in_the_corner_and_not_the_distance_to_the_second_best(
    rewards, corner, gap
):
    bandit, start = Bandit(rewards), corner_starts(len(rewards), corner, [1e-3])
    records = trace_records(bandit, trajectory(bandit, spg(RATE), start, [0, 100, 200, 300, 400]), RATE)
    assert records["gravity/gap"][0] == pytest.approx(gap)
    # The law is that of wrong actions that pay the same; better ones between the two shorten the way, here by up to
    # a half. With the distance to the second best it would be 6 to 30 times too long.
    left = escape_time(bandit, spg(RATE), start, 0.9 * gap, 100_000).steps[0] - 400
    assert diagnose(records, trace_context("SPG"), seed=0).escape.remaining == pytest.approx(left, rel=1.0)


def test_the_wrong_law_is_found_out_and_costs_confidence():
    trace = trajectory(BANDIT, npg(RATE), STARTS, np.arange(11))
    records = trace_records(BANDIT, trace, RATE)
    right = diagnose(records, trace_context("NPG"), seed=0)
    wrong = diagnose(records, trace_context("SPG"), seed=0)
    assert not wrong.escape.law_holds
    assert wrong.confidence < right.confidence


def test_a_trace_that_has_escaped_is_no_well():
    trace = trajectory(BANDIT, spg(RATE), STARTS[:, :1], np.arange(0, 20_001, 500))
    found = diagnose(trace_records(BANDIT, trace, RATE), trace_context("SPG"))
    assert found.verdict in (Verdict.HEALTHY, Verdict.LEARNING)
    assert found.escape is None
    trapped = next(onset for onset in found.onsets if onset.sign is Sign.TRAPPED)
    assert trapped.ended is not None


def test_other_problems_and_methods_are_refused():
    contexts = Bandit(np.eye(2))
    trace = trajectory(BANDIT, spg(RATE), STARTS, [0, 1])
    with pytest.raises(UserError, match="must be a Bandit without contexts"):
        trace_records(contexts, trace, RATE)
    with pytest.raises(UserError, match="rate"):
        trace_records(BANDIT, trace, 0.0)
    with pytest.raises(UserError, match="method = 'A2C': must be one of SPG"):
        trace_context("A2C")
    with pytest.raises(UserError, match="escort_p"):
        trace_context("SPG", p=2.0)
