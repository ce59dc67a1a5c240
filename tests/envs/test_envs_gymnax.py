"""Gymnax's tasks: as they describe themselves, and their steps against Gymnasium's physics and MinAtar's rules."""

import sys

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from escapevelocity.envs import BoxActions, DiscreteActions, describe_task
from escapevelocity.envs._gymnax import (
    CLASSIC_NAMES,
    MINATAR_NAMES,
    PREFIX,
    GymnaxSimulator,
    describe_gymnax,
)
from escapevelocity.errors import UserError

gymnax = pytest.importorskip("gymnax")

# A step is some tens of float32 operations, each with a relative error of at most 2⁻²⁴; angles and velocities
# stay below 30, so that a hundred roundings come to 100 · 30 · 2⁻²⁴ ≈ 2e-4 at worst and 1e-5 for entries near 1.
ATOL, RTOL = 1e-5, 1e-5


def test_tasks_describe_their_spaces_and_limits():
    # Limits: Gymnasium's registry for classic control, Gymnax's parameters for MinAtar.
    expected = {
        "Acrobot-v1": ((6,), DiscreteActions(3), 500),
        "CartPole-v1": ((4,), DiscreteActions(2), 500),
        "MountainCar-v0": ((2,), DiscreteActions(3), 200),
        "MountainCarContinuous-v0": ((2,), BoxActions((-1.0,), (1.0,)), 999),
        "Pendulum-v1": ((3,), BoxActions((-2.0,), (2.0,)), 200),
        "Asterix-MinAtar": ((10, 10, 4), DiscreteActions(5), 1000),
        "Breakout-MinAtar": ((10, 10, 4), DiscreteActions(3), 1000),
        "Freeway-MinAtar": ((10, 10, 7), DiscreteActions(3), 2500),
        "Seaquest-MinAtar": ((10, 10, 10), DiscreteActions(6), 1000),
        "SpaceInvaders-MinAtar": ((10, 10, 6), DiscreteActions(4), 1000),
    }
    assert set(expected) == {*CLASSIC_NAMES, *MINATAR_NAMES}
    for short, (shape, actions, limit) in expected.items():
        task = describe_gymnax(PREFIX + short)
        found = task.backend, task.observation_shape, task.actions, task.episode_limit, task.pixels
        assert found == ("gymnax", shape, actions, limit, False), short


def test_an_episode_limit_of_the_users_takes_the_place_of_the_tasks_own():
    assert describe_task("gymnax:CartPole-v1", episode_limit=7).episode_limit == 7


def test_an_unknown_task_is_told_the_nearest_names():
    with pytest.raises(UserError, match=r"gymnax:breakout.*did you mean .*gymnax:Breakout-MinAtar") as caught:
        describe_task("gymnax:breakout")
    assert "\n" not in str(caught.value)


def test_a_missing_gymnax_is_told_how_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnax", None)
    with pytest.raises(UserError, match=r"pip install 'escapevelocity\[gymnax\]'"):
        describe_gymnax("gymnax:CartPole-v1")


@pytest.mark.parametrize("short", [*CLASSIC_NAMES, *MINATAR_NAMES])
def test_states_keep_their_dtypes_and_no_value_is_lost_on_the_way(short):
    simulator, action = GymnaxSimulator(PREFIX + short), action_of(short)
    key = jax.random.key(0)
    state, _ = jax.eval_shape(simulator.reset, key)
    following, *outcome = jax.eval_shape(simulator.step, key, state, action)
    assert kinds(following) == kinds(state)
    assert [x.dtype for x in outcome] == [jnp.float32, jnp.float32, jnp.bool_]
    environment, params = gymnax.make(short)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        raw = jax.eval_shape(environment.step_env, key, state, action, params)[1]
    for ours, theirs in zip(kinds(state), kinds(raw), strict=True):
        assert ours[0] == theirs[0]
        assert np.can_cast(theirs[1], ours[1], "same_kind"), (ours, theirs)


@pytest.mark.parametrize("short", [*CLASSIC_NAMES, *MINATAR_NAMES])
def test_no_task_ends_an_episode_because_of_the_time(short):
    simulator = GymnaxSimulator(PREFIX + short)
    limit = describe_gymnax(PREFIX + short).episode_limit
    key = jax.random.key(1)

    @jax.jit
    def late_step(time):
        state, _ = simulator.reset(key)
        return simulator.step(key, state.replace(time=time), action_of(short))[3]

    assert limit is not None
    assert not any(late_step(jnp.int32(time)) for time in (limit - 1, limit, 10 * limit))


STATE_FIELDS = {
    "CartPole-v1": ("x", "x_dot", "theta", "theta_dot"),
    "MountainCar-v0": ("position", "velocity"),
    "MountainCarContinuous-v0": ("position", "velocity"),
    "Acrobot-v1": ("joint_angle1", "joint_angle2", "velocity_1", "velocity_2"),
    "Pendulum-v1": ("theta", "theta_dot"),
}


