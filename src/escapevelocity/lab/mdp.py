"""Tabular Markov decision processes, evaluated exactly by linear solves; dense, or sparse for many states.

Transitions are P(s'|s, a); an episode's end is an absorbing state without reward. Everything else follows
from two solves with the matrix I − γP_π: values forwards, discounted visitation transposed.
"""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import lu_factor, lu_solve
from jax.scipy.sparse.linalg import bicgstab
from jaxtyping import Array, Float

from escapevelocity.errors import UserError, require
from escapevelocity.health.gravity import Number, python_number
from escapevelocity.lab._float64 import float64_array, in_float64
from escapevelocity.lab.evaluation import Evaluation, exact
from escapevelocity.lab.problems import require_simplex

_TIE = 1e-10
"""Actions within this share of the largest value count as equally good: solves are accurate to about 1e-13."""


class TabularMDP(eqx.Module):
    """A finite MDP whose policies are evaluated exactly; made by `dense_mdp` or `sparse_mdp`.

    Attributes:
        rewards: r(s, a), shape (A, S).
        gamma: discount γ in [0, 1).
        start: μ(s), shape (S,).
        optimal_values: V*(s), shape (S,).
        best_actions: 1 where an action is optimal, shape (A, S).
        shortfall: V*(s) − Q*(s, a) ≥ 0, shape (A, S), 0 where optimal.
    """

    rewards: eqx.AbstractVar[np.ndarray]
    gamma: eqx.AbstractVar[float]
    start: eqx.AbstractVar[np.ndarray]
    optimal_values: eqx.AbstractVar[np.ndarray]
    best_actions: eqx.AbstractVar[np.ndarray]
    shortfall: eqx.AbstractVar[np.ndarray]

    @abstractmethod
    def expected_next(self, values: Float[Array, " states"]) -> Float[Array, "actions states"]:
        """Σ_s' P(s'|s, a) V(s')."""

    @abstractmethod
    def solve(
        self, probs: Float[Array, "actions states"], targets: Float[Array, "states columns"], start: Array
    ) -> tuple[Float[Array, "states columns"], Float[Array, " states"]]:
        """Return (I − γP_π)⁻¹ targets and (I − γP_πᵀ)⁻¹ start."""

    @property
    def policy_shape(self) -> tuple[int, ...]:
        """(A, S)."""
        return tuple(self.rewards.shape)

    @property
    def optimal_value(self) -> float:
        """V*(μ)."""
        return float(self.start @ self.optimal_values)

    def evaluate(self, probs: Array, step: Any = 0, bonus: Array | None = None) -> Evaluation:
        """Evaluate policies (A, S, B) exactly; `step` is ignored, `bonus` (A, S, B) is added to the rewards."""
        del step
        rewards = jnp.asarray(self.rewards)[..., None] + (jnp.zeros_like(probs) if bonus is None else bonus)
        shortfall = jnp.asarray(self.shortfall)[..., None]
        # Performance difference (Kakade & Langford 2002): V* − V^π = (I − γP_π)⁻¹ Σ_a π (V* − Q*), free of
        # the cancellation in V* − V^π near the optimum.
        targets = jnp.stack([jnp.sum(probs * rewards, axis=0), jnp.sum(probs * shortfall, axis=0)], axis=1)
        start = jnp.asarray(self.start)
        each = jax.vmap(lambda p, t: self.solve(p, t, start), in_axes=-1, out_axes=-1)
        solved, visitation = each(probs, targets)
        expected = jax.vmap(self.expected_next, in_axes=-1, out_axes=-1)(solved[:, 0])
        action_values = rewards + self.gamma * expected
        suboptimality = jnp.sum(start[:, None] * solved[:, 1], axis=0)
        best = jnp.asarray(self.best_actions)[..., None]
        return exact(probs, action_values, visitation[None], best, solved[:, 1], suboptimality)


