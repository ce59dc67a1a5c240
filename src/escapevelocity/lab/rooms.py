"""Four rooms with a far goal and three nearer, smaller ones: a well that an agent has to climb out of.

The map is the classic one of Sutton, Precup & Singh 1999 (104 free cells). Entering the goal or a sub-goal ends
the episode, so no state needs to remember what was visited, and with γ = 0.99 the goal is the best from every
state. Policies start on the shortest path to the nearest sub-goal.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from escapevelocity.errors import UserError, require
from escapevelocity.health.gravity import Number, python_number
from escapevelocity.lab.mdp import TabularMDP, dense_mdp

FOUR_ROOMS = """\
#############
#     #     #
#     #     #
#           #
#     #     #
#     #     #
## ####     #
#     ### ###
#     #     #
#     #     #
#           #
#     #     #
#############"""
"""Walls are #, free cells are blanks; rows are counted from the top, from 0."""

Cell = tuple[int, int]

_MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
"""North, east, south, west: the order of the actions and of ties."""


class Rooms(NamedTuple):
    """A grid world with its start policy.

    Attributes:
        mdp: the problem; actions N, E, S, W; ends are absorbing states without further reward.
        start_policy: the policy in the well, shape (A, S).
        cells: (row, column) of every state, shape (S, 2).
    """

    mdp: TabularMDP
    start_policy: Float[np.ndarray, "actions states"]
    cells: np.ndarray


def four_rooms(
    gamma: Number = 0.99,
    goal: Cell = (11, 11),
    goal_reward: float | int = 1.0,
    subgoals: tuple[Cell, ...] = ((1, 1), (1, 11), (11, 1)),
    subgoal_reward: float | int = 0.8,
    concentration: Number = 0.97,
    layout: str = FOUR_ROOMS,
) -> Rooms:
    """Make four rooms and the policy that is stuck on the nearest sub-goal.

    Args:
        gamma: discount in [0, 1). At 0.9 the nearest sub-goal is the best from two thirds of the states.
        goal: (row, column); entering it pays `goal_reward` and ends the episode.
        goal_reward: any finite number.
        subgoals: cells that pay `subgoal_reward` and end the episode; at least one.
        subgoal_reward: any finite number.
        concentration: probability of the start policy's action, in [1/4, 1].
        layout: the map, one line per row; # is a wall. The border must be walls.

    Returns:
        The MDP with a uniform start over all free cells, the start policy and the cells. In a state from
        which no sub-goal can be reached, as in the ends themselves, the start policy prefers north.

    Raises:
        UserError: if a goal is no free cell or given twice, the map is open, or a number is out of range.
    """
    concentration = python_number(concentration)
    is_share = isinstance(concentration, int | float) and 0.25 <= concentration <= 1
    require(is_share, "concentration", concentration, "in [0.25, 1]")
    cells, next_state = _grid(layout)
    states = {cell: i for i, cell in enumerate(cells)}
    require(len(subgoals) > 0, "subgoals", subgoals, "at least one cell")
    ends = [(cell[0], cell[1]) for cell in (goal, *subgoals)]
    for cell in ends:
        field = "goal" if cell == ends[0] else "subgoals"
        if cell not in states:
            raise UserError(f"{field} contains {cell}: must be free cells (row, column) of the map")
        require(ends.count(cell) == 1, field, cell, "a cell that is no other goal")
    end_states = np.array([states[cell] for cell in ends])
    pays = dict(zip(end_states.tolist(), [goal_reward] + [subgoal_reward] * len(subgoals), strict=True))

    next_state[:, end_states] = end_states
    transitions = np.eye(len(cells))[next_state]
    rewards = np.vectorize(lambda s: pays.get(int(s), 0.0), otypes=[float])(next_state)
    rewards[:, end_states] = 0.0
    towards = _first_moves(next_state, end_states[1:])
    policy = np.full(rewards.shape, (1 - concentration) / 3)
    policy[towards, np.arange(len(cells))] = concentration
    return Rooms(dense_mdp(transitions, rewards, gamma), policy, np.array(cells))


def _grid(layout: str) -> tuple[list[Cell], np.ndarray]:
    """Free cells in reading order, and the state that each move leads to (4, S); bumping stays."""
    rows = layout.splitlines()
    cells = [(i, j) for i, row in enumerate(rows) for j, mark in enumerate(row) if mark != "#"]
    require(len(cells) > 0, "layout", layout, "a map with free cells")
    states = {cell: i for i, cell in enumerate(cells)}
    next_state = np.empty((4, len(cells)), dtype=np.int64)
    for s, (i, j) in enumerate(cells):
        for action, (down, right) in enumerate(_MOVES):
            row, column = i + down, j + right
            if not (0 <= row < len(rows) and 0 <= column < len(rows[row])):
                raise UserError(f"layout is open at row {i}, column {j}: must have a wall around it")
            next_state[action, s] = states.get((row, column), s)
    return cells, next_state


def _first_moves(next_state: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The first action, in the order of actions, on a shortest path from each state to the nearest target."""
    distance = np.full(next_state.shape[1], np.inf)
    distance[targets] = 0
    # Bellman-Ford: absorbing ends keep their own distance, so that no path leads through another end.
    for _ in range(next_state.shape[1]):
        distance = np.minimum(distance, 1 + distance[next_state].min(axis=0))
    return distance[next_state].argmin(axis=0)
