"""The KL penalty adapts as defined and the early stop stops where defined, on divergences made by hand."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from remedy_views import batch_end, minibatch_view, small_agent

from escapevelocity.errors import UserError
from escapevelocity.policy import Softmax
from escapevelocity.ppo.remedies import KLEarlyStop, KLPenalty

NAN = float("nan")


def adapted(coef, trail, **fields):
    """β after a batch with these divergences per epoch and minibatch, and what was recorded."""
    end = batch_end(
        trail={"kl": jnp.asarray(trail, jnp.float32)}, state=jnp.float32(coef), agent=(), moments=()
    )
    changed, numbers = KLPenalty(**fields).after_batch(end)
    return float(changed.state), {name: float(value) for name, value in numbers.items()}


@pytest.mark.parametrize(
    ("trail", "coef", "kl"),
    [
        # The mean of the last epoch alone decides: above 0.015 doubles, below 0.00667 halves, between stays.
        ([[0.0, 0.0], [0.015, 0.017]], 6.0, 0.016),
        ([[1.0, 1.0], [0.006, 0.007]], 1.5, 0.0065),
        ([[1.0, 0.0], [0.005, 0.015]], 3.0, 0.01),
        # Steps that were not applied are NaN: left out of the mean, and an epoch of them does not count as the last.
        ([[0.0, 0.0], [0.02, NAN]], 6.0, 0.02),
        ([[0.02, 0.02], [NAN, NAN]], 6.0, 0.02),
        ([[NAN, NAN], [NAN, NAN]], 3.0, NAN),
    ],
)
def test_the_coefficient_follows_the_last_epochs_mean_divergence(trail, coef, kl):
    after, numbers = adapted(3.0, trail)
    assert after == coef
    assert numbers["coef"] == 3.0
    np.testing.assert_allclose(numbers["kl"], kl, rtol=1e-5)


def test_bounds_and_factor_are_as_given():
    assert adapted(1.0, [[0.5]], high=0.4, factor=3.0)[0] == 3.0
    assert adapted(1.0, [[0.5]], high=0.6, low=0.55, factor=4.0)[0] == 0.25
    assert adapted(1.0, [[0.5]], high=0.6, low=0.4)[0] == 1.0


def test_the_coefficient_never_leaves_the_numbers_it_can_come_back_from():
    low = high = 1.0
    for _ in range(200):
        low, high = adapted(low, [[0.0]])[0], adapted(high, [[1.0]])[0]
    assert 0 < low < 1e-29
    assert 1e29 < high < np.inf
    assert adapted(low, [[1.0]])[0] > low
    assert adapted(high, [[0.0]])[0] < high


def divergence(old, new):
    """Mean KL(old ‖ new) over rows of logits, from the definition."""
    p, q = (np.exp(x) / np.exp(x).sum(axis=1, keepdims=True) for x in (old, new))
    return np.mean(np.sum(p * np.log(p / q), axis=1))


def softmax_view(rng, state=None):
    old, new = rng.normal(size=(5, 3)), rng.normal(size=(5, 3))
    distribution = Softmax(3)
    params = [distribution.params(jnp.asarray(x, jnp.float32)) for x in (old, new)]
    view = minibatch_view(params=params[1], reference=params[0], state=state, distribution=distribution)
    return view, divergence(old, new)


def test_the_penalty_is_beta_times_the_mean_divergence_from_the_old_policy(rng):
    view, kl = softmax_view(rng, state=jnp.float32(2.5))
    penalty, numbers = KLPenalty().penalty(view)
    np.testing.assert_allclose(numbers["kl"], kl, rtol=1e-5)
    np.testing.assert_allclose(penalty, 2.5 * kl, rtol=1e-5)


def test_the_penaltys_gradient_on_logits_is_beta_times_new_minus_old_probabilities(rng):
    # d/d logits of KL(p ‖ softmax(logits)) is softmax(logits) − p.
    logits = rng.normal(size=(5, 3))
    old = rng.dirichlet(np.ones(3), size=5)
    view, _ = softmax_view(rng, state=jnp.float32(2.0))
    view = view._replace(reference=jnp.asarray(np.log(old), jnp.float32))
    gradient = jax.grad(lambda x: KLPenalty().penalty(view._replace(params=x))[0])(
        jnp.asarray(logits, jnp.float32)
    )
    new = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(gradient, 2.0 * (new - old) / 5, atol=1e-5)


def test_the_penalty_takes_the_place_of_clipping_and_the_early_stop_does_not(rng):
    assert not KLPenalty.clips
    assert KLEarlyStop.clips
    assert KLPenalty(coef=4.0).initial(small_agent(rng)) == 4.0
    assert not KLPenalty().is_idle()


def test_the_update_stops_where_a_minibatchs_divergence_exceeds_the_limit(rng):
    view, kl = softmax_view(rng)
    penalty, numbers = KLEarlyStop().penalty(view)
    assert penalty is None
    np.testing.assert_allclose(numbers["kl"], kl, rtol=1e-5)
    answers = [bool(KLEarlyStop().stops({"kl": jnp.float32(kl)})) for kl in (0.0, 0.00999, 0.0101, 1.0)]
    assert answers == [False, False, True, True]


def test_the_steps_that_were_made_are_recorded():
    trail = {"kl": jnp.asarray([[0.001, 0.002], [0.02, NAN], [NAN, NAN]])}
    _, numbers = KLEarlyStop().after_batch(batch_end(trail=trail, agent=(), moments=(), state=()))
    assert numbers["steps"] == 3.0


def test_an_infinite_limit_is_idle():
    assert KLEarlyStop(limit=float("inf")).is_idle()
    assert not KLEarlyStop().is_idle()


@pytest.mark.parametrize(
    ("remedy", "fields", "message"),
    [
        (KLPenalty, {"coef": 0.0}, "kl-penalty.coef = 0.0: must be a finite number above 0"),
        (KLPenalty, {"high": -1.0}, "kl-penalty.high = -1.0: must be a finite number above 0"),
        (KLPenalty, {"low": 0.1}, "kl-penalty.low = 0.1: must be at least 0 and at most high = 0.015"),
        (KLPenalty, {"factor": 0.5}, "kl-penalty.factor = 0.5: must be a finite number of at least 1"),
        (KLEarlyStop, {"limit": 0.0}, "kl-early-stop.limit = 0.0: must be above 0"),
    ],
)
def test_wrong_fields_are_refused(remedy, fields, message):
    with pytest.raises(UserError, match=re.escape(message)):
        remedy(**fields)
