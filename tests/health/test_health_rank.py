"""Ranks against NumPy's and torch's SVD-based functions, SciPy, scikit-learn and closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.decomposition import TruncatedSVD

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


def matrix_with(spectrum, n_samples, rng):
    """A dense (n_samples, D) matrix with exactly these D singular values."""
    d = len(spectrum)
    left = np.linalg.qr(rng.standard_normal((n_samples, d)))[0]
    right = np.linalg.qr(rng.standard_normal((d, d)))[0]
    return left @ np.diag(spectrum) @ right.T


def decaying(seed, n_samples, n_features):
    """Features with a generic, decaying spectrum, no two members of which are alike."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n_samples, n_features)) * 0.7 ** np.arange(n_features)


shapes = st.tuples(st.integers(0, 2**32 - 1), st.integers(2, 40), st.integers(1, 12))


@pytest.mark.parametrize("shape", [(200, 16), (16, 16), (5, 16), (1, 7), (7, 1), (2048, 64)])
def test_singular_values_agree_with_numpys_svd(shape, rng):
    features = rng.standard_normal(shape)
    expected = np.linalg.svd(features, compute_uv=False)
    ours = singular_values(features)
    assert ours.shape == (min(shape),)
    # An absolute error e in σ² is an error e/σ in σ; the smallest σ here is above 1e-3·σ₁.
    np.testing.assert_allclose(ours, expected, rtol=1e-9)


@pytest.mark.parametrize("scale", [1e200, 1e-200, 1e-310, 3e38, 1.0])
def test_huge_and_tiny_features_neither_overflow_nor_vanish(scale, rng):
    features = rng.standard_normal((50, 6))
    expected = np.linalg.svd(features, compute_uv=False) * scale
    # Entries near 1e-310 are subnormal and hold about 14 digits less 2.
    np.testing.assert_allclose(singular_values(features * scale), expected, rtol=1e-9)
    ranks = feature_ranks(features * scale).values
    plain = feature_ranks(features).values
    for name in SCALE_FREE:
        assert ranks[name] == pytest.approx(plain[name], rel=1e-9), name


def test_a_member_of_a_population_is_measured_as_if_it_were_alone(rng):
    features = rng.standard_normal((2, 3, 30, 8)) * 10.0 ** rng.integers(-200, 200, (2, 3, 1, 1))
    sigma = singular_values(features)
    ranks = feature_ranks(features)
    for index in np.ndindex(2, 3):
        np.testing.assert_array_equal(sigma[index], singular_values(features[index]))
        for name in RANKS:
            assert ranks.values[name][index] == feature_ranks(features[index]).values[name]


def test_rounding_noise_of_the_gram_matrix_is_reported_as_zero(rng):
    rank_three = rng.standard_normal((2048, 3)) @ rng.standard_normal((3, 64))
    sigma = singular_values(rank_three)
    np.testing.assert_allclose(sigma[:3], np.linalg.svd(rank_three, compute_uv=False)[:3], rtol=1e-9)
    np.testing.assert_array_equal(sigma[3:], 0.0)


@pytest.mark.parametrize("n_features", [1, 7, 32])
def test_orthonormal_features_have_every_rank_equal_to_their_number(n_features, rng):
    # √N-scaled, so that the rank of Lyle et al., which divides by √N, sees singular values of 1.
    features = matrix_with(np.ones(n_features), 100, rng) * 10
    ranks = feature_ranks(features, delta=1e-6).values
    for name in RANKS:
        assert ranks[name] == pytest.approx(n_features, rel=1e-9), name


@pytest.mark.parametrize("shape", [(64, 8), (4, 8), (1, 8), (8, 1)])
def test_rank_one_features_have_every_rank_one(shape, rng):
    features = np.outer(rng.standard_normal(shape[0]) + 3, rng.standard_normal(shape[1]) + 3)
    for name, value in feature_ranks(features).values.items():
        # One spurious σ at the Gram limit adds p·log(1/p) with p = 1.2e-7, 2e-6, to the entropy.
        assert value == pytest.approx(1.0, abs=1e-5), name


def test_ranks_of_a_geometric_spectrum_follow_their_closed_forms():
    q = 0.8
    sigma = q ** np.arange(30)
    # Partial sums of σ: (1 − q^k)/(1 − q); of σ²: the same with q².
    k = np.arange(1, 31)
    assert srank(sigma) == k[(1 - q**k) >= 0.99 * (1 - q**30)][0]
    assert feature_rank_pca(sigma) == k[(1 - q ** (2 * k)) >= 0.99 * (1 - q**60)][0]
    assert stable_rank(sigma) == pytest.approx((1 - q**60) / (1 - q**2), rel=1e-12)
    # σ_i/√N > 0.01 with N = 4: 0.8^i > 0.02 for i < log(0.02)/log(0.8) = 17.53, so i = 0..17.
    assert feature_rank_lyle(sigma, n_samples=4) == 18
    # 0.8^i > 30000·1.19e-7 = 3.576e-3 for i < 25.24, so i = 0..25.
    assert numerical_rank(sigma, n_samples=30000, n_features=30) == 26


