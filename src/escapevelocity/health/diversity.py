"""How much a policy, a value function or a layer tells states apart, and how far an update moved it.

Array API functions: NumPy, JAX (also under `jax.jit`) and torch arrays in, the same kind out. Spreads are
sample statistics (ddof 1) throughout, so a batch of one state has none: NaN.
"""

from typing import Any, NamedTuple

from escapevelocity.errors import UserError
from escapevelocity.health._arrays import all_nan, floating, quiet, scaled_to_one, squared_row_norms


class FeatureChange(NamedTuple):
    """How far the features of one batch moved.

    Attributes:
        l2: mean squared difference over states *and units* (...), the squared unit of the features.
        cosine: mean over states of 1 − cos(old, new) (...), in 0..2.
    """

    l2: Any
    cosine: Any


@quiet
def policy_variance(distribution_parameters: Any) -> Any:
    """Return the variance across states of what the policy outputs, averaged over the outputs.

    Moalla et al. 2024 (arXiv 2405.00662), Figure 2: zero variance together with high entropy is the mark of a
    collapsed policy, which does the same in every state.

    Args:
        distribution_parameters: (..., N, A): action probabilities for a categorical policy; means and
            standard deviations, concatenated, for a continuous one.

    Returns:
        Variance (...), ddof 1, in the squared unit of the parameters; NaN where an entry is NaN or N < 2.

    Raises:
        UserError: if the array has the wrong shape or type.

    Example:
        >>> import numpy as np
        >>> float(policy_variance(np.array([[1.0, 0.0], [0.0, 1.0]])))
        0.5
    """
    parameters, xp = floating(distribution_parameters, "distribution_parameters", min_ndim=2)
    if parameters.shape[-2] < 2:
        return all_nan(parameters, (-2, -1), xp)
    return xp.mean(xp.var(parameters, axis=-2, correction=1), axis=-1)


@quiet
def value_std(values: Any) -> Any:
    """Return the standard deviation (ddof 1, as Moalla et al.'s code) of the critic's values across states.

    Args:
        values: predicted returns (..., N).

    Returns:
        Standard deviation (...) in the unit of the return; NaN where a value is NaN or N < 2.

    Raises:
        UserError: if the array has the wrong shape or type.

    Example:
        >>> import numpy as np
        >>> float(value_std(np.array([1.0, 2.0, 3.0])))
        1.0
    """
    values, xp = floating(values, "values", min_ndim=1)
    if values.shape[-1] < 2:
        return all_nan(values, -1, xp)
    return xp.std(values, axis=-1, correction=1)


@quiet
def feature_change(old: Any, new: Any) -> FeatureChange:
    """Return how far the features (or pre-activations) of the same states moved in an update.

    Moalla et al. 2024 (arXiv 2405.00662); the squared distance without its coefficient is their PFO penalty.

    Args:
        old: features before (..., N, D).
        new: features of the same states after (..., N, D).

    Returns:
        `l2` and `cosine`, each (...); NaN where an entry is NaN or N = 0. Two zero vectors have cosine
        distance 0 (nothing moved), a zero and a non-zero vector 1 (no direction in common). A vector counts
        as zero when its square, relative to the largest entry, vanishes (1e-22 of it in float32).

    Raises:
        UserError: if an array has the wrong shape or type, or the shapes differ.

    Example:
        >>> import numpy as np
        >>> change = feature_change(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]))
        >>> float(change.l2), float(change.cosine)
        (1.0, 1.0)
    """
    old, xp = floating(old, "old", min_ndim=2)
    new, _ = floating(new, "new", min_ndim=2)
    if old.shape != new.shape:
        raise UserError(f"new has shape {tuple(new.shape)}: must be the shape of old, {tuple(old.shape)}")
    if old.shape[-2] == 0:
        undefined = all_nan(old, (-2, -1), xp)
        return FeatureChange(undefined, undefined)
    l2 = xp.mean(squared_row_norms(new - old, xp), axis=-1) / old.shape[-1]
    old_unit, old_is_zero = _unit_rows(old, xp)
    new_unit, new_is_zero = _unit_rows(new, xp)
    # |a − b|² / 2 of unit vectors is 1 − a·b, without the cancellation that swallows small angles.
    distance = squared_row_norms(new_unit - old_unit, xp) / 2
    distance = xp.where(old_is_zero ^ new_is_zero, xp.ones_like(distance), distance)
    return FeatureChange(l2, xp.mean(distance, axis=-1))


def _unit_rows(x: Any, xp: Any) -> tuple[Any, Any]:
    """Return the rows of (..., N, D) at length 1 (a zero row stays 0), and which rows are 0 (..., N)."""
    scaled, _ = scaled_to_one(x, xp)
    length = xp.sqrt(squared_row_norms(scaled, xp))
    is_zero = length == 0
    return scaled / xp.where(is_zero, xp.ones_like(length), length)[..., None], is_zero
