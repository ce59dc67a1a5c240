import math
from typing import Any

import numpy as np
import pytest

from escapevelocity.errors import UserError
from escapevelocity.lab import npg, spg
from escapevelocity.lab.experiments._escapes_by_size import (
    contenders,
    escape_answers,
    escapes,
    growth,
    uniform_escape_time,
)
from escapevelocity.lab.experiments._rate_study import Study, growth_of_best_rate, settled, study
from escapevelocity.lab.experiments.many_classes import ManyClasses


def never(parts: Any, name: Any = str) -> Any:
    raise AssertionError("something was computed")


@pytest.mark.parametrize("actions", [3, 30, 1000])
def test_the_uniform_law_is_the_closed_form_where_there_is_one(actions):
    # EPG(2), NPG: d logit π₁/dt = ηΔ. SPG: dt = (K−1)/(KηΔ) · dπ/(π²(1−π)²), whose integral is elementary.
    logarithmic = math.log(actions - 1) / (0.4 * 0.5)
    assert uniform_escape_time(actions, 0.5, 0.4, exponent=0) == pytest.approx(logarithmic, rel=1e-9)

    def integral(x):
        return -1 / x + 1 / (1 - x) + 2 * math.log(x / (1 - x))

    softmax = (actions - 1) / (actions * 0.4 * 0.5) * (integral(0.5) - integral(1 / actions))
    # The trapezoidal rule with 20,000 steps over at most 7 nats: error below 1e-6.
    assert uniform_escape_time(actions, 0.5, 0.4, exponent=1) == pytest.approx(softmax, rel=1e-6)


@pytest.mark.parametrize("index", [0, 1, 2], ids=["SPG", "EPG(4)", "NPG"])
def test_small_steps_follow_the_laws_from_uniform_and_corner(index):
    # η = 0.02: the gradient flow's steps, 1/50 of the paper's, so that the step count is the law's up to 1 %.
    uniform, corner = escapes(contenders((4.0,))[index], 20, 0.2, 0.5, rate=0.02, corner_prob=1e-3)
    assert (uniform["start"], corner["start"]) == ("uniform", "corner")
    assert uniform["steps"] == pytest.approx(uniform["law"], rel=0.01)
    # The corner's laws are leading orders in π₁: the rest is within 10 % at 1e-3.
    assert corner["steps"] == pytest.approx(corner["law"], rel=0.1)
    assert (uniform["censored"], corner["censored"]) == (False, False)


def test_growth_is_the_exponent_of_a_power_law_and_unknown_when_censored():
    rows = [{"num_actions": k, "steps": 3 * k**2, "censored": False} for k in (10, 30, 100)]
    assert growth(rows) == pytest.approx(2, abs=1e-3)
    assert math.isnan(growth([*rows[:2], rows[2] | {"censored": True}]))


def test_answers_say_times_and_how_far_the_laws_were_missed():
    rows = [
        {"start": start, "method": method, "num_actions": k, "steps": steps, "law": 100.0, "censored": False}
        for start in ("uniform", "corner")
        for method, times in (("SPG", (100, 110)), ("NPG", (50, 100)))
        for k, steps in zip((10, 20), times, strict=True)
    ]
    uniform, _ = escape_answers(rows, rate=0.4, corner_prob=1e-5)
    assert "SPG 100 → 110; NPG 50 → 100 (SPG takes 2 × → 1.1 × as long)" in uniform
    assert "within 50%" in uniform


def test_a_run_has_settled_when_it_stays_below_the_limit_from_there_on():
    at = np.array([0, 1, 10, 100])
    values = np.array([[9, 9, 9, 9], [0, 9, 0, 0], [9, 9, 0, np.nan], [0, 9, 0, 0]], float)
    steps, censored = settled(at, values, np.ones(4))
    np.testing.assert_array_equal(censored, [False, True, False, False])
    # Back above the limit at 10; never below; from 1 on; NaN at 10 is not below.
    np.testing.assert_array_equal(steps[[0, 2, 3]], [100, 1, 100])


def planted(actions, best, bandits=8):
    """Times that grow away from the planted best rate, in the half that selects and in the other one."""
    rates = 4.0 ** np.arange(6)
    steps = np.tile(10.0 * np.exp(np.abs(np.log(rates / rates[best]))), (bandits, 1))
    return Study("SPG", actions, rates, steps, np.zeros_like(steps, bool))


def test_the_best_rate_is_the_selecting_halfs_and_its_time_the_other_halfs():
    one = planted(10, 2)
    one.steps[4:] *= 7
    assert (one.best, one.at_edge) == (2, False)
    np.testing.assert_array_equal(one.reported, [70] * 4)
    assert planted(10, 5).at_edge


