"""Environments as pure functions: time limit against termination, and their face for the host."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from escapevelocity.envs import HostEnvironments, describe_task
from escapevelocity.envs.device import (
    DeviceEnvironment,
    HostedEnvironments,
    Simulator,
    make_device_environment,
)


class Fuse:
    """Ends itself after `length` steps; observation: (steps done,), reward: 10 · (steps before) + action."""

    def __init__(self, length):
        self.length = length

    def reset(self, key):
        return jnp.int32(0), jnp.zeros(1)

    def step(self, key, state, action):
        after = state + 1
        reward = (10 * state + action).astype(jnp.float32)
        return after, after.astype(jnp.float32)[None], reward, after >= self.length


def run(environment, steps):
    key = jax.random.key(0)
    state, first = environment.reset(key)
    rows = []
    for _ in range(steps):
        state, row = environment.step(key, state, jnp.int32(1))
        rows.append(row)
    return first, jax.tree.map(lambda *x: np.stack(x), *rows)


@pytest.mark.parametrize(
    ("length", "limit", "terminated", "truncated"),
    [
        (3, None, [0, 0, 1], [0, 0, 0]),
        (9, 3, [0, 0, 0], [0, 0, 1]),
        (3, 3, [0, 0, 1], [0, 0, 0]),
        (2, 3, [0, 1, 1], [0, 0, 0]),
    ],
    ids=["no limit", "limit", "task ends at the limit", "task ends before the limit"],
)
def test_only_the_time_limit_alone_truncates(length, limit, terminated, truncated):
    first, rows = run(DeviceEnvironment(Fuse(length), limit), 3)
    assert rows.terminated.tolist() == [bool(x) for x in terminated]
    assert rows.truncated.tolist() == [bool(x) for x in truncated]
    assert first.tolist() == [0.0]
    assert rows.next_observation[:, 0].tolist() == [1.0, 2.0, 3.0]
    assert rows.reward.tolist() == [1.0, 11.0, 21.0]


def test_a_hand_written_environment_is_a_simulator():
    assert isinstance(Fuse(3), Simulator)


def test_the_limit_of_a_gymnax_task_truncates_and_the_users_takes_its_place():
    pytest.importorskip("gymnax")
    environment = make_device_environment(describe_task("gymnax:Pendulum-v1", episode_limit=3))
    state, _ = environment.reset(jax.random.key(0))
    ends = []
    for _ in range(3):
        state, row = environment.step(jax.random.key(1), state, jnp.zeros(1))
        ends.append((bool(row.terminated), bool(row.truncated)))
    assert ends == [(False, False), (False, False), (False, True)]


def test_the_same_task_is_the_same_object_so_that_programs_are_found_again():
    pytest.importorskip("gymnax")
    first, second = (make_device_environment(describe_task("gymnax:CartPole-v1")) for _ in range(2))
    assert first is second


def hosted_run(task, seeds, steps, reset_row=None):
    host = HostedEnvironments(task, seeds)
    seen = [host.reset()]
    for t in range(steps):
        if t == 2 and reset_row is not None:
            seen.append(host.reset(np.array([reset_row])))
        host.send(np.full(len(seeds), t % 2))
        seen.append(host.receive().next_observations)
    host.close()
    return host, seen


def test_on_the_host_an_environment_depends_on_its_own_seed_and_resets_alone():
    pytest.importorskip("gymnax")
    task = describe_task("gymnax:CartPole-v1")
    host, seen = hosted_run(task, [3, 4, 5], 4, reset_row=1)
    assert isinstance(host, HostEnvironments)
    _, again = hosted_run(task, [3, 4, 5], 4, reset_row=1)
    _, alone = hosted_run(task, [4], 4, reset_row=0)
    _, undisturbed = hosted_run(task, [3, 4, 5], 4)
    for one, other in zip(seen, again, strict=True):
        np.testing.assert_array_equal(one, other)
    # Vector and scalar code may round differently: 1e-6 is some roundings of numbers below 1.
    np.testing.assert_allclose(seen[3], alone[3], atol=1e-6)
    np.testing.assert_allclose(seen[-1][1], alone[-1][0], atol=1e-6)
    np.testing.assert_array_equal(seen[-1][[0, 2]], undisturbed[-1][[0, 2]])
    # CartPole starts within ±0.05, which two pushes alone leave.
    assert np.abs(seen[3]).max() <= 0.05
    assert not np.array_equal(seen[3][0], seen[0][1])


def test_on_the_host_images_are_flat_rows():
    pytest.importorskip("gymnax")
    host = HostedEnvironments(describe_task("gymnax:Breakout-MinAtar"), [1, 2])
    assert host.reset().shape == (2, 400)
    host.send(np.array([0, 1]))
    step = host.receive()
    assert step.next_observations.shape == (2, 400)
    assert step.rewards.shape == step.terminated.shape == step.truncated.shape == (2,)
