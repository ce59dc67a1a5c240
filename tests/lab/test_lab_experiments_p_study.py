"""The p study against reference numbers, laws, a simulation in NumPy and SciPy's intervals; and its advice."""

import dataclasses
import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import binomtest

from escapevelocity.errors import UserError
from escapevelocity.lab import Bandit
from escapevelocity.lab.experiments._p_study_parts import SOFTMAX, random_bandits, sampled_rows
from escapevelocity.lab.experiments._which_p import Situation, all_round, largest_stable_rate, stable_rates
from escapevelocity.lab.experiments.p_study import PStudy
from escapevelocity.report.lab.p_study import draw

EXPERIMENT = PStudy(
    powers=(1.5,),
    limit_powers=(4096.0,),
    best_probs=(1e-2, 1e-4),
    rates=(0.1, 1.0),
    bandits=20,
    steps=100,
    sampled_rates=(1.6,),
    runs=60,
    horizons=(20, 200),
)


@pytest.fixture(scope="module")
def findings():
    return EXPERIMENT.run()


def picked(columns, **values):
    rows = np.ones(len(next(iter(columns.values()))), bool)
    for name, value in values.items():
        rows &= np.asarray(columns[name]) == value
    return {name: np.asarray(column)[rows] for name, column in columns.items()}


def simulated(p, rate, rewards, probs, steps):
    """Sub-optimality (steps + 1, B) and sign flips (steps, B) of SPG or of EPG(p) renormalised after every step."""
    theta = np.log(probs) if math.isinf(p) else probs ** (1 / p)
    regrets, flips = [], []
    for _ in range(steps + 1):
        probs = np.exp(theta) if math.isinf(p) else np.abs(theta) ** p
        probs = probs / probs.sum(axis=0)
        value = (probs * rewards).sum(axis=0)
        regrets.append(rewards.max(axis=0) - value)
        if math.isinf(p):
            theta = theta + rate * probs * (rewards - value)
            flips.append(np.zeros(probs.shape[1]))
        else:
            slope = p * np.sign(theta) * probs ** (1 - 1 / p) * (rewards - value)
            moved = theta + rate / p**2 * slope
            flips.append((moved * theta < 0).sum(axis=0))
            theta = moved / (np.abs(moved) ** p).sum(axis=0) ** (1 / p)
    return np.array(regrets), np.array(flips[:steps])


@pytest.mark.parametrize("p", [1.5, SOFTMAX])
@pytest.mark.parametrize("start", ["uniform", "anywhere"])
@pytest.mark.parametrize("rate", [0.1, 1.0])
def test_every_rate_on_random_bandits_is_that_of_a_simulation(findings, p, start, rate):
    rewards, starts = random_bandits(0, 6, 20)
    regrets, flips = simulated(p, rate, rewards, starts[start], 100)
    inside = regrets >= 0.01 * rewards.max(axis=0)
    settled_at = np.where(inside[-1], 100, 101 - inside[::-1].argmax(axis=0))
    settled_at = np.where(inside.any(axis=0), settled_at, 0)
    row = picked(findings.tables["rates"], p=p, start=start, rate=rate)
    assert row["settled"][0] == (~inside[-1]).mean()
    assert row["mean_steps"][0] == pytest.approx(settled_at.mean(), rel=1e-12)
    assert row["median_steps"][0] == np.median(settled_at)
    assert row["late_regret"][0] == pytest.approx(np.quantile(regrets[90:].max(axis=0), 0.95), rel=1e-9)
    assert row["late_flips"][0] == pytest.approx(flips[90:].sum(axis=0).mean() / 10, abs=1e-12)
    interval = binomtest(int((~inside[-1]).sum()), 20).proportion_ci(method="wilson")
    assert (row["settled_low"][0], row["settled_high"][0]) == pytest.approx(tuple(interval), abs=1e-9)


def test_escort_below_two_jitters_where_softmax_does_not(findings):
    rates = findings.tables["rates"]
    assert picked(rates, p=1.5, start="uniform", rate=1.0)["late_flips"][0] > 0
    assert set(picked(rates, p=SOFTMAX)["late_flips"]) == {0.0}


def test_the_own_best_rate_is_chosen_on_one_half_and_counted_on_the_other(findings):
    rewards, starts = random_bandits(0, 6, 20)
    settled_at = {}
    for rate in (0.1, 1.0):
        inside = simulated(SOFTMAX, rate, rewards, starts["anywhere"], 100)[0] >= 0.01 * rewards.max(axis=0)
        times = np.where(inside[-1], 100, 101 - inside[::-1].argmax(axis=0))
        settled_at[rate] = np.where(inside.any(axis=0), times, 0)
    best = min(settled_at, key=lambda rate: settled_at[rate][:10].mean())
    row = picked(findings.tables["best"], p=SOFTMAX, start="anywhere")
    assert row["rate"][0] == best
    assert row["mean_steps"][0] == pytest.approx(settled_at[best][10:].mean(), rel=1e-12)