def test_the_definitions_tell_a_spectrum_apart_that_separates_them():
    # Squares: 100, 2.25, 0.0001: 0.978 of the energy in one direction, 0.99999 in two.
    # Sums: 10 / 11.51 = 0.869, 11.5 / 11.51 = 0.9991.
    sigma = np.array([10.0, 1.5, 0.01])
    assert feature_rank_pca(sigma) == 2
    assert feature_rank_pca(sigma, delta=0.03) == 1
    assert srank(sigma) == 2
    assert srank(sigma, delta=0.0005) == 3
    assert stable_rank(sigma) == pytest.approx(1.022501)
    assert feature_rank_lyle(sigma, n_samples=100) == 2
    assert feature_rank_lyle(sigma, n_samples=100, delta=0.5) == 1
    assert feature_rank_lyle(sigma, n_samples=100, delta=1.0) == 0


def test_delta_zero_asks_for_every_direction_and_stops_at_the_last_one_in_use():
    assert feature_rank_pca(np.array([3.0, 2.0, 1.0, 0.0]), delta=0.0) == 3
    assert srank(np.array([3.0, 2.0, 1.0, 0.0]), delta=0.0) == 3


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=20), st.integers(0, 3))
def test_effective_rank_is_exp_of_scipys_entropy(positive, n_zeros):
    sigma = np.array(sorted(positive, reverse=True) + [0.0] * n_zeros)
    assert effective_rank(sigma) == pytest.approx(np.exp(stats.entropy(sigma)), rel=1e-12)


@settings(deadline=None, max_examples=30)
@given(shapes, st.sampled_from([0.0, 1e-6, 1e-3]))
def test_numerical_rank_agrees_with_numpys_matrix_rank_at_float32_tolerance(shape, noise):
    seed, n, d = shape
    rng = np.random.default_rng(seed)
    k = max(1, min(n, d) // 2)
    features = rng.standard_normal((n, k)) @ rng.standard_normal((k, d))
    features = features + noise * rng.standard_normal((n, d))
    expected = np.linalg.matrix_rank(features, rtol=max(n, d) * np.finfo(np.float32).eps)
    assert feature_ranks(features).values["numerical_rank"] == expected


@pytest.mark.parametrize("rank", [1, 5, 20, 64])
def test_numerical_rank_agrees_with_torchs_matrix_rank_in_float32(rank, rng):
    torch = pytest.importorskip("torch")
    features = torch.from_numpy(rng.standard_normal((2048, rank)) @ rng.standard_normal((rank, 64))).float()
    assert int(torch.linalg.matrix_rank(features)) == rank
    assert feature_ranks(features).values["numerical_rank"] == rank


def test_pca_rank_agrees_with_scikit_learns_uncentred_decomposition():
    # sklearn's PCA subtracts the column means first; Moalla et al. do not, so the peer is TruncatedSVD, whose
    # squared singular values are the uncentred energies.
    features = decaying(3, 100, 12) + 2.0
    svd = TruncatedSVD(n_components=11, algorithm="arpack", random_state=0).fit(features)
    total = np.sum(features**2)
    shares = np.cumsum(svd.singular_values_**2) / total
    for delta in (0.3, 0.1, 0.01, 0.001):
        expected = int(np.argmax(shares >= 1 - delta)) + 1
        assert feature_ranks(features, delta=delta).values["feature_rank_pca"] == expected


def test_pca_rank_counts_a_constant_feature_because_features_are_not_centred():
    features = np.zeros((50, 3))
    features[:, 0] = 1.0
    assert feature_ranks(features).values["feature_rank_pca"] == 1


@settings(deadline=None, max_examples=30)
@given(shapes)
def test_every_rank_is_the_same_after_a_rotation_of_the_features_and_a_permutation_of_the_states(shape):
    seed, n, d = shape
    features = decaying(seed, n, d)
    rng = np.random.default_rng(seed + 1)
    rotation = np.linalg.qr(rng.standard_normal((d, d)))[0]
    moved = rng.permutation(features) @ rotation
    before, after = feature_ranks(features).values, feature_ranks(moved).values
    for name in RANKS:
        assert after[name] == pytest.approx(before[name], rel=1e-5), name


@settings(deadline=None, max_examples=30)
@given(shapes, st.floats(1e-150, 1e150), st.sampled_from([-1.0, 1.0]))
def test_scale_free_ranks_ignore_the_scale_of_the_features(shape, scale, sign):
    features = decaying(*shape)
    before, after = feature_ranks(features).values, feature_ranks(sign * scale * features).values
    for name in SCALE_FREE:
        assert after[name] == pytest.approx(before[name], rel=1e-6), name


@settings(deadline=None, max_examples=30)
@given(shapes, st.integers(2, 4))
def test_ranks_do_not_change_when_every_state_is_seen_several_times(shape, copies):
    seed, n, d = shape
    features = decaying(seed, n, d)
    before = feature_ranks(features).values
    after = feature_ranks(np.repeat(features, copies, axis=0)).values
    # Duplication multiplies every σ by √copies, so σ/√N stays. Only numerical_rank's tolerance depends on N.
    for name in ("feature_rank_pca", "srank", "effective_rank", "stable_rank", "feature_rank_lyle"):
        assert after[name] == pytest.approx(before[name], rel=1e-5), name


def test_duplicated_columns_add_no_rank(rng):
    features = rng.standard_normal((100, 5))
    ranks = feature_ranks(np.concatenate([features, features], axis=1)).values
    assert ranks["numerical_rank"] == 5
    assert ranks["feature_rank_lyle"] == 5
    assert ranks["feature_rank_pca"] <= 5


def test_fewer_rows_than_features_give_the_ranks_of_the_transpose():
    features = decaying(5, 6, 20)
    wide, tall = feature_ranks(features).values, feature_ranks(features.T).values
    for name in SCALE_FREE:
        assert wide[name] == pytest.approx(tall[name], rel=1e-9), name
