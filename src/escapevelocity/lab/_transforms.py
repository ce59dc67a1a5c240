"""Policies from parameters and back, with actions on the first axis (the lab's layout, see `evaluation`)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

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
    """π = argmax ⟨π, θ⟩ − D_f(π‖uniform), f(u) = (u^α − 1 − α(u − 1))/(α(α − 1)) with 0 < α < 1.

    Stationarity, θ(a) − λ = f'(Kπ(a)), gives Kπ(a) = (1 + (1 − α)(λ − θ(a)))^{−1/(1−α)}, and λ is the root of
    Σ π = 1. With z = 1 + (1 − α)(λ − max θ) the root lies in [K^{α−1}, 1]: at 1 no term exceeds 1/K, and at
    K^{α−1} the largest term alone is 1.
    """

    def parameters(probs: Array) -> Array:
        ratio = len(probs) * jnp.maximum(probs, _SMALLEST)
        theta = (ratio ** (alpha - 1) - 1) / (alpha - 1)
        return theta - jnp.max(theta, axis=0, keepdims=True)

    def probs(theta: Array) -> Array:
        depth = (1 - alpha) * (jnp.max(theta, axis=0, keepdims=True) - theta)

        def at(z: Array) -> Array:
            return (z + depth) ** (-1 / (1 - alpha)) / len(theta)

        high = jnp.ones_like(depth[:1])
        z = bisect(lambda z: jnp.sum(at(z), axis=0, keepdims=True), high * len(theta) ** (alpha - 1.0), high)
        unnormalised = at(z)
        return unnormalised / jnp.sum(unnormalised, axis=0, keepdims=True)

    return Transform(parameters, probs)


def bisect(decreasing: Callable[[Array], Array], low: Array, high: Array) -> Array:
    """The root of decreasing(x) = 1 in [low, high], to float64 precision (60 halvings)."""

    def halve(_: Any, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) / 2
        above = decreasing(middle) > 1
        return jnp.where(above, middle, low), jnp.where(above, high, middle)

    low, high = jax.lax.fori_loop(0, 60, halve, (low, high))
    return (low + high) / 2
