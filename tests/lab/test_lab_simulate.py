"""Escape times: the reference run to the integer, the laws' slopes, and what the loop reports."""

import jax
import numpy as np
import pytest

from escapevelocity.errors import UserError
from escapevelocity.lab import (
    Bandit,
    corner_starts,
    dense_mdp,
    epg,
    escape_time,
    gnpg,
    inverse_probability,
    kl_penalised,
    log_spaced,
    mirror_descent,
    neurd,
    npg,
    predicted_escape_time,
    sampled,
    spg,
    trajectory,
)

# theory.md, "Reference run": K = 6, b = 0.2, Δ = 0.5, η = 0.4.
GAP, ETA = 0.5, 0.4
BANDIT = Bandit([0.7, 0.2, 0.2, 0.2, 0.2, 0.2])
DECADES = 10.0 ** -np.arange(2, 7)


def well(*exponents):
    return corner_starts(6, 5, 10.0 ** -np.array(exponents, float))


def fitted_slope(best_prob, steps):
    return np.polyfit(np.log(best_prob), np.log(steps), 1)[0]


def test_softmax_needs_exactly_the_steps_of_the_reference_run():
    times = escape_time(BANDIT, spg(ETA), corner_starts(6, 5, DECADES), 0.9 * GAP, 3_000_000)
    assert times.steps.tolist() == [254, 2520, 25034, 250047, 2500060]
    assert not times.censored.any()
    # slope −1 over π₁ = 10⁻³…10⁻⁶ within the issue's ±0.02; times within 1 % of 1/(2ηΔπ₁)
    assert fitted_slope(DECADES[1:], times.steps[1:]) == pytest.approx(-1, abs=0.02)
    np.testing.assert_allclose(times.steps[1:], 1 / (2 * ETA * GAP * DECADES[1:]), rtol=0.01)


@pytest.mark.parametrize(
    ("p", "reference"),
    [(4, [64, 271, 945, 3097, 9924]), (3, [38, 118, 291, 664, 1469]), (2, [13, 25, 37, 49, 61])],
)
def test_escort_needs_exactly_the_steps_of_the_reference_run(p, reference):
    times = escape_time(BANDIT, epg(ETA, p), corner_starts(6, 5, DECADES), 0.9 * GAP, 20_000)
    assert times.steps.tolist() == reference
    assert times.sign_flips.tolist() == [0] * 5


# The rate is larger for p = 8, whose times are the longest: the slope does not depend on it.
@pytest.mark.parametrize(("p", "rate"), [(3, 0.4), (4, 0.4), (8, 2.0)])
def test_escort_above_two_has_the_slope_of_the_law(p, rate):
    best_prob = 10.0 ** -np.arange(5, 9)
    times = escape_time(BANDIT, epg(rate, p), corner_starts(6, 5, best_prob), 0.9 * GAP, 3_000_000)
    assert fitted_slope(best_prob, times.steps) == pytest.approx(-(1 - 2 / p), abs=0.02)


@pytest.mark.parametrize("p", [1, 1.5])
def test_escort_below_two_escapes_in_bounded_time(p):
    steps = escape_time(BANDIT, epg(0.01, p), well(4, 8, 12, 16), 0.9 * GAP, 10_000).steps
    # ∫₀ p x^{1−p}/(ηΔ) dx from x = 0: the bound, which the last decades approach; the rate is small enough for
    # Euler to follow the flow within 5 %.
    bound = p * (1 / 9) ** (2 / p - 1) / ((2 - p) * 0.01 * GAP)
    assert (np.diff(steps) >= 0).all()
    assert (steps <= 1.05 * bound).all()
    np.testing.assert_allclose(steps[-1], bound, rtol=0.05)


