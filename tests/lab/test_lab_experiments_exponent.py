"""Exponents: formulas against the methods' own updates and the laws, slopes against the laws."""

import dataclasses
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from escapevelocity.errors import UserError
from escapevelocity.lab import Bandit, corner_starts, evaluate, lojasiewicz
from escapevelocity.lab.experiments._speeds import coefficient, rules, speed
from escapevelocity.lab.experiments.exponent import Exponent
from escapevelocity.lab.simulate import evaluate_state
from escapevelocity.report.lab.exponent import draw

RULES = rules((1.5, 2.0, 4.0), (0.5, 0.8), (0.1,))
SMALL = Exponent(
    escort_powers=(2.0, 4.0), tsallis_orders=(0.5,), temperatures=(0.1,), bandits=2, max_steps=30_000, deep_steps=5_000
)  # fmt: skip


@pytest.fixture(scope="module")
def slopes():
    findings = SMALL.run()
    table = findings.tables["slopes"]
    return {method: {name: table[name][i] for name in table} for i, method in enumerate(table["method"])}


def policies(rng, count=20):
    rewards = rng.random((4, count))
    return rng.dirichlet(np.ones(4), count).T, rewards


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_the_speed_is_what_a_small_update_of_the_method_gains(rule, rng):
    # Central difference in the rate is not possible (rates are positive): two forward ones, extrapolated to rate 0.
    probs, rewards = policies(rng, 5)
    with jax.enable_x64(True):
        for i in range(5):
            problem, start = Bandit(rewards[:, i]), jnp.asarray(probs[:, i : i + 1])
            before = float(problem.evaluate(start).suboptimality[0])
            gains = []
            for rate in (1e-5, 2e-5):
                method = rule.make(rate)
                state = method.init(start)
                _, at = evaluate_state(problem, method, state, 0)
                after = problem.evaluate(method.policy(method.update(state, at)))
                gains.append((before - float(after.suboptimality[0])) / rate)
            expected = speed(rule, probs[:, i : i + 1], rewards[:, i : i + 1])[0]
            # Rounding leaves 1e-16/1e-5 absolutely; the extrapolation's error is of the order of rate².
            assert 2 * gains[0] - gains[1] == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("p", [None, 1.5, 2.0, 4.0])
def test_the_coefficient_is_the_gradient_norm_of_the_geometry_per_gap(p, rng):
    probs, rewards = policies(rng, 3)
    rule = RULES[0] if p is None else next(rule for rule in RULES if rule.name == f"EPG({p:g})")
    for i in range(3):
        sides = lojasiewicz(Bandit(rewards[:, i]), probs[:, i : i + 1], p)
        expected = sides.gradient_norm[0] / sides.suboptimality[0]
        found = coefficient(rule, probs[:, i : i + 1], rewards[:, i : i + 1])[0]
        assert found == pytest.approx(expected, rel=1e-12)
        assert found >= sides.coefficient[0]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_deep_in_the_well_the_coefficient_is_a_power_of_the_best_actions_probability(rule):
    best_probs = np.array([1e-9, 1e-10])
    starts = corner_starts(4, 3, best_probs)
    rewards = np.tile([[0.7], [0.2], [0.3], [0.2]], (1, 2))
    deeper, deepest = coefficient(rule, starts, rewards)
    # Corrections are of relative order π₁^{1/p} and π₁^{1−α}: 1e-2 for p = 4, over a decade.
    assert np.log10(deeper / deepest) == pytest.approx(rule.exponent, abs=3e-3)


def test_advantages_stay_exact_deep_in_the_well():
    # ∇V of SPG at the corner: (π₁Δ, −π₁Δ) up to π₁, from A(corner) = −π₁·Δ.
    starts = np.array([[1e-12], [1 - 1e-12]])
    found = speed(RULES[0], starts, np.array([[0.7], [0.2]]))
    assert found[0] == pytest.approx(2 * (0.5e-12) ** 2, rel=1e-9, abs=0)
    assert evaluate(Bandit([0.7, 0.2]), starts).suboptimality[0] == pytest.approx(0.5, rel=1e-9)


