"""What every update rule keeps to: the start it is given, the simplex, rest where nothing is to gain; bad settings."""

import jax
import numpy as np
import pytest

from escapevelocity.errors import UserError
from escapevelocity.lab import (
    Bandit,
    alternate,
    delightful,
    entropy_regularised,
    epg,
    gnpg,
    inverse_probability,
    kl_penalised,
    mirror_descent,
    neurd,
    npg,
    sampled,
    spg,
    trajectory,
    tsallis,
)

BANDIT = Bandit([0.9, 0.3, 0.5, 0.1])
START = np.array([[0.05, 0.6, 0.3, 0.05], [0.25, 0.25, 0.25, 0.25]]).T
ALL = {
    "SPG": spg(0.3),
    "NPG": npg(0.3),
    "NeuRD": neurd(0.3, 5.0),
    "GNPG": gnpg(0.3),
    "inverse": inverse_probability(0.3),
    "entropy": entropy_regularised(0.3, 0.1),
    "mirror": mirror_descent(0.3),
    "KL": kl_penalised(0.3),
    "delightful": delightful(0.3),
    "alternate": alternate(0.3),
    "Tsallis": tsallis(0.3, 0.5),
    "EPG(1)": epg(0.3, 1),
    "EPG(2.5)": epg(0.3, 2.5),
}


@pytest.mark.parametrize("method", ALL.values(), ids=ALL.keys())
def test_every_method_starts_where_it_is_told_and_stays_on_the_simplex(method):
    # a zero, an almost-zero, and two ordinary probabilities
    start = np.array([[0.0, 1e-200, 0.4, 0.6]]).T
    probs = trajectory(BANDIT, method, start, [0, 1, 10]).probs
    np.testing.assert_allclose(probs[0], start, rtol=1e-9, atol=1e-15)
    assert np.isfinite(probs).all()
    np.testing.assert_allclose(probs.sum(axis=1), 1, rtol=1e-12)


STILL = {name: method for name, method in ALL.items() if name != "entropy"}  # whose bonus moves it


@pytest.mark.parametrize("method", STILL.values(), ids=STILL.keys())
def test_no_method_moves_when_all_actions_are_equally_good(method):
    probs = trajectory(Bandit(np.full(4, 0.5)), method, START, [3]).probs[0]
    np.testing.assert_allclose(probs, START, rtol=1e-9)


@pytest.mark.parametrize("number", [np.int64(2), np.float32(2.0)])
def test_numbers_of_numpy_do_what_those_of_python_do(number):
    for make in (
        lambda x: epg(0.3, x),
        lambda x: spg(0.3, temperature=x),
        lambda x: neurd(0.3, x),
        lambda x: entropy_regularised(0.3, x),
        lambda x: delightful(0.3, x),
        lambda x: tsallis(0.3, x / 4),
        lambda x: sampled(spg(0.3), baseline=x, reward_noise=x),
    ):
        found, expected = (trajectory(BANDIT, make(x), START, [2], jax.random.key(0)) for x in (number, 2))
        np.testing.assert_array_equal(found.probs, expected.probs)


@pytest.mark.parametrize("rate", [0.0, -1.0, np.nan, np.inf, [0.1, -0.1], "fast"])
@pytest.mark.parametrize("make", [spg, npg, gnpg, lambda rate: epg(rate, 2)])
def test_a_rate_must_be_positive(make, rate):
    with pytest.raises(UserError, match=r"step_size = .*must be a"):
        make(rate)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: epg(0.1, 0.9), r"p = 0\.9: must be a finite number ≥ 1"),
        (lambda: epg(0.1, float("nan")), "p = nan: must be a finite number ≥ 1"),
        (lambda: spg(0.1, temperature=0.0), r"temperature = 0\.0: must be a finite number > 0"),
        (lambda: neurd(0.1, -1.0), r"threshold = -1\.0: must be a finite number > 0"),
        (lambda: entropy_regularised(0.1, 0.0), r"temperature = 0\.0: must be a finite number > 0"),
        (lambda: delightful(0.1, -0.5), r"temperature = -0\.5: must be a finite number ≥ 0"),
        (lambda: tsallis(0.1, 1.0), r"alpha = 1\.0: must be in \(0, 1\)"),
        (lambda: kl_penalised(0.0), r"rate = 0\.0: must be a finite rate > 0"),
    ],
)
def test_a_wrong_setting_is_named_with_its_range(make, message):
    with pytest.raises(UserError, match=message):
        make()
