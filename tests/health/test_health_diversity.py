"""Spread and change against torch, SciPy and hand arithmetic."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import distance

from escapevelocity.errors import UserError
from escapevelocity.health import feature_change, policy_variance, value_std


def test_policy_variance_of_two_opposite_corners_is_a_half():
    # Each action's probability is 0 and 1: sample variance 1/2.
    assert policy_variance(np.array([[1.0, 0.0], [0.0, 1.0]])) == 0.5


def test_a_policy_that_does_the_same_everywhere_has_no_variance():
    assert policy_variance(np.tile([0.25, 0.75], (9, 1))) == 0


def test_policy_variance_and_value_std_agree_with_torchs_unbiased_defaults(rng):
    torch = pytest.importorskip("torch")
    x = rng.random((3, 50, 4))
    expected = torch.from_numpy(x).var(dim=1).mean(dim=-1).numpy()
    np.testing.assert_allclose(policy_variance(x), expected, rtol=1e-12)
    np.testing.assert_allclose(value_std(x[..., 0]), torch.from_numpy(x[..., 0]).std(dim=1), rtol=1e-12)


def test_numpy_jax_and_torch_agree_also_under_jit(rng):
    torch = pytest.importorskip("torch")
    x, y = rng.standard_normal((2, 3, 40, 6)).astype(np.float32)
    calls = [
        lambda a, b: policy_variance(a),
        lambda a, b: value_std(a),
        lambda a, b: feature_change(a, b).l2,
        lambda a, b: feature_change(a, b).cosine,
    ]
    for call in calls:
        expected = call(x.astype(np.float64), y.astype(np.float64))
        for result in (
            call(x, y),
            call(jnp.asarray(x), jnp.asarray(y)),
            jax.jit(call)(jnp.asarray(x), jnp.asarray(y)),
            call(torch.from_numpy(x), torch.from_numpy(y)),
        ):
            # 40 states × 6 units of float32 sums: rounding up to about 240·eps = 3e-5.
            np.testing.assert_allclose(np.asarray(result), expected, rtol=3e-5)


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_states_have_no_spread(n):
    assert np.isnan(policy_variance(np.ones((3, n, 2)))).tolist() == [True] * 3
    assert np.isnan(value_std(np.ones((3, n)))).tolist() == [True] * 3
    assert np.isnan(np.asarray(policy_variance(jnp.ones((n, 2)))))


def test_nan_shows_in_the_member_that_holds_it_alone():
    x = np.tile(np.arange(4.0)[:, None], (2, 1, 3))
    x[1, 0, 0] = np.nan
    assert np.isnan(policy_variance(x)).tolist() == [False, True]
    assert np.isnan(value_std(x[..., 0])).tolist() == [False, True]
    assert np.isnan(feature_change(x, np.ones_like(x)).l2).tolist() == [False, True]
    assert np.isnan(feature_change(x, np.ones_like(x)).cosine).tolist() == [False, True]


def test_values_beyond_their_square_s_range_are_reported_as_infinite_without_a_warning():
    assert policy_variance(np.array([[-1e30], [1e30]], dtype=np.float32)) == np.inf


def test_change_of_features_by_hand():
    old = np.array([[3.0, 4.0], [1.0, 0.0]])
    new = np.array([[3.0, 0.0], [-1.0, 0.0]])
    change = feature_change(old, new)
    # Squared differences 0, 16, 4, 0; cosines 9/15 = 0.6 and −1.
    assert change.l2 == pytest.approx(5.0)
    assert change.cosine == pytest.approx((0.4 + 2.0) / 2)


def test_change_agrees_with_torchs_mse_and_scipys_cosine_distance(rng):
    torch = pytest.importorskip("torch")
    old, new = rng.standard_normal((2, 30, 7))
    change = feature_change(old, new)
    mse = torch.nn.functional.mse_loss(torch.from_numpy(new), torch.from_numpy(old))
    assert change.l2 == pytest.approx(float(mse), rel=1e-12)
    cosine = np.mean([distance.cosine(o, n) for o, n in zip(old, new, strict=True)])
    assert change.cosine == pytest.approx(cosine, rel=1e-12)


def test_unchanged_features_have_exactly_no_change(rng):
    x = rng.standard_normal((30, 7)).astype(np.float32)
    assert feature_change(x, x) == (0.0, 0.0)


@pytest.mark.parametrize("make", [np.asarray, jnp.asarray])
def test_zero_vectors_have_a_defined_cosine_distance(make):
    zero, one = np.zeros((1, 3), dtype=np.float32), np.ones((1, 3), dtype=np.float32)
    assert float(feature_change(make(zero), make(zero)).cosine) == 0
    assert float(feature_change(make(zero), make(one)).cosine) == 1
    assert float(feature_change(make(one), make(zero)).cosine) == 1
    both = feature_change(make(np.vstack([zero, one])), make(np.vstack([zero, -one])))
    # ½·|−2·one/√3|² = 2 for the second row, 0 for the first.
    assert float(both.cosine) == pytest.approx(1.0, abs=1e-6)


def test_a_small_rotation_is_seen_in_float32():
    # 1 − cos(1e-5) = 5e-11 is far below float32's eps: 1 − a·b would give 0 or 6e-8.
    old = np.array([[1.0, 0.0]], dtype=np.float32)
    new = np.array([[1.0, 1e-5]], dtype=np.float32)
    assert feature_change(old, new).cosine == pytest.approx(5e-11, rel=1e-4, abs=0)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_cosine_distance_ignores_length_and_rotation(seed, stretch_old, stretch_new):
    rng = np.random.default_rng(seed)
    old, new = rng.standard_normal((2, 8, 5))
    rotation = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    moved = feature_change(stretch_old * old @ rotation, stretch_new * new @ rotation)
    assert moved.cosine == pytest.approx(feature_change(old, new).cosine, rel=1e-9)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.floats(-10, 10), st.floats(0.1, 10))
def test_spread_ignores_a_shift_and_scales_with_its_unit(seed, shift, scale):
    x = np.random.default_rng(seed).standard_normal((9, 3))
    assert policy_variance(scale * x + shift) == pytest.approx(scale**2 * policy_variance(x), rel=1e-9)
    assert value_std(scale * x[:, 0] + shift) == pytest.approx(scale * value_std(x[:, 0]), rel=1e-9)


def test_change_over_an_empty_batch_is_nan():
    change = feature_change(np.ones((2, 0, 3)), np.ones((2, 0, 3)))
    assert np.isnan(change.l2).tolist() == np.isnan(change.cosine).tolist() == [True, True]


def test_features_of_different_shapes_are_refused():
    with pytest.raises(UserError, match=r"new has shape \(3, 2\): must be the shape of old, \(2, 2\)"):
        feature_change(np.zeros((2, 2)), np.zeros((3, 2)))


def test_arrays_with_too_few_axes_or_of_integers_are_refused():
    with pytest.raises(UserError, match=r"distribution_parameters has shape \(3,\): must be"):
        policy_variance(np.zeros(3))
    with pytest.raises(UserError, match=r"values has shape \(\): must be \(\.\.\., N\)"):
        value_std(np.zeros(()))
    with pytest.raises(UserError, match=r"values has dtype int64: must be a real floating type"):
        value_std(np.arange(3))
