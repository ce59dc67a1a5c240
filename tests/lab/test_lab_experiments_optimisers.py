"""The optimiser experiment against SGD and Adam written in NumPy; when runs settle; bootstrap intervals."""

import numpy as np
import pytest

from escapevelocity.errors import UserError
from escapevelocity.lab.experiments._bootstrap import mean_interval, ratio_interval
from escapevelocity.lab.experiments._optimiser_contest import best_rate, contestants, make_field, run_at
from escapevelocity.lab.experiments._settling import wrong_corners
from escapevelocity.lab.experiments.optimisers import Optimisers

SETTINGS = {
    "best_probs": (1e-2,),
    "escort_powers": (2.0,),
    "num_actions": 4,
    "rates": (0.1, 1.0, 10.0),
    "selection_bandits": 10,
    "bandits": 12,
    "steps": 60,
}
EXPERIMENT = Optimisers(optimisers=("SGD", "Adam"), **SETTINGS)


def simulated(method, optimiser, rate, rewards, starts, steps=60):
    """First escapes and settling times of one update rule, all in NumPy."""
    escort = method != "SPG"
    theta = np.sqrt(starts) if escort else np.log(starts)
    mean, square = np.zeros_like(theta), np.zeros_like(theta)
    ordered = np.sort(rewards, axis=0)
    inside = []
    for t in range(1, steps + 2):
        probs = theta**2 if escort else np.exp(theta - theta.max(axis=0))
        probs = probs / probs.sum(axis=0)
        value = (probs * rewards).sum(axis=0)
        inside.append(ordered[-1] - value >= 0.9 * (ordered[-1] - ordered[-2]))
        if escort:  # ∂(πᵀr)/∂θ(a) = (2/‖θ‖)·sgn θ·√π·(r − πᵀr)
            norm = np.sqrt((theta**2).sum(axis=0))
            gradient = 2 / norm * np.sign(theta) * np.sqrt(probs) * (rewards - value)
        else:
            gradient = probs * (rewards - value)
        if optimiser.startswith("Adam"):  # Kingma & Ba 2015, algorithm 1
            mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
            gradient = mean / (1 - 0.9**t) / (np.sqrt(square / (1 - 0.999**t)) + 1e-8)
        elif optimiser == "momentum":
            mean = gradient = 0.9 * mean + gradient
        elif optimiser != "SGD":
            gradient = gradient * norm**2 / 4
        theta = theta + rate * gradient
    inside = np.array(inside)
    never = inside.all(axis=0)
    first = np.where(never, steps, (~inside).argmax(axis=0))
    last_inside = np.where(inside.any(axis=0), steps - inside[::-1].argmax(axis=0), -1)
    return first, np.where(last_inside == steps, steps, last_inside + 1), last_inside < steps


def picked(columns, **values):
    rows = np.ones(len(next(iter(columns.values()))), bool)
    for name, value in values.items():
        rows &= np.asarray(columns[name]) == value
    return {name: np.asarray(column)[rows] for name, column in columns.items()}


@pytest.fixture(scope="module")
def findings():
    return EXPERIMENT.run()


@pytest.fixture(scope="module")
def fields():
    return [make_field(np.random.default_rng([0, i]), 4, n, (1e-2,)) for i, n in enumerate((10, 12))]


CASES = [(one.method, one.optimiser) for one in contestants((2.0,), ("SGD", "Adam"))]


@pytest.mark.parametrize(("method", "optimiser"), CASES)
@pytest.mark.parametrize("start", ["uniform", "π₁ = 0.01"])
def test_every_number_is_that_of_a_simulation(findings, fields, method, optimiser, start):
    selection, report = fields
    grid = picked(findings.tables["grid"], method=method, optimiser=optimiser, start=start)
    means = []
    for i, rate in enumerate(SETTINGS["rates"]):
        _, settled_at, settled = simulated(
            method, optimiser, rate, selection.rewards, selection.starts[start]
        )
        means.append(settled_at.mean())
        assert (grid["mean_steps"][i], grid["settled"][i]) == (means[-1], settled.mean())
    best = SETTINGS["rates"][int(np.argmin(means))]
    row = picked(findings.tables[""], method=method, optimiser=optimiser, start=start)
    first, settled_at, settled = simulated(method, optimiser, best, report.rewards, report.starts[start])
    assert row["rate"][0] == best
    assert row["mean_steps"][0] == pytest.approx(settled_at.mean(), rel=1e-12)
    assert row["median_steps"][0] == np.median(settled_at)
    assert row["settled"][0] == settled.mean()
    assert row["fell_back"][0] == (first < settled_at).mean()
    assert row["at_edge"][0] == {0.1: "lower", 1.0: "", 10.0: "upper"}[best]


