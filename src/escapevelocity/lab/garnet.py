"""Garnet: random MDPs with few successors per state (Archibald, McKinnon & Thomas 1995)."""

import numpy as np

from escapevelocity.errors import require
from escapevelocity.health.gravity import Integer, Number
from escapevelocity.lab.mdp import TabularMDP, dense_mdp, sparse_mdp
from escapevelocity.lab.simulate import require_count


def garnet(
    rng: np.random.Generator,
    num_states: Integer,
    num_actions: Integer,
    branching: Integer,
    gamma: Number,
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
    num_states = require_count(num_states, "num_states")
    num_actions = require_count(num_actions, "num_actions")
    branching = require_count(branching, "branching")
    require(branching <= num_states, "branching", branching, f"an integer in 1..{num_states} (num_states)")
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
