"""Four rooms: the map, the goals, the well, all against theory.md and a search written here."""

from collections import deque

import numpy as np
import pytest

from escapevelocity.errors import UserError
from escapevelocity.lab import FOUR_ROOMS, evaluate, four_rooms, npg, spg, trajectory

ROOMS = four_rooms()
CELLS = [tuple(cell) for cell in ROOMS.cells.tolist()]
STATE = {cell: i for i, cell in enumerate(CELLS)}
ENDS = {(11, 11): 1.0, (1, 1): 0.8, (1, 11): 0.8, (11, 1): 0.8}
MOVES = [(-1, 0), (0, 1), (1, 0), (0, -1)]


def distances(target, blocked=()):
    """Breadth-first search over the free cells of the map, not through other ends."""
    found, queue = {target: 0}, deque([target])
    while queue:
        i, j = queue.popleft()
        for down, right in MOVES:
            cell = (i + down, j + right)
            if cell in STATE and cell not in found and cell not in blocked:
                found[cell] = found[(i, j)] + 1
                queue.append(cell)
    return found


def test_the_map_has_the_free_cells_and_doors_of_the_definition():
    assert len(CELLS) == 104
    rows = FOUR_ROOMS.splitlines()
    assert [len(row) for row in rows] == [13] * 13
    walls = {(i, j) for i, row in enumerate(rows) for j, mark in enumerate(row) if mark == "#"}
    border = {(i, j) for i in range(13) for j in range(13) if i in (0, 12) or j in (0, 12)}
    middle = {(i, 6) for i in range(1, 12)} - {(3, 6), (10, 6)}
    left = {(6, j) for j in range(1, 6)} - {(6, 2)}
    right = {(7, j) for j in range(7, 12)} - {(7, 9)}
    assert walls == border | middle | left | right


def test_moves_are_deterministic_and_bumping_stays():
    p = ROOMS.mdp.transitions
    assert set(np.unique(p)) == {0.0, 1.0}
    for action, (down, right) in enumerate(MOVES):
        for cell in CELLS:
            expected = (cell[0] + down, cell[1] + right)
            target = cell if cell in ENDS or expected not in STATE else expected
            assert p[action, STATE[cell], STATE[target]] == 1


def test_only_entering_an_end_pays():
    for action, (down, right) in enumerate(MOVES):
        for cell in CELLS:
            entered = (cell[0] + down, cell[1] + right)
            expected = 0.0 if cell in ENDS else ENDS.get(entered, 0.0)
            assert ROOMS.mdp.rewards[action, STATE[cell]] == expected


def test_the_goal_is_the_best_from_every_state_at_the_default_discount():
    to_goal = distances((11, 11), blocked=set(ENDS) - {(11, 11)})
    for cell in CELLS:
        expected = 0.0 if cell in ENDS else 0.99 ** (to_goal[cell] - 1)
        assert ROOMS.mdp.optimal_values[STATE[cell]] == pytest.approx(expected, rel=1e-12)


def test_a_shorter_horizon_makes_the_nearest_subgoal_the_best_from_two_thirds_of_the_states():
    near = four_rooms(gamma=0.9).mdp.optimal_values
    to_goal = distances((11, 11), blocked=set(ENDS) - {(11, 11)})
    inner = [cell for cell in CELLS if cell not in ENDS]
    share = np.mean([near[STATE[cell]] > 0.9 ** (to_goal[cell] - 1) + 1e-9 for cell in inner])
    assert share == pytest.approx(2 / 3, abs=0.05)


def test_the_start_policy_walks_the_shortest_path_to_the_nearest_subgoal():
    subgoals = [cell for cell in ENDS if cell != (11, 11)]
    nearest = [distances(cell, blocked=set(ENDS) - {cell}) for cell in subgoals]
    distance = {cell: min(d.get(cell, 99) for d in nearest) for cell in CELLS}
    np.testing.assert_allclose(ROOMS.start_policy.sum(axis=0), 1, rtol=1e-12)
    for cell in CELLS:
        if cell in ENDS:
            continue
        options = [distance.get((cell[0] + d, cell[1] + r), 99) for d, r in MOVES]
        # the first of the shortest, in the order N, E, S, W
        assert ROOMS.start_policy[options.index(min(options)), STATE[cell]] == pytest.approx(0.97)
        assert np.sort(ROOMS.start_policy[:, STATE[cell]])[:3] == pytest.approx([0.01] * 3)


def test_the_start_is_a_well_that_natural_gradient_leaves_first():
    start = ROOMS.start_policy[..., None]
    before = evaluate(ROOMS.mdp, start).suboptimality[0]
    slow, fast = (
        trajectory(ROOMS.mdp, make(1.0), start, [1000]).suboptimality[0, 0] / before for make in (spg, npg)
    )
    assert before > 0.1
    assert slow > 0.99
    assert fast < 0.1


def test_everything_about_the_rooms_can_be_changed():
    corridor = "#####\n#   #\n#####"
    rooms = four_rooms(
        gamma=0.5, goal=(1, 3), goal_reward=2.0, subgoals=((1, 1),), subgoal_reward=0.5, concentration=0.7,
        layout=corridor,
    )  # fmt: skip
    np.testing.assert_allclose(rooms.mdp.optimal_values, [0, 2, 0])
    np.testing.assert_allclose(rooms.start_policy[:, 1], [0.1, 0.1, 0.1, 0.7])
    np.testing.assert_allclose(rooms.mdp.rewards[:, 1], [0, 2, 0, 0.5])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"goal": (0, 0)}, r"goal contains \(0, 0\): must be free cells"),
        ({"subgoals": ((6, 6),)}, r"subgoals contains \(6, 6\): must be free cells"),
        ({"subgoals": ((11, 11),)}, r"goal = \(11, 11\): must be a cell that is no other goal"),
        ({"subgoals": ()}, r"subgoals = \(\): must be at least one cell"),
        ({"concentration": 1.2}, r"concentration = 1\.2: must be in \[0\.25, 1\]"),
        ({"gamma": 1.0}, r"gamma = 1\.0: must be a discount"),
        ({"goal_reward": float("nan")}, "rewards.* = nan: must be finite"),
        ({"layout": "###\n#  \n###"}, "layout is open at row 1, column 2: must have a wall around it"),
        ({"layout": "##\n##"}, "layout = .*must be a map with free cells"),
    ],
)
def test_a_broken_map_is_refused(change, message):
    with pytest.raises(UserError, match=message):
        four_rooms(**change)
