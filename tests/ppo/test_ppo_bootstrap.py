"""What follows the last row of an episode: nothing after a termination, V(final observation) after a truncation.

The critic is made by hand, V(s) = 3 · episode + t / 2 in the corridor of tests/envs/probes.py, so that the value of a
final observation (episode k, step 5) differs from that of the next episode's first (episode k + 1, step 0).
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.probes import CORRIDOR_LIMIT, ECHO_HIGH, ECHO_LOW
from escapevelocity.envs import ObservationStatistics, describe_task
from escapevelocity.ppo.config import (
    EnvironmentConfig,
    NetworkConfig,
    ObjectiveConfig,
    OptimizerConfig,
    PPOSpec,
)
from escapevelocity.ppo.networks import Actor, Agent, Network
from escapevelocity.ppo.programs import build_programs
from escapevelocity.ppo.rollout import Rollout, collect, make_lanes

GAMMA, LENGTH, ENVS = 0.9, 13, 2
SPEC = PPOSpec(
    task="EvCorridor-v0",
    seeds=(1, 2),
    steps=LENGTH * ENVS,
    environment=EnvironmentConfig(num_envs=ENVS, rollout_length=LENGTH, append_time=False),
    network=NetworkConfig(hidden=(2,), activation="relu", head="softmax"),
    objective=ObjectiveConfig(gamma=GAMMA, gae_lambda=1.0),
    optimizer=OptimizerConfig(minibatch_size=LENGTH * ENVS),
)


def value(episode, t):
    return 3.0 * episode + 0.5 * t


def hand_made_agents() -> Agent:
    """Two members: any actor; ReLU units that pass on (episode, t), never negative, and a head that weighs them."""
    actor = Network((jnp.zeros((2, 3)), jnp.zeros((2, 2))), (jnp.zeros(2), jnp.zeros(2)), activation="relu")
    weights = jnp.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]), jnp.array([[3.0, 0.5]])
    critic = Network(weights, (jnp.zeros(2), jnp.zeros(1)), activation="relu")
    return jax.tree.map(lambda x: jnp.stack([x, x]), Agent(Actor(actor, None), critic))


@pytest.fixture(scope="module")
def corridor_batch():
    """One batch of two members × two environments; jumps at will, so that both kinds of end occur."""
    task = describe_task("EvCorridor-v0")
    rollout = Rollout.empty(LENGTH, 2, ENVS, (3,), task)
    rollout.noise[..., 0] = np.random.default_rng(4).random((LENGTH, 2, ENVS)) < 0.15
    identity = ObservationStatistics.identity(2, 3)
    lanes = make_lanes(task, SPEC.environment, rollout, SPEC.seeds, identity, 0, 1, 1)
    for lane in lanes:
        lane.begin(lambda parameters, observations, noise: noise[..., 0].astype(np.int32), ())
    collect(lanes, LENGTH)
    for lane in lanes:
        lane.close()
    ended = rollout.terminated | rollout.truncated
    assert rollout.terminated.sum() >= 2
    assert rollout.truncated.sum() >= 2
    assert not ended[-1].all(), "some episode is cut by the end of the batch"
    return rollout


def prepare(spec: PPOSpec, rollout: Rollout):
    programs = build_programs(spec, describe_task(spec.task))
    batch, _, _ = programs.prepare(
        hand_made_agents(),
        rollout.observations,
        rollout.next_observations,
        rollout.actions,
        rollout.noise,
        rollout.rewards,
        rollout.terminated,
        rollout.truncated,
        jnp.zeros(2, jnp.uint32),
        jnp.uint32(0),
    )
    return jax.tree.map(np.asarray, batch)


def returns_by_hand(rollout: Rollout, time_limit: str) -> np.ndarray:
    """Σ γᵏ r and, where the sum stops before the episode's own end, γⁿ V of the last successor."""
    expected = np.zeros(rollout.rewards.shape)
    for member, env in np.ndindex(rollout.rewards.shape[1:]):
        for t in range(LENGTH):
            total, discount = 0.0, 1.0
            for k in range(t, LENGTH):
                total += discount * float(rollout.rewards[k, member, env])
                discount *= GAMMA
                if rollout.terminated[k, member, env]:
                    break
                _, episode, step = rollout.next_observations[k, member, env]
                at_limit = step == CORRIDOR_LIMIT
                if at_limit and time_limit == "termination":
                    break
                if at_limit or k == LENGTH - 1:
                    total += discount * value(episode, step)
                    break
            expected[t, member, env] = total
    return expected


