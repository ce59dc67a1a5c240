"""One-step problems: bandits, contextual bandits, and classification seen as either.

Rewards are (K,) for a bandit and (K, S) for S contexts; policies are (K, B) and (K, S, B), starts last.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from escapevelocity.errors import UserError, require
from escapevelocity.health.gravity import Integer, python_number
from escapevelocity.lab._float64 import float64_array
from escapevelocity.lab.evaluation import Evaluation, exact


class Bandit(eqx.Module):
    """A bandit with known rewards, or S of them side by side (a contextual bandit).

    Attributes:
        rewards: r(a) of shape (K,), or r(a|s) of shape (K, S).
        weights: how often each context comes, shape (S,), sums to one; None for a plain bandit.

    Example:
        >>> bandit = Bandit([0.75, 0.25, 0.25])
        >>> print(bandit.gap, bandit.policy_shape)
        0.5 (3,)
    """

    rewards: np.ndarray
    weights: np.ndarray | None

    def __init__(self, rewards: Any, weights: Any = None):
        """Make the problem.

        Args:
            rewards: finite numbers, (K,) or (K, S), K ≥ 2.
            weights: probabilities of the contexts (S,); uniform unless given. Only with (K, S) rewards.

        Raises:
            UserError: on rewards or weights that are not finite, of another shape, or no probabilities.
        """
        self.rewards = float64_array(rewards, "rewards", (1, 2))
        require(len(self.rewards) >= 2, "rewards", self.rewards.shape, "of at least two actions")
        if self.rewards.ndim == 1:
            require(weights is None, "weights", weights, "None for a bandit without contexts")
            self.weights = None
            return
        contexts = self.rewards.shape[1]
        weights = np.full(contexts, 1 / contexts) if weights is None else weights
        self.weights = float64_array(weights, "weights", 1)
        if self.weights.shape != (contexts,):
            raise UserError(f"weights has shape {self.weights.shape}: must be ({contexts},), one per context")
        require_simplex(self.weights[:, None], "weights")

    @property
    def policy_shape(self) -> tuple[int, ...]:
        """(K,) or (K, S)."""
        return tuple(self.rewards.shape)

    @property
    def gap(self) -> np.ndarray:
        """Δ = best minus second-best distinct reward, per context: shape () or (S,); 0 if all are equal."""
        rewards = np.asarray(self.rewards)
        best = rewards.max(axis=0)
        others = np.where(rewards < best, rewards, -np.inf).max(axis=0)
        return np.where(np.isfinite(others), best - others, 0.0)

    def evaluate(self, probs: Array, step: Any = 0, bonus: Array | None = None) -> Evaluation:
        """Evaluate policies (K, B) or (K, S, B) exactly; `step` is ignored."""
        del step
        rewards = jnp.asarray(self.rewards)[..., None]
        return evaluate_rewards(probs, rewards, self.weights, bonus)


def evaluate_rewards(
    probs: Array, rewards: Array, weights: Any, bonus: Array | None, best: Array | None = None
) -> Evaluation:
    """Evaluate policies (K, ..., B) under rewards (K, ..., 1); `best` marks a*, those of highest reward."""
    shortfall = jnp.max(rewards, axis=0, keepdims=True) - rewards
    best = jnp.where(shortfall == 0, 1.0, 0.0) if best is None else best
    # Σ π (r* − r), not r* − Σ π r: no cancellation, so that sub-optimality is exact down to 1e-300.
    regret = jnp.sum(probs * shortfall, axis=0, keepdims=True)
    if weights is None:
        visitation, overall = jnp.ones((1,) * probs.ndim, probs.dtype), regret[0]
    else:
        visitation = jnp.asarray(weights)[None, :, None]
        overall = jnp.sum(visitation * regret, axis=(0, 1))
    action_values = rewards if bonus is None else rewards + bonus
    return exact(probs, action_values, visitation, best, regret[0], overall)


def classification(labels: Any, num_classes: Integer) -> Bandit:
    """Classification as a contextual bandit: one context per example, reward 1 for its label, else 0.

    Its value is the expected accuracy of a classifier that samples its answer.

    Args:
        labels: integers 0..num_classes − 1, shape (S,).
        num_classes: K ≥ 2.

    Raises:
        UserError: on labels outside the range.
    """
    return Bandit(one_hot_labels(labels, num_classes))


class CrossEntropyProblem(eqx.Module):
    """Classification by cross-entropy: maximise (1/S) Σ_s log π(label_s | s).

    In the terms of policy gradients it is a contextual bandit whose action values move with the policy:
    Q(s, a) = 1{a = label}/π(a|s), so A = Q − 1, and softmax's gradient π·A is the familiar y − π.

    Attributes:
        targets: one-hot labels, (K, S).
    """

    targets: np.ndarray

    def __init__(self, labels: Any, num_classes: Integer):
        """Make the problem from labels (S,) in 0..num_classes − 1."""
        self.targets = one_hot_labels(labels, num_classes)

    @property
    def policy_shape(self) -> tuple[int, ...]:
        """(K, S)."""
        return tuple(self.targets.shape)

    def evaluate(self, probs: Array, step: Any = 0, bonus: Array | None = None) -> Evaluation:
        """Evaluate policies (K, S, B); sub-optimality is the loss KL(y‖π) = −log π(label)."""
        del step
        targets = jnp.asarray(self.targets)[..., None]
        # 1e-300: at π(label) = 0 softmax's π·A is still y − π up to rounding, and nothing divides by zero.
        label_prob = jnp.sum(targets * probs, axis=0, keepdims=True)
        action_values = targets / jnp.maximum(label_prob, 1e-300)
        if bonus is not None:
            action_values = action_values + bonus
        loss = -jnp.log(jnp.maximum(label_prob, 1e-300))[0]
        visitation = jnp.full((1, 1, 1), 1 / self.targets.shape[1], probs.dtype)
        return exact(probs, action_values, visitation, targets, loss, jnp.mean(loss, axis=0))


def one_hot_labels(labels: Any, num_classes: Integer) -> Float[np.ndarray, "classes examples"]:
    """One-hot columns for labels (S,), or `UserError`."""
    num_classes = _require_actions(num_classes, "num_classes")
    numbers = float64_array(labels, "labels", 1)
    in_range = (numbers >= 0) & (numbers < num_classes) & (numbers == np.round(numbers))
    if not in_range.all():
        where = int(np.argmin(in_range))
        raise UserError(f"labels[{where}] = {numbers[where]}: must be an integer in 0..{num_classes - 1}")
    return np.eye(num_classes)[:, numbers.astype(int)]


def corner_starts(
    num_actions: Integer, corner: Integer, other_probs: Any
) -> Float[np.ndarray, "actions starts"]:
    """Starts in the well: probability π₁ on every action but `corner`, which has the rest.

    Args:
        num_actions: K ≥ 2.
        corner: the wrong action that holds the mass.
        other_probs: π₁ of each start, (B,), in (0, 1/(K − 1)).

    Returns:
        Policies (K, B).

    Example:
        >>> print(corner_starts(3, 2, [0.1, 0.01]))
        [[0.1  0.01]
         [0.1  0.01]
         [0.8  0.98]]
    """
    num_actions = _require_actions(num_actions, "num_actions")
    corner = require_action(corner, num_actions, "corner")
    small = float64_array(other_probs, "other_probs", 1)
    limit = 1 / (num_actions - 1)
    for i, prob in enumerate(small):
        require(bool(0 < prob < limit), f"other_probs[{i}]", float(prob), f"in (0, {limit:g})")
    starts = np.tile(small, (num_actions, 1))
    starts[corner] = 1 - (num_actions - 1) * small
    return starts


def require_action(value: Any, num_actions: int, field: str, what: str = "an action") -> int:
    """Return `value` as an integer of Python, or raise `UserError` unless it is one in 0..K − 1."""
    value = python_number(value)
    # 2.0 and True are in that range for Python, and no index of an array.
    is_action = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < num_actions
    require(is_action, field, value, f"{what} in 0..{num_actions - 1}")
    return value


def _require_actions(value: Any, field: str) -> int:
    value = python_number(value)
    require(isinstance(value, int) and value >= 2, field, value, "an integer ≥ 2")
    return value


def require_simplex(probs: np.ndarray, field: str) -> None:
    """Raise `UserError` unless every column (first axis) holds probabilities that sum to one within 1e-9."""
    if (probs < 0).any():
        where = tuple(int(i) for i in np.argwhere(probs < 0)[0])
        raise UserError(f"{field}{list(where)} = {probs[where]}: must be a probability, in [0, 1]")
    totals = probs.sum(axis=0)
    if (np.abs(totals - 1) > 1e-9).any():
        worst = totals.flat[int(np.argmax(np.abs(totals - 1)))]
        raise UserError(f"{field} sums to {worst:.12g}: must sum to 1 over the actions; divide by the sum")


def checked_starts(problem: Any, starts: Any) -> np.ndarray:
    """Return starts (*policy_shape, B) as float64 policies that fit `problem`, or raise `UserError`."""
    shape = problem.policy_shape
    probs = float64_array(starts, "starts", len(shape) + 1)
    if probs.shape[:-1] != shape:
        raise UserError(f"starts has shape {probs.shape}: must be {(*shape, 'B')}, one policy per start")
    require_simplex(probs, "starts")
    return probs
