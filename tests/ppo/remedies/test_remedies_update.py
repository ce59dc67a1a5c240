"""The paper's remedies inside the update: where it stops, what is reset, and which loss it descends."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_ppo import (
    assert_same_bits,
    fresh_learner,
    numpy_mlp,
    poisoned,
    random_batch,
    random_order,
    run_update,
    small_spec,
    task_for,
)

from escapevelocity.ppo.objective import Treated, ppo_loss
from escapevelocity.ppo.programs import action_distribution
from escapevelocity.ppo.remedies import PFO, AdamReset, KLEarlyStop, KLPenalty
from escapevelocity.ppo.treatment import Moment, Treatment
from escapevelocity.ppo.update import update

SPEC = small_spec("softmax")
DISTRIBUTION = action_distribution(SPEC, task_for(SPEC))
STEPS = 12  # Three epochs of four minibatches.


def treated_batch(treatment, learner, batch):
    """The batch with what the remedies keep of the learner's parameters."""
    actor, critic = learner.agent.trace(batch.observations)
    params = DISTRIBUTION.params(learner.agent.actor.outputs(actor))
    return batch._replace(references=treatment.references(params, actor, critic))


def treatment_of(*remedies):
    return Treatment(remedies, lambda key: fresh_learner(SPEC).agent)


def log_probs(agent, observations):
    logits = numpy_mlp(agent.actor.network, observations)[0]
    logits = logits - logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def divergence(old, new, observations):
    """Mean KL(old ‖ new) of the policies, in NumPy."""
    p, q = log_probs(old, observations), log_probs(new, observations)
    return np.mean(np.sum(np.exp(p) * (p - q), axis=1))


def single_steps(learner, batch, order):
    """The update without remedies, one minibatch at a time: the divergence each step starts from, and its learner."""
    spec = dataclasses.replace(SPEC, optimizer=dataclasses.replace(SPEC.optimizer, epochs=1))
    kls, learners, start = [], [], learner.agent
    for indices in order.reshape(STEPS, 1, -1):
        kls.append(divergence(start, learner.agent, np.asarray(batch.observations)[indices[0]]))
        learner, _ = run_update(spec, learner, batch, indices)
        learners.append(learner)
    return np.array(kls), learners


def test_the_update_ends_with_the_step_whose_minibatch_diverged_and_adam_is_then_reset():
    batch, order, learner = random_batch(SPEC), random_order(SPEC), fresh_learner(SPEC)
    kls, learners = single_steps(learner, batch, order)
    # The first step from the second epoch on that diverges more than all before it; the limit lies halfway.
    last = next(step for step in range(4, STEPS - 1) if kls[step] > kls[:step].max())
    limit = float(kls[last] + kls[:last].max()) / 2
    treatment = treatment_of(KLEarlyStop(limit=limit), AdamReset())

    @jax.jit
    def treated(learner, batch):
        moment = Moment(jax.random.key(0), jnp.int32(0), jnp.float32(0))
        rate, active = jnp.float32(SPEC.optimizer.learning_rate), jnp.asarray(True)
        return update(learner, batch, jnp.asarray(order), rate, active, DISTRIBUTION, SPEC, treatment, moment)

    start = learner._replace(remedies=treatment.initial(learner.agent))
    given = treated_batch(treatment, learner, batch)
    after, statistics = treated(start, given)
    assert statistics.remedies["remedy/kl-early-stop/steps"] == last + 1
    assert statistics.skipped == 0
    # 1e-5: the same steps, as another program.
    for mine, theirs in zip(jax.tree.leaves(after.agent), jax.tree.leaves(learners[last].agent), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)
    assert_same_bits(after.moments, fresh_learner(SPEC).moments)

    # A fault before that freezes the member as it then was, its moments and step count included.
    sick = poisoned(given, "returns", int(order.reshape(-1)[2 * 16]), jnp.nan)
    frozen, statistics = treated(start, sick)
    assert statistics.fault_minibatch == 2
    assert frozen.moments.count == 2
    for mine, theirs in zip(jax.tree.leaves(frozen), jax.tree.leaves(learners[1]), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("remedy", [PFO(coef=3.0), KLPenalty(coef=0.7), PFO(limit=0.3)])
def test_the_loss_is_that_of_the_remedy(remedy):
    # The old policy is one agent, the new another: both in NumPy from their weights.
    old, new, batch = fresh_learner(SPEC), fresh_learner(SPEC, seed=1), random_batch(SPEC)
    treatment = treatment_of(remedy)
    treated = Treated(treatment, treatment.initial(old.agent), jnp.float32(0), None)

    def loss(treated, minibatch):
        return ppo_loss(new.agent, minibatch, DISTRIBUTION, SPEC.objective, treated)[0]

    found = loss(treated, treated_batch(treatment, old, batch))
    x = np.asarray(batch.observations)
    change = numpy_mlp(new.agent.actor.network, x)[2][-1] - numpy_mlp(old.agent.actor.network, x)[2][-1]
    chosen = log_probs(new.agent, x)[np.arange(64), np.asarray(batch.actions)]
    ratio = np.exp(chosen - np.asarray(batch.log_probs, np.float64))
    advantages = np.asarray(batch.advantages, np.float64)
    advantages = (advantages - advantages.mean()) / advantages.std()
    clipped = np.minimum(ratio * advantages, np.clip(ratio, 0.8, 1.2) * advantages)
    distances = np.mean(change**2, axis=1)
    expected = {
        "pfo": -np.mean(clipped) + 3.0 * distances.mean(),
        "kl-penalty": -np.mean(ratio * advantages) + 0.7 * divergence(old.agent, new.agent, x),
    }[remedy.name]
    if isinstance(remedy, PFO) and remedy.limit:
        blocked = distances > remedy.limit
        assert 0 < blocked.sum() < 64
        expected = -np.mean(np.where(blocked, 0.0, clipped))
    values = numpy_mlp(new.agent.critic, x)[0][:, 0]
    expected += 0.5 * np.mean((values - np.asarray(batch.returns)) ** 2)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