@pytest.mark.parametrize("time_limit", ["truncation", "termination"])
def test_returns_stop_at_terminations_and_go_on_with_the_final_observations_value(corridor_batch, time_limit):
    environment = dataclasses.replace(SPEC.environment, time_limit=time_limit)
    batch = prepare(dataclasses.replace(SPEC, environment=environment), corridor_batch)
    expected = returns_by_hand(corridor_batch, time_limit)
    found = batch.returns.reshape(2, LENGTH, ENVS).swapaxes(0, 1)
    # Thirteen float32 additions of numbers below 500.
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    _, episode, step = np.moveaxis(corridor_batch.observations, -1, 0)
    np.testing.assert_allclose(
        found - batch.advantages.reshape(2, LENGTH, ENVS).swapaxes(0, 1), value(episode, step)
    )


def test_the_two_ways_of_time_limits_differ_by_the_final_observations_value(corridor_batch):
    """λ = 0: the last row of a cut episode k is r + γ V(k, 5) − V(k, 4), or without the middle term."""
    last = corridor_batch.truncated
    _, episode, step = np.moveaxis(corridor_batch.observations, -1, 0)
    np.testing.assert_array_equal(step[last], CORRIDOR_LIMIT - 1)
    one_step = dataclasses.replace(SPEC, objective=ObjectiveConfig(gamma=GAMMA, gae_lambda=0.0))
    for time_limit, bootstrap in (("truncation", GAMMA * value(episode, CORRIDOR_LIMIT)), ("termination", 0)):
        environment = dataclasses.replace(SPEC.environment, time_limit=time_limit)
        batch = prepare(dataclasses.replace(one_step, environment=environment), corridor_batch)
        advantages = batch.advantages.reshape(2, LENGTH, ENVS).swapaxes(0, 1)
        expected = 100 * episode + 40 + bootstrap - value(episode, 4)
        np.testing.assert_allclose(advantages[last], expected[last], rtol=1e-5)
        # A jump is the end under either setting, and every other row bootstraps with its successor.
        rewards = 100 * episode + 10 * step
        np.testing.assert_allclose(
            advantages[corridor_batch.terminated],
            (rewards + 1 - value(episode, step))[corridor_batch.terminated],
            rtol=1e-5,
        )
        inside = ~(last | corridor_batch.terminated)
        np.testing.assert_allclose(
            advantages[inside],
            (rewards + GAMMA * value(episode, step + 1) - value(episode, step))[inside],
            rtol=1e-5,
        )


@pytest.mark.parametrize("head", ["tanh_normal", "normal", "normal_independent"])
def test_the_environment_gets_actions_inside_its_bounds_from_every_head(head):
    spec = dataclasses.replace(SPEC, task="EvEcho-v0", network=NetworkConfig(hidden=(2,), head=head))
    task = describe_task("EvEcho-v0")
    programs = build_programs(spec, task)
    agent = programs.initialize(jnp.asarray(spec.seeds, jnp.uint32)).agent
    rollout = Rollout.empty(LENGTH, 2, ENVS, (3,), task)
    # Ten standard deviations in all directions.
    rollout.noise[...] = 10 * np.random.default_rng(0).normal(size=rollout.noise.shape)
    lanes = make_lanes(
        task, spec.environment, rollout, spec.seeds, ObservationStatistics.identity(2, 3), 0, 2, 1
    )
    for lane in lanes:
        lane.begin(programs.act, tuple(jax.tree.leaves(agent.actor)))
    collect(lanes, LENGTH)
    for lane in lanes:
        lane.close()
    received = rollout.next_observations[..., 1:]
    assert (received >= ECHO_LOW).all()
    assert (received <= ECHO_HIGH).all()
    # Both bounds are reached (tanh saturates in float32 or nearly so), so that the bounds were put to the test.
    np.testing.assert_allclose(received.min(axis=(0, 1, 2)), ECHO_LOW, rtol=1e-3)
    np.testing.assert_allclose(received.max(axis=(0, 1, 2)), ECHO_HIGH, rtol=1e-3)
    if head != "tanh_normal":
        assert np.abs(rollout.actions).max() > 5, "kept as drawn, unclipped"
