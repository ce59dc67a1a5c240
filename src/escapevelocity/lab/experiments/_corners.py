"""How long runs sit in a wrong corner until they are solved."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from escapevelocity.lab.evaluation import Evaluation
from escapevelocity.lab.experiments._bandits import Observer

CORNER = 0.9
"""A policy is in a wrong corner, a well, while one wrong action holds more than this."""


class Notes(NamedTuple):
    """What is noted about each run, (B,).

    Attributes:
        steps: updates until the sub-optimality was below the tolerance; −1 while it is not.
        in_corner: how many of the unsolved policies were in a wrong corner.
        lowest: the smallest π(a*) until then.
        early_lowest: the smallest π(a*) of the first updates.
    """

    steps: Array
    in_corner: Array
    lowest: Array
    early_lowest: Array


def observer(tolerance: float, early_steps: int) -> Observer:
    """Notes when a run is solved, and what it did until then."""

    def first(at: Evaluation) -> Notes:
        none = jnp.zeros(at.suboptimality.shape, jnp.int64)
        return Notes(none - 1, none, at.best_prob[0], at.best_prob[0])

    def see(notes: Notes, step: Array, at: Evaluation, flips: Array) -> Notes:
        del flips
        best = at.best_prob[0]
        unsolved = (notes.steps < 0) & ~(at.suboptimality < tolerance)
        # The likeliest action is a wrong one, as the best has less than it could then have.
        in_corner = unsolved & (jnp.max(at.probs, axis=0) > CORNER) & (best < 1 - CORNER)
        just_solved = (notes.steps < 0) & (at.suboptimality < tolerance)
        return Notes(
            jnp.where(just_solved, step, notes.steps),
            jnp.where(in_corner, notes.in_corner + 1, notes.in_corner),
            jnp.where(unsolved, jnp.minimum(notes.lowest, best), notes.lowest),
            jnp.where(step <= early_steps, jnp.minimum(notes.early_lowest, best), notes.early_lowest),
        )

    return Observer(first, see, lambda notes: notes.steps >= 0)
