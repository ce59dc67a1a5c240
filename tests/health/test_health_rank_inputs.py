"""Ranks of odd input: zeros, NaN, empty and single rows, other array kinds, and mistakes."""

import jax.numpy as jnp
import numpy as np
import pytest

from escapevelocity.errors import UserError
from escapevelocity.health import (
    effective_rank,
    feature_rank_lyle,
    feature_rank_pca,
    feature_ranks,
    numerical_rank,
    singular_values,
    srank,
    stable_rank,
)

RANKS = (
    "feature_rank_pca",
    "effective_rank",
    "srank",
    "stable_rank",
    "feature_rank_lyle",
    "numerical_rank",
)
SCALE_FREE = tuple(name for name in RANKS if name != "feature_rank_lyle")


@pytest.mark.parametrize("shape", [(10, 4), (2, 4), (1, 1), (3, 10, 4)])
def test_all_zero_features_have_every_rank_zero_and_no_nan(shape):
    measured = feature_ranks(np.zeros(shape))
    for name in RANKS:
        np.testing.assert_array_equal(measured.values[name], np.zeros(shape[:-2]), err_msg=name)
    assert measured.reasons == {}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [(np.nan, "features contain NaN"), (np.inf, "features contain Inf"), (-np.inf, "features contain Inf")],
)
def test_non_finite_features_give_nan_with_a_reason_for_that_member_alone(bad, reason, rng):
    features = rng.standard_normal((3, 20, 4))
    healthy = feature_ranks(features)
    features[1, 7, 2] = bad
    measured = feature_ranks(features)
    for name in RANKS:
        assert np.isnan(measured.values[name][1])
        np.testing.assert_array_equal(measured.values[name][[0, 2]], healthy.values[name][[0, 2]])
        assert measured.reasons[name].tolist() == ["", reason, ""]


def test_features_with_both_nan_and_inf_name_the_nan():
    measured = feature_ranks(np.array([[np.inf, 1.0], [np.nan, 1.0]]))
    assert set(measured.reasons.values()) == {"features contain NaN"}


def test_a_singular_value_beyond_float64_is_undefined_and_says_so():
    measured = feature_ranks(np.full((100, 4), 1.7e308))
    assert np.isnan(measured.values["srank"])
    assert measured.reasons["srank"] == "the largest singular value exceeds float64"


def test_a_batch_without_rows_is_undefined_and_not_of_rank_zero():
    measured = feature_ranks(np.zeros((2, 0, 4)))
    for name in RANKS:
        assert np.isnan(measured.values[name]).tolist() == [True, True]
        assert measured.reasons[name].tolist() == ["features have no rows"] * 2


def test_one_row_has_every_scale_free_rank_one():
    ranks = feature_ranks(np.array([[3.0, 4.0, 0.0]])).values
    assert {ranks[name] for name in SCALE_FREE} == {1.0}
    assert ranks["feature_rank_lyle"] == 1.0
    np.testing.assert_allclose(singular_values(np.array([[3.0, 4.0, 0.0]])), [5.0], rtol=1e-15)


def test_rank_of_nan_singular_values_is_nan():
    sigma = np.array([[1.0, 0.5], [np.nan, np.nan]])
    for rank in (feature_rank_pca, srank, effective_rank, stable_rank):
        assert np.isnan(rank(sigma)).tolist() == [False, True]
    assert np.isnan(feature_rank_lyle(sigma, 4)).tolist() == [False, True]
    assert np.isnan(numerical_rank(sigma, 4, 2)).tolist() == [False, True]


def test_jax_and_numpy_arrays_of_any_precision_give_the_same_ranks(rng):
    features = rng.integers(-3, 4, (40, 6))  # exactly representable in every type below
    expected = feature_ranks(features.astype(np.float64)).values
    kinds = [
        features,
        features.astype(np.int8),
        features.astype(np.float16),
        features.astype(np.float32),
        jnp.asarray(features, dtype=jnp.float32),
        jnp.asarray(features, dtype=jnp.bfloat16),
        features.tolist(),
    ]
    for kind in kinds:
        assert feature_ranks(kind).values == expected


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "int8", "int64"])
def test_torch_tensors_of_any_precision_give_the_same_ranks(dtype, rng):
    torch = pytest.importorskip("torch")
    features = rng.integers(-3, 4, (40, 6))
    expected = feature_ranks(features.astype(np.float64)).values
    assert feature_ranks(torch.from_numpy(features).to(getattr(torch, dtype))).values == expected


def test_torch_tensors_with_gradient_are_accepted_and_left_alone():
    torch = pytest.importorskip("torch")
    features = torch.eye(3, requires_grad=True)
    assert feature_ranks(features).values["srank"] == 3
    assert features.requires_grad


def test_the_callers_features_are_not_changed():
    features = np.array([[1e200, 0.0], [0.0, np.nan]])
    before = features.copy()
    feature_ranks(features)
    np.testing.assert_array_equal(features, before)


def test_a_vector_of_features_is_refused():
    with pytest.raises(UserError, match=r"features has shape \(3,\): must be \(\.\.\., N, D\)"):
        feature_ranks(np.zeros(3))


def test_features_without_columns_are_refused():
    with pytest.raises(UserError, match=r"features.shape = \(3, 0\): must be .* D ≥ 1"):
        singular_values(np.zeros((3, 0)))


@pytest.mark.parametrize("bad", [np.array([["a"]]), np.array([[1j]]), [[1.0], [1.0, 2.0]], object()])
def test_features_that_are_not_real_numbers_are_refused(bad):
    with pytest.raises(UserError, match=r"features: must be an array of real numbers"):
        feature_ranks(bad)


@pytest.mark.parametrize("delta", [-0.1, 1.0, float("nan")])
@pytest.mark.parametrize("rank", [feature_rank_pca, srank])
def test_a_delta_outside_its_range_is_refused(rank, delta):
    with pytest.raises(UserError, match=r"delta = .*: must be in \[0, 1\)"):
        rank(np.ones(3), delta)


@pytest.mark.parametrize("delta", [-0.1, float("inf"), float("nan")])
def test_a_negative_or_non_finite_threshold_is_refused(delta):
    with pytest.raises(UserError, match=r"delta = .*: must be a finite number ≥ 0"):
        feature_rank_lyle(np.ones(3), 4, delta)