def test_some_runs_fall_back_and_some_never_settle_so_that_the_difference_is_tested(fields):
    selection = fields[0]
    args = (selection.rewards, selection.starts["uniform"])
    first, settled_at, _ = simulated("EPG(2)", "SGD, η‖θ‖²/p²", 10.0, *args)
    assert (first < settled_at).any()
    assert not simulated("SPG", "SGD", 0.1, *args)[2].all()


def test_the_advantage_is_the_ratio_of_mean_times_on_the_same_bandits(findings):
    rows = picked(findings.tables["advantage"], rates="own best")
    for i, start in enumerate(rows["start"]):
        means = [
            picked(findings.tables[""], method=m, optimiser=rows["optimiser"][i], start=start)["mean_steps"][
                0
            ]
            for m in ("SPG", "EPG(2)")
        ]
        assert rows["ratio"][i] == pytest.approx(means[0] / means[1], rel=1e-12)
        assert rows["low"][i] <= rows["ratio"][i] <= rows["high"][i]
    verdict = findings.answers[0]
    row = picked(rows, optimiser="SGD", start="π₁ = 0.01")
    assert row["low"][0] > 1
    assert "quicker from uniform and π₁ = 0.01, slower from none: EPG(2) with SGD" in verdict


def test_the_same_seed_gives_the_same_numbers_to_the_last_bit(findings):
    again = make_field(np.random.default_rng([0, 1]), 4, 12, (1e-2,))
    adam = next(one for one in contestants((2.0,), ("Adam",)) if one.method == "SPG")
    rows = picked(findings.tables[""], method="SPG", optimiser="Adam")
    rates = dict(zip(rows["start"].tolist(), rows["rate"], strict=True))
    found = run_at(adam, again, {start: np.full(12, rate) for start, rate in rates.items()}, 60)
    for i, start in enumerate(rows["start"]):
        expected = rows["mean_steps"][i], rows["mean_low"][i], rows["mean_high"][i]
        assert mean_interval(found[start].settled_at, seed=0) == expected


def test_the_best_rate_has_the_smallest_mean_with_unsettled_runs_counted_in_full():
    assert best_rate(np.array([[9, 9], [2, 9], [2, 2]])) == 2
    assert best_rate(np.array([[9, 9], [2, 2], [2, 2]])) == 1
    assert best_rate(np.array([[9, 9], [9, 9], [9, 9]])) == 2  # no rate settles: the largest


def test_wrong_corners_hold_the_mass_on_every_wrong_action_alike(rng):
    rewards = rng.uniform(size=(4, 6000))
    starts = wrong_corners(rng, rewards, 0.01)
    np.testing.assert_allclose(starts.sum(axis=0), 1, rtol=1e-12)
    corner, best = starts.argmax(axis=0), rewards.argmax(axis=0)
    shifts = np.bincount((corner - best) % 4, minlength=4)
    assert shifts[0] == 0
    # Binomial(6000, 1/3): five standard errors of √(6000·2/9) = 36.5.
    assert np.abs(shifts[1:] - 2000).max() < 5 * 36.5


def test_bootstrap_intervals_agree_with_the_normal_ones_where_those_hold(rng):
    values = rng.normal(10, 2, 400)
    mean, low, high = mean_interval(values, seed=1)
    half = 1.96 * values.std() / 20
    assert mean == pytest.approx(values.mean())
    # A quantile at 2.5 % of 2,000 resamples has a standard error of 3 % of its distance; four of them.
    assert (high - mean, mean - low) == pytest.approx((half, half), rel=0.12)
    assert mean_interval(values, seed=1) == (mean, low, high)
    assert ratio_interval(3 * values, values, seed=1) == pytest.approx((3, 3, 3), rel=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_actions": 1}, "num_actions = 1: must be an integer ≥ 2"),
        ({"best_probs": (0.5,)}, r"best_probs\[0\] = 0\.5: must be in \(0, 0\.2\)"),
        ({"escort_powers": (0.9,)}, r"escort_powers\[0\] = 0\.9: must be finite and ≥ 1"),
        ({"optimisers": ("Lion",)}, r"optimisers\[0\] = 'Lion': must be one of SGD, momentum, Adam"),
        ({"rates": (1.0, 0.1)}, r"rates = \(1\.0, 0\.1\): must be positive, finite and in increasing order"),
        ({"usual_rate": 0.0}, r"usual_rate = 0\.0: must be finite and > 0"),
        ({"bandits": 3}, "bandits = 3: must be an integer ≥ 10"),
        ({"seed": -1}, "seed = -1: must be an integer ≥ 0"),
    ],
)
def test_a_setting_out_of_range_is_named_before_anything_runs(change, message):
    with pytest.raises(UserError, match=message):
        Optimisers(**change).run()
