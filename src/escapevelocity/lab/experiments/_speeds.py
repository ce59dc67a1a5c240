"""What each method does at a policy, in NumPy: the gradient of its parameters, and where it moves them.

Along θ' = η·direction the value grows at the speed η·⟨∇V, direction⟩. For plain ascent that is η·‖∇V‖², which the NŁ
inequality bounds from below; other rules keep softmax's ∇V, but not its speed. Written apart from `lab.methods`, whose
updates must show the same speeds (tested).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from escapevelocity.health.gravity import escape_time_slope
from escapevelocity.lab import (
    Method,
    delightful,
    entropy_regularised,
    epg,
    gnpg,
    inverse_probability,
    npg,
    spg,
    tsallis,
)

Vectors = np.ndarray
"""(K, B): a column per policy."""


class Rule(NamedTuple):
    """One method, as formulas.

    Attributes:
        name: as in figures.
        make: rate -> method.
        exponent: κ of C ∝ π(a*)^κ for the method's parameters.
        slope: of log T against log π₁ as π₁ → 0, by the gradient flow; 0 where T is logarithmic or bounded.
        plain: whether it ascends the plain gradient, so that ‖∇V‖² is its speed.
        gradient: (π, A) -> ∇V with respect to θ; for escort at ‖θ‖_p = 1.
        direction: (π, A, π(a*)) -> θ's direction for η = 1.
    """

    name: str
    make: Callable[[Any], Method]
    exponent: float
    slope: float
    plain: bool
    gradient: Callable[[Vectors, Vectors], Vectors]
    direction: Callable[[Vectors, Vectors, np.ndarray], Vectors]


def coefficient(rule: Rule, probs: Vectors, rewards: Vectors) -> np.ndarray:
    """‖∇V‖₂ / sub-optimality, (B,): the NŁ coefficient is a lower bound of it."""
    advantage, suboptimality, _ = _evaluate(probs, rewards)
    return np.linalg.norm(rule.gradient(probs, advantage), axis=0) / suboptimality


def speed(rule: Rule, probs: Vectors, rewards: Vectors) -> np.ndarray:
    """How fast the sub-optimality falls per update and unit of η, in the limit of small η; (B,)."""
    advantage, _, best_prob = _evaluate(probs, rewards)
    gradient = rule.gradient(probs, advantage)
    return np.sum(gradient * rule.direction(probs, advantage, best_prob), axis=0)


def rules(powers: Sequence[float], orders: Sequence[float], temperatures: Sequence[float]) -> list[Rule]:
    """SPG, EPG(p), Tsallis(α), and rules that do not follow the plain gradient, among them entropy PG(τ)."""
    found = [Rule("SPG", spg, 1.0, escape_time_slope(), True, _softmax, lambda pi, a, _: _softmax(pi, a))]
    found += [_escort(p) for p in powers]
    found += [_tsallis(alpha) for alpha in orders]
    found += [
        _other("NPG", npg, 0.0, lambda pi, a, _: a),
        _other("GNPG", gnpg, 0.0, lambda pi, a, _: _softmax(pi, a) / np.linalg.norm(_softmax(pi, a), axis=0)),
        _other("inverse-probability", inverse_probability, 0.0, lambda pi, a, best: _softmax(pi, a) / best),
    ]
    found += [_entropy(temperature) for temperature in temperatures]
    return [*found, _other("delightful PG(1)", delightful, -1.0, lambda pi, a, _: _delightful(pi, a))]


def _evaluate(probs: Vectors, rewards: Vectors) -> tuple[Vectors, np.ndarray, np.ndarray]:
    """A, (π* − π)ᵀr and π(a*)."""
    shortfall = rewards.max(axis=0) - rewards
    suboptimality = np.sum(probs * shortfall, axis=0)
    # Deep in the well A(corner) ≈ −π₁·Δ: a sum of small terms, not a difference of large ones.
    advantage = np.stack([np.sum(probs * (reward - rewards), axis=0) for reward in rewards])
    best_prob = np.take_along_axis(probs, rewards.argmax(axis=0)[None], axis=0)[0]
    return advantage, suboptimality, best_prob


def _softmax(pi: Vectors, a: Vectors) -> Vectors:
    return pi * a


def _escort(p: float) -> Rule:
    def gradient(pi: Vectors, a: Vectors) -> Vectors:
        return p * pi ** (1 - 1 / p) * a

    def direction(pi: Vectors, a: Vectors, _: np.ndarray) -> Vectors:
        return gradient(pi, a) / p**2

    slope = escape_time_slope(p)
    return Rule(f"EPG({p:g})", lambda rate: epg(rate, p), 1 - 1 / p, slope, True, gradient, direction)


def _tsallis(alpha: float) -> Rule:
    """∇V = h·(A − hᵀA/Σh), h = K^{1−α}·π^{2−α}: near the corner ∇V(a*) ∝ π(a*)^{2−α}."""

    def gradient(pi: Vectors, a: Vectors) -> Vectors:
        h = len(pi) ** (1 - alpha) * pi ** (2 - alpha)
        return h * (a - np.sum(h * a, axis=0) / np.sum(h, axis=0))

    def direction(pi: Vectors, a: Vectors, _: np.ndarray) -> Vectors:
        return gradient(pi, a)

    name, slope = f"Tsallis({alpha:g})", -(3 - 2 * alpha)
    return Rule(name, lambda rate: tsallis(rate, alpha), 2 - alpha, slope, True, gradient, direction)


def _other(name: str, make: Callable[[Any], Method], slope: float, direction: Callable) -> Rule:
    return Rule(name, make, 1.0, slope, False, _softmax, direction)


def _entropy(temperature: float) -> Rule:
    def direction(pi: Vectors, a: Vectors, _: np.ndarray) -> Vectors:
        surprise = -np.log(pi)
        return pi * (a + temperature * (surprise - np.sum(pi * surprise, axis=0)))

    return _other(
        f"entropy PG({temperature:g})", lambda rate: entropy_regularised(rate, temperature), -1.0, direction
    )


def _delightful(pi: Vectors, a: Vectors) -> Vectors:
    gated = a / (1 + np.exp(a * np.log(pi)))
    return pi * (gated - np.sum(pi * gated, axis=0))
