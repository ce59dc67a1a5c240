"""The Gymnasium back end against environments whose every number is known (tests/envs/probes.py)."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.probes import CORRIDOR_LIMIT, Echo
from escapevelocity.envs import describe_task, make_environments

SEEDS = (11, 22, 33)
WALK, JUMP = 0, 1


def step(envs, actions):
    envs.send(np.asarray(actions))
    return envs.receive()


def test_the_corridor_is_walked_as_written_by_hand():
    """One environment walks to the limit, one jumps in its third step, one jumps exactly at the limit."""
    envs = make_environments(describe_task("EvCorridor-v0"), SEEDS)
    np.testing.assert_array_equal(envs.reset(), [[11, 0, 0], [22, 0, 0], [33, 0, 0]])
    for t in range(2):
        row = step(envs, [WALK, WALK, WALK])
        np.testing.assert_array_equal(row.next_observations, [[11, 0, t + 1], [22, 0, t + 1], [33, 0, t + 1]])
        np.testing.assert_array_equal(row.rewards, [10 * t] * 3)
        assert not row.terminated.any()
        assert not row.truncated.any()

    row = step(envs, [WALK, JUMP, WALK])
    np.testing.assert_array_equal(row.next_observations, [[11, 0, 3], [22, 0, 3], [33, 0, 3]])
    np.testing.assert_array_equal(row.rewards, [20, 21, 20])
    np.testing.assert_array_equal(row.terminated, [False, True, False])
    np.testing.assert_array_equal(row.truncated, [False, False, False])
    np.testing.assert_array_equal(envs.reset(np.array([1])), [[22, 1, 0]])

    row = step(envs, [WALK, WALK, WALK])
    np.testing.assert_array_equal(row.next_observations, [[11, 0, 4], [22, 1, 1], [33, 0, 4]])
    np.testing.assert_array_equal(row.rewards, [30, 100, 30])

    row = step(envs, [WALK, WALK, JUMP])
    np.testing.assert_array_equal(row.next_observations, [[11, 0, 5], [22, 1, 2], [33, 0, 5]])
    np.testing.assert_array_equal(row.rewards, [40, 110, 41])
    # A step at the limit that the task ends too is a termination: nothing was cut.
    np.testing.assert_array_equal(row.terminated, [False, False, True])
    np.testing.assert_array_equal(row.truncated, [True, False, False])
    np.testing.assert_array_equal(envs.reset(np.array([0, 2])), [[11, 1, 0], [33, 1, 0]])
    envs.close()


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(*[st.booleans()] * 3), min_size=1, max_size=30), st.integers(1, 7))
def test_any_walk_is_a_chain_of_real_transitions(jumps, limit):
    envs = make_environments(describe_task("EvCorridor-v0", episode_limit=limit), SEEDS)
    before = envs.reset()
    for jump in np.array(jumps):
        row = step(envs, jump.astype(int))
        seed, episode, t = before.T
        np.testing.assert_array_equal(row.next_observations, np.stack([seed, episode, t + 1], axis=1))
        np.testing.assert_array_equal(row.rewards, 100 * episode + 10 * t + jump)
        np.testing.assert_array_equal(row.terminated, jump)
        np.testing.assert_array_equal(row.truncated, ~jump & (t + 1 == limit))
        ended = np.flatnonzero(jump | (t + 1 == limit))
        before = row.next_observations.copy()
        if len(ended):
            before[ended] = envs.reset(ended)
            np.testing.assert_array_equal(before[ended], np.stack([seed, episode + 1, 0 * t], axis=1)[ended])
    envs.close()


def test_rows_are_reset_in_the_order_asked_for():
    envs = make_environments(describe_task("EvCorridor-v0"), SEEDS)
    envs.reset()
    np.testing.assert_array_equal(envs.reset(np.array([2, 0])), [[33, 1, 0], [11, 1, 0]])
    envs.close()


def test_a_transition_outlives_the_next_step():
    """Buffers that the next step overwrites would corrupt whoever still holds the row."""
    envs = make_environments(describe_task("EvCorridor-v0"), SEEDS)
    envs.reset()
    row = step(envs, [WALK, WALK, JUMP])
    step_after = envs.reset(np.array([2]))
    step(envs, [JUMP, JUMP, JUMP])
    np.testing.assert_array_equal(row.next_observations[:, 2], [1, 1, 1])
    np.testing.assert_array_equal(row.rewards, [0, 0, 1])
    np.testing.assert_array_equal(row.terminated, [False, False, True])
    np.testing.assert_array_equal(step_after, [[33, 1, 0]])
    envs.close()


def test_box_actions_reach_the_task_unchanged():
    envs = make_environments(describe_task("EvEcho-v0"), [1, 2])
    envs.reset()
    actions = np.array([[3.0, -2.0], [-0.75, 0.5]], np.float32)
    row = step(envs, actions)
    np.testing.assert_array_equal(row.next_observations, [[1, 3, -2], [1, -0.75, 0.5]])
    np.testing.assert_array_equal(row.rewards, [3 - 20, -0.75 + 5])
    envs.close()


def test_without_a_limit_an_endless_task_never_ends():
    envs = make_environments(describe_task("EvEndless-v0"), [1])
    envs.reset()
    # 1,100 steps: past the largest default limit that a back end might slip in.
    rows = [step(envs, np.zeros((1, 2), np.float32)) for _ in range(1100)]
    assert not any(row.terminated[0] or row.truncated[0] for row in rows)
    assert rows[-1].next_observations[0, 0] == 1100
    envs.close()
    Echo.seen.clear()


def test_discrete_observations_arrive_one_hot():
    envs = make_environments(describe_task("EvCount-v0"), [1, 2])
    np.testing.assert_array_equal(envs.reset(), [[1, 0, 0], [1, 0, 0]])
    for expected in ([0, 1, 0], [0, 0, 1], [1, 0, 0]):
        np.testing.assert_array_equal(step(envs, [0, 0]).next_observations, [expected, expected])
    envs.close()


def test_observations_of_any_shape_arrive_flat():
    for name, size in (("EvGrid-v0", 6), ("EvScalar-v0", 1)):
        envs = make_environments(describe_task(name), [1, 2])
        assert envs.reset().shape == (2, size)
        assert step(envs, [0, 1]).next_observations.shape == (2, size)
        assert envs.reset(np.array([1])).shape == (1, size)
        envs.close()


def test_the_own_limit_of_the_corridor_is_the_one_in_force():
    task = describe_task("EvCorridor-v0")
    envs = make_environments(task, [1])
    envs.reset()
    cut = [bool(step(envs, [WALK]).truncated[0]) for _ in range(CORRIDOR_LIMIT)]
    assert cut == [False] * (CORRIDOR_LIMIT - 1) + [True]
    envs.close()
