"""The compiled programs: what they are given, what they give back, and where their randomness comes from."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_ppo import BOX, DISCRETE, INPUTS, assert_same_bits, numpy_mlp, small_spec, task_for

from escapevelocity.policy import DiagonalNormal, Softmax, TanhNormal
from escapevelocity.ppo.programs import (
    Stream,
    action_distribution,
    build_programs,
    goes_one_by_one,
    input_shape,
    member_key,
    one_by_one,
)

SEEDS = jnp.asarray([5, 3], jnp.uint32)
TIME, ENVS = 32, 2


@pytest.mark.parametrize(
    ("head", "family", "std"),
    [
        ("tanh_normal", TanhNormal, "softplus"),
        ("normal", DiagonalNormal, "softplus"),
        ("normal_independent", DiagonalNormal, "exp"),
    ],
)
def test_the_head_names_the_family_and_the_task_its_bounds(head, family, std):
    distribution = action_distribution(small_spec(head), BOX)
    assert (type(distribution), distribution.std) == (family, std)
    assert (distribution.low, distribution.high) == (BOX.actions.low, BOX.actions.high)


def test_discrete_actions_are_softmax_and_as_many_as_the_tasks():
    distribution = action_distribution(small_spec("softmax"), DISCRETE)
    assert type(distribution) is Softmax
    assert distribution.num_actions == 3


def test_the_time_is_one_more_input():
    assert input_shape(small_spec(environment={"append_time": False}), BOX) == (INPUTS,)
    assert input_shape(small_spec(environment={"append_time": True}), BOX) == (INPUTS + 1,)


@pytest.fixture(scope="module", params=["tanh_normal", "softmax"])
def built(request):
    spec = small_spec(request.param)
    programs = build_programs(spec, task_for(spec))
    return spec, programs, programs.initialize(SEEDS)


def test_a_member_starts_from_its_seed_alone(built):
    _, programs, learner = built
    swapped = programs.initialize(SEEDS[::-1])
    assert_same_bits(jax.tree.map(lambda x: np.asarray(x)[::-1], swapped), jax.tree.map(np.asarray, learner))
    first = np.asarray(learner.agent.critic.weights[0])
    assert not np.array_equal(first[0], first[1])
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(learner.moments))


def test_noise_depends_on_seed_and_batch_and_on_nothing_else(built):
    spec, programs, _ = built
    noise = np.asarray(programs.draw_noise(SEEDS, jnp.uint32(4)))
    assert noise.shape == (TIME, 2, ENVS, 2 if spec.network.head == "tanh_normal" else 3)
    again = np.asarray(programs.draw_noise(SEEDS[::-1], jnp.uint32(4)))
    np.testing.assert_array_equal(noise[:, 0], again[:, 1])
    other = np.asarray(programs.draw_noise(SEEDS, jnp.uint32(5)))
    for a, b in (
        (noise[:, 0], noise[:, 1]),
        (noise, other),
        (noise[:16], noise[16:]),
        (noise[:, :, 0], noise[:, :, 1]),
    ):
        assert not np.any(a == b)  # float32 draws: one equal pair among 200 has probability 1e-5


def test_every_stream_of_a_seed_has_a_key_of_its_own():
    streams = (Stream.INITIALIZATION, Stream.NOISE, Stream.ORDER, Stream.EVALUATION)
    keys = {
        tuple(np.asarray(jax.random.key_data(member_key(jnp.uint32(seed), stream))))
        for seed in range(20)
        for stream in streams
    }
    assert len(keys) == 80


def test_the_policy_step_is_the_actors_distribution_with_the_given_noise(built, rng):
    spec, programs, learner = built
    observations = rng.normal(size=(2, ENVS, INPUTS)).astype(np.float32)
    noise = np.asarray(programs.draw_noise(SEEDS, jnp.uint32(0)))[0]
    drawn = np.asarray(programs.act(tuple(jax.tree.leaves(learner.agent.actor)), observations, noise))
    for member in range(2):
        mlp = jax.tree.map(lambda x, i=member: x[i], learner.agent.actor.network)
        outputs = numpy_mlp(mlp, observations[member])[0]
        if spec.network.head == "softmax":
            np.testing.assert_array_equal(drawn[member], np.argmax(outputs + noise[member], axis=-1))
            continue
        mean, x = np.split(outputs, 2, axis=-1)
        action = mean + (np.logaddexp(0, x + np.log(np.exp(0.99) - 1)) + 0.01) * noise[member]
        low, high = np.array(BOX.actions.low), np.array(BOX.actions.high)
        np.testing.assert_allclose(drawn[member, :, :2], action, rtol=1e-5, atol=1e-6)
        to_box = low + (high - low) * (np.tanh(action) + 1) / 2
        np.testing.assert_allclose(drawn[member, :, 2:], to_box, rtol=1e-5, atol=1e-6)


def random_rollout(rng, programs):
    """Arrays (time, members, environments, …) of a rollout with some ends of both kinds."""

    def normal(*shape):
        return rng.normal(size=(TIME, 2, ENVS, *shape)).astype(np.float32)

    observations = normal(INPUTS)
    terminated = rng.random((TIME, 2, ENVS)) < 0.1
    truncated = (rng.random((TIME, 2, ENVS)) < 0.1) & ~terminated
    next_observations = normal(INPUTS)
    goes_on = ~(terminated | truncated)[:-1]
    next_observations[:-1][goes_on] = observations[1:][goes_on]
    noise = np.asarray(programs.draw_noise(SEEDS, jnp.uint32(0)))
    actions = rng.integers(3, size=(TIME, 2, ENVS)).astype(np.int32)
    return observations, next_observations, actions, noise, normal(), terminated, truncated


@pytest.mark.parametrize("time_limit", ["termination", "truncation"])
def test_advantages_and_returns_equal_those_of_stable_baselines3(time_limit, rng):
    sb3 = pytest.importorskip("stable_baselines3.common.buffers")
    torch = pytest.importorskip("torch")
    from gymnasium.spaces import Box, Discrete

    spec = small_spec(
        "softmax", environment={"time_limit": time_limit}, objective={"gamma": 0.9, "gae_lambda": 0.8}
    )
    programs = build_programs(spec, DISCRETE)
    agent = programs.initialize(SEEDS).agent
    rollout = random_rollout(rng, programs)
    observations, next_observations, actions, _, rewards, terminated, truncated = rollout
    batch, _, _ = programs.prepare(agent, *rollout, SEEDS, jnp.uint32(0))
    for member in range(2):
        critic = jax.tree.map(lambda x, i=member: x[i], agent.critic)
        values, next_values = (
            numpy_mlp(critic, x[:, member].reshape(-1, INPUTS))[0].reshape(TIME, ENVS)
            for x in (observations, next_observations)
        )
        ended = (terminated | truncated)[:, member]
        buffer = sb3.RolloutBuffer(
            TIME, Box(-9, 9, (INPUTS,)), Discrete(3), "cpu", gae_lambda=0.8, gamma=0.9, n_envs=ENVS
        )
        start = np.ones(ENVS)
        for t in range(TIME):
            reward = rewards[t, member].astype(np.float64)
            if (
                time_limit == "truncation"
            ):  # As SB3's collect_rollouts does with infos["TimeLimit.truncated"].
                reward = reward + 0.9 * np.where(truncated[t, member], next_values[t], 0.0)
            buffer.add(
                observations[t, member],
                actions[t, member, :, None],
                reward,
                start,
                torch.as_tensor(values[t]),
                torch.zeros(ENVS),
            )
            start = ended[t].astype(np.float64)
        buffer.compute_returns_and_advantage(torch.as_tensor(next_values[-1]), ended[-1])
        # Time first, then environments, as the batch is flattened.
        np.testing.assert_allclose(batch.advantages[member], buffer.advantages.ravel(), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(batch.returns[member], buffer.returns.ravel(), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(batch.values[member], values.ravel(), rtol=1e-5, atol=1e-6)
    assert (terminated.sum() > 3) & (truncated.sum() > 3)


def test_a_batch_holds_every_sample_once_in_the_order_of_time(built, rng):
    spec, programs, learner = built
    observations, next_observations, actions, noise, rewards, terminated, truncated = random_rollout(
        rng, programs
    )
    if spec.network.head == "tanh_normal":
        actions = noise
    arrays = observations, next_observations, actions, noise, rewards, terminated, truncated
    batch, seen, _ = programs.prepare(learner.agent, *arrays, SEEDS, jnp.uint32(0))
    for ours, given in ((batch.observations, observations), (batch.actions, actions), (batch.noise, noise)):
        assert ours.shape[:2] == (2, TIME * ENVS)
        np.testing.assert_array_equal(ours, np.swapaxes(given, 0, 1).reshape(ours.shape))
    np.testing.assert_array_equal(seen.critic.outputs[..., 0], batch.values)
    # The old log-probabilities are those of the parameters that are shown.
    distribution = action_distribution(spec, task_for(spec))
    np.testing.assert_allclose(
        distribution.log_prob(seen.params, batch.actions), batch.log_probs, rtol=1e-5, atol=1e-5
    )


def test_the_update_draws_another_order_for_every_batch_and_seed_and_the_same_again(built, rng):
    spec, programs, learner = built
    arrays = *random_rollout(rng, programs)[:2], *_acts(spec, rng, programs)
    batch, _, _ = programs.prepare(learner.agent, *arrays, SEEDS, jnp.uint32(0))
    same = jax.tree.map(lambda x: jnp.stack([x[0], x[0]]), (learner, batch))
    rate, active = jnp.float32(1e-2), np.ones(2, bool)

    def final(seeds, number):
        updated, _ = programs.update(
            *same, jnp.asarray(seeds, jnp.uint32), jnp.uint32(number), jnp.float32(0), rate, active
        )
        return np.asarray(updated.agent.critic.weights[0])

    one = final([5, 3], 0)
    assert not np.array_equal(one[0], one[1])  # the seeds differ, and nothing else does
    np.testing.assert_array_equal(one[::-1], final([3, 5], 0))
    assert not np.array_equal(one, final([5, 3], 1))
    np.testing.assert_array_equal(one, final([5, 3], 0))
    np.testing.assert_allclose(one[0], one[1], atol=12 * 2e-2)  # but both learned from the same samples


def _acts(spec, rng, programs):
    _, _, actions, noise, rewards, terminated, truncated = random_rollout(rng, programs)
    return (noise if spec.network.head == "tanh_normal" else actions), noise, rewards, terminated, truncated


def test_programs_are_built_once_for_equal_settings():
    spec = small_spec("softmax")
    assert build_programs(spec, DISCRETE) is build_programs(
        dataclasses.replace(spec), dataclasses.replace(DISCRETE)
    )


@pytest.mark.parametrize("members", [1, 3])
def test_one_member_after_the_other_gives_what_all_at_once_give(members, rng):
    x = rng.normal(size=(members, 4)).astype(np.float32)
    y = rng.normal(size=(5, members, 4)).astype(np.float32)

    def function(x, pair, scale):
        return {"sum": (x[None] + pair[0]) * scale}, pair[1].sum()

    arguments, axes = (x, (y, y + 1), np.float32(2)), (0, 1, None)
    expected = jax.vmap(function, in_axes=axes)(*arguments)
    assert_same_bits(one_by_one(function, axes)(*arguments), expected)


@pytest.mark.parametrize(
    ("convolutions", "cpu", "accelerator"),
    [("none", False, False), ("minatar", True, False), ("nature", True, True)],
)
def test_members_with_convolutions_go_one_by_one_small_ones_on_the_cpu_alone(
    convolutions, cpu, accelerator, monkeypatch
):
    spec = small_spec("softmax", network={"convolutions": convolutions})
    assert goes_one_by_one(spec) == cpu
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert goes_one_by_one(spec) == accelerator
