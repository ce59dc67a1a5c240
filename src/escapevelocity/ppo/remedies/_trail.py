"""What several remedies need: means over the steps of a batch that were made, and a check of the network."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from escapevelocity.errors import UserError
from escapevelocity.ppo.config import PPOSpec


def applied_mean(numbers: Float[Array, "..."]) -> Float[Array, ""]:
    """Mean over the minibatches whose step was applied (the others are NaN); NaN where there was none."""
    return jnp.mean(numbers, where=~jnp.isnan(numbers))


def require_hidden_layers(spec: PPOSpec, remedy: str) -> None:
    """Raise `UserError` for a remedy of hidden layers on a network that has none."""
    if not spec.network.hidden and spec.network.convolutions == "none":
        raise UserError(
            f"remedy = {remedy!r}: acts on hidden layers, and the network has none; give --hidden, such as 64 64"
        )