# Small rates, so that Euler's steps follow the flow: a factor (1 + x) per step instead of eˣ lengthens the
# time by x/2, here at most 2.5 %.
@pytest.mark.parametrize(
    ("method", "name", "rate", "p"),
    [
        (npg(0.1), "NPG", 0.1, None),
        (neurd(0.1), "NeuRD", 0.1, None),
        (mirror_descent(0.1), "mirror descent", 0.1, None),
        (gnpg(0.05), "GNPG", 0.05, None),
        (inverse_probability(0.1), "inverse-probability", 0.1, None),
        (epg(0.1, 2), "EPG", 0.1, 2),
        (epg(0.1, 3), "EPG", 0.1, 3),
        (epg(0.1, 4), "EPG", 0.1, 4),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_every_other_method_escapes_within_five_percent_of_its_law(method, name, rate, p):
    starts = well(4, 5, 6)
    steps = escape_time(BANDIT, method, starts, 0.9 * GAP, 100_000).steps
    np.testing.assert_allclose(steps, predicted_escape_time(name, starts[0], GAP, rate, p), rtol=0.05)


def test_the_kl_penalised_step_escapes_in_logarithmic_time():
    # π(a*) grows by 1/(1 − ηΔ) a step while it is small: T = ln(0.11/π₁)/−ln(1 − ηΔ), within two steps, since
    # growth slows down near the escape.
    steps = escape_time(BANDIT, kl_penalised(0.1), well(4, 5, 6, 8), 0.9 * GAP, 1000).steps
    law = np.log(1 / 9 / np.array([1e-4, 1e-5, 1e-6, 1e-8])) / -np.log(1 - 0.1 * GAP)
    np.testing.assert_allclose(steps, law, atol=2.5)


def test_a_start_outside_the_well_has_escaped_at_step_zero_and_a_deep_one_is_censored():
    starts = np.stack([np.full(6, 1 / 6), well(9)[:, 0]], axis=1)
    times = escape_time(BANDIT, spg(ETA), starts, 0.9 * GAP, 50)
    assert times.steps.tolist() == [0, 50]
    assert times.censored.tolist() == [False, True]


def test_an_escape_at_the_last_permitted_step_is_not_censored():
    at_limit = escape_time(BANDIT, spg(ETA), well(2), 0.9 * GAP, 254)
    before = escape_time(BANDIT, spg(ETA), well(2), 0.9 * GAP, 253)
    assert (at_limit.steps[0], at_limit.censored[0]) == (254, False)
    assert (before.steps[0], before.censored[0]) == (253, True)


def test_starts_do_not_influence_each_other():
    together = escape_time(BANDIT, epg(ETA, 3), well(2, 3, 4), 0.9 * GAP, 2000).steps
    alone = [escape_time(BANDIT, epg(ETA, 3), well(e), 0.9 * GAP, 2000).steps[0] for e in (2, 3, 4)]
    assert together.tolist() == alone


def test_a_rate_per_start_gives_each_start_the_time_of_its_own_rate():
    starts = np.tile(well(3), (1, 3))
    rates = np.array([0.1, 0.2, 0.4])
    for make in (spg, lambda rate: epg(rate, 3)):
        together = escape_time(BANDIT, make(rates), starts, 0.9 * GAP, 30_000).steps
        alone = [escape_time(BANDIT, make(rate), well(3), 0.9 * GAP, 30_000).steps[0] for rate in rates]
        assert together.tolist() == alone


def test_every_state_of_an_mdp_escapes_by_its_own_gap_and_visitation():
    # Transitions that no action changes: A(s, a) = r(s, a) − πᵀr, and ρ(s) = 1/(S(1 − γ)) = 10/4 for all. So
    # T(s) = 1/(2·η·ρ(s)·Δ(s)·π₁), by the softmax law in each state.
    gaps = np.array([0.1, 0.2, 0.4, 0.8])
    rewards = np.stack([0.1 + gaps, np.full(4, 0.1), np.full(4, 0.1)])
    mdp = dense_mdp(np.full((3, 4, 4), 0.25), rewards, gamma=0.9)
    best_prob = 1e-3
    start = np.tile(corner_starts(3, 2, [best_prob])[:, None], (1, 4, 1))
    # V*(s) − V(s) contains the later states' loss, so the criterion is put where only the own one matters: the
    # later loss is common to all states, L = γ/(1 − γ)·mean(Δ(1 − π)); it is known when all are trapped or free.
    records = trajectory(mdp, spg(0.01), start, np.arange(0, 300_001, 100))
    escaped = records.probs[:, 0, :, 0] >= 0.1
    steps = records.steps[escaped.argmax(axis=0)]
    law = 1 / (2 * 0.01 * 2.5 * gaps * best_prob)
    np.testing.assert_allclose(steps, law, rtol=0.01)


def test_per_state_times_are_the_first_steps_below_the_threshold_of_each_state():
    rewards = np.array([[0.9, 0.5], [0.1, 0.1]])
    bandit = Bandit(rewards)
    start = np.array([[0.01, 0.01], [0.99, 0.99]])[..., None]
    thresholds = np.array([0.4, 0.2])
    times = escape_time(bandit, spg(1.0), start, thresholds, 1000, per_state=True)
    records = trajectory(bandit, spg(1.0), start, np.arange(1000))
    for state in range(2):
        below = (rewards[0] - rewards[1])[state] * records.probs[:, 1, state, 0] < thresholds[state]
        assert times.steps[state, 0] == below.argmax()
        assert below.any()


def test_a_trajectory_ends_where_single_steps_lead():
    starts = well(2, 3)
    records = trajectory(BANDIT, spg(ETA), starts, [0, 1, 7])
    theta = np.log(starts)
    for step in range(8):
        probs = np.exp(theta) / np.exp(theta).sum(axis=0)
        if step in (0, 1, 7):
            row = [0, 1, 7].index(step)
            np.testing.assert_allclose(records.probs[row], probs, rtol=1e-12)
            regret = (probs * (0.7 - BANDIT.rewards)[:, None]).sum(axis=0)
            np.testing.assert_allclose(records.suboptimality[row], regret, rtol=1e-12)
        theta += ETA * probs * (BANDIT.rewards[:, None] - (probs * BANDIT.rewards[:, None]).sum(axis=0))


def test_a_large_rate_makes_escort_parameters_cross_zero_and_the_lab_counts_it():
    # p = 1, K = 2, u = (0.1, 0.9), A = (0.9, −0.1)·Δ... with Δ = 1: the step η·sgn·A moves u to
    # (0.1 + 0.9η, 0.9 − 0.1η), then (at η = 20: (18.1, −1.1)) one sign has changed.
    records = trajectory(Bandit([1.0, 0.0]), epg(20.0, 1), [[0.1], [0.9]], [0, 1])
    assert records.sign_flips[:, 0].tolist() == [0, 1]
    np.testing.assert_allclose(records.probs[1, :, 0], [18.1 / 19.2, 1.1 / 19.2], rtol=1e-12)


def test_results_are_float64_and_the_process_keeps_its_precision():
    records = trajectory(BANDIT, spg(ETA), well(6), [0, 10])
    assert records.probs.dtype == np.float64
    assert jax.numpy.ones(1).dtype == np.float32
    assert records.steps.dtype == np.int64


def test_log_spaced_steps_start_with_zero_and_never_repeat():
    steps = log_spaced(1000, 50)
    assert steps[0] == 0
    assert steps[-1] == 1000
    assert (np.diff(steps) > 0).all()


OFF_SIMPLEX = np.full((6, 1), 0.2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"starts": OFF_SIMPLEX}, r"starts sums to 1\.2: must sum to 1"),
        ({"starts": np.full((5, 1), 0.2)}, r"starts has shape \(5, 1\): must be \(6, 'B'\)"),
        ({"starts": np.full(6, 1 / 6)}, r"starts has shape \(6,\)"),
        ({"starts": np.array([[1.5, -0.5, 0, 0, 0, 0]]).T}, r"starts\[1, 0\] = -0\.5: must be a probability"),
        ({"starts": np.array([[np.nan, 1, 0, 0, 0, 0]]).T}, r"starts\[0, 0\] = nan: must be finite"),
        ({"starts": [["a"]]}, "starts: must be an array of real numbers, got list"),
        ({"threshold": 0.0}, r"threshold = 0\.0: must be > 0"),
        ({"threshold": np.nan}, "threshold.* = nan: must be finite"),
        ({"max_steps": 0}, "max_steps = 0: must be an integer ≥ 1"),
        ({"max_steps": 10**19}, r"max_steps = 10000000000000000000: must be at most 1e\+18"),
        ({"max_steps": True}, "max_steps = True: must be an integer ≥ 1"),
        (
            {"method": sampled(spg(0.1))},
            "key = None: must be a JAX PRNG key for the sampled method SPG, sampled",
        ),
    ],
)
def test_bad_input_is_named_with_its_value_and_range(change, message):
    arguments = {"method": spg(0.1), "starts": well(2), "threshold": 0.4, "max_steps": 10, **change}
    with pytest.raises(UserError, match=message):
        escape_time(BANDIT, **arguments)


def test_a_threshold_per_state_must_fit_the_states():
    start = np.full((2, 3, 1), 0.5)
    with pytest.raises(UserError, match=r"threshold has shape \(2,\): must be a number or \(3,\)"):
        escape_time(Bandit(np.ones((2, 3))), spg(0.1), start, [0.1, 0.2], 10, per_state=True)


@pytest.mark.parametrize("steps", [[3, 1], [-1, 2], [0.5, 1], [1, 1]])
def test_recording_steps_must_be_increasing_integers(steps):
    with pytest.raises(UserError, match=r"record_at = .*must be increasing integers ≥ 0"):
        trajectory(BANDIT, spg(0.1), well(2), steps)


def test_no_step_is_recorded_beyond_the_count_of_steps():
    with pytest.raises(UserError, match=r"record_at = .*: must be at most 1e\+18"):
        trajectory(BANDIT, spg(0.1), well(2), [0, 1e19])
