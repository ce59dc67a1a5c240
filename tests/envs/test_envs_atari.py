"""Games on ale-py's vector environment against the emulator itself, row by row (tests/envs/emulator.py)."""

import jax.numpy as jnp
import numpy as np
import pytest
from ale_py.vector_env import AtariVectorEnv

from envs.emulator import ROUNDING, SKIP, Emulator
from envs.walks import Walk, walk
from escapevelocity.envs import describe_task, make_environments

PHOENIX = "ALE/Phoenix-v5"
SEEDS = [5, 0, 2**31 - 1]


def any_actions(size, seed=0):
    """A uniform policy that gives every environment its own actions."""
    rng = np.random.default_rng(seed)
    return lambda before: rng.integers(size, size=len(before), dtype=np.int32)


def same_actions(size, seed=0):
    """A uniform policy that gives all environments the same actions, however many they are."""
    rng = np.random.default_rng(seed)
    return lambda before: np.full(len(before), rng.integers(size), np.int32)


def phoenix(limit=None, sticky=0.25):
    return describe_task(PHOENIX, episode_limit=limit, frame_skip=SKIP, sticky_actions=sticky)


@pytest.fixture(scope="module")
def played() -> Walk:
    """Three whole games and more: uniform play dies after some 800 steps, and the limit cuts what lasts longer."""
    return walk(phoenix(limit=900), SEEDS, 1000, any_actions(8), threads=2)


def replay(rows: Walk, rom: str, seeds: list[int], sticky: float, limit: int):
    """Play the same actions on emulators, and check each row; yields (step, environment, emulator) after each."""
    for i, seed in enumerate(seeds):
        emulator = Emulator(rom, seed, sticky)
        elapsed = 0
        assert np.abs(rows.observations[0, i] - emulator.screen()).max() <= ROUNDING
        for t in range(len(rows.rewards)):
            lives = emulator.ale.lives()
            reward, over = emulator.step(rows.actions[t, i])
            elapsed += 1
            assert rows.rewards[t, i] == reward
            assert rows.terminated[t, i] == over
            assert rows.truncated[t, i] == (elapsed == limit and not over)
            if over:
                # ale-py does not look at the screen of a game that is over.
                np.testing.assert_array_equal(rows.next_observations[t, i], rows.observations[t, i])
            else:
                assert np.abs(rows.next_observations[t, i] - emulator.screen()).max() <= ROUNDING
            yield t, i, emulator, lives
            if over or elapsed == limit:
                emulator.ale.reset_game()
                elapsed = 0
                if t + 1 < len(rows.rewards):
                    assert np.abs(rows.observations[t + 1, i] - emulator.screen()).max() <= ROUNDING


def test_every_row_is_what_the_emulator_does_with_the_same_actions(played):
    """Seed, sticky actions, the last frame of each skip, raw rewards, and starts without no-ops or fire."""
    lost = 0
    score = np.zeros(len(SEEDS))
    for t, i, emulator, lives in replay(played, "phoenix", SEEDS, 0.25, limit=900):
        score[i] += played.rewards[t, i]
        assert emulator.phoenix_score() == score[i]
        lost += emulator.ale.lives() < lives and not played.terminated[t, i]
        if played.terminated[t, i] or played.truncated[t, i]:
            score[i] = 0
    assert played.terminated.sum() >= 1
    assert played.truncated.sum() >= 1
    assert played.rewards.max() > 1  # Not clipped.
    assert lost >= 6  # Lives that were lost without an end.


@pytest.mark.parametrize(("game", "rom"), [("Breakout", "breakout"), ("Gravitar", "gravitar")])
def test_games_that_wait_for_fire_or_have_few_lives_are_the_emulators_too(game, rom):
    """Breakout's ball waits for fire, which nobody presses for the player; here without sticky actions."""
    task = describe_task(f"ALE/{game}-v5", episode_limit=50, frame_skip=SKIP)
    rows = walk(task, [1], 120, any_actions(task.actions.size))
    assert len(list(replay(rows, rom, [1], 0.0, limit=50))) == 120
    assert rows.truncated[:, 0].nonzero()[0].tolist() == [49, 99]


def test_the_limit_counts_steps_and_not_frames():
    rows = walk(phoenix(limit=7), [3, 4], 21, any_actions(8))
    np.testing.assert_array_equal(rows.truncated, rows.elapsed == 7)
    assert not rows.terminated.any()
    assert len(list(replay(rows, "phoenix", [3, 4], 0.25, limit=7))) == 42


def test_a_start_is_neither_fire_nor_no_ops():
    """The first screen is the one of a bare reset in every episode, whatever the seed."""
    rows = walk(phoenix(limit=3), [1, 2], 12, any_actions(8))
    bare = Emulator("phoenix", 1, 0.0).screen()
    assert np.abs(rows.observations[::3] - bare).max() <= ROUNDING


def assert_same(one, other):
    for column, expected in zip(one, other, strict=True):
        np.testing.assert_array_equal(column, expected)