def test_censored_runs_count_as_ten_times_the_limit():
    one = planted(10, 2)
    one.censored[:, 2] = True  # 10 becomes 100, beyond its neighbours' 40
    assert one.best in (1, 3)
    late = planted(10, 2)
    late.censored[4:, 2] = True
    assert (late.best, late.lost) == (2, 4)
    np.testing.assert_array_equal(late.reported, [100] * 4)


def test_the_best_rates_growth_with_the_number_of_actions_is_found():
    # Rates 4¹, 4², 4³ at K = 4, 16, 64: η* ∝ K exactly, in every resample.
    growing = [planted(4, 1), planted(16, 2), planted(64, 3)]
    np.testing.assert_allclose(growth_of_best_rate(growing), 1, rtol=1e-9)


def test_random_bandits_are_the_same_for_every_method_and_every_time():
    first = study("NPG", npg, 5, [1.0, 4.0], bandits=3, max_steps=30, seed=1)
    again = study("NPG", npg, 5, [1.0, 4.0], bandits=3, max_steps=30, seed=1)
    other = study("NPG", npg, 5, [1.0, 4.0], bandits=3, max_steps=30, seed=2)
    np.testing.assert_array_equal(first.steps, again.steps)
    assert (first.steps != other.steps).any()


def test_a_studys_times_are_those_of_a_loop_in_numpy():
    rates, actions, seed = (1.0, 5.0), 5, 3
    measured = study("SPG", spg, actions, rates, bandits=2, max_steps=40, seed=seed)
    generator = np.random.default_rng([seed, actions])
    for bandit in range(2):
        rewards, start = generator.random(actions), generator.dirichlet(np.ones(actions))
        for lane, rate in enumerate(rates):
            theta, gaps = np.log(start), []
            for _ in range(41):
                probs = np.exp(theta - theta.max()) / np.exp(theta - theta.max()).sum()
                gaps.append(rewards.max() - probs @ rewards)
                theta = theta + rate * probs * (rewards - probs @ rewards)
            below = np.asarray(gaps) < gaps[0] / 10
            settles = next((t for t in range(41) if below[t:].all()), None)
            assert measured.censored[bandit, lane] == (settles is None)
            # 80 records of 40 steps are all of them.
            assert measured.steps[bandit, lane] == (40 if settles is None else settles)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_actions": (10, 100)}, r"num_actions = \(10, 100\): must be three or more numbers, increasing"),
        ({"num_actions": (2, 10, 100)}, r"num_actions\[0\] = 2: must be an integer ≥ 3"),
        ({"corner_prob": 0.01}, r"corner_prob = 0.01: must be in \(0, 0.001"),
        ({"gap": 0.9}, r"gap = 0.9: must be in \(0, 0.8\]"),
        ({"base_reward": -1.0}, r"base_reward = -1.0: must be in \[0, 1\]"),
        ({"learning_rate": 0.0}, "learning_rate = 0.0: must be finite and above 0"),
        ({"escort_powers": (0.0,)}, r"escort_powers\[0\] = 0.0: must be finite and ≥ 1"),
        ({"study_rates": (2.0, 1.0)}, r"study_rates = \(2.0, 1.0\): must be increasing"),
        ({"bandits": 3}, "bandits = 3: must be an integer ≥ 4"),
        ({"corner_prob": 1e-20}, r"corner_prob = 1e-20: must be at least 2\.5e-08, from where SPG needs"),
        ({"corner_prob": 0.2, "num_actions": (3, 4, 5)}, r"corner_prob = 0\.2: must be in \(0, 0\.1\)"),
        (
            {"learning_rate": 1e-9},
            "learning_rate = 1e-09: must be large enough for SPG to leave the corner in",
        ),
        ({"max_steps": 10**19}, r"max_steps = 10000000000000000000: must be at most 1e\+18"),
        ({"max_steps": 0}, "max_steps = 0: must be an integer ≥ 1"),
        ({"optimisers": ("x",)}, r"optimisers\[0\] = 'x': must be one of SGD, momentum, Adam"),
    ],
)
def test_settings_out_of_range_are_refused_before_anything_is_computed(changed, message):
    with pytest.raises(UserError, match=message):
        ManyClasses(**changed).run(track=never)


def test_characters_need_omniglots_files(tmp_path):
    with pytest.raises(UserError, match=f"data_dir = '{tmp_path}': must be a folder with Omniglot"):
        ManyClasses(data_dir=str(tmp_path)).run(track=never)
