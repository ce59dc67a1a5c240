"""A trained agent, loaded from its run: what it does is what the run's arrays say, computed here with NumPy alone."""

import dataclasses

import gymnasium
import jax
import numpy as np
import pytest
from scipy import stats

import escapevelocity
from end_to_end import checkpoint
from escapevelocity.errors import UserError
from escapevelocity.ppo.evaluation import evaluate

SEEDS, LIMIT = (4, 9), 25


def short_spec(task, preset, **environment):
    """Four batches of 64 steps, in one segment."""
    spec = escapevelocity.default_spec(task, preset, SEEDS)
    env = dataclasses.replace(
        spec.environment,
        num_envs=2,
        rollout_length=32,
        episode_limit=LIMIT,
        normalization_steps=100,
        **environment,
    )
    optimizer = dataclasses.replace(spec.optimizer, minibatch_size=32, epochs=2, learning_rate=3e-3)
    monitoring = dataclasses.replace(spec.monitoring, health_every=0)
    return dataclasses.replace(spec, steps=256, environment=env, optimizer=optimizer, monitoring=monitoring)


@pytest.fixture(scope="module")
def pusher(tmp_path_factory):
    """A run on Pusher, whose 7 actions lie in [−2, 2], with the preset `mujoco`."""
    return escapevelocity.train(short_spec("Pusher-v4", "mujoco"), tmp_path_factory.mktemp("pusher")).path


@pytest.fixture(scope="module")
def cartpole(tmp_path_factory):
    """A run on CartPole, Gymnasium's own, with the preset `classic`."""
    spec = short_spec("CartPole-v1", "classic", backend="gymnasium")
    return escapevelocity.train(spec, tmp_path_factory.mktemp("cartpole")).path


@pytest.fixture
def observations(pusher, rng):
    """Five observations such as the uniform policy met, (5, 23) float64; what never varied stays as it was."""
    arrays = checkpoint(pusher, 1)
    mean, std = (arrays[name][0].astype(float) for name in (".mean", ".std"))
    return mean + rng.normal(size=(5, 23)) * np.where(std > 1e-3, std, 0.0)


def outputs(run, seed, inputs):
    """The actor's outputs, from the arrays on disk: two tanh layers of 64 and a linear head."""
    arrays, member = checkpoint(run, 1), SEEDS.index(seed)
    hidden = inputs
    for layer in range(3):
        weight, bias = (
            arrays[f".learner.agent.actor.network.{kind}[{layer}]"][member].astype(float)
            for kind in ("weights", "biases")
        )
        hidden = hidden @ weight.T + bias
        hidden = np.tanh(hidden) if layer < 2 else hidden
    return hidden


def pusher_params(run, seed, observations, elapsed):
    """Mean and std of the normal below the tanh: normalised observation and time, then the biased softplus."""
    arrays, member = checkpoint(run, 1), SEEDS.index(seed)
    mean, std = (arrays[name][member].astype(float) for name in (".mean", ".std"))
    time = np.broadcast_to(2 * np.asarray(elapsed) / LIMIT - 1, len(observations))
    inputs = np.column_stack([(observations - mean) / np.maximum(std, 1e-6), time])
    mean, raw = np.split(outputs(run, seed, inputs), 2, axis=1)
    return mean, np.log1p(np.exp(raw + np.log(np.exp(0.99) - 1))) + 0.01


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("elapsed", [0, 7, np.array([0, 3, 24, 1, 2])])
def test_the_most_likely_action_is_that_of_the_arrays_on_disk(pusher, observations, seed, elapsed):
    agent = escapevelocity.load(pusher, seed)
    assert (agent.seed, agent.env_steps, agent.task.name) == (seed, 256, "Pusher-v4")
    mean, _ = pusher_params(pusher, seed, observations, elapsed)
    actions = agent.act(observations, elapsed)
    # float32 through two layers with inputs of a few tens: some 1e-6 relative to the largest sum.
    np.testing.assert_allclose(actions, 2 * np.tanh(mean), rtol=1e-4, atol=1e-5)
    assert (
        np.std(2 * np.tanh(mean), axis=0).min() > 1e-3
    )  # The observations matter, or this would prove little.


def test_members_and_checkpoints_are_told_apart(pusher, observations):
    first, second = (escapevelocity.load(pusher, seed) for seed in SEEDS)
    start = escapevelocity.load(pusher, SEEDS[0], checkpoint=0)
    assert start.env_steps == 0
    actions = [agent.act(observations) for agent in (first, second, start)]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(actions[one] - actions[other]).max() > 1e-3
    np.testing.assert_array_equal(escapevelocity.load(pusher).act(observations), actions[0])


