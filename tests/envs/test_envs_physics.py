"""Every row of real tasks against their equations of motion, written out here, on both back ends.

The successor is predicted from the observation before it, so a row whose final observation, first observation or
action belonged to another episode could not pass. Tolerances: observations are float32, so an entry x carries an
error of |x|·2⁻²⁴ into the prediction, and as much again when the successor is rounded.
"""

import numpy as np
import pytest

from envs.probes import BACKENDS, needs_envpool
from envs.walks import Walk, uniform, walk
from escapevelocity.envs import describe_task

SEEDS = [5, 6, 7, 8]


def next_cart_pole(state, actions):
    """Barto, Sutton & Anderson 1983, as in Gymnasium's documentation: Euler steps of 0.02 s, force ±10 N."""
    x, x_dot, theta, theta_dot = state.astype(np.float64).T
    force = np.where(actions == 1, 10.0, -10.0)
    pole_mass, total_mass, half_length = 0.1, 1.1, 0.5
    push = (force + pole_mass * half_length * theta_dot**2 * np.sin(theta)) / total_mass
    theta_acc = (9.8 * np.sin(theta) - np.cos(theta) * push) / (
        half_length * (4 / 3 - pole_mass * np.cos(theta) ** 2 / total_mass)
    )
    x_acc = push - pole_mass * half_length * theta_acc * np.cos(theta) / total_mass
    dt = 0.02
    return np.stack(
        [x + dt * x_dot, x_dot + dt * x_acc, theta + dt * theta_dot, theta_dot + dt * theta_acc], 1
    )


def next_pendulum(state, actions):
    """m = l = 1, g = 10, steps of 0.05 s; torque clipped to ±2, speed to ±8. Returns the successor and the reward."""
    cos, sin, speed = state.astype(np.float64).T
    torque = np.clip(actions[:, 0].astype(np.float64), -2, 2)
    angle = np.arctan2(sin, cos)
    reward = -(angle**2 + 0.1 * speed**2 + 0.001 * torque**2)
    speed = np.clip(speed + 0.05 * (15 * np.sin(angle) + 3 * torque), -8, 8)
    angle = angle + 0.05 * speed
    return np.stack([np.cos(angle), np.sin(angle), speed], 1), reward


def next_mountain_car(state, actions):
    position, velocity = state.astype(np.float64).T
    velocity = np.clip(velocity + 0.001 * (actions - 1) - 0.0025 * np.cos(3 * position), -0.07, 0.07)
    position = np.clip(position + velocity, -1.2, 0.6)
    velocity = np.where((position == -1.2) & (velocity < 0), 0, velocity)
    return np.stack([position, velocity], 1)


def check_ends(rows: Walk, ended_by_task: np.ndarray, limit: int) -> None:
    """Both kinds of end occur, each exactly where it should."""
    at_limit = rows.elapsed == limit
    assert not (ended_by_task & at_limit).any(), "no such coincidence in these seeds"
    np.testing.assert_array_equal(rows.terminated, ended_by_task)
    np.testing.assert_array_equal(rows.truncated, at_limit)


def check_chain(rows: Walk, start_low: np.ndarray, start_high: np.ndarray) -> None:
    """Rows hang together within an episode, and a new episode starts where the task says that episodes start."""
    ended = (rows.terminated | rows.truncated)[:-1]
    following, successors = rows.observations[1:], rows.next_observations[:-1]
    np.testing.assert_array_equal(following[~ended], successors[~ended])
    starts = np.concatenate([rows.observations[0], following[ended]])
    assert (starts >= start_low).all()
    assert (starts <= start_high).all()
    assert len(np.unique(starts, axis=0)) == len(starts), "every episode has its own start"


