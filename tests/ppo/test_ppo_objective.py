"""The loss of one minibatch against hand arithmetic."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_ppo import DISCRETE, fresh_learner, random_batch, small_spec, task_for

from escapevelocity.ppo.networks import Actor, Agent, Network
from escapevelocity.ppo.objective import Batch, ppo_loss
from escapevelocity.ppo.programs import action_distribution


def by_hand_agent():
    """No inputs matter: logits (0, ln 2, 0), so probabilities (¼, ½, ¼), and a value of 2."""

    def constant(*outputs):
        weights = jnp.zeros((1, 1)), jnp.zeros((len(outputs), 1))
        return Network(weights, (jnp.zeros(1), jnp.asarray(outputs)), activation="tanh")

    return Agent(Actor(constant(0.0, float(np.log(2)), 0.0), None), constant(2.0))


BATCH = Batch(
    observations=jnp.zeros((4, 1)),
    actions=jnp.asarray([1, 1, 0, 2]),
    noise=jnp.zeros((4, 3)),
    # New over old probability: 1/2 : 1/4 = 2, 1/2 : 1/2 = 1, 1/4 : 1/2 = 1/2, 1/4 : 1/4 = 1.
    log_probs=jnp.log(jnp.asarray([0.25, 0.5, 0.5, 0.25])),
    advantages=jnp.asarray([1.0, 1.0, -1.0, -3.0]),
    returns=jnp.asarray([2.0, 3.0, 5.0, 2.5]),
    values=jnp.asarray([2.0, 1.0, 2.9, 2.0]),
)


def loss_by_hand(**changes):
    spec = small_spec("softmax", objective={"normalize_advantages": False, **changes})
    loss, beside = ppo_loss(by_hand_agent(), BATCH, action_distribution(spec, DISCRETE), spec.objective)
    return float(loss), jax.tree.map(float, beside.terms)


def test_the_loss_is_minus_objective_plus_value_error_minus_entropy():
    # min(r A, clip(r, 0.8, 1.2) A): 1.2, 1, min(−0.5, −0.8) = −0.8, −3. Squared errors of V = 2: 0, 1, 9, 0.25.
    objective, value = (1.2 + 1.0 - 0.8 - 3.0) / 4, (0 + 1 + 9 + 0.25) / 4
    entropy = 1.5 * np.log(2)  # of (¼, ½, ¼)
    loss, terms = loss_by_hand(entropy_coef=0.1, value_coef=0.25)
    assert tuple(terms) == pytest.approx((objective, value, entropy), rel=1e-6)
    assert loss == pytest.approx(-objective + 0.25 * value - 0.1 * entropy, rel=1e-6)
    # The coefficients are not in the terms, and 0 drops the bonus.
    plain, plain_terms = loss_by_hand(entropy_coef=0.0, value_coef=1.0)
    assert plain_terms == terms
    assert plain == pytest.approx(-objective + value, rel=1e-6)


def test_value_clipping_takes_the_larger_error_of_value_and_clipped_value():
    # V_old ± 0.2 around 2, 1, 2.9, 2 holds V = 2 to 2, 1.2, 2.7, 2: errors 0, 1.8², 2.3², 0.25 against 0, 1, 9, 0.25.
    _, terms = loss_by_hand(clip_value=True)
    assert terms.value == pytest.approx((0 + 1.8**2 + 9 + 0.25) / 4, rel=1e-6)
    _, wider = loss_by_hand(clip_value=True, clip_epsilon=0.5)
    assert wider.value == pytest.approx((0 + 1.5**2 + 9 + 0.25) / 4, rel=1e-6)


def test_advantages_are_normalised_by_their_own_mean_and_biased_std():
    # (1, 1, −1, −3) has mean −0.5 and biased variance 2.75; the centred (1.5, 1.5, −0.5, −2.5) keep their signs.
    _, terms = loss_by_hand(normalize_advantages=True)
    assert terms.objective == pytest.approx((1.2 * 1.5 + 1.5 - 0.8 * 0.5 - 2.5) / 4 / np.sqrt(2.75), rel=1e-6)


@pytest.mark.parametrize("head", ["tanh_normal", "normal", "normal_independent", "softmax"])
def test_the_critics_loss_does_not_reach_the_actor_nor_the_other_way_round(head):
    spec = small_spec(head, objective={"entropy_coef": 0.01})
    distribution, batch = action_distribution(spec, task_for(spec)), random_batch(spec)

    def gradient(term):
        return jax.jit(
            jax.grad(
                lambda agent: getattr(ppo_loss(agent, batch, distribution, spec.objective)[1].terms, term)
            )
        )(fresh_learner(spec).agent)

    value, objective = gradient("value"), gradient("objective")
    for untouched in (value.actor, objective.critic):
        assert all(not np.any(leaf) for leaf in jax.tree.leaves(untouched))
    for touched in (value.critic, objective.actor):
        assert all(np.any(leaf) for leaf in jax.tree.leaves(touched))
