"""Policies from parameters and back, with actions on the first axis (the lab's layout, see `evaluation`)."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from escapevelocity.policy import FSoftargmax

_SMALLEST = 1e-300


class Transform(NamedTuple):
    """The pair policy -> θ (one of many) and θ -> policy, along axis 0."""

    parameters: Callable[[Array], Array]
    probs: Callable[[Array], Array]


def softmax(temperature: float | int = 1.0) -> Transform:
    """π ∝ e^{θ/τ}; the parameters are mean-centred, with probabilities of 0 taken as 1e-300."""

    def parameters(probs: Array) -> Array:
        theta = temperature * jnp.log(jnp.maximum(probs, _SMALLEST))
        return theta - jnp.mean(theta, axis=0, keepdims=True)

    def probs(theta: Array) -> Array:
        return jax.nn.softmax(theta / temperature, axis=0)

    return Transform(parameters, probs)


def tsallis(alpha: float | int) -> Transform:
    """The f-softargmax of order α with uniform π_ref: see `policy.FSoftargmax`; the largest parameter is 0."""

    def parameters(probs: Array) -> Array:
        # Stationarity, θ(a) = f'(K·π(a)) + λ with f'(u) = (u^{α−1} − 1)/(α − 1).
        ratio = len(probs) * jnp.maximum(probs, _SMALLEST)
        theta = (ratio ** (alpha - 1) - 1) / (alpha - 1)
        return theta - jnp.max(theta, axis=0, keepdims=True)

    def probs(theta: Array) -> Array:
        family = FSoftargmax(len(theta), float(alpha))
        return jnp.moveaxis(family.probs(jnp.moveaxis(theta, 0, -1)), -1, 0)

    return Transform(parameters, probs)