def test_the_same_seeds_give_the_same_bits_on_any_number_of_threads():
    one = walk(phoenix(limit=25), [4, 9], 60, any_actions(8), threads=1)
    for threads in (1, 64):
        assert_same(walk(phoenix(limit=25), [4, 9], 60, any_actions(8), threads=threads), one)


def test_an_environment_alone_is_the_one_among_others():
    among = walk(phoenix(limit=25), [4, 9], 60, same_actions(8))
    for index, seed in enumerate([4, 9]):
        alone = walk(phoenix(limit=25), [seed], 60, same_actions(8))
        assert_same(alone, Walk(*(column[:, index : index + 1] for column in among)))


def test_seeds_differ_where_actions_stick_and_nowhere_else():
    sticky = walk(phoenix(), [4, 9], 80, same_actions(8))
    assert (sticky.observations[:, 0] != sticky.observations[:, 1]).any()
    plain = walk(phoenix(sticky=0.0), [4, 9], 80, same_actions(8))
    np.testing.assert_array_equal(plain.observations[:, 0], plain.observations[:, 1])


def test_a_reset_of_some_rows_leaves_the_others_alone():
    """Rows 2 and 0 are sent back to the start in the middle of a game; row 1 must not notice."""
    actions = np.random.default_rng(0).integers(8, size=(60, 3))
    streams = []
    for resets in (True, False):
        envs = make_environments(phoenix(), [4, 9, 1], threads=2)
        first = envs.reset()
        screens = []
        for t, row in enumerate(actions):
            envs.send(row)
            screens.append(envs.receive().next_observations)
            if resets and t == 30:
                assert (screens[-1][[2, 0]] != first[[2, 0]]).any(axis=(1, 2)).all()
                np.testing.assert_array_equal(envs.reset(np.array([2, 0])), first[[2, 0]])
        envs.close()
        streams.append(np.array(screens))
    with_resets, without = streams
    np.testing.assert_array_equal(with_resets[:, 1], without[:, 1])
    np.testing.assert_array_equal(with_resets[:31], without[:31])
    assert (with_resets[31:, [0, 2]] != without[31:, [0, 2]]).any()


def test_a_reset_in_the_middle_starts_the_count_to_the_limit_anew():
    envs = make_environments(phoenix(limit=5), [1, 2])
    envs.reset()
    cut = []
    for t in range(8):
        envs.send(np.zeros(2, int))
        cut.append(envs.receive().truncated.tolist())
        if t == 2:
            envs.reset(np.array([0]))
        if t == 4:
            envs.reset(np.array([1]))
    assert [t for t in range(8) if cut[t][0]] == [7]
    assert [t for t in range(8) if cut[t][1]] == [4]
    envs.close()


def test_screens_and_rewards_outlive_the_next_step():
    envs = make_environments(phoenix(), [1, 2])
    envs.reset()
    rows = []
    for t in range(40):
        envs.send(np.array([t % 8, 1]))
        row = envs.receive()
        rows.append((row, [np.array(x) for x in row]))
    for row, copy in rows:
        assert_same(row, copy)
    row = rows[-1][0]
    assert (row.next_observations[0] != row.next_observations[1]).any()
    assert row.next_observations.shape == (2, 84, 84)
    assert row.next_observations.dtype == np.uint8
    assert row.rewards.dtype == np.float32
    envs.close()


def test_actions_may_be_jax_arrays():
    envs = make_environments(phoenix(), [1, 2])
    envs.reset()
    envs.send(np.asarray(jnp.array([7, 0], jnp.int32)))
    assert envs.receive().rewards.shape == (2,)
    envs.close()


@pytest.mark.parametrize("action", [-1, 8])
def test_an_action_that_the_game_does_not_have_is_refused_at_once(action):
    """ale-py would wait for that game for ever."""
    envs = make_environments(phoenix(), [1, 2])
    envs.reset()
    with pytest.raises(ValueError, match=r"^actions must be between 0 and 7, got \["):
        envs.send(np.array([0, action]))
    envs.close()


def test_closing_in_the_middle_of_a_step_ends_it():
    envs = make_environments(phoenix(), [1, 2])
    envs.reset()
    envs.send(np.zeros(2, int))
    envs.close()
    envs.close()


def test_the_limit_of_ale_py_itself_would_hide_the_last_screen():
    """Why steps are counted by us: should ale-py read the screen first some day, its own limit would do."""
    vector = AtariVectorEnv(
        "phoenix",
        1,
        max_num_frames_per_episode=30,
        stack_num=1,
        frameskip=SKIP,
        maxpool=False,
        noop_max=0,
        use_fire_reset=False,
    )
    vector.reset(seed=1)
    emulator = Emulator("phoenix", 1, 0.0)
    errors, truncated = [], np.zeros(1, bool)
    for _ in range(10):
        screen, _, _, truncated, _ = vector.step(np.array([1]))
        emulator.step(1)
        errors.append(np.abs(screen[0, 0] - emulator.screen()).max())
    assert truncated[0]
    assert max(errors[:-1]) <= ROUNDING < errors[-1]
