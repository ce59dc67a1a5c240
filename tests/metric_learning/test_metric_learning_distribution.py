"""Actions on the masses, energy, entropy and free energy against hand arithmetic, and the multiplicative well."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from escapevelocity.errors import UserError
from escapevelocity.metric_learning.distribution import (
    actions_to_parity,
    apply_actions,
    measure_distribution,
    normalised,
    steps_to_parity,
)

positive = arrays(np.float64, st.integers(2, 12), elements=st.floats(1e-20, 1e20))


def test_energy_entropy_and_free_energy_by_hand():
    # Masses 1, 2, 1 (q = ¼, ½, ¼): E = −½·ln 2, H = 2·¼·ln 4 + ½·ln 2 = 1.5·ln 2, F = −ln 4.
    found = measure_distribution(np.array([1.0, 2.0, 1.0]), 0.0, 3.0)
    assert found.energy == pytest.approx(-0.5 * math.log(2))
    assert found.entropy == pytest.approx(1.5 * math.log(2))
    assert found.free_energy == pytest.approx(-math.log(4))
    # Centres 0.5, 1.5, 2.5: variance ½ of them, and 1/12 within bins of width 1.
    assert found.distance_mean == pytest.approx(1.5)
    assert found.distance_std == pytest.approx(math.sqrt(0.5 + 1 / 12))


def test_a_flat_distribution_is_the_uniform_density_and_has_the_largest_entropy():
    found = measure_distribution(np.full(29, 1 / 29), 0.1, 1.4)
    assert found.energy == pytest.approx(math.log(29))
    assert found.entropy == pytest.approx(math.log(29))
    assert found.free_energy == pytest.approx(0, abs=1e-12)
    assert found.distance_std == pytest.approx(scipy.stats.uniform(0.1, 1.3).std())


def test_bins_of_mass_zero_add_nothing():
    with_zeros = measure_distribution(np.array([0.0, 1.0, 2.0, 1.0, 0.0]), -1.0, 4.0)
    without = measure_distribution(np.array([1.0, 2.0, 1.0]), 0.0, 3.0)
    np.testing.assert_allclose(with_zeros[:5], without[:5])
    assert with_zeros.floor_bins == 2
    single = measure_distribution(np.array([0.0, 3.0]), 0.0, 2.0)
    assert single.entropy == 0
    assert single.energy == pytest.approx(-math.log(3))


def test_populations_are_measured_member_by_member():
    masses = np.random.default_rng(0).uniform(0.1, 2, (2, 3, 5))
    found = measure_distribution(masses, 0.1, 1.4)
    for index in np.ndindex(2, 3):
        alone = measure_distribution(masses[index], 0.1, 1.4)
        np.testing.assert_allclose([value[index] for value in found], list(alone), rtol=1e-12)


@settings(deadline=None, max_examples=50)
@given(positive, st.floats(1e-5, 1e5))
def test_free_energy_is_energy_minus_entropy_and_scaling_moves_both_by_its_logarithm(masses, scale):
    found = measure_distribution(masses, 0.1, 1.4)
    size = 1 + np.abs(np.log(masses)).max()
    assert found.free_energy == pytest.approx(found.energy - found.entropy, abs=1e-9 * size)
    scaled = measure_distribution(scale * masses, 0.1, 1.4)
    assert scaled.energy == pytest.approx(found.energy - math.log(scale), abs=1e-9 * (size + 12))
    assert scaled.entropy == pytest.approx(found.entropy, abs=1e-9 * size)
    # The standard deviation of a density that is constant on one bin of width w is w/√12.
    assert scaled.distance_std >= 1.3 / len(masses) / math.sqrt(12) - 1e-12


def test_bins_at_a_ten_billionth_of_the_largest_are_at_the_floor():
    masses = np.array([1.0, 1.1e-10, 1e-10, 1e-25])
    assert measure_distribution(masses, 0.1, 1.4).floor_bins == 2


@pytest.mark.parametrize("masses", [[1.0, -1.0], [0.0, 0.0], [1.0, np.nan], [np.inf, 1.0]])
def test_masses_that_are_none_are_refused(masses):
    with pytest.raises(UserError, match=r"masses = .*: must be finite numbers of at least 0, not all 0"):
        measure_distribution(np.array(masses), 0.1, 1.4)


def test_actions_multiply_and_are_clipped():
    masses = jnp.array([1.0, 1.0, 1.0, 1e-25, 1e25], jnp.float32)
    moved = apply_actions(masses, jnp.array([0, 1, 2, 0, 2], jnp.int32), 1.25)
    np.testing.assert_allclose(moved, [0.8, 1.0, 1.25, 1e-25, 1e25], rtol=1e-6)
    assert moved.dtype == jnp.float32


@settings(deadline=None, max_examples=50)
@given(
    arrays(np.float64, 12, elements=st.floats(1e-20, 1e20)),
    st.lists(st.integers(0, 2), min_size=12, max_size=12),
)
def test_an_action_and_its_opposite_leave_the_masses_where_they_were(masses, actions):
    with jax.enable_x64(True):
        first = jnp.asarray(actions, jnp.int32)
        moved = apply_actions(jnp.asarray(masses), first, 1.25)
        back = apply_actions(moved, 2 - first, 1.25)
    np.testing.assert_allclose(back, masses, rtol=1e-12)


def test_the_normalised_copy_of_the_most_extreme_masses_is_finite():
    masses = jnp.full(1000, 1e25, jnp.float32).at[0].set(1e-25)
    q = normalised(masses)
    assert float(jnp.sum(q)) == pytest.approx(1, rel=1e-5)
    # 1e-53 is below what float32 can hold.
    assert q[0] == 0
    np.testing.assert_allclose(q[1:], 1 / 999, rtol=1e-5)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 200), st.floats(1.01, 3), st.floats(-5, 5))
def test_a_bin_reaches_parity_after_as_many_raises_as_it_lies_below(raises, step_up, log_scale):
    largest = math.exp(log_scale)
    masses = np.array([largest, largest / step_up**raises, largest / step_up ** (raises + 0.5)])
    assert actions_to_parity(masses, step_up).tolist() == [0, raises, raises + 1]


def test_predicted_steps_are_actions_times_the_steps_between_decisions():
    masses = np.array([[1.0, 0.5], [1.0, 0.25]])
    # 0.5·1.25³ = 0.977, 0.5·1.25⁴ = 1.22; 0.25·1.25⁶ = 0.954, 0.25·1.25⁷ = 1.19.
    assert actions_to_parity(masses, 1.25).tolist() == [[0, 4], [0, 7]]
    assert steps_to_parity(masses, 1.25, every=30).tolist() == [[0, 120], [0, 210]]


def test_a_bin_at_zero_and_a_factor_that_does_not_raise_are_refused():
    with pytest.raises(UserError, match=r"masses = 0.0: must be above 0; a bin at 0 is never lifted"):
        actions_to_parity(np.array([0.0, 1.0]), 1.25)
    with pytest.raises(UserError, match=r"step-up = 1.0: must be a finite number above 1"):
        actions_to_parity(np.array([1.0, 1.0]), 1.0)
