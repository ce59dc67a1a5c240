"""The non-uniform Łojasiewicz (NŁ) inequality: how little gradient there is per unit of sub-optimality.

‖∇V‖₂ ≥ C(θ)·(V* − V), with C = π(a*)/τ for softmax and (p/‖θ‖_p)·π(a*)^{1−1/p} for escort (Mei et al. 2020,
lemmas 1 and 3). A gravity well is where C is small. With S states, for any optimal policy's visitation ρ*,

    ‖∇V‖₂ ≥ (1/√S)·min_s [C_s·ρ(s)/ρ*(s)]·(V* − V),

by Cauchy–Schwarz and the performance difference lemma (sharper than the product of minima in their theorem).
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from escapevelocity.errors import UserError
from escapevelocity.health.gravity import Number, require_exponent
from escapevelocity.lab._float64 import in_float64
from escapevelocity.lab.evaluation import Evaluation
from escapevelocity.lab.mdp import TabularMDP
from escapevelocity.lab.methods import per_start_norm, require_positive
from escapevelocity.lab.problems import Bandit, checked_starts
from escapevelocity.lab.simulate import Trajectory


class Lojasiewicz(NamedTuple):
    """Both sides of the inequality gradient_norm ≥ coefficient · suboptimality; each (B,) or (R, B).

    Attributes:
        gradient_norm: ‖∇_θ V‖₂ over all parameters.
        coefficient: C(θ).
        suboptimality: V* − V.
    """

    gradient_norm: np.ndarray
    coefficient: np.ndarray
    suboptimality: np.ndarray


@in_float64
def lojasiewicz(problem: Any, probs: Any, p: Number | None = None, temperature: Number = 1.0) -> Lojasiewicz:
    """Evaluate both sides of the NŁ inequality at policies.

    Args:
        problem: a bandit (with or without contexts) or a tabular MDP.
        probs: policies (*problem.policy_shape, B).
        p: exponent of the escort transform, taken at ‖θ(s)‖_p = 1; None for softmax.
        temperature: τ of the softmax.

    Raises:
        UserError: on policies off the simplex, p < 1, or a problem without an NŁ coefficient.

    Example:
        >>> sides = lojasiewicz(Bandit([1.0, 0.0]), [[0.5], [0.5]])
        >>> print(sides.coefficient, sides.suboptimality, sides.gradient_norm.round(4))
        [0.5] [0.5] [0.3536]
    """
    policies = jnp.asarray(checked_starts(problem, probs))
    if p is not None:
        p = require_exponent(p)
    temperature = require_positive(temperature, "temperature")
    best, visitation = _optimum(problem)
    sides = _both_sides(problem, policies, jnp.asarray(best), jnp.asarray(visitation), p, temperature)
    return Lojasiewicz(*map(np.asarray, sides))


def lojasiewicz_along(
    problem: Any, trajectory: Trajectory, p: Number | None = None, temperature: Number = 1.0
) -> Lojasiewicz:
    """Both sides of the NŁ inequality along recorded trajectories, each (R, B); see `lojasiewicz`."""
    probs = trajectory.probs  # (R, A, ..., B)
    records, starts = len(probs), probs.shape[-1]
    columns = np.moveaxis(probs, 0, -2).reshape(*probs.shape[1:-1], records * starts)
    sides = lojasiewicz(problem, columns, p, temperature)
    return Lojasiewicz(*(side.reshape(records, starts) for side in sides))


@partial(jax.jit, static_argnames=("p",))
def _both_sides(
    problem: Any,
    probs: Array,
    best: Array,
    optimal_visitation: Array,
    p: float | int | None,
    temperature: Any,
) -> tuple[Array, Array, Array]:
    at: Evaluation = problem.evaluate(probs)
    # At θ = 0 the escort has no slope, as sgn 0 = 0: with p = 1 too, where π^0 would give one.
    slope = probs / temperature if p is None else jnp.where(probs > 0, p * probs ** (1 - 1 / p), 0.0)
    gradient = at.visitation * slope * at.advantage
    norm = per_start_norm(gradient).reshape(-1)
    steepest = jnp.max(best[..., None] * slope, axis=0, keepdims=True)
    visits = optimal_visitation[None, ..., None] if probs.ndim == 3 else jnp.ones((1, 1), probs.dtype)
    visited = visits > 0
    per_state = jnp.where(visited, steepest * at.visitation / jnp.where(visited, visits, 1), jnp.inf)
    states = probs.shape[1] if probs.ndim == 3 else 1
    coefficient = jnp.min(per_state, axis=tuple(range(probs.ndim - 1))) / jnp.sqrt(states)
    return norm, coefficient, at.suboptimality


def _optimum(problem: Any) -> tuple[np.ndarray, np.ndarray]:
    """Which actions may stand for a*(s), (A, ...), and the visitation ρ* of playing them, (S,) or ()."""
    if isinstance(problem, Bandit):
        rewards = np.asarray(problem.rewards)
        best = (rewards == rewards.max(axis=0)).astype(np.float64)
        return best, np.ones(()) if problem.weights is None else np.asarray(problem.weights)
    if isinstance(problem, TabularMDP):
        # One action per state: with ties, each choice of them has its own visitation.
        first = np.eye(len(problem.best_actions))[:, np.asarray(problem.best_actions).argmax(axis=0)]
        visits = problem.evaluate(jnp.asarray(first)[..., None]).visitation[0, :, 0]
        return first, np.asarray(visits)
    raise UserError(f"problem is a {type(problem).__name__}: must be a Bandit or a TabularMDP")