class _DenseMDP(TabularMDP):
    rewards: np.ndarray
    gamma: float
    start: np.ndarray
    optimal_values: np.ndarray
    best_actions: np.ndarray
    shortfall: np.ndarray
    transitions: np.ndarray

    def expected_next(self, values: Array) -> Array:
        return jnp.asarray(self.transitions) @ values

    def solve(self, probs: Array, targets: Array, start: Array) -> tuple[Array, Array]:
        p_policy = jnp.einsum("as,ast->st", probs, jnp.asarray(self.transitions))
        factors = lu_factor(jnp.eye(len(start), dtype=probs.dtype) - self.gamma * p_policy)
        return lu_solve(factors, targets), lu_solve(factors, start, trans=1)


class _SparseMDP(TabularMDP):
    rewards: np.ndarray
    gamma: float
    start: np.ndarray
    optimal_values: np.ndarray
    best_actions: np.ndarray
    shortfall: np.ndarray
    successors: np.ndarray
    successor_probs: np.ndarray

    def expected_next(self, values: Array) -> Array:
        return jnp.sum(jnp.asarray(self.successor_probs) * values[jnp.asarray(self.successors)], axis=-1)

    def solve(self, probs: Array, targets: Array, start: Array) -> tuple[Array, Array]:
        successors = jnp.asarray(self.successors)

        def forward(values: Array) -> Array:
            return values - self.gamma * jnp.sum(probs * self.expected_next(values), axis=0)

        def transposed(visits: Array) -> Array:
            flow = (probs * visits[None])[..., None] * jnp.asarray(self.successor_probs)
            return visits - self.gamma * jnp.zeros_like(visits).at[successors].add(flow)

        columns = [_solve_discounted(forward, targets[:, i], self.gamma) for i in range(targets.shape[1])]
        return jnp.stack(columns, axis=1), _solve_discounted(transposed, start, self.gamma)


def dense_mdp(transitions: Any, rewards: Any, gamma: Number, start: Any = None) -> TabularMDP:
    """Make an MDP from full transition matrices; right up to about a thousand states.

    Args:
        transitions: P[a, s, s'] of shape (A, S, S); every P[a, s] sums to one.
        rewards: r[a, s], expected reward, shape (A, S).
        gamma: discount in [0, 1).
        start: μ(s) of shape (S,); uniform unless given.

    Raises:
        UserError: on rows that are no probabilities, γ outside [0, 1), NaN, or shapes that do not fit.

    Example:
        >>> mdp = dense_mdp([[[1.0]], [[1.0]]], [[1.0], [0.0]], gamma=0.9)
        >>> round(mdp.optimal_value, 9)
        10.0
    """
    p = float64_array(transitions, "transitions", 3)
    if p.shape[1] != p.shape[2]:
        raise UserError(f"transitions has shape {p.shape}: must be (A, S, S)")
    _require_rows(p, "transitions")
    reward, gamma, mu = _checked(rewards, gamma, start, p.shape[:2])
    return _with_optimum(
        lambda v, best, short: _DenseMDP(reward, gamma, mu, v, best, short, p), reward, gamma
    )


def sparse_mdp(
    successors: Any, successor_probs: Any, rewards: Any, gamma: Number, start: Any = None
) -> TabularMDP:
    """Make an MDP from the N possible successors of each state and action; for up to 10⁴ states and more.

    Linear systems are solved by BiCGStab, then by fixed-point steps down to float64 rounding.

    Args:
        successors: integers s' in 0..S − 1, shape (A, S, N); a state may come twice.
        successor_probs: their probabilities, (A, S, N); sum to one over N.
        rewards: r[a, s], expected reward, shape (A, S).
        gamma: discount in [0, 1).
        start: μ(s) of shape (S,); uniform unless given.

    Raises:
        UserError: as `dense_mdp`, and on successors that are no states.
    """
    p = float64_array(successor_probs, "successor_probs", 3)
    _require_rows(p, "successor_probs")
    states = float64_array(successors, "successors", 3)
    if states.shape != p.shape:
        raise UserError(f"successors has shape {states.shape}: must be that of successor_probs, {p.shape}")
    are_states = (states >= 0) & (states < p.shape[1]) & (states == np.round(states))
    if not are_states.all():
        where = tuple(int(i) for i in np.argwhere(~are_states)[0])
        raise UserError(f"successors{list(where)} = {states[where]}: must be a state in 0..{p.shape[1] - 1}")
    reward, gamma, mu = _checked(rewards, gamma, start, p.shape[:2])
    ids = states.astype(np.int32)
    return _with_optimum(
        lambda v, best, short: _SparseMDP(reward, gamma, mu, v, best, short, ids, p), reward, gamma
    )


