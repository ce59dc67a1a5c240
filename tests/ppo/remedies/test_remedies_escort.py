"""The escort remedy: its settings, and its step size per state by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from remedy_views import TASK, minibatch_view

from escapevelocity.envs import DiscreteActions
from escapevelocity.errors import UserError
from escapevelocity.policy import Escort as EscortDistribution
from escapevelocity.ppo.config import NetworkConfig, PPOSpec
from escapevelocity.ppo.remedies.escort import Escort


def test_it_chooses_the_head_and_its_power():
    changed = Escort(p=3.0).configure(PPOSpec(network=NetworkConfig(head="softmax", hidden=(8,))))
    assert changed.network == NetworkConfig(head="escort", escort_p=3.0, hidden=(8,))


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
def test_the_adaptive_factor_is_the_squared_p_norm_over_p_squared(p):
    theta = np.asarray([[3.0, -4.0, 0.0], [0.5, 0.5, 1.0], [1e-15, 2e-15, 0.0]])
    expected = (np.abs(theta) ** p).sum(1) ** (2 / p) / p**2
    weight = Escort(p=p, adaptive=True).weight(minibatch_view(params=jnp.asarray(theta, jnp.float32)))
    np.testing.assert_allclose(weight, expected, rtol=1e-5)
    assert Escort(p=p).weight(minibatch_view(params=jnp.asarray(theta))) is None


def test_a_steps_effect_on_the_policy_does_not_see_the_scale_of_theta():
    # θ and 7θ are one policy. The gradient of log π scales as 1/‖θ‖, so that with the factor ‖θ‖² the step relative to
    # ‖θ‖ is the same.
    distribution, remedy = EscortDistribution(3, p=2.0), Escort(p=2.0, adaptive=True)

    def relative_step(theta):
        def objective(params):
            weight = remedy.weight(minibatch_view(params=params))
            return jnp.sum(weight * distribution.log_prob(params, jnp.asarray([1])))

        return jax.grad(objective)(theta) / jnp.linalg.norm(theta)

    theta = jnp.asarray([[1.0, -0.5, 0.25]])
    np.testing.assert_allclose(relative_step(7 * theta), relative_step(theta), rtol=1e-5)


def test_no_gradient_flows_through_the_factor():
    gradient = jax.grad(lambda x: jnp.sum(Escort(adaptive=True).weight(minibatch_view(params=x))))(
        jnp.ones((2, 3))
    )
    np.testing.assert_array_equal(gradient, np.zeros((2, 3)))


def test_continuous_actions_are_refused():
    with pytest.raises(UserError, match="remedy = 'escort': must be left out: Toy-v0 has continuous actions"):
        Escort().check(PPOSpec(), TASK)
    Escort().check(Escort().configure(PPOSpec()), dataclasses.replace(TASK, actions=DiscreteActions(3)))


def test_another_head_or_power_beside_it_is_refused():
    discrete = dataclasses.replace(TASK, actions=DiscreteActions(3))
    spec = Escort(p=3.0).configure(PPOSpec())
    for name, value, message in (
        ("head", "softmax", "head = 'softmax': must be escort beside --remedy escort"),
        ("escort_p", 2.0, "escort-p = 2.0: must be 3, that of --remedy escort"),
    ):
        other = dataclasses.replace(spec, network=dataclasses.replace(spec.network, **{name: value}))
        with pytest.raises(UserError, match=message):
            Escort(p=3.0).check(other, discrete)


def test_a_power_below_one_is_refused():
    with pytest.raises(UserError, match=r"escort.p = 0.5: must be a finite number of at least 1"):
        Escort(p=0.5)
