"""Escape laws: hand arithmetic, the flow integrated by SciPy, and the same numbers from every array library."""

import doctest

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

from escapevelocity.errors import UserError
from escapevelocity.health import gravity

PROBS = np.array([1e-3, 1e-5, 1e-7])


def test_softmax_law_by_hand():
    np.testing.assert_allclose(gravity.softmax_escape_time(PROBS, 0.5, 0.4), [2500, 250_000, 25_000_000])


@pytest.mark.parametrize("p", [1, 1.5, 2, 2.5, 3, 4, 8])
def test_escort_law_is_the_integral_of_its_flow(p):
    # dx/dt = (ηΔ/p)·x^{p−1} with x = θ(a*)/θ(corner), from π₁^{1/p} to (1/9)^{1/p}
    gap, rate = 0.5, 0.4
    expected = [
        quad(lambda x: p * x ** (1 - p) / (rate * gap), q ** (1 / p), 9 ** (-1 / p), limit=500, epsrel=1e-10)[
            0
        ]
        for q in (1e-2, 1e-3, 1e-4)
    ]
    measured = gravity.escort_escape_time(np.array([1e-2, 1e-3, 1e-4]), gap, rate, p)
    np.testing.assert_allclose(measured, expected, rtol=1e-6)


def test_the_leading_term_of_escort_is_that_of_the_table():
    # theory.md: p·π₁^{−(1−2/p)}/((p − 2)ηΔ), at π₁ = 1e-16 where the end of the way no longer counts
    leading = 4 * (1e-16) ** -0.5 / (2 * 0.4 * 0.5)
    assert gravity.escort_escape_time(1e-16, 0.5, 0.4, 4) == pytest.approx(leading, rel=1e-6)


def test_logarithmic_laws_by_hand():
    log = np.log(1 / 9 / PROBS)
    np.testing.assert_allclose(gravity.natural_escape_time(PROBS, 0.5, 0.4), log / 0.2)
    np.testing.assert_allclose(gravity.normalised_escape_time(PROBS, 1 / 6), log * 6 / np.sqrt(2))
    np.testing.assert_allclose(gravity.inverse_probability_escape_time(PROBS, 0.5, 0.4), log / 0.4)


def test_a_start_outside_the_well_needs_no_time():
    for time in (
        gravity.softmax_escape_time(0.5, 0.5, 0.4),
        gravity.accumulated_gap_needed(0.2, 0.4),
        gravity.natural_escape_time(0.5, 0.5, 0.4),
        gravity.escort_escape_time(0.5, 0.5, 0.4, 3),
        gravity.escort_escape_time(0.5, 0.5, 0.4, 1.5),
    ):
        assert time == 0


def test_the_accumulated_gap_is_the_softmax_time_in_units_of_the_gap():
    np.testing.assert_allclose(gravity.accumulated_gap_needed(PROBS, 0.25), [2000, 200_000, 20_000_000])


@pytest.mark.parametrize(("p", "slope"), [(None, -1), (1, 0), (2, 0), (3, -1 / 3), (4, -0.5), (8, -0.75)])
def test_slopes_are_those_of_the_table(p, slope):
    assert gravity.escape_time_slope(p) == pytest.approx(slope)


LAWS = [
    lambda q: gravity.softmax_escape_time(q, 0.5, 0.4),
    lambda q: gravity.escort_escape_time(q, 0.5, 0.4, 3),
    lambda q: gravity.escort_escape_time(q, 0.5, 0.4, 2),
    lambda q: gravity.natural_escape_time(q, 0.5, 0.4),
    lambda q: gravity.normalised_escape_time(q, 0.4),
]


@pytest.mark.parametrize("law", LAWS)
def test_torch_and_jax_get_the_numbers_of_numpy(law):
    probs = PROBS.astype(np.float32)
    expected = law(probs)
    # float32 powers and logarithms of numbers of size ten
    np.testing.assert_allclose(law(jnp.asarray(probs)), expected, rtol=1e-5)
    torch = pytest.importorskip("torch")
    np.testing.assert_allclose(law(torch.asarray(probs)).numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("law", LAWS)
def test_what_is_no_probability_has_no_escape_time(law):
    assert np.isnan(law(np.array([0.0, 1.0, -0.1, 1.5, np.nan]))).all()


def test_a_gap_or_rate_that_is_not_positive_has_no_escape_time():
    assert np.isnan(gravity.softmax_escape_time(1e-3, 0.0, 0.4))
    assert np.isnan(gravity.natural_escape_time(1e-3, 0.5, -1.0))


@pytest.mark.parametrize("kind", [np.int64, np.float32, np.float64])
def test_numbers_of_numpy_are_numbers(kind):
    assert gravity.escort_escape_time(1e-3, 0.5, 0.4, kind(3)) == gravity.escort_escape_time(
        1e-3, 0.5, 0.4, 3
    )
    assert gravity.escape_time_slope(kind(4)) == -0.5
    assert gravity.softmax_escape_time(np.float32(0.0625), 0.5, 0.4) == 40


@pytest.mark.parametrize("p", [0.9, float("nan"), float("inf")])
def test_an_exponent_below_one_is_refused(p):
    with pytest.raises(UserError, match=r"p = .*: must be a finite number ≥ 1"):
        gravity.escort_escape_time(1e-3, 0.5, 0.4, p)
    with pytest.raises(UserError, match=r"p = .*: must be a finite number ≥ 1"):
        gravity.escape_time_slope(p)


def test_what_is_no_array_of_floats_is_refused():
    with pytest.raises(UserError, match="best_prob: must be a numpy, jax or torch array, got str"):
        gravity.softmax_escape_time("0.1", 0.5, 0.4)


def test_examples_print_what_they_say():
    assert doctest.testmod(gravity).failed == 0
    assert doctest.testmod(gravity).attempted >= 6
