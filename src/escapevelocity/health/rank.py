"""How many directions the features of a batch span: six definitions of rank, from one set of singular values.

Φ (N, D) holds one row of penultimate activations per state, σ₁ ≥ … ≥ σ_min(N, D) are its singular values. Φ
is taken as it is and not centred: a constant feature is a direction that the head can use, so it counts.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from escapevelocity.errors import require
from escapevelocity.health._arrays import as_numpy, on_host
from escapevelocity.health.measured import Measured, explain

Rank = Float[np.ndarray, "..."] | np.float64
"""float64 (...), one number per member."""

SINGLE_DIGITS = 10.0
"""A rank below it is in single digits, also where it is a mean over batches and no whole number: there the ratios of
Moalla et al. (2024, Fig. 4) fall far below 1 − ε."""
_SAFE_TO_SQUARE = (1e-100, 1e100)


def singular_values(features: Any) -> Float[np.ndarray, "... K"]:
    """Return the singular values of a feature matrix, in descending order.

    They are the square roots of the eigenvalues of the smaller Gram matrix (ΦᵀΦ or ΦΦᵀ), several times faster
    than an SVD of a tall Φ. The price is precision: forming the Gram matrix in float64 leaves an absolute
    error near √eps(float64)·σ₁ ≈ 1.5e-8·σ₁. Values below √(K·eps(float64))·σ₁ (1.2e-7·σ₁ for K = 64) cannot
    be told from rounding and are returned as 0. That lies below eps(float32)·max(N, D)·σ₁, the smallest
    value that counts towards the numerical rank of float32 features. Φ is divided by its largest |entry| if
    that is huge or tiny, so entries near 1e200 or 1e-200 neither overflow nor vanish.

    Args:
        features: Φ (..., N, D), any numpy, jax or torch array of real numbers.

    Returns:
        σ (..., K) with K = min(N, D), float64. NaN throughout for a member whose features contain NaN or
        Inf, or are so large (above about 1e306) that σ₁ exceeds float64; length 0 when N = 0.

    Raises:
        UserError: if `features` is not a real array of shape (..., N, D) with D ≥ 1.

    Example:
        >>> singular_values(np.array([[3.0, 0.0], [0.0, 4.0], [0.0, 0.0]]))
        array([4., 3.])
    """
    phi = _feature_matrix(features)
    leading, size = phi.shape[:-2], min(phi.shape[-2:])
    if size == 0:
        return np.zeros((*leading, 0))
    gram, scale = np.empty((*leading, size, size)), np.empty(leading)
    # One member at a time: its float64 copy stays in cache, where a population's would not.
    for index in np.ndindex(leading):
        gram[index], scale[index] = _scaled_gram(phi[index])
    eigenvalues = np.linalg.eigvalsh(gram)[..., ::-1]
    rounding = size * np.finfo(np.float64).eps * eigenvalues[..., :1]
    eigenvalues = np.where(eigenvalues > rounding, eigenvalues, 0.0)
    with np.errstate(over="ignore"):
        sigma = np.sqrt(eigenvalues) * scale[..., None]
    return np.where(np.isfinite(sigma[..., :1]), sigma, np.nan)


def feature_rank_pca(singular_values: Any, delta: float = 0.01) -> Rank:
    """Return the fewest directions that hold a share 1 − δ of the features' energy.

    min k with Σ_{i≤k} σ_i² ≥ (1 − δ) Σ σ_i². Yang et al. 2020 (arXiv 1909.12255), Section 2; the headline
    rank of Moalla et al. 2024 (arXiv 2405.00662). All-zero features have rank 0.

    Args:
        singular_values: σ (..., K), descending.
        delta: share of the energy that may be left out, in [0, 1).

    Returns:
        Rank (...), float64; NaN where σ is NaN or empty.

    Raises:
        UserError: if `delta` is outside [0, 1).

    Example:
        >>> float(feature_rank_pca(np.array([10.0, 2.0, 0.1])))
        2.0
    """
    return _smallest_prefix(_relative(singular_values) ** 2, delta)


def srank(singular_values: Any, delta: float = 0.01) -> Rank:
    """Return the fewest directions that hold a share 1 − δ of the sum of singular values.

    min k with Σ_{i≤k} σ_i ≥ (1 − δ) Σ σ_i. Kumar et al. 2021 (arXiv 2010.14498), Section 3. This is not the
    stable rank, see `stable_rank`. All-zero features have rank 0.

    Args:
        singular_values: σ (..., K), descending.
        delta: share of the sum that may be left out, in [0, 1).

    Returns:
        Rank (...), float64; NaN where σ is NaN or empty.

    Raises:
        UserError: if `delta` is outside [0, 1).

    Example:
        >>> float(srank(np.array([10.0, 1.0, 0.1])))
        2.0
    """
    return _smallest_prefix(_relative(singular_values), delta)


def effective_rank(singular_values: Any) -> Rank:
    """Return exp of the entropy of the normalised singular values, a rank that varies continuously.

    exp(−Σ p_i log p_i) with p_i = σ_i / Σσ and 0·log 0 = 0. Roy & Vetterli 2007, Section 2. All-zero
    features have rank 0.

    Args:
        singular_values: σ (..., K).

    Returns:
        Rank (...) in {0} ∪ [1, K], float64; NaN where σ is NaN or empty.

    Example:
        >>> round(float(effective_rank(np.array([2.0, 2.0, 0.0]))), 9)
        2.0
    """
    sigma = _relative(singular_values)
    total = sigma.sum(axis=-1, keepdims=True)
    p = sigma / np.where(total > 0, total, 1.0)
    entropy = -(p * np.log(np.where(p > 0, p, 1.0))).sum(axis=-1)
    return _defined(sigma, np.where(total[..., 0] == 0, 0.0, np.exp(entropy)))


def stable_rank(singular_values: Any) -> Rank:
    """Return ‖Φ‖_F² / ‖Φ‖₂² = Σσ_i² / σ₁². Rudelson & Vershynin 2007. All-zero features have rank 0.

    Args:
        singular_values: σ (..., K), descending.

    Returns:
        Rank (...) in {0} ∪ [1, K], float64; NaN where σ is NaN or empty.

    Example:
        >>> float(stable_rank(np.array([2.0, 1.0])))
        1.25
    """
    sigma = _relative(singular_values)
    return _defined(sigma, (sigma**2).sum(axis=-1))


def feature_rank_lyle(singular_values: Any, n_samples: int, delta: float = 0.01) -> Rank:
    """Return how many singular values of Φ/√N exceed δ: the one rank that depends on the features' scale.

    #{σ_i / √N > δ}. Lyle et al. 2022 (arXiv 2204.09560), Equations 4 and 5.

    Args:
        singular_values: σ (..., K).
        n_samples: N, rows of Φ.
        delta: the threshold, ≥ 0, in units of a feature's root mean square.

    Returns:
        Rank (...), float64; NaN where σ is NaN or empty.

    Raises:
        UserError: if `delta` is negative or not finite.

    Example:
        >>> float(feature_rank_lyle(np.array([10.0, 0.05]), n_samples=100))
        1.0
    """
    require(bool(0 <= delta < np.inf), "delta", delta, "a finite number ≥ 0")
    sigma = np.asarray(on_host(singular_values), dtype=np.float64)
    return _defined(sigma, (sigma > delta * np.sqrt(n_samples)).sum(axis=-1))


def numerical_rank(singular_values: Any, n_samples: int, n_features: int) -> Rank:
    """Return the rank of Φ as a float32 matrix, with the tolerance of `torch.linalg.matrix_rank`.

    #{σ_i > σ₁ · max(N, D) · eps(float32)}; NumPy and MATLAB use the same rule with their own precision.

    Args:
        singular_values: σ (..., K), descending.
        n_samples: N, rows of Φ.
        n_features: D, columns of Φ.

    Returns:
        Rank (...), float64; NaN where σ is NaN or empty.

    Example:
        >>> float(numerical_rank(np.array([1.0, 1e-3, 1e-9]), n_samples=100, n_features=3))
        2.0
    """
    sigma = _relative(singular_values)
    tolerance = max(n_samples, n_features) * float(np.finfo(np.float32).eps)
    return _defined(sigma, (sigma > tolerance).sum(axis=-1))


def feature_ranks(features: Any, delta: float = 0.01) -> Measured:
    """Measure every rank of a batch of features.

    Args:
        features: Φ (..., N, D), penultimate activations; any numpy, jax or torch array.
        delta: δ of `feature_rank_pca`, `srank` and `feature_rank_lyle`, in [0, 1).

    Returns:
        `feature_rank_pca`, `effective_rank`, `srank`, `stable_rank`, `feature_rank_lyle`, `numerical_rank`,
        each (...). All are NaN, with a reason, where the features contain NaN or Inf or have no rows.

    Raises:
        UserError: if `features` has the wrong shape or type, or `delta` is outside [0, 1).

    Example:
        >>> feature_ranks(np.eye(3)).values["feature_rank_pca"]
        3.0
    """
    phi = _feature_matrix(features)
    n_samples, n_features = phi.shape[-2:]
    sigma = singular_values(phi)
    values = {
        "feature_rank_pca": feature_rank_pca(sigma, delta),
        "effective_rank": effective_rank(sigma),
        "srank": srank(sigma, delta),
        "stable_rank": stable_rank(sigma),
        "feature_rank_lyle": feature_rank_lyle(sigma, n_samples, delta),
        "numerical_rank": numerical_rank(sigma, n_samples, n_features),
    }
    if n_samples == 0:
        return explain(values, "features have no rows")
    if not np.isnan(sigma).any():
        return explain(values)
    has_nan, has_inf = np.isnan(phi).any(axis=(-2, -1)), np.isinf(phi).any(axis=(-2, -1))
    reason = np.where(
        has_nan,
        "features contain NaN",
        np.where(has_inf, "features contain Inf", "the largest singular value exceeds float64"),
    )
    return explain(values, dict.fromkeys(values, reason))


def _scaled_gram(phi: np.ndarray) -> tuple[np.ndarray, float]:
    """Return G (K, K) and c with ΦᵀΦ (or ΦΦᵀ) = c²·G, float64; zeros and NaN if Φ holds NaN or Inf."""
    n_samples, n_features = phi.shape
    largest = float(max(phi.max(), -phi.min()))
    if not np.isfinite(largest):
        return np.zeros((min(phi.shape), min(phi.shape))), np.nan
    phi = phi.astype(np.float64, copy=False)
    scale = 1.0
    if largest > 0 and not _SAFE_TO_SQUARE[0] < largest < _SAFE_TO_SQUARE[1]:
        scale = largest
        phi = phi / scale
    return (phi.T @ phi if n_features <= n_samples else phi @ phi.T), scale


def _feature_matrix(features: Any) -> np.ndarray:
    phi = as_numpy(features, "features", min_ndim=2)
    require(phi.shape[-1] > 0, "features.shape", phi.shape, "(..., N, D) with at least one feature, D ≥ 1")
    return phi


def _relative(singular_values: Any) -> np.ndarray:
    """Return σ/σ₁, whose squares can neither overflow nor vanish."""
    sigma = np.asarray(on_host(singular_values), dtype=np.float64)
    first = sigma[..., :1]
    return sigma / np.where(first == 0, 1.0, first)


def _smallest_prefix(weights: np.ndarray, delta: float) -> Rank:
    """Return min k with Σ_{i≤k} w_i ≥ (1 − δ) Σ w_i, and 0 if all w are 0."""
    require(bool(0 <= delta < 1), "delta", delta, "in [0, 1)")
    cumulative = weights.cumsum(axis=-1)
    total = cumulative[..., -1:]
    below = (cumulative < (1 - delta) * total).sum(axis=-1)
    return _defined(weights, np.where((weights > 0).any(axis=-1), below + 1, 0))


def _defined(sigma: np.ndarray, rank: np.ndarray | np.generic) -> Rank:
    """Return `rank` as float64, NaN where there were no singular values to measure."""
    if sigma.shape[-1] == 0:
        return np.full(sigma.shape[:-1], np.nan)[()]
    return np.where(np.isnan(sigma).any(axis=-1), np.nan, rank)[()]
