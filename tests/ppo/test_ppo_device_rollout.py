"""Collecting inside jit: every row against a plain loop, streams that are each member's own, and what networks see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from escapevelocity.envs import ObservationStatistics, Observer, describe_task
from escapevelocity.envs.device import DeviceEnvironment, make_device_environment
from escapevelocity.ppo.device_rollout import build_collector, network_inputs

SEEDS, ENVS, TIME = (3, 8), 3, 24


class Counter:
    """Starts at a random number in [0, 1000), goes up by 1 + action, and ends itself above `start + 5`."""

    def reset(self, key):
        start = jax.random.randint(key, (), 0, 1000).astype(jnp.float32)
        return (start, start), jnp.stack([start, start])

    def step(self, key, state, action):
        start, number = state
        number = number + 1.0 + action.astype(jnp.float32)
        return (start, number), jnp.stack([start, number]), number - start, number > start + 5.0


LIMIT = 4


def by_noise(actor, observations, noise):
    """Action 1 where the noise is above the actor's threshold."""
    action = (noise[:, 0] > actor).astype(jnp.int32)
    return action, action


@pytest.fixture(scope="module")
def collector():
    return build_collector(DeviceEnvironment(Counter(), LIMIT), ENVS, by_noise, append_time=True)


def noise_of(rng, members, time=TIME):
    return rng.random((time, members, ENVS, 1)).astype(np.float32)


def gather(collector, seeds, noise, segment=0, parts=1, size=2, mean=0.0, std=1.0):
    members = len(seeds)
    statistics = [np.broadcast_to(np.float32(x), (members, size)) for x in (mean, std)]
    states = collector.begin(np.array(seeds, np.uint32), np.uint32(segment))
    collected = []
    for part in np.split(noise, parts):
        states, batch = collector.collect(np.full(members, 0.7, np.float32), *statistics, states, part)
        collected.append(batch)
    return jax.tree.map(lambda *x: np.concatenate(x), *collected)


def test_every_row_is_real_and_an_ended_environment_starts_anew_within_the_step(collector, rng):
    noise = noise_of(rng, 2)
    batch = gather(collector, SEEDS, noise)
    assert batch.observations.shape == batch.next_observations.shape == (TIME, 2, ENVS, 3)
    kinds = set()
    for index in np.ndindex(2, ENVS):
        start = number = batch.observations[0, *index, 0]
        elapsed = 0
        for t in range(TIME):
            at = (t, *index)
            action = int(noise[at][0] > 0.7)
            assert batch.observations[at].tolist() == [start, number, 2 * elapsed / LIMIT - 1]
            assert batch.actions[at] == action
            number, elapsed = number + 1 + action, elapsed + 1
            terminated = number > start + 5
            truncated = elapsed == LIMIT and not terminated
            assert batch.next_observations[at].tolist() == [start, number, 2 * elapsed / LIMIT - 1]
            assert batch.rewards[at] == number - start
            assert (batch.terminated[at], batch.truncated[at]) == (terminated, truncated)
            kinds.add((bool(terminated), bool(truncated), elapsed))
            if (terminated or truncated) and t + 1 < TIME:
                start = number = batch.observations[t + 1, *index, 0]
                elapsed = 0
    # Ends by the task, by the limit, and by the task exactly at the limit.
    assert {(True, False, 3), (False, True, 4), (True, False, 4)} <= kinds


def test_resets_differ_between_episodes_environments_members_and_segments(collector, rng):
    noise = noise_of(rng, 2)
    first, second = (gather(collector, SEEDS, noise, segment) for segment in (0, 1))
    starts = [
        np.unique(batch.observations[:, m, e, 0])
        for batch in (first, second)
        for m in (0, 1)
        for e in range(ENVS)
    ]
    drawn = np.concatenate(starts)
    # At least 24 / 4 = 6 episodes in each of 12 streams. Of n numbers drawn from 1,000, n²/2000 pairs (about 3 for
    # 80) are expected to coincide by chance; streams that were shared would repeat in whole.
    assert all(len(own) >= 6 for own in starts)
    assert len(drawn) - len(np.unique(drawn)) <= 12


def test_the_same_seeds_give_the_same_bits(collector, rng):
    noise = noise_of(rng, 2)
    once, again = (gather(collector, SEEDS, noise) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, once, again)


