"""Does it learn: environments whose values are known by hand, and CartPole.

The probes follow the idea of rejax's tests (and Jones 2021, "Debugging RL, without the agonizing pain"): each is solved
only if one more part of the algorithm is right.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import probe_environments  # noqa: F401 (registers the probes)
import pytest
from small_ppo import assert_same_bits, small_spec
from walk_runs import Calls, train

from escapevelocity.ppo import group as group_module
from escapevelocity.ppo.job import PPOJob, task_of
from escapevelocity.ppo.measure import view
from escapevelocity.ppo.presets import preset_spec
from escapevelocity.ppo.programs import action_distribution, build_programs

GAMMA = 0.5
FAST = {
    "objective": {"gamma": GAMMA, "gae_lambda": 1.0},
    "optimizer": {"learning_rate": 1e-2, "epochs": 8, "minibatch_size": 32, "max_grad_norm": 10.0},
    "monitoring": {"health_every": 0},
}


def watched(monkeypatch, spec):
    """Train; give what every update saw, and what the final agent of the first member does in `observations`."""
    calls = Calls(build_programs(spec, task_of(spec)))
    monkeypatch.setattr(group_module, "build_programs", lambda spec, task: calls.wrapped())
    rows, states, _ = train(spec)
    agent = jax.tree.map(lambda x: jnp.asarray(x[0]), states[-1].learner.agent)
    distribution = action_distribution(spec, task_of(spec))

    def shown(observations):
        seen = view(agent, jnp.asarray(observations, jnp.float32)[:, None], distribution)
        return np.asarray(seen.params), np.asarray(seen.critic.outputs)[:, 0]

    return rows, [jax.tree.map(lambda x: x[0], arguments[1]) for arguments, _ in calls.seen], shown


def test_naming_the_sign_of_the_observation_is_learned_with_its_value_advantage_and_policy(monkeypatch):
    spec = small_spec("softmax", task="EvSign-v0", steps=64 * 30, **FAST)
    rows, batches, shown = watched(monkeypatch, spec)
    for batch in (batches[0], batches[-1]):
        right = np.asarray(batch.actions) == (np.asarray(batch.observations)[:, 0] > 0)
        # Every episode is one step and terminates, so the advantage is r − V(s), and the critic's target is r.
        np.testing.assert_array_equal(batch.returns.round(5), np.where(right, 1.0, -1.0))
        np.testing.assert_allclose(batch.advantages, np.where(right, 1.0, -1.0) - batch.values, atol=1e-6)
    # 64 coin flips: a mean return within 4/√64 of 0 at the start; then hardly a miss.
    assert abs(rows[0]["perf/return_mean"]) < 0.5
    assert rows[0]["perf/episodes"] == 64
    assert rows[-1]["perf/return_mean"] > 0.9
    logits, values = shown([-1.0, 1.0])
    probs = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    assert probs[0, 0] > 0.9
    assert probs[1, 1] > 0.9
    # V = P(right) − P(wrong) of recent policies: 1, but for what is left of exploration.
    np.testing.assert_allclose(values, 1.0, atol=0.15)


def test_a_reward_of_the_next_step_is_worth_gamma_now_and_a_box_action_finds_its_best(monkeypatch):
    spec = small_spec("tanh_normal", task="EvDelay-v0", steps=64 * 60, **FAST)
    rows, batches, shown = watched(monkeypatch, spec)
    assert rows[0]["perf/length_mean"] == 2
    first = batches[0]
    paid = np.asarray(first.observations)[:, 0] == 1
    rewards = 1 - (np.tanh(np.asarray(first.actions, np.float64)[:, 0]) - 0.5) ** 2
    # λ = 1: the return of the paying step is its reward, and that of the step before it γ times as much. Time runs over
    # rows of two environments, so the next step is two rows below.
    np.testing.assert_allclose(first.returns[paid], rewards[paid], atol=1e-5)
    np.testing.assert_allclose(
        np.asarray(first.returns)[:-2][~paid[:-2]], GAMMA * rewards[2:][paid[2:]], atol=1e-5
    )
    params, values = shown([0.0, 1.0])
    # The best environment action is ½, worth 1. The std left over costs a little: E(a − ½)² is about its square.
    assert abs(np.tanh(params[1, 0]) - 0.5) < 0.15
    assert rows[-1]["perf/return_mean"] > 0.9
    np.testing.assert_allclose(values[1], 1.0, atol=0.1)
    np.testing.assert_allclose(values[0], GAMMA * values[1], atol=0.05)


@pytest.mark.slow
def test_cartpole_is_learned_by_every_seed():
    """CleanRL's ppo.py with these settings passes 400 by 100,000 steps (its documentation's learning curves). Here the
    learning rate is annealed over 80,000 steps already; 195 was the mark for "solved" of CartPole-v0, and a random
    policy returns 22."""
    spec = preset_spec("classic", "CartPole-v1", discrete=True, seeds=(1, 2, 3))
    spec = dataclasses.replace(
        spec, steps=80_000, monitoring=dataclasses.replace(spec.monitoring, health_every=0)
    )
    rows, _, _ = train(spec)
    for seed in spec.seeds:
        own = [row for row in rows if row["seed"] == seed]
        finished = [row for row in own[-20:] if row["perf/episodes"]]
        late = np.average(
            [row["perf/return_mean"] for row in finished], weights=[row["perf/episodes"] for row in finished]
        )
        assert own[0]["perf/return_mean"] < 50
        assert late > 195, (seed, late)


def test_training_does_not_change_the_state_it_started_from():
    spec = small_spec("softmax", task="EvSign-v0", steps=64 * 30, **FAST)
    state = PPOJob().initial_state(spec)
    before = jax.tree.map(np.array, state)
    train(spec, state=state)
    assert_same_bits(jax.tree.map(np.array, state), before)
