"""Churn reduction against the divergences in closed form."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from remedy_agents import activations, agent_of, exact, observations_of
from remedy_views import TASK, batch_end, minibatch_view

from escapevelocity.errors import UserError
from escapevelocity.policy import Softmax
from escapevelocity.ppo.config import OptimizerConfig, PPOSpec
from escapevelocity.ppo.objective import Batch
from escapevelocity.ppo.remedies.c_chain import CChain
from escapevelocity.ppo.remedy import Step


def view_of(agent, state, rng, kind):
    other = Batch(**{**dict.fromkeys(Batch._fields), "observations": observations_of(kind, rng)})
    return minibatch_view(agent=agent, state=state, other=other, distribution=Softmax(2))


def discrete(kind, rng):
    agent = agent_of(kind, rng)
    return dataclasses.replace(agent, actor=dataclasses.replace(agent.actor, log_std=None))


def outputs(network, features):
    return features @ exact(network.weights[-1]).T + exact(network.biases[-1])


def by_numpy(agent, observations):
    """Log-probabilities and values in float64."""
    features = activations(agent.actor.network, observations)[-1]
    critic = features if len(agent.critic.weights) == 1 else activations(agent.critic, observations)[-1]
    logits = outputs(agent.actor.network, features)
    return logits - np.log(np.exp(logits).sum(1, keepdims=True)), outputs(agent.critic, critic)[:, 0]


@pytest.mark.parametrize("kind", ["dense", "shared"])
def test_the_penalty_is_the_change_of_policy_and_values_on_the_other_minibatch(kind, rng):
    before, now = discrete(kind, rng), discrete(kind, rng)
    remedy, view = CChain(coef=0.5, value_coef=2.0), view_of(now, before, rng, kind)
    term, numbers = jax.jit(lambda view: remedy.penalty(view))(view)
    (old, old_values), (new, new_values) = (by_numpy(a, view.other.observations) for a in (before, now))
    policy = (np.exp(old) * (old - new)).sum(1).mean()
    value = ((new_values - old_values) ** 2).mean()
    np.testing.assert_allclose(numbers["policy"], policy, rtol=1e-4)
    np.testing.assert_allclose(numbers["value"], value, rtol=1e-4)
    np.testing.assert_allclose(term, 0.5 * policy + 2.0 * value, rtol=1e-4)
    # The critic's part is off by default, and the policy's can be.
    np.testing.assert_allclose(CChain(coef=0.5).penalty(view)[0], 0.5 * policy, rtol=1e-4)
    np.testing.assert_allclose(CChain(coef=0.0, value_coef=1.0).penalty(view)[0], value, rtol=1e-4)


def test_its_gradient_is_zero_without_a_step_and_that_of_the_cross_entropy_after_one(rng):
    before, now = discrete("dense", rng), discrete("dense", rng)
    remedy, view = CChain(coef=1.0), view_of(before, before, rng, "dense")

    @jax.jit
    def gradient(agent):
        return jax.grad(lambda agent: remedy.penalty(view._replace(agent=agent))[0])(agent)

    for leaf in jax.tree.leaves(gradient(before)):
        np.testing.assert_allclose(leaf, 0, atol=1e-6)
    # ∂/∂logits of the mean cross-entropy is (π_now − π_before)/samples, and the head is linear.
    observations = view.other.observations
    old, new = (np.exp(by_numpy(agent, observations)[0]) for agent in (before, now))
    features = activations(now.actor.network, observations)[-1]
    expected = (new - old).T @ features / len(features)
    ours = gradient(now)
    np.testing.assert_allclose(ours.actor.network.weights[-1], expected, rtol=1e-3, atol=1e-6)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(ours.critic))


def test_the_parameters_before_a_step_are_remembered_for_the_next(rng):
    step = Step(
        **{**dict.fromkeys(Step._fields), "before": "old", "agent": "new", "moments": "m", "state": "older"}
    )
    assert tuple(CChain().after_step(step)) == ("new", "m", "old")
    agent = discrete("dense", rng)
    assert CChain().initial(agent) is agent


def test_the_mean_churn_of_the_applied_steps_is_recorded():
    trail = {"policy": jnp.asarray([[1.0, jnp.nan]]), "value": jnp.asarray([[2.0, 4.0]])}
    changed, numbers = CChain().after_batch(batch_end(trail=trail, state="s"))
    assert {name: float(x) for name, x in numbers.items()} == {"policy": 1.0, "value": 3.0}
    assert changed.state == "s"


def test_an_epoch_of_a_single_minibatch_has_no_other_one():
    spec = PPOSpec(optimizer=OptimizerConfig(minibatch_size=2048))
    with pytest.raises(UserError, match="minibatch-size = 2048: must be at most half the batch of 2048"):
        CChain().check(spec, TASK)
    CChain().check(PPOSpec(optimizer=OptimizerConfig(minibatch_size=1024)), TASK)


def test_it_is_idle_when_neither_churn_counts():
    assert CChain(coef=0.0).is_idle()
    assert not CChain().is_idle()
    assert not CChain(coef=0.0, value_coef=1.0).is_idle()


@pytest.mark.parametrize("field", ["coef", "value_coef"])
def test_wrong_fields_are_refused(field):
    message = f"c-chain.{field.replace('_', '-')} = -1.0: must be a finite number of at least 0"
    with pytest.raises(UserError, match=re.escape(message)):
        CChain(**{field: -1.0})