def test_one_observation_gives_the_row_of_the_batch_whatever_its_type(pusher, observations):
    agent = escapevelocity.load(pusher)
    batch = agent.act(observations, np.arange(5))
    assert batch.shape == (5, 7)
    assert batch.dtype == np.float32
    for index, row in enumerate(observations):
        assert agent.act(row, index).shape == (7,)
        for given in (row, row.astype(np.float32), row.tolist()):
            # Programs for one and for five rows may round differently.
            np.testing.assert_allclose(agent.act(given, index), batch[index], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(agent.act(observations.tolist(), np.arange(5.0)), batch)
    assert agent.act(np.zeros(23, int)).shape == (7,)


def test_the_time_matters_to_agents_of_the_preset_mujoco_and_not_to_those_of_classic(
    pusher, cartpole, observations
):
    agent = escapevelocity.load(pusher)
    assert np.abs(agent.act(observations, 0) - agent.act(observations, LIMIT)).max() > 1e-3
    classic = escapevelocity.load(cartpole)
    key, states = jax.random.key(0), np.random.default_rng(0).normal(size=(200, 4))
    early, late = (classic.act(states, elapsed, mode=False, key=key) for elapsed in (0, 20))
    np.testing.assert_array_equal(early, late)


def test_sampled_actions_follow_the_distribution_of_the_arrays_on_disk(pusher, observations):
    agent = escapevelocity.load(pusher, 9)
    count = 4000
    rows = np.repeat(observations[:1], count, axis=0)
    actions = agent.act(rows, 7, mode=False, key=jax.random.key(3)).astype(float)
    mean, std = pusher_params(pusher, 9, observations[:1], 7)
    inside = np.abs(actions) < 2 * (1 - 1e-5)  # atanh in float32 is blind beyond.
    scores = (np.arctanh(np.clip(actions / 2, -1 + 1e-7, 1 - 1e-7)) - mean) / std
    for dimension in range(7):
        kept = scores[inside[:, dimension], dimension]
        assert len(kept) > 0.95 * count
        # A wrong std by 5 % or mean by 0.05 std gives p < 1e-3 about surely at this count; 7 true ones do not.
        assert stats.kstest(kept, "norm").pvalue > 1e-3
    correlations = np.corrcoef(scores.T) - np.eye(7)
    assert np.abs(correlations).max() < 5 / np.sqrt(count)


def test_the_same_key_gives_the_same_sample_and_another_key_another(pusher, observations):
    agent = escapevelocity.load(pusher)
    one, again, other = (agent.act(observations, mode=False, key=jax.random.key(k)) for k in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (one != other).all()
    assert not np.array_equal(one[0], agent.act(observations)[0])


@pytest.mark.parametrize("mode", [True, False])
def test_actions_stay_within_the_bounds_however_large_the_observation(pusher, mode):
    agent = escapevelocity.load(pusher)
    far = np.random.default_rng(1).choice([-1e8, 1e8], size=(50, 23))
    actions = agent.act(far, mode=mode, key=jax.random.key(0))
    assert np.abs(actions).max() <= 2.0
    assert np.abs(actions).max() > 1.0  # Wider than [−1, 1], so the bounds are the task's.


def test_discrete_actions_are_the_largest_logit_or_drawn_with_their_probabilities(cartpole):
    agent = escapevelocity.load(cartpole, 9)
    states = np.random.default_rng(2).normal(scale=3.0, size=(100, 4))
    logits = outputs(cartpole, 9, states)
    np.testing.assert_array_equal(agent.act(states), logits.argmax(axis=1))
    assert set(agent.act(states).tolist()) == {0, 1}
    action = agent.act(states[0])
    assert action.shape == ()
    assert gymnasium.make("CartPole-v1").action_space.contains(action)
    count = 10_000
    drawn = agent.act(np.repeat(states[:1], count, axis=0), mode=False, key=jax.random.key(0))
    probability = 1 / (1 + np.exp(logits[0, 0] - logits[0, 1]))
    # Five standard deviations of a binomial share.
    assert abs(drawn.mean() - probability) < 5 * np.sqrt(probability * (1 - probability) / count)


def test_an_evaluation_repeats_itself_and_depends_on_its_seed_and_on_how_actions_are_chosen(pusher):
    agent = escapevelocity.load(pusher)
    mode, again = evaluate(agent, 3), evaluate(agent, 3)
    sampled, resampled = evaluate(agent, 3, mode=False), evaluate(agent, 3, mode=False)
    np.testing.assert_array_equal(mode.returns, again.returns)
    np.testing.assert_array_equal(sampled.returns, resampled.returns)
    assert (mode.returns != sampled.returns).all()
    assert (mode.returns != evaluate(agent, 3, seed=1).returns).all()
    assert mode.lengths.tolist() == [LIMIT] * 3  # The run's own limit, not the task's 100.


def test_mistakes_with_an_agent_are_told(pusher, observations, tmp_path):
    agent = escapevelocity.load(pusher)
    for wrong in (observations[:, :22], observations[0, :22], observations[None], 1.0, []):
        with pytest.raises(UserError, match=r"observation = .*: must be of shape \(23,\) or \(n, 23\)"):
            agent.act(wrong)
    with pytest.raises(UserError, match=r"elapsed = .*: must be one number, or one for each of 5 rows"):
        agent.act(observations, np.arange(4))
    with pytest.raises(UserError, match="key = None: must be a JAX PRNG key when mode=False"):
        agent.act(observations, mode=False)
    with pytest.raises(UserError, match="seed = 5: must be one of the run's seeds: 4 9"):
        escapevelocity.load(pusher, 5)
    with pytest.raises(UserError, match="checkpoint = 7: must be one of the run's checkpoints: 0 1"):
        escapevelocity.load(pusher, checkpoint=7)
    with pytest.raises(UserError, match="is not a folder; give a run's folder"):
        escapevelocity.load(tmp_path / "nothing")
    with pytest.raises(UserError, match="episodes = 0: must be at least 1"):
        evaluate(agent, 0)
    with pytest.raises(UserError, match="seed = -1: must be between 0 and 2147483647"):
        evaluate(agent, 1, seed=-1)


def test_loading_past_a_damaged_checkpoint_warns(cartpole, tmp_path):
    import shutil

    run = shutil.copytree(cartpole, tmp_path / "run")
    path = run / "checkpoints" / "00001.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(
        RuntimeWarning, match=r"00001\.safetensors is damaged.*falling back from checkpoint 00001"
    ):
        assert escapevelocity.load(run).env_steps == 0
    with pytest.raises(UserError, match=r"00001\.safetensors is damaged: its checksum differs"):
        escapevelocity.load(run, checkpoint=1)
