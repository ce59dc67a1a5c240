"""Delightful gates worked out by hand, and the gradient that they leave of a policy gradient."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from remedy_views import minibatch_view

from escapevelocity.errors import UserError
from escapevelocity.policy import Softmax, clipped_objective
from escapevelocity.ppo.objective import Batch
from escapevelocity.ppo.remedies.delightful import Delightful


def view_of(advantages, log_probs):
    minibatch = Batch(**{**dict.fromkeys(Batch._fields), "log_probs": jnp.asarray(log_probs, jnp.float32)})
    return minibatch_view(minibatch=minibatch, advantages=jnp.asarray(advantages, jnp.float32))


def test_the_gate_is_the_logistic_function_of_advantage_times_surprise():
    # Probabilities e^−3, e^−3, 1, and a density of e^2, whose surprise is negative.
    view = view_of([2.0, -2.0, 5.0, 1.0], [-3.0, -3.0, 0.0, 2.0])
    expected = [1 / (1 + math.exp(-x / 2)) for x in (6.0, -6.0, 0.0, -2.0)]
    np.testing.assert_allclose(Delightful(temperature=2.0).weight(view), expected, rtol=1e-6)
    assert expected[2] == 0.5


def test_temperature_zero_keeps_the_successes_alone():
    gate = Delightful(temperature=0.0).weight(view_of([2.0, -2.0, 0.0], [-1.0, -1.0, -1.0]))
    np.testing.assert_array_equal(gate, [1.0, 0.0, 0.0])


def test_with_every_action_in_its_share_the_gradient_is_that_of_the_bandit():
    # Three arms, each sampled exactly as often as the policy (½, ¼, ¼) says: the mean over samples is then the exact
    # expectation, Σ_a π(a) w(a) A(a) ∇log π(a) = π ⊙ (wA − Σ π w A), the formula of arXiv 2605.11908.
    probs, values = np.asarray([0.5, 0.25, 0.25]), np.asarray([-1.0, 3.0, -1.0])
    gate = 1 / (1 + np.exp(values * np.log(probs)))
    gated = gate * values
    expected = probs * (gated - (probs * gated).sum())
    actions = jnp.asarray([0, 0, 1, 2])
    log_probs = jnp.log(jnp.asarray(probs, jnp.float32))
    advantages = jnp.asarray(values, jnp.float32)[actions]
    policy, remedy = Softmax(3), Delightful()

    def objective(logits):
        log_prob = policy.log_prob(jnp.broadcast_to(logits[None], (4, 3)), actions)
        old = log_probs[actions]
        weights = remedy.weight(view_of(advantages, old))
        return jnp.mean(weights * clipped_objective(log_prob - old, advantages, 0.2))

    np.testing.assert_allclose(jax.grad(objective)(log_probs), expected, rtol=1e-4)


def test_no_gradient_flows_through_the_gate():
    def gate(advantages):
        view = view_of([1.0, 1.0], [-1.0, -2.0])._replace(advantages=advantages)
        return jnp.sum(Delightful().weight(view))

    np.testing.assert_array_equal(jax.grad(gate)(jnp.ones(2)), [0.0, 0.0])


def test_a_negative_temperature_is_refused():
    with pytest.raises(
        UserError, match=r"delightful.temperature = -1.0: must be a finite number of at least 0"
    ):
        Delightful(temperature=-1.0)