def test_corner_times_are_the_reference_numbers_and_large_p_follows_the_flow_to_softmax(findings):
    data = findings.tables[""]
    # theory.md, "Reference run"
    assert picked(data, p=SOFTMAX)["steps"].tolist() == [254, 25034]
    for best_prob, steps in zip((1e-2, 1e-4), picked(data, p=4096.0)["steps"], strict=True):
        # Gradient flow of the odds x = π₁/π_c at K = 6 near the corner: dx/dt = ηΔ·x·(x^{1−2/p} + x).
        def inverse_speed(x):
            return 1 / (0.4 * 0.5 * x * (x ** (1 - 2 / 4096) + x))

        flow, _ = quad(inverse_speed, best_prob, 1 / 9)
        # The flow is theory.md's within 5 % at π₁ ≤ 10⁻⁴; at 10⁻² other actions take part.
        assert steps == pytest.approx(flow, rel=0.05 if best_prob == 1e-4 else 0.15)
    # "softmax within 5 %" is what the answer says of p = 4096.
    ratio = picked(data, p=4096.0)["steps"] / picked(data, p=SOFTMAX)["steps"]
    np.testing.assert_allclose(ratio, 1, atol=0.01)
    assert "EPG(p) tends to softmax" in findings.answers[1]
    assert "within 5 % from p = 4096" in findings.answers[1]


def test_times_that_were_cut_off_are_not_compared():
    """Divided as if they had been measured, they made every p softmax: '1.000 at p = 4, within 5 % from p = 1'."""
    experiment = dataclasses.replace(EXPERIMENT, best_probs=(1e-2, 1e-6), max_steps=300)
    _, limits, constant, *_ = experiment.run().answers
    assert "π₁ = 0.01: 0.996 at p = 4096, within 5 % from p = 4096" in limits
    assert "π₁ = 1e-06: not measured, cut off after 300 updates" in limits
    assert "EPG(p) tends to softmax" in limits
    assert "takes 0.996 of softmax's time from π₁ = 0.01" in constant
    _, limits, constant, *_ = dataclasses.replace(experiment, max_steps=3).run().answers
    assert "π₁ = 0.01: not measured" in limits
    assert "cannot be said to tend to softmax" in limits
    assert "p = 4096, or softmax, was cut off after 3 updates from π₁ = 0.01" in constant


def test_any_number_of_starts_and_rates_can_be_drawn():
    few = dataclasses.replace(
        EXPERIMENT,
        best_probs=tuple(10.0**-k for k in range(2, 12)),
        sampled_rates=tuple(0.1 * k for k in range(1, 11)),
        limit_powers=(64.0,),
        max_steps=20,
        steps=10,
        runs=10,
        horizons=(2,),
    )
    figures = draw(few, few.run())
    assert len(figures[""].axes[0].get_legend_handles_labels()[1]) == 10


def test_one_sampled_step_of_two_actions_is_known_exactly():
    # With the true value as baseline both samples give the same update: θ(a*) − θ(other) grows by ηΔ/2 in
    # softmax; with p = 1 u moves by ηΔ/2·(1, −1), here to (1.5, −0.5), so π(a*) = 3/4.
    bandit = Bandit([0.7, 0.2])
    softmax, escort = (sampled_rows(p, bandit, [4.0], 50, [1], 0)[0] for p in (SOFTMAX, 1.0))
    assert softmax["regret"] == pytest.approx(0.5 / (1 + math.exp(1.0)), rel=1e-12)
    assert escort["regret"] == pytest.approx(0.5 / 4, rel=1e-12)
    assert (softmax["wrong"], escort["wrong"]) == (0, 0)


def test_sampled_runs_that_end_wrong_are_counted_with_wilson_intervals(findings):
    rows = picked(findings.tables["sampled"], p=1.5)
    assert rows["steps"].tolist() == [20, 200]
    for i in range(2):
        wrong = round(rows["wrong"][i] * 60)
        assert rows["wrong"][i] == pytest.approx(wrong / 60)
        interval = binomtest(wrong, 60).proportion_ci(method="wilson")
        assert (rows["wrong_low"][i], rows["wrong_high"][i]) == pytest.approx(tuple(interval), abs=1e-9)
        # A wrong end costs more than 0.99·Δ.
        assert rows["regret"][i] >= rows["wrong"][i] * 0.99 * 0.5


def test_a_run_is_wrong_when_the_best_action_has_less_than_one_percent():
    # Too small a rate to move from 1/101 in one step.
    row = sampled_rows(SOFTMAX, Bandit([0.7] + [0.2] * 100), [1e-9], 60, [1], 0)[0]
    interval = binomtest(60, 60).proportion_ci(method="wilson")
    assert (row["wrong"], row["wrong_low"], row["wrong_high"]) == pytest.approx((1, *interval), abs=1e-9)


def test_sampled_rows_depend_on_the_seed_alone(findings):
    again, other = (
        sampled_rows(1.5, Bandit([0.7] + [0.2] * 5), (1.6,), 60, (20, 200), seed) for seed in (0, 1)
    )
    before = picked(findings.tables["sampled"], p=1.5)["regret"].tolist()
    assert [row["regret"] for row in again] == before
    assert [row["regret"] for row in other] != before