def _with_optimum(make: Any, rewards: np.ndarray, gamma: float | int) -> TabularMDP:
    """Find V* by policy iteration (Howard 1960) and fill it in.

    Args:
        make: (V*, best actions, shortfall) -> MDP.
        rewards: (A, S).
        gamma: discount.
    """
    num_actions, states = rewards.shape
    draft = make(np.zeros(states), np.zeros_like(rewards), np.zeros_like(rewards))
    policy = rewards.argmax(axis=0)
    for _ in range(1000):
        action_values = _action_values(draft, np.eye(num_actions)[:, policy])
        tie = _TIE * max(1.0, float(np.abs(action_values).max()))
        chosen = action_values[policy, np.arange(states)]
        better = action_values.max(axis=0) > chosen + tie
        if not better.any():
            break
        policy = np.where(better, action_values.argmax(axis=0), policy)
    else:
        raise UserError(f"gamma = {gamma}: must leave policy iteration to converge, 1000 rounds did not do")
    values = action_values.max(axis=0)
    shortfall = values - action_values
    best = shortfall <= tie
    return make(values, best.astype(np.float64), np.where(best, 0.0, shortfall))


def _solve_discounted(matrix: Any, target: Array, gamma: Any) -> Array:
    """Solve x − γPx = target for a stochastic P, given x -> x − γPx."""
    x, _ = bicgstab(matrix, target, tol=1e-12, maxiter=500)
    # BiCGStab may stop early or break down; x ← target + γPx contracts by γ from wherever it starts.
    x = jnp.where(jnp.all(jnp.isfinite(x)), x, 0)
    rounds = jnp.ceil(jnp.log(1e-17) / jnp.log(jnp.clip(gamma, 1e-17, None))).astype(jnp.int64)

    def unsolved(carry: tuple[Array, Array, Array]) -> Array:
        x, residual, done = carry
        return (jnp.max(jnp.abs(residual)) > 1e-15 * jnp.max(jnp.abs(x))) & (done < rounds)

    def improve(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        x, residual, done = carry
        x = x + residual
        return x, target - matrix(x), done + 1

    return jax.lax.while_loop(unsolved, improve, (x, target - matrix(x), jnp.zeros((), jnp.int64)))[0]


@in_float64
def _action_values(mdp: TabularMDP, probs: np.ndarray) -> Any:
    return _evaluate_one(mdp, jnp.asarray(probs))


@jax.jit
def _evaluate_one(mdp: TabularMDP, probs: Array) -> Array:
    return mdp.evaluate(probs[..., None]).action_values[..., 0]


def _require_rows(p: np.ndarray, field: str) -> None:
    if (p < 0).any():
        where = tuple(int(i) for i in np.argwhere(p < 0)[0])
        raise UserError(f"{field}{list(where)} = {p[where]}: must be a probability, in [0, 1]")
    totals = p.sum(axis=2)
    wrong = np.argwhere(np.abs(totals - 1) > 1e-9)
    if len(wrong):
        action, state = (int(i) for i in wrong[0])
        total = totals[action, state]
        raise UserError(
            f"{field}[{action}, {state}] sums to {total:.12g}: must sum to 1 over the next states"
        )


def _checked(rewards: Any, gamma: Any, start: Any, shape: tuple) -> tuple[np.ndarray, float, np.ndarray]:
    reward = float64_array(rewards, "rewards", 2)
    if reward.shape != shape:
        raise UserError(f"rewards has shape {reward.shape}: must be {shape}, one per action and state")
    gamma = python_number(gamma)
    require(isinstance(gamma, int | float) and 0 <= gamma < 1, "gamma", gamma, "a discount in [0, 1)")
    mu = float64_array(np.full(shape[1], 1 / shape[1]) if start is None else start, "start", 1)
    if mu.shape != shape[1:]:
        raise UserError(f"start has shape {mu.shape}: must be {shape[1:]}, one probability per state")
    require_simplex(mu[:, None], "start")
    return reward, float(gamma), mu
