"""Which positive and which negative an anchor gets: every image of a batch is an anchor, all are served at once.

Each sampler gives the logarithms of weights (anchors × candidates), −∞ where a candidate is out of the question; one
number from [0, 1) per anchor then picks a candidate. Weights stay logarithms until each row's largest is taken off, so
that a row whose weights are all tiny is as good as any other.

Every class of a batch needs two images, and a batch two classes (`LearnerConfig` sees to it).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Int32, Key

from escapevelocity.errors import UserError, require
from escapevelocity.metric_learning.config import SamplerConfig

DISTANCE_CUTOFF = 0.5
"""Distance weighting treats nearer candidates as if they were this far away (Wu et al. 2017, their code)."""

NONZERO_LOSS_CUTOFF = 1.4
"""It leaves farther candidates out, whose loss is mostly 0 (likewise)."""

PerPair = Float[Array, "anchors candidates"]
Candidates = Bool[Array, "anchors candidates"]


class Triplets(NamedTuple):
    """Positive and negative of every anchor, as positions in the batch; the anchors are 0, 1, 2, …"""

    positives: Int32[Array, " anchors"]
    negatives: Int32[Array, " anchors"]


def sample_triplets(
    config: SamplerConfig,
    key: Key[Array, ""],
    distances: PerPair,
    labels: Int[Array, " anchors"],
    masses: Float[Array, " bins"],
    margin: float,
    embedding_dim: int,
    squared: bool = False,
) -> Triplets:
    """Draw a positive, uniformly among the others of the anchor's class, and a negative by the sampler.

    Args:
        config: which sampler; "curriculum" draws as "adaptive" does, from the masses that it is given.
        key: random key.
        distances: Euclidean, between all images of the batch, 0 on the diagonal.
        labels: class of each image.
        masses: un-normalised masses of the bins; samplers other than those two do not read them.
        margin: of the loss, for "semihard".
        embedding_dim: n, for "distance".
        squared: whether the loss takes squared distances, for "semihard".
    """
    to_positive, to_negative = jax.random.split(key)
    same = labels[:, None] == labels[None, :]
    itself = jnp.eye(len(labels), dtype=bool)
    positives = draw(to_positive, random_weights(same & ~itself, distances.dtype))
    if config.sampler in ("adaptive", "curriculum"):
        candidates = jnp.ones_like(same) if config.self_regularisation else ~same
        weights = adaptive_weights(distances, candidates, masses, config.low, config.high)
    elif config.sampler == "semihard":
        compared = distances * distances if squared else distances
        to_anchor = jnp.take_along_axis(compared, positives[:, None], axis=1)[:, 0]
        weights = semihard_weights(compared, ~same, to_anchor, margin)
    elif config.sampler == "hard":
        weights = hard_weights(distances, ~same)
    elif config.sampler == "distance":
        weights = distance_weights(distances, ~same, embedding_dim)
    else:
        weights = random_weights(~same, distances.dtype)
    return Triplets(positives, draw(to_negative, weights))


def random_weights(candidates: Candidates, dtype: jnp.dtype) -> PerPair:
    """Every candidate alike."""
    return jnp.where(candidates, jnp.zeros((), dtype), -jnp.inf)


def hard_weights(distances: PerPair, candidates: Candidates) -> PerPair:
    """The nearest candidate of each anchor; several at the same distance alike."""
    nearest = jnp.min(jnp.where(candidates, distances, jnp.inf), axis=1, keepdims=True)
    return random_weights(candidates & (distances == nearest), distances.dtype)


def semihard_weights(
    distances: PerPair,
    candidates: Candidates,
    positive: Float[Array, " anchors"],
    margin: float,
) -> PerPair:
    """Candidates with D_ap < D_an < D_ap + α alike; of an anchor that has none, all of its candidates.

    Source: Schroff et al. 2015 (arXiv 1503.03832), Section 3.2. There distances are squared, as in the triplet loss;
    with the margin loss they are not, as it takes them. So the negatives are those whose loss lies between 0 and α.
    Where none qualifies, PADS's code too draws among all.

    Args:
        distances: D between all images, or D², as the loss has it.
        candidates: which may be drawn.
        positive: D_ap of each anchor's positive.
        margin: α.
    """
    harder = distances > positive[:, None]
    qualified = candidates & harder & (distances < positive[:, None] + margin)
    return _or_all(random_weights(qualified, distances.dtype), candidates)


def distance_weights(distances: PerPair, candidates: Candidates, embedding_dim: int) -> PerPair:
    """1/q(d), the inverse density of distances between random points on the sphere of n dimensions.

    log w = −(n−2)·log d − (n−3)/2·log(1 − d²/4). Distances below 0.5 count as 0.5; candidates from 1.4 on get no
    weight; an anchor without any other draws among all of its candidates.

    Source: Wu et al. 2017 (arXiv 1706.07567), Section 4, eq. 3; the cutoffs are those of the authors' code.
    """
    clipped = jnp.clip(distances, DISTANCE_CUTOFF, NONZERO_LOSS_CUTOFF)
    n = embedding_dim
    log_weights = (2 - n) * jnp.log(clipped) - (n - 3) / 2 * jnp.log1p(-(clipped**2) / 4)
    near = candidates & (distances < NONZERO_LOSS_CUTOFF)
    return _or_all(jnp.where(near, log_weights, -jnp.inf), candidates)


def adaptive_weights(
    distances: PerPair,
    candidates: Candidates,
    masses: Float[Array, " bins"],
    low: float,
    high: float,
) -> PerPair:
    """The mass of the bin that a candidate's distance lies in (Roth et al. 2020, arXiv 2003.11113, and its code).

    A bin is thus drawn in proportion to its mass times its candidates. An anchor all of whose candidates lie in bins
    with a mass of 0 draws among all of them.

    Args:
        distances: between all images.
        candidates: which may be drawn; with self-regularisation positives and the anchor itself are among them.
        masses: un-normalised, at least 0.
        low: lower edge of the first bin.
        high: upper edge of the last.
    """
    log_masses = jnp.log(masses)[bins_of(distances, len(masses), low, high)]
    return _or_all(jnp.where(candidates, log_masses, -jnp.inf), candidates)


def bins_of(distances: Float[Array, "*shape"], bins: int, low: float, high: float) -> Int32[Array, "*shape"]:
    """Number of the bin that a distance lies in, of equal ones on [low, high].

    An edge belongs to the bin below it, as in PADS's code; nearer distances than `low` count to the first bin, farther
    ones than `high` to the last.

    Example:
        >>> import jax.numpy as jnp
        >>> print(bins_of(jnp.array([0.0, 0.5, 0.75, 1.0, 2.0]), 2, 0.5, 1.0))
        [0 0 0 1 1]
    """
    place = jnp.ceil((distances - low) * (bins / (high - low))) - 1
    return jnp.clip(place, 0, bins - 1).astype(jnp.int32)


def draw(key: Key[Array, ""], log_weights: PerPair) -> Int32[Array, " anchors"]:
    """Draw one candidate for every anchor, in proportion to its weight; one of weight 0 never.

    In float32, shares of a row below 2⁻²³, one in eight million, are not told from one another.

    Args:
        key: random key.
        log_weights: −∞ for a weight of 0; each row has another one.
    """
    largest = jnp.max(log_weights, axis=1, keepdims=True)
    weights = jnp.exp(log_weights - largest)
    # A running sum in parallel need not rise where a weight is 0, and may not even fall: those places are left out.
    upto = jnp.where(weights > 0, jnp.cumsum(weights, axis=1), -1)
    mark = jax.random.uniform(key, (len(weights), 1), weights.dtype) * jnp.max(upto, axis=1, keepdims=True)
    return jnp.argmax(upto > mark, axis=1).astype(jnp.int32)


def require_masses(masses: Float[np.ndarray, "..."] | Float[Array, "..."], config: SamplerConfig) -> None:
    """Refuse masses that no negative can be drawn by; to be called outside of compiled programs.

    Raises:
        UserError: not one finite mass of at least 0 for each bin, or 0 throughout.
    """
    given = np.asarray(masses)
    require(given.shape == (config.bins,), "masses.shape", given.shape, f"({config.bins},), one for each bin")
    wrong = np.flatnonzero(~(np.isfinite(given) & (given >= 0)))
    if len(wrong):
        raise UserError(f"masses[{wrong[0]}] = {given[wrong[0]]:g}: must be a finite number of at least 0")
    require(bool((given > 0).any()), "masses", 0.0, "above 0 in at least one bin; all are 0")


def _or_all(log_weights: PerPair, candidates: Candidates) -> PerPair:
    """Rows without any weight fall back to every candidate alike."""
    none = jnp.all(log_weights == -jnp.inf, axis=1, keepdims=True)
    return jnp.where(none, random_weights(candidates, log_weights.dtype), log_weights)
