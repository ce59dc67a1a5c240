"""Trust-region measures against hand arithmetic, Stable-Baselines3's formula and PPO's own objective."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from escapevelocity.errors import UserError
from escapevelocity.health import trust_region
from escapevelocity.health.trust import TRUST_NAMES

RATIOS = np.array([1.0, 1.5, 3.0, 0.5, 0.25, 0.25, 1.1, 0.9])
ADVANTAGES = np.array([1.0, 2.0, -1.0, -3.0, 1.0, 0.0, 1.0, -1.0])

log_ratios = hnp.arrays(np.float64, st.integers(1, 30), elements=st.floats(-5, 5))


def test_every_value_follows_by_hand():
    values = trust_region(np.log(RATIOS), ADVANTAGES, 0.2, continuous=False).values
    assert values == pytest.approx(
        {
            "ratio_mean": 8.5 / 8,
            # Σr² = 1 + 2.25 + 9 + 0.25 + 0.0625 + 0.0625 + 1.21 + 0.81 = 14.645
            "ratio_std": np.sqrt((14.645 - 8.5**2 / 8) / 7),
            "ratio_min": 0.25,
            "ratio_max": 3.0,
            "ratio_above_mean": 2.25,
            "ratio_below_mean": 1 / 3,
            "ratio_above_count": 2,
            "ratio_below_count": 3,
            "excess_ratio": 6.75,
            # Clipped: 1.5 (A > 0) and 0.5 (A < 0), but neither 3.0 (A < 0) nor the 0.25s (A ≥ 0).
            "clip_fraction": 2 / 8,
            "ratio_outside_fraction": 5 / 8,
            "kl_k1": -np.log(1.5 * 3 * 0.5 * 0.25 * 0.25 * 1.1 * 0.9) / 8,
            "kl_k3": (8.5 - 8) / 8 - np.log(1.5 * 3 * 0.5 * 0.25 * 0.25 * 1.1 * 0.9) / 8,
        },
        rel=1e-12,
    )
    assert tuple(values) == TRUST_NAMES


@settings(deadline=None, max_examples=50)
@given(log_ratios, st.integers(0, 2**32 - 1), st.sampled_from([0.1, 0.2, 0.5, 1.5]))
def test_clip_fraction_is_where_ppos_clipped_term_is_the_strict_minimum(log_ratio, seed, epsilon):
    advantages = np.random.default_rng(seed).integers(-2, 3, log_ratio.shape).astype(float)
    ratio = np.exp(log_ratio)
    clipped_term = np.clip(ratio, 1 - epsilon, 1 + epsilon) * advantages
    expected = np.mean(clipped_term < ratio * advantages)
    assert trust_region(log_ratio, advantages, epsilon, False).values["clip_fraction"] == expected


def test_outside_fraction_is_the_clip_fraction_of_stable_baselines3(rng):
    torch = pytest.importorskip("torch")
    log_ratio = rng.normal(0, 0.3, 500)
    ratio = torch.exp(torch.from_numpy(log_ratio))
    # stable_baselines3/ppo/ppo.py: th.mean((th.abs(ratio - 1) > clip_range).float()).item()
    expected = torch.mean((torch.abs(ratio - 1) > 0.2).double()).item()
    measured = trust_region(log_ratio, np.ones(500), 0.2, False)
    assert measured.values["ratio_outside_fraction"] == pytest.approx(expected, abs=1e-12)
    # With advantages of one sign only one side is clipped.
    assert 0 < measured.values["clip_fraction"] < expected


def test_kl_estimates_approach_the_exact_kl_of_two_categorical_policies():
    old, new = np.array([0.5, 0.3, 0.2]), np.array([0.4, 0.4, 0.2])
    # Samples of `old` in exactly its proportions, so that both estimates are the exact expectation.
    actions = np.repeat([0, 1, 2], [50, 30, 20])
    values = trust_region(np.log(new / old)[actions], np.ones(100), 0.2, False).values
    exact = np.sum(old * np.log(old / new))
    assert values["kl_k1"] == pytest.approx(exact, rel=1e-9)
    assert values["kl_k3"] == pytest.approx(exact, rel=1e-9)
    assert values["ratio_mean"] == pytest.approx(1.0, rel=1e-12)


def test_k3_keeps_its_digits_for_ratios_close_to_one():
    # (e^x − 1) − x = x²/2 + …: 5e-17 for x = 1e-8, which (ratio − 1) − log(ratio) in float64 would lose.
    # expm1 is exact to an ulp of 1e-8, 1.7e-24, against 5e-17.
    value = trust_region(np.full(4, 1e-8), np.ones(4), 0.2, False).values["kl_k3"]
    assert value == pytest.approx(5e-17, rel=1e-6, abs=0)


@settings(deadline=None, max_examples=50)
@given(log_ratios, st.integers(0, 2**32 - 1))
def test_the_order_of_samples_does_not_matter(log_ratio, seed):
    order = np.random.default_rng(seed).permutation(len(log_ratio))
    advantages = np.sin(np.arange(len(log_ratio)))
    before = trust_region(log_ratio, advantages, 0.2, True)
    after = trust_region(log_ratio[order], advantages[order], 0.2, True)
    assert after.values == pytest.approx(before.values, rel=1e-9, abs=1e-12, nan_ok=True)
    assert after.reasons == before.reasons


@settings(deadline=None, max_examples=50)
@given(log_ratios)
def test_bounds_that_follow_from_the_definitions_hold(log_ratio):
    values = trust_region(log_ratio, np.ones_like(log_ratio), 0.2, False).values
    assert values["kl_k3"] >= 0
    assert values["kl_k3"] == pytest.approx(values["ratio_mean"] - 1 + values["kl_k1"], rel=1e-9, abs=1e-9)
    assert not values["ratio_below_mean"] >= 0.8
    assert not values["ratio_above_mean"] <= 1.2
    assert not values["excess_ratio"] <= 1.5


def test_an_empty_side_is_nan_and_says_so():
    measured = trust_region(np.log([1.0, 1.5]), np.ones(2), 0.2, False)
    assert measured.values["ratio_above_mean"] == pytest.approx(1.5)
    assert measured.values["ratio_below_count"] == 0
    assert np.isnan(measured.values["ratio_below_mean"])
    assert np.isnan(measured.values["excess_ratio"])
    assert measured.reasons == {
        "ratio_below_mean": "no ratio is below 0.8",
        "excess_ratio": "no ratio is below 0.8",
    }
    upper = trust_region(np.log([1.0, 0.5]), np.ones(2), 0.2, True)
    assert upper.reasons == {
        "ratio_above_mean": "no ratio is above 1.2",
        "excess_ratio": "no ratio is above 1.2",
    }


@pytest.mark.parametrize("n", [2, 100_000])
def test_enormous_log_ratios_are_held_at_700_and_stay_finite(n):
    # 100,000 ratios of e^700 = 1e304 would overflow a plain sum, and any square of one does.
    measured = trust_region(np.full(n, np.inf), np.ones(n), 0.2, False)
    for name in ("ratio_mean", "ratio_min", "ratio_max", "ratio_above_mean", "kl_k3"):
        assert measured.values[name] == pytest.approx(np.exp(700.0), rel=1e-9), name
    assert measured.values["ratio_std"] == 0
    assert measured.values["kl_k1"] == -700
    vanished = trust_region(np.full(n, -1e6), np.ones(n), 0.2, False)
    assert vanished.values["ratio_below_mean"] == pytest.approx(np.exp(-700.0), rel=1e-9, abs=0)
    assert vanished.values["kl_k3"] == pytest.approx(699.0)


def test_std_of_ratios_whose_squares_overflow_is_right():
    log_ratio = np.array([690.0, 690.0 + np.log(3.0)])
    # e^690·{1, 3}: sample std √2·e^690.
    value = trust_region(log_ratio, np.ones(2), 0.2, False).values["ratio_std"]
    assert value == pytest.approx(np.sqrt(2) * np.exp(690.0), rel=1e-9)


def test_continuous_actions_clip_each_mean_of_the_excess_ratio():
    log_ratio = np.array([100.0, -100.0])
    free = trust_region(log_ratio, np.ones(2), 0.2, continuous=False).values
    clipped = trust_region(log_ratio, np.ones(2), 0.2, continuous=True).values
    assert free["excess_ratio"] == pytest.approx(np.exp(200.0), rel=1e-9)
    assert clipped["excess_ratio"] == pytest.approx(1e24, rel=1e-9)
    # The means themselves are reported unclipped.
    assert clipped["ratio_above_mean"] == pytest.approx(np.exp(100.0), rel=1e-9)
    one_sided = trust_region(np.array([100.0, np.log(0.5)]), np.ones(2), 0.2, continuous=True).values
    assert one_sided["excess_ratio"] == pytest.approx(2e12, rel=1e-9)


def test_nan_log_ratios_undo_everything_for_that_member_alone():
    log_ratio = np.log(np.tile(RATIOS, (3, 1)))
    log_ratio[1, 2] = np.nan
    advantages = np.tile(ADVANTAGES, (3, 1))
    measured = trust_region(log_ratio, advantages, 0.2, False)
    alone = trust_region(log_ratio[0], advantages[0], 0.2, False)
    for name in TRUST_NAMES:
        assert np.isnan(measured.values[name][1]), name
        assert measured.values[name][[0, 2]] == pytest.approx(alone.values[name], rel=1e-12), name
        assert measured.reasons[name].tolist() == ["", "log-ratios contain NaN", ""]


def test_nan_advantages_undo_the_clip_fraction_alone():
    measured = trust_region(np.log(RATIOS), np.where(ADVANTAGES == 2, np.nan, ADVANTAGES), 0.2, False)
    assert np.isnan(measured.values["clip_fraction"])
    assert measured.reasons == {"clip_fraction": "advantages contain NaN"}


def test_one_sample_has_no_standard_deviation():
    measured = trust_region(np.array([0.0]), np.ones(1), 0.2, False)
    assert np.isnan(measured.values["ratio_std"])
    assert measured.reasons["ratio_std"] == "one sample has no standard deviation"
    assert measured.values["ratio_mean"] == 1


def test_an_empty_batch_is_undefined_throughout():
    measured = trust_region(np.zeros((2, 0)), np.zeros((2, 0)), 0.2, False)
    assert tuple(measured.values) == tuple(measured.reasons) == TRUST_NAMES
    for name in TRUST_NAMES:
        assert np.isnan(measured.values[name]).tolist() == [True, True]
        assert measured.reasons[name].tolist() == ["the batch has no samples"] * 2


def test_leading_axes_are_measured_one_by_one(rng):
    log_ratio, advantages = rng.standard_normal((2, 2, 3, 40))
    together = trust_region(log_ratio, advantages, 0.3, True)
    for index in np.ndindex(2, 3):
        alone = trust_region(log_ratio[index], advantages[index], 0.3, True)
        member = {name: value[index] for name, value in together.values.items()}
        assert member == pytest.approx(alone.values, rel=1e-12)


def test_float32_log_ratios_of_jax_and_torch_are_measured_in_float64():
    torch = pytest.importorskip("torch")
    log_ratio = np.array([300.0, -300.0, 0.0], dtype=np.float32)  # e^300 overflows float32
    expected = trust_region(log_ratio.astype(np.float64), np.ones(3), 0.2, False)
    assert expected.values["ratio_max"] == pytest.approx(np.exp(300.0), rel=1e-12)
    for array in (log_ratio, jnp.asarray(log_ratio), torch.from_numpy(log_ratio).requires_grad_()):
        assert trust_region(array, np.ones(3, dtype=np.float32), 0.2, False) == expected


@pytest.mark.parametrize("epsilon", [0.0, -0.1, float("inf"), float("nan")])
def test_a_clip_epsilon_that_is_not_positive_is_refused(epsilon):
    with pytest.raises(UserError, match=r"clip_epsilon = .*: must be a finite number > 0"):
        trust_region(np.zeros(2), np.zeros(2), epsilon, False)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(
        UserError, match=r"advantages has shape \(3,\): must be the shape of log_ratio, \(2,\)"
    ):
        trust_region(np.zeros(2), np.zeros(3), 0.2, False)
    with pytest.raises(UserError, match=r"log_ratio has shape \(\): must be \(\.\.\., N\)"):
        trust_region(np.zeros(()), np.zeros(()), 0.2, False)