@pytest.mark.parametrize(
    ("method", "law", "tolerance"),
    [
        ("SPG", -1.0, 0.01),  # T = 1/(2ηΔπ₁)·(1 + O(π₁ ln π₁)), from π₁ = 10⁻⁴ … 10⁻²·⁵
        ("EPG(4)", -0.5, 0.01),  # x₁⁻² − x_e⁻² with x = π^{1/4}, from π₁ = 10⁻⁷ … 10⁻⁸: 0.5·(1 + 3·10⁻³)
        ("Tsallis(0.5)", -2.0, 0.05),  # counted in steps from 42 on
    ],
)
def test_plain_gradients_escape_with_the_slope_of_their_exponent(slopes, method, law, tolerance):
    row = slopes[method]
    assert row["slope"] == pytest.approx(law, abs=tolerance)
    assert row["slope_by_exponent"] == pytest.approx(law, abs=tolerance)
    assert row["slope_by_speed"] == pytest.approx(law, abs=tolerance)
    assert row["slope_random"] == pytest.approx(law, abs=tolerance)


@pytest.mark.parametrize("method", ["EPG(2)", "NPG", "GNPG", "inverse-probability"])
def test_logarithmic_times_have_the_slope_of_a_logarithm(slopes, method):
    # T ∝ ln(0.111/π₁) over π₁ = 10⁻⁸, 10⁻⁷·⁵, 10⁻⁷, 10⁻⁶·⁵.
    x = np.log(10.0) * np.array([-8, -7.5, -7, -6.5])
    law = np.polyfit(x, np.log(np.log(1 / 9) - x), 1)[0]
    assert slopes[method]["slope"] == pytest.approx(law, abs=0.002)
    assert slopes[method]["slope_by_speed"] == pytest.approx(0, abs=1e-6)
    expected = 0 if method == "EPG(2)" else -1
    assert slopes[method]["slope_by_exponent"] == pytest.approx(expected, abs=1e-6)


def test_entropy_shortens_the_time_as_its_speed_says(slopes):
    row = slopes["entropy PG(0.1)"]
    assert row["slope_by_exponent"] == pytest.approx(-1, abs=0.01)
    assert -0.95 < row["slope"] < -0.8
    assert row["slope_by_speed"] == pytest.approx(row["slope"], abs=0.05)


def test_random_arms_keep_the_corner_and_the_best_action():
    rewards = SMALL.rewards()
    assert rewards.shape == (6, 3)
    np.testing.assert_array_equal(rewards[0], 0.7)
    np.testing.assert_array_equal(rewards[-1], 0.2)
    np.testing.assert_array_equal(rewards[1:, 0], 0.2)
    assert (rewards[1:-1, 1:] < 0.45).all()
    assert len(np.unique(rewards[1:-1, 1:])) == 8
    np.testing.assert_array_equal(SMALL.rewards(), rewards)
    assert (dataclasses.replace(SMALL, seed=1).rewards() != rewards).any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_actions": 2}, "num_actions = 2: must be an integer ≥ 3"),
        ({"decades": (-2.0, -3.0)}, r"decades = \(-2\.0, -3\.0\): must be three or more"),
        ({"decades": (-2.0, -0.5, -3.0)}, r"decades\[1\] = -0\.5: must be in \(-300, -0\.699\)"),
        ({"escort_powers": (0.5,)}, r"escort_powers\[0\] = 0\.5: must be finite and ≥ 1"),
        ({"tsallis_orders": (1.0,)}, r"tsallis_orders\[0\] = 1\.0: must be in \(0, 1\)"),
        ({"temperatures": (0.0,)}, r"temperatures\[0\] = 0\.0: must be a finite number > 0"),
        ({"base_reward": 1.5}, r"base_reward = 1\.5: must be in \[0, 1\]"),
        ({"gap": 0.9}, r"gap = 0\.9: must be in \(0, 0\.8\]"),
        ({"bandits": 1}, "bandits = 1: must be an integer ≥ 2"),
        ({"learning_rate": 0.0}, r"learning_rate = 0\.0: must be a finite number > 0"),
        ({"fast_rate": 0.0}, r"fast_rate = 0\.0: must be a finite number > 0"),
        ({"deep_rate": 0.0}, r"deep_rate = 0\.0: must be a finite number > 0"),
        ({"max_steps": 0}, "max_steps = 0: must be an integer ≥ 1"),
        ({"deep_steps": 0}, "deep_steps = 0: must be an integer ≥ 1"),
        ({"seed": -1}, "seed = -1: must be an integer ≥ 0"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(UserError, match=message):
        Exponent(**settings).run()


def test_without_any_slope_the_panels_are_empty_and_say_why():
    trapped = dataclasses.replace(SMALL, max_steps=5, deep_steps=5)
    findings = trapped.run()
    assert "Too few starts escaped for the slopes of unequal wrong arms." in findings.answers
    assert not any("nan" in answer for answer in findings.answers)
    figure = draw(trapped, findings)[""]
    figure.savefig(io.BytesIO())
    assert [panel.texts[0].get_text() for panel in figure.axes] == ["too few starts escaped"] * 2