def exactly(**values):
    return {float(name[1:]): (v, v, v) for name, v in values.items()}


def test_a_situation_names_the_best_and_what_cannot_be_told_from_it():
    times = Situation("a", "steps", {1.0: (5.0, 4.0, 6.0), 2.0: (4.0, 3.0, 5.0), 4.0: (9.0, 8.0, 10.0)})
    assert (times.best, times.equals(), times.as_good()) == (2.0, [1.0, 2.0], "1 … 2")
    rates = Situation("b", "stable η", exactly(p1=0.1, p2=3.0, p4=1.0, pinf=3.0), larger_is_better=True)
    assert (rates.best, rates.as_good()) == (2.0, "2, softmax")
    flips = Situation("d", "flips per step", exactly(p1=0.0, p2=0.0, p3=1.0, p4=0.0, pinf=0.0))
    assert flips.as_good() == "1 … 2, 4 … softmax"
    assert Situation("c", "steps", exactly(p1=1.0, p2=2.0)).as_good() == "–"
    assert times.number(2.0) == 4
    assert math.isnan(times.number(3.0))


def test_the_largest_stable_rate_is_the_last_at_which_95_percent_settle():
    common = {"p": 2.0, "start": "uniform", "settled_low": 0.0, "settled_high": 1.0}
    rows = [
        common | {"rate": r, "settled": s} for r, s in ((0.1, 0.9), (1.0, 0.95), (10.0, 0.99), (100.0, 0.5))
    ]
    found = largest_stable_rate(rows, 2.0, "uniform")
    assert (found["rate"], found["settled"], found["at_edge"]) == (10.0, 0.99, False)
    assert largest_stable_rate(rows[:3], 2.0, "uniform")["at_edge"]
    none = largest_stable_rate([rows[0], rows[3]], 2.0, "uniform")
    assert (none["rate"], none["settled"]) == (0.0, 0.9)
    edge = largest_stable_rate(rows[:3], 2.0, "uniform")
    sentence = stable_rates([edge, none | {"p": SOFTMAX}, found | {"start": "anywhere"}], "uniform")
    assert "2: 10, the largest tried (99% [0%, 100%]); softmax: none (at best 90% [0%, 100%])." in sentence


def test_the_advice_for_all_situations_is_the_p_never_far_from_the_best_among_the_quiet_and_safe():
    found = [
        Situation("deep", "steps", exactly(p1=1.0, p2=10.0, p4=100.0), is_time=True),
        Situation("shallow", "steps", exactly(p1=90.0, p2=20.0, p4=4.0), is_time=True),
        Situation("quiet", "flips per step", exactly(p1=0.5, p2=0.0, p4=0.0)),
        Situation("sampled", "wrong after 9", {1.0: (0, 0, 0.1), 2.0: (0.3, 0.2, 0.4), 4.0: (0.0, 0.0, 0.1)}),
    ]
    sentences = all_round(found).split(". ")
    # factors: p = 1 → (1, 22.5), p = 2 → (10, 5), p = 4 → (100, 1)
    assert sentences[0] == "One p for every speed situation: 2 (at most 10 times the quickest, in 'deep')"
    assert "end is quiet: 2 (" in sentences[1]
    assert "than the best: 1 (at most 22.5 times the quickest, in 'shallow')" in sentences[2]
    assert "with both: 4 (at most 100 times" in sentences[3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_actions": 2}, "num_actions = 2: must be an integer ≥ 3"),
        ({"powers": (0.5,)}, r"powers\[0\] = 0\.5: must be finite and ≥ 1"),
        ({"powers": (2.0, 1.0)}, r"powers = \(2\.0, 1\.0\): must be in increasing order"),
        ({"limit_powers": ()}, r"limit_powers = \(\): must be one or more"),
        ({"best_probs": (1e-4, 1e-2)}, r"best_probs = \(0\.0001, 0\.01\): must be in decreasing order"),
        ({"best_probs": (0.3,)}, r"best_probs\[0\] = 0\.3: must be in \(0, 0\.2\)"),
        ({"base_reward": -0.1}, r"base_reward = -0\.1: must be in \[0, 1\]"),
        ({"gap": 0.9}, r"gap = 0\.9: must be in \(0, 0\.8\]"),
        ({"learning_rate": 0.0}, r"learning_rate = 0\.0: must be finite and > 0"),
        ({"rates": (-1.0,)}, r"rates\[0\] = -1\.0: must be finite and > 0"),
        ({"horizons": (0,)}, r"horizons\[0\] = 0: must be an integer ≥ 1"),
        ({"bandits": 2}, "bandits = 2: must be an integer ≥ 20"),
        ({"runs": 1}, "runs = 1: must be an integer ≥ 10"),
    ],
)
def test_a_setting_out_of_range_is_named_before_anything_runs(change, message):
    with pytest.raises(UserError, match=message):
        PStudy(**change).run()