@pytest.mark.parametrize("short", CLASSIC_NAMES)
def test_classic_control_moves_as_in_gymnasium(short, rng):
    simulator, theirs = GymnaxSimulator(PREFIX + short), gymnasium.make(short).unwrapped
    key = jax.random.key(2)
    first, _ = simulator.reset(key)
    step = jax.jit(simulator.step)
    discrete = isinstance(theirs.action_space, gymnasium.spaces.Discrete)
    theirs.reset(seed=3)
    ends = 0
    for _ in range(300):
        before = np.array(theirs.state, np.float32)
        # With the velocity, so that the cars reach their goal; half of the time at random.
        along = before[-1] > 0 if rng.random() < 0.5 else rng.random() < 0.5
        action = np.int32(along * (theirs.action_space.n - 1)) if discrete else np.float32([2.0 * along - 1])
        state = first.replace(**dict(zip(STATE_FIELDS[short], before, strict=True)))
        observation, reward, terminated, _, _ = theirs.step(action)
        _, ours, our_reward, our_end = step(key, state, action)
        at_wall = short.startswith("MountainCarC") and theirs.state[0] == theirs.min_position
        if not at_wall:  # Gymnax's continuous car is not stopped there (see the module's docstring).
            np.testing.assert_allclose(ours, observation, RTOL, ATOL)
        np.testing.assert_allclose(our_reward, reward, RTOL, ATOL)
        assert bool(our_end) == terminated
        ends += terminated
        if terminated:
            theirs.reset()
    assert ends > 0 or short in ("Pendulum-v1", "Acrobot-v1")


def breakout_by_hand(state, action, met):
    """MinAtar's rules (Young and Tian 2019, section A.2; breakout.py there) in plain Python; action 0 stays, 1 is left,
    2 is right. Directions: 0 up-left, 1 up-right, 2 down-right, 3 down-left. The rules that applied go into `met`."""
    paddle = min(9, max(0, state["paddle"] + (0, -1, 1)[action]))
    (x, y), bricks, heading = state["ball"], state["bricks"].copy(), state["heading"]
    new_x, new_y = x + (-1, 1, 1, -1)[heading], y + (-1, -1, 1, 1)[heading]
    reward, over, striking = 0, False, False
    if not 0 <= new_x <= 9:
        new_x, heading = min(9, max(0, new_x)), {0: 1, 1: 0, 2: 3, 3: 2}[heading]
        met.add("side")
    flipped = {0: 3, 1: 2, 2: 1, 3: 0}[heading]  # Up becomes down and down becomes up.
    if new_y < 0:
        new_y, heading = 0, flipped
        met.add("ceiling")
    elif bricks[new_y, new_x]:
        striking = True
        met.add("second brick" if state["striking"] else "brick")
        if not state["striking"]:
            reward, bricks[new_y, new_x], new_y, heading = 1, False, y, flipped
    elif new_y == 9:
        if not bricks.any():
            bricks[1:4] = True
            met.add("new wall")
        if x == paddle:
            new_y, heading = y, flipped
            met.add("paddle")
        elif new_x == paddle:  # The paddle's corner throws the ball back where it came from.
            new_y, heading = y, {0: 2, 1: 3, 2: 0, 3: 1}[heading]
            met.add("corner")
        else:
            over = True
            met.add("lost")
    after = {"paddle": paddle, "ball": (new_x, new_y), "trail": (x, y), "heading": heading}
    return {**after, "bricks": bricks, "striking": striking}, reward, over


def breakout_screen(state):
    screen = np.zeros((10, 10, 4), np.float32)
    screen[9, state["paddle"], 0] = 1
    screen[state["ball"][1], state["ball"][0], 1] = 1
    screen[state["trail"][1], state["trail"][0], 2] = 1
    screen[:, :, 3] = state["bricks"]
    return screen


def test_breakout_follows_minatars_rules(rng):
    simulator = GymnaxSimulator("gymnax:Breakout-MinAtar")
    start, step, keys = (
        jax.jit(simulator.reset),
        jax.jit(simulator.step),
        iter(jax.random.split(jax.random.key(4), 100)),
    )
    met, over = set(), True
    for _ in range(600):
        if over:
            template, screen = start(next(keys))
            on_left = bool(screen[3, 0, 1])
            ball, heading = ((0, 3), 2) if on_left else ((9, 3), 3)
            bricks = np.zeros((10, 10), bool)
            bricks[1:4] = True
            state = {"paddle": 4, "ball": ball, "trail": ball, "heading": heading}
            state = {**state, "bricks": bricks, "striking": False}
            met.add("from the left" if on_left else "from the right")
            np.testing.assert_array_equal(screen, breakout_screen(state))
            # From here on a torn wall and the ball anywhere, so that every rule is soon met.
            column, row = rng.integers(10), rng.integers(1, 9)
            bricks[1:4] &= rng.random((3, 10)) < rng.choice([0.1, 0.5])
            bricks[row, column] = False
            state["ball"], state["heading"] = (column, row), int(rng.integers(4))
            ours = template.replace(ball_x=column, ball_y=row, ball_dir=state["heading"], brick_map=bricks)
            ours = jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), ours, template)
        # Mostly where the ball is or will be, so that games last; one move in 20 is at random.
        ahead = state["ball"][0] + int(rng.random() < 0.5) * (-1, 1, 1, -1)[state["heading"]]
        chase = int(ahead < state["paddle"]) + 2 * int(ahead > state["paddle"])
        action = chase if rng.random() < 19 / 20 else int(rng.integers(3))
        state, reward, over = breakout_by_hand(state, action, met)
        ours, screen, our_reward, our_end = step(jax.random.key(0), ours, np.int32(action))
        np.testing.assert_array_equal(screen, breakout_screen(state))
        assert (float(our_reward), bool(our_end)) == (reward, over)
    rules = {"side", "ceiling", "brick", "second brick", "new wall", "paddle", "corner", "lost"}
    assert met == {*rules, "from the left", "from the right"}


def action_of(short):
    box = short in ("Pendulum-v1", "MountainCarContinuous-v0")
    return jnp.ones(1, jnp.float32) if box else jnp.int32(1)


def kinds(tree):
    return [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]
