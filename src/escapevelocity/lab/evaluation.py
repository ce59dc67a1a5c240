"""What an update rule is told about the policy it updates: the one face between problems and methods.

Every array of the lab has the actions on its first axis and independent starts on its last: (K, B) for a
bandit with K actions and B starts, (A, S, B) for a problem with S states. The batch comes last because sums
over actions then run over whole vectors of starts, which is several times faster on a CPU.
"""

from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
from jaxtyping import Array, Float


class Evaluation(NamedTuple):
    """A policy π, evaluated; shapes (A, ..., B), with a leading 1 where there is no action axis.

    The gradient of the value with respect to π, along the simplex, is `visitation * advantage`.

    Attributes:
        probs: π(a|s).
        action_values: Q(s, a); the reward r(a) in a bandit.
        advantage: A(s, a) = Q(s, a) − Σ_b π(b|s) Q(s, b).
        visitation: expected discounted number of visits to each state, Σ_t γ^t P(s_t = s); 1 in a bandit.
        best_prob: π(a*(s)|s), the probability of the best action, or of all of them if several tie.
        state_values: V^π(s), shape (..., B); πᵀr in a bandit.
        suboptimality: V*(μ) − V^π(μ), shape (B,); (π* − π)ᵀr in a bandit.
        state_suboptimality: V*(s) − V^π(s), shape (..., B).
        outcome: what the advantage is made of: A itself when exact; R − baseline when sampled.
        importance: 1 when exact; 1{a is the sampled action}/π(a) when sampled.
    """

    probs: Float[Array, "actions *rest"]
    action_values: Float[Array, "actions *rest"]
    advantage: Float[Array, "actions *rest"]
    visitation: Float[Array, "1 *rest"]
    best_prob: Float[Array, "1 *rest"]
    state_values: Float[Array, "*rest"]
    suboptimality: Float[Array, " starts"]
    state_suboptimality: Float[Array, "*rest"]
    outcome: Float[Array, "actions_or_1 *rest"]
    importance: Float[Array, "actions_or_1 *rest"]


class Problem(Protocol):
    """Anything with finitely many states and actions whose policies can be evaluated exactly."""

    @property
    def policy_shape(self) -> tuple[int, ...]:
        """Shape of one policy: (K,) or (A, S)."""
        ...

    def evaluate(self, probs: Array, step: Any = 0, bonus: Array | None = None) -> Evaluation:
        """Evaluate policies (*policy_shape, B); `bonus` of the same shape is added to the rewards."""
        ...


def exact(
    probs: Array,
    action_values: Array,
    visitation: Array,
    best: Array,
    state_suboptimality: Array,
    suboptimality: Array,
) -> Evaluation:
    """Fill an `Evaluation` that is not sampled; `best` is 1 at the best actions of each state, else 0."""
    state_values = jnp.sum(probs * action_values, axis=0, keepdims=True)
    # Relative to the likeliest action: with one action at almost 1, its A is a sum of small terms, and the
    # difference of Q and πᵀQ, both large, would lose it to rounding.
    likeliest = probs == jnp.max(probs, axis=0, keepdims=True)
    relative = action_values - jnp.max(jnp.where(likeliest, action_values, -jnp.inf), axis=0, keepdims=True)
    advantage = relative - jnp.sum(probs * relative, axis=0, keepdims=True)
    return Evaluation(
        probs,
        action_values,
        advantage,
        visitation,
        jnp.sum(best * probs, axis=0, keepdims=True),
        state_values[0],
        suboptimality,
        state_suboptimality,
        outcome=advantage,
        importance=jnp.ones((1,) * probs.ndim, probs.dtype),
    )