@pytest.mark.parametrize("backend", BACKENDS)
def test_cart_pole_rows_follow_the_equations_of_motion(backend):
    limit = 30
    task = describe_task("CartPole-v1", backend, episode_limit=limit)
    steadied = np.array([True, False, True, False])

    def act(before):
        # Leaning with the pole keeps it up past the limit; pushing to the right throws it down within about ten steps.
        return np.where(steadied, before[:, 2] + before[:, 3] > 0, True).astype(np.int32)

    rows = walk(task, SEEDS, 150, act)
    for t in range(150):
        # Entries stay below 4, and a step amplifies an error by less than 1.5 (θ̇' has ∂/∂θ = 0.02·15 = 0.3), after
        # which the successor is rounded: 4·2⁻²⁴·2.5 < 1e-6.
        predicted = next_cart_pole(rows.observations[t], rows.actions[t])
        np.testing.assert_allclose(rows.next_observations[t], predicted, rtol=0, atol=1e-6)
    x, _, theta, _ = np.moveaxis(rows.next_observations, -1, 0)
    fell = (np.abs(x) > 2.4) | (np.abs(theta) > np.deg2rad(12))
    assert fell[:, ~steadied].sum() > 10
    assert rows.truncated[:, steadied].sum() == 2 * (150 // limit)
    check_ends(rows, fell, limit)
    check_chain(rows, np.full(4, -0.05), np.full(4, 0.05))
    np.testing.assert_array_equal(
        rows.rewards, 1
    )  # Also on the last step: an episode's return is its length.


@pytest.mark.parametrize("backend", BACKENDS)
def test_pendulum_rows_follow_the_equations_of_motion(backend):
    limit = 25
    task = describe_task("Pendulum-v1", backend, episode_limit=limit)
    rows = walk(task, SEEDS, 110, uniform(task, seed=0))
    for t in range(110):
        predicted, rewards = next_pendulum(rows.observations[t], rows.actions[t])
        # Speeds stay below 8: 8·2⁻²⁴ = 4.8e-7 in and out.
        np.testing.assert_allclose(rows.next_observations[t], predicted, rtol=0, atol=1.5e-6)
        # Rewards stay above −16.3: θ² carries 2π·1e-7, 0.1·θ̇² carries 1.6·5e-7, float32 rounding 16.3·2⁻²⁴.
        np.testing.assert_allclose(rows.rewards[t], rewards, rtol=0, atol=4e-6)
    check_ends(rows, np.zeros_like(rows.terminated), limit)
    check_chain(rows, np.array([-1, -1, -1]), np.array([1, 1, 1]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_mountain_car_rows_follow_the_equations_of_motion(backend):
    limit = 160
    task = describe_task("MountainCar-v0", backend, episode_limit=limit)
    pumped = np.array([True, False, True, True])

    def act(before):
        return np.where(pumped, 2 * (before[:, 1] >= 0), 1).astype(
            np.int32
        )  # Pushing with the motion climbs out.

    rows = walk(task, SEEDS, 350, act)
    for t in range(350):
        # Positions stay below 1.2: 1.2·2⁻²⁴ = 7e-8 in and out.
        predicted = next_mountain_car(rows.observations[t], rows.actions[t])
        np.testing.assert_allclose(rows.next_observations[t], predicted, rtol=0, atol=2e-7)
    out = rows.next_observations[..., 0] >= 0.5
    assert out.sum() >= 3
    assert rows.truncated.sum() >= 2
    check_ends(rows, out, limit)
    check_chain(rows, np.array([-0.6, 0]), np.array([-0.4, 0]))
    np.testing.assert_array_equal(rows.rewards, -1)


@needs_envpool
def test_discrete_observations_of_envpool_arrive_one_hot():
    """FrozenLake (4×4) starts in the corner; going right along the frozen first row never leaves it.

    The lake is slippery: the move is right, up or down with equal chance, so squares are checked to be neighbours.
    """
    task = describe_task("FrozenLake-v1", "envpool")
    rows = walk(task, SEEDS, 60, lambda before: np.full(len(before), 2))
    assert rows.next_observations.shape == (60, 4, 16)
    np.testing.assert_array_equal(np.sort(rows.next_observations, -1), np.eye(16)[[15]] * np.ones((60, 4, 1)))
    np.testing.assert_array_equal(rows.observations[0], np.eye(16)[[0] * 4])
    square, following = rows.observations.argmax(-1), rows.next_observations.argmax(-1)
    moved = (following // 4 - square // 4, following % 4 - square % 4)
    assert set(zip(moved[0].ravel(), moved[1].ravel(), strict=True)) <= {(0, 0), (0, 1), (1, 0), (-1, 0)}
    holes_and_goal = np.isin(following, [5, 7, 11, 12, 15])
    assert holes_and_goal.any()
    np.testing.assert_array_equal(rows.terminated, holes_and_goal)
    np.testing.assert_array_equal(rows.rewards, following == 15)