def test_a_stream_depends_neither_on_the_other_members_nor_on_how_many_environments_there_are(collector, rng):
    noise = noise_of(rng, 2)
    both = gather(collector, SEEDS, noise)
    single = build_collector(DeviceEnvironment(Counter(), LIMIT), 1, by_noise, append_time=True)
    alone = gather(single, SEEDS[1:], noise[:, 1:, :1])
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x[:, 1:, :1], y), both, alone)


def test_episodes_go_on_from_batch_to_batch(collector, rng):
    noise = noise_of(rng, 2)
    whole, parts = gather(collector, SEEDS, noise), gather(collector, SEEDS, noise, parts=2)
    jax.tree.map(np.testing.assert_array_equal, whole, parts)


def test_networks_see_what_the_hosts_observer_writes(rng):
    raw, elapsed = rng.normal(size=(5, 3)).astype(np.float32), rng.integers(0, 100, 5)
    mean, std = rng.normal(size=3).astype(np.float32), np.array([0.0, 0.5, 2.0], np.float32)
    raw[:, 0] = mean[0]  # An entry that never varies, with a standard deviation of 0.
    for limit in (None, 100):
        rows = ObservationStatistics(*(np.tile(np.float64(x), (5, 1)) for x in (mean, std)))
        observer = Observer(rows, limit)
        expected = np.empty((5, observer.output_size), np.float32)
        observer.write(raw, elapsed, expected)
        found = network_inputs(*map(jnp.asarray, (raw, elapsed.astype(np.int32), mean, std)), limit)
        # float64 rounded once against some roundings in float32.
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_each_member_has_its_own_statistics_which_leave_the_time_alone(collector, rng):
    noise = noise_of(rng, 2)
    mean, std = np.float32([[100, 200], [0, 0]]), np.float32([[2, 4], [1, 1]])
    plain = gather(collector, SEEDS, noise)
    batch = gather(collector, SEEDS, noise, mean=mean, std=std)
    for inputs, raw in (
        (batch.observations, plain.observations),
        (batch.next_observations, plain.next_observations),
    ):
        by_hand = (raw[..., :2] - mean[None, :, None]) / std[None, :, None]
        np.testing.assert_allclose(inputs[..., :2], by_hand, rtol=1e-6)
        np.testing.assert_array_equal(inputs[..., 2], raw[..., 2])


def test_minatar_goes_through_as_images_with_ends_and_fresh_starts(rng):
    pytest.importorskip("gymnax")
    environment = make_device_environment(describe_task("gymnax:Breakout-MinAtar", episode_limit=20))
    collector = build_collector(environment, ENVS, by_noise)
    noise = noise_of(rng, 2)
    batch = gather(collector, SEEDS, noise, size=400)
    assert batch.observations.shape == (TIME, 2, ENVS, 10, 10, 4)
    ended = batch.terminated | batch.truncated
    assert ended.any()
    follows = (batch.observations[1:] == batch.next_observations[:-1]).all((-3, -2, -1))
    np.testing.assert_array_equal(follows, ~ended[:-1])
    # A fresh game: the paddle (row 9) in column 4, the ball at row 3 on the left or right, three rows of bricks.
    fresh = batch.observations[1:][ended[:-1]]
    assert (fresh[:, 9, 4, 0] == 1).all()
    assert (fresh[:, 3, [0, 9], 1].sum(-1) == 1).all()
    assert (fresh[..., 3].sum((1, 2)) == 30).all()


def test_continuous_actions_reach_the_environment_as_it_takes_them_and_the_batch_as_they_were_drawn():
    pytest.importorskip("gymnax")
    environment = make_device_environment(describe_task("gymnax:Pendulum-v1"))

    def act(actor, observations, noise):
        return noise, jnp.clip(noise, -2.0, 2.0)

    collector = build_collector(environment, ENVS, act)
    noise = np.full((2, 1, ENVS, 1), 5.0, np.float32)
    batch = gather(collector, SEEDS[:1], noise, size=3)
    np.testing.assert_array_equal(batch.actions, noise)
    # Gymnasium's pendulum: θ' = θ̇ + (15 sin θ + 3 u) · 0.05, at most ±8, with u = 2.
    sine, velocity = batch.observations[..., 1], batch.observations[..., 2]
    by_hand = np.clip(velocity + (15 * sine + 6) * 0.05, -8, 8)
    np.testing.assert_allclose(batch.next_observations[..., 2], by_hand, rtol=1e-5, atol=1e-5)
