"""Garnet: random MDPs with few successors per state (Archibald, McKinnon & Thomas 1995)."""

import numpy as np

from escapevelocity.errors import require
from escapevelocity.lab.mdp import TabularMDP, dense_mdp, sparse_mdp


def garnet(
    rng: np.random.Generator,
    num_states: int,
    num_actions: int,
    branching: int,
    gamma: float | int,
    sparse: bool = False,
) -> TabularMDP:
    """Draw a random MDP G(S, A, b).

    Every (s, a) has `branching` distinct successors, drawn uniformly; their probabilities are the spacings of
    b − 1 uniform cuts of [0, 1]; rewards r(s, a) are uniform in [0, 1], as the bounds of the lab need.

    Args:
        rng: NumPy generator; the only source of randomness.
        num_states: S ≥ 1.
        num_actions: A ≥ 1.
        branching: b in 1..S.
        gamma: discount in [0, 1).
        sparse: keep successors instead of full matrices; for S beyond about 1,000.

    Raises:
        UserError: if a size is out of range.
    """
    for field, value in (("num_states", num_states), ("num_actions", num_actions)):
        require(isinstance(value, int) and value >= 1, field, value, "an integer ≥ 1")
    is_branching = isinstance(branching, int) and 1 <= branching <= num_states
    require(is_branching, "branching", branching, f"an integer in 1..{num_states} (num_states)")
    rows = num_actions * num_states
    successors = np.stack([rng.choice(num_states, branching, replace=False) for _ in range(rows)])
    cuts = np.sort(rng.random((rows, branching - 1)), axis=1)
    probs = np.diff(cuts, axis=1, prepend=0.0, append=1.0)
    rewards = rng.random((num_actions, num_states))
    shape = (num_actions, num_states, branching)
    if sparse:
        return sparse_mdp(successors.reshape(shape), probs.reshape(shape), rewards, gamma)
    transitions = np.zeros((rows, num_states))
    np.put_along_axis(transitions, successors, probs, axis=1)
    return dense_mdp(transitions.reshape(num_actions, num_states, num_states), rewards, gamma)
