"""Training on images: what the critic looks at, what training sees of rewards, and where images stay."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_ppo import BOX, DISCRETE, assert_same_bits, small_spec

from escapevelocity.errors import UserError
from escapevelocity.ppo.advantages import Rewards, advantages_and_returns
from escapevelocity.ppo.agent import load
from escapevelocity.ppo.config import EnvironmentConfig, NetworkConfig
from escapevelocity.ppo.evaluation import evaluate
from escapevelocity.ppo.experience import HostExperience
from escapevelocity.ppo.group import Group
from escapevelocity.ppo.initialization import initial_agent
from escapevelocity.ppo.job import PPOJob, task_of
from escapevelocity.ppo.presets import preset_spec
from escapevelocity.ppo.programs import build_programs
from escapevelocity.ppo.training import train

TIME, ENVS, SHAPE = 6, 3, (2, 2, 1)

# A linear layer of two units over 28,224 pixels: what is tested here does not depend on convolutions.
ATARI = preset_spec("atari", "ALE/Breakout-v5", discrete=True, seeds=(4,))
GAME = dataclasses.replace(
    ATARI,
    steps=2 * 16 * 3 * 2,
    network=NetworkConfig(hidden=(2,), activation="relu", head="softmax"),
    environment=dataclasses.replace(ATARI.environment, num_envs=2, rollout_length=16),
    optimizer=dataclasses.replace(ATARI.optimizer, epochs=1, minibatch_size=16),
)


def discounted_by_hand(rewards, next_values, terminated, ended, gamma, lam, values):
    """GAE by its recursion, one environment at a time (Schulman et al. 2016, eq. 16)."""
    advantages = np.zeros_like(rewards)
    for env in range(rewards.shape[1]):
        running = 0.0
        for t in reversed(range(rewards.shape[0])):
            delta = (
                rewards[t, env] + gamma * (0 if terminated[t, env] else next_values[t, env]) - values[t, env]
            )
            running = delta + gamma * lam * (0 if ended[t, env] else running)
            advantages[t, env] = running
    return advantages


@pytest.mark.parametrize("time_limit", ["termination", "truncation"])
@pytest.mark.parametrize("limit", [2, None])
def test_few_looks_at_images_give_the_advantages_of_all_looks(rng, time_limit, limit):
    spec = small_spec("softmax", environment={"time_limit": time_limit})
    agent = initial_agent(jax.random.key(0), NetworkConfig(hidden=(5,), head="softmax"), 4, 3)
    images = rng.normal(size=(TIME + 1, ENVS, *SHAPE)).astype(np.float32)
    final = rng.normal(size=(TIME, ENVS, *SHAPE)).astype(np.float32)
    terminated = rng.random((TIME, ENVS)) < 0.2
    truncated = ~terminated & (rng.random((TIME, ENVS)) < (0.4 if limit is None else 0.3))
    truncated[0, 0], terminated[0, 0] = True, False
    if limit is not None:
        truncated[1:] &= ~truncated[:-1]  # a limit of 2 cannot cut in two steps running
        terminated[1:] &= ~truncated[:-1]
    ended = terminated | truncated
    successors = np.where(ended[..., None, None, None], final, images[1:])
    rewards = rng.normal(size=(TIME, ENVS)).astype(np.float32)

    def value(x):
        return np.asarray(agent.values(jnp.asarray(x).reshape(-1, 4))).reshape(x.shape[:2])

    values = value(images[:-1])
    ours, returns = jax.jit(
        lambda a, v, n: advantages_and_returns(
            a, v, n, Rewards(*map(jnp.asarray, (rewards, terminated, truncated))), limit, spec
        )
    )(agent, values, successors)
    stops = ended if time_limit == "termination" else terminated
    o = spec.objective
    expected = discounted_by_hand(rewards, value(successors), stops, ended, o.gamma, o.gae_lambda, values)
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(returns, expected + values, rtol=1e-5, atol=1e-5)


def test_training_sees_signs_of_rewards_and_the_records_see_them_raw():
    spec = small_spec("softmax", environment={"rewards": "sign"}, objective={"gamma": 0.0})
    programs = build_programs(spec, DISCRETE)
    seeds = jnp.asarray([5], jnp.uint32)
    learner = programs.initialize(seeds)
    rewards = np.linspace(-40, 70, 64, dtype=np.float32).reshape(32, 1, 2)
    rewards[3] = 0
    zeros, flags = np.zeros((32, 1, 2, 3), np.float32), np.zeros((32, 1, 2), bool)
    actions = np.zeros((32, 1, 2), np.int32)
    batch, _, _ = programs.prepare(
        learner.agent, zeros, zeros, actions, zeros, rewards, flags, flags, seeds, jnp.uint32(0)
    )
    # With γ = 0 the critic's target is the reward that training sees.
    np.testing.assert_allclose(batch.returns[0], np.sign(rewards).ravel(), atol=1e-6)


def one_batch(keeps_images: bool):
    state = PPOJob().initial_state(GAME)
    group = Group(GAME, task_of(GAME), slice(0, 1), state)
    experience = HostExperience(GAME, task_of(GAME), state, 0, [group])
    experience._keeps_images = keeps_images
    experience.collect(0)
    rollout = {name: np.array(array) for name, array in vars(group.rollout).items()}
    rows = group.learn(0, boundary=True)
    experience.close()
    return rollout, [row.columns for row in rows], group.learner


def test_images_kept_on_the_device_are_those_of_the_host_and_training_does_not_notice():
    on_host, rows, learner = one_batch(keeps_images=False)
    kept, kept_rows, kept_learner = one_batch(keeps_images=True)
    assert_same_bits(kept, on_host)
    assert_same_bits(kept_learner, learner)
    assert on_host["observations"].shape == (16, 1, 2, 84, 84, 4)
    assert on_host["observations"].dtype == np.uint8
    assert rows[0]["env_steps"] == kept_rows[0]["env_steps"] == 16 * 2 * 3  # frames
    # Within an episode the successor is what is seen next.
    same = ~(on_host["terminated"] | on_host["truncated"])[:-1]
    np.testing.assert_array_equal(on_host["next_observations"][:-1][same], on_host["observations"][1:][same])


def test_a_game_trains_is_loaded_and_evaluated_and_repeats_itself(tmp_path):
    first, second = (train(GAME, tmp_path, name) for name in ("one", "two"))
    assert first.status.state == "finished"
    columns = [name for name in first.records().column_names if not name.startswith(("wall_time", "time/"))]
    assert (
        first.records().select(columns).to_pydict().__repr__()
        == second.records().select(columns).to_pydict().__repr__()
    )
    agent = load(first.path)
    stack = np.zeros((84, 84, 4), np.uint8)
    assert agent.act(stack) == agent.act(stack[None])[0]
    assert agent.act(stack.reshape(1, -1)).shape == (1,)
    with pytest.raises(
        UserError, match=r"^observation = \(1, 84, 84\): must be of shape \(84, 84, 4\) or \(n, 84, 84, 4\)$"
    ):
        agent.act(np.zeros((1, 84, 84), np.uint8))
    short = dataclasses.replace(agent, task=dataclasses.replace(agent.task, episode_limit=7))
    result = evaluate(short, 3, mode=False)
    assert result.lengths.tolist() == [7, 7, 7]  # no Breakout ends within 7 steps
    assert_same_bits(result, evaluate(short, 3, mode=False))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": {"convolutions": "nature"}}, r"^convolutions = 'nature': must be none for .*vectors of"),
        ({"network": {"head": "softmax"}}, r"^head = 'softmax': .* has Box actions"),
    ],
)
def test_networks_that_do_not_fit_a_vector_task_are_refused(changes, message):
    spec = small_spec("tanh_normal", task="Pendulum-v1", **changes)
    with pytest.raises(UserError, match=message):
        task_of(spec)
    assert BOX.observation_shape == (3,)


@pytest.mark.parametrize(("field", "value"), [("append_time", True), ("normalization", "fixed")])
def test_what_makes_sense_for_vectors_alone_is_refused_for_games(field, value):
    spec = dataclasses.replace(GAME, environment=dataclasses.replace(GAME.environment, **{field: value}))
    name = field.replace("_", "-")
    with pytest.raises(
        UserError, match=rf"^{name} = {value!r}: must be .* for images \(ALE/Breakout-v5: 84×84×4\)$"
    ):
        task_of(spec)
    assert EnvironmentConfig().frame_skip == 1
