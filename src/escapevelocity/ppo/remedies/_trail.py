"""What several remedies need: means over the steps of a batch that were made."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def applied_mean(numbers: Float[Array, "..."]) -> Float[Array, ""]:
    """Mean over the minibatches whose step was applied (the others are NaN); NaN where there was none."""
    return jnp.mean(numbers, where=~jnp.isnan(numbers))
