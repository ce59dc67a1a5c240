"""The entropy schedule against entropies in closed form."""

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from remedy_views import batch_end, minibatch_view

from escapevelocity.envs import describe_task
from escapevelocity.errors import UserError
from escapevelocity.policy import Softmax, TanhNormal
from escapevelocity.ppo.config import ObjectiveConfig, PPOSpec
from escapevelocity.ppo.objective import Batch
from escapevelocity.ppo.remedies.entropy_schedule import EntropySchedule


def view_of(distribution, params, progress, noise=None):
    minibatch = Batch(**{**dict.fromkeys(Batch._fields), "noise": noise})
    return minibatch_view(
        distribution=distribution, params=params, progress=jnp.float32(progress), minibatch=minibatch
    )


@pytest.mark.parametrize(("progress", "coef"), [(0.0, 0.08), (0.25, 0.065), (1.0, 0.02)])
def test_the_bonus_is_the_mean_entropy_times_a_weight_that_moves_linearly(progress, coef):
    # Entropies of (½, ½) and (¾, ¼) in nats.
    logits = jnp.log(jnp.asarray([[0.5, 0.5], [0.75, 0.25]]))
    entropy = (np.log(2) - 0.75 * np.log(0.75) - 0.25 * np.log(0.25)) / 2
    term, numbers = EntropySchedule(start=0.08, end=0.02).penalty(view_of(Softmax(2), logits, progress))
    np.testing.assert_allclose(numbers["coef"], coef, rtol=1e-5)
    np.testing.assert_allclose(term, -coef * entropy, rtol=1e-5)


def test_distributions_without_a_closed_form_use_the_samples_noise(rng):
    # −log of the density of a squashed sample: normal log-density minus log of the slope 1 − tanh² (range [−1, 1]).
    mean, std, noise = (np.asarray(x) for x in (0.3, 0.5, [[-1.0], [0.7]]))
    u = mean + std * noise[:, 0]
    log_density = (
        -0.5 * noise[:, 0] ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi) - np.log(1 - np.tanh(u) ** 2)
    )
    params = jnp.asarray([[0.3, 0.5], [0.3, 0.5]])
    view = view_of(TanhNormal([-1.0], [1.0]), params, 0.0, jnp.asarray(noise, jnp.float32))
    term, _ = EntropySchedule(start=1.0).penalty(view)
    np.testing.assert_allclose(term, log_density.mean(), rtol=1e-4)


def test_its_gradient_raises_the_entropy():
    # ∂H/∂logit_a = −π_a (log π_a + H).
    probs = np.asarray([0.75, 0.25])
    entropy = -(probs * np.log(probs)).sum()
    expected = 0.5 * probs * (np.log(probs) + entropy)
    remedy = EntropySchedule(start=0.5, end=0.5)
    gradient = jax.grad(lambda x: remedy.penalty(view_of(Softmax(2), x, 0.3))[0])(
        jnp.log(jnp.asarray(probs)[None])
    )
    np.testing.assert_allclose(gradient[0], expected, rtol=1e-4)


def test_it_takes_the_place_of_the_constant_bonus():
    spec = PPOSpec(objective=ObjectiveConfig(entropy_coef=0.01, gamma=0.9))
    changed = EntropySchedule().configure(spec)
    assert changed.objective == ObjectiveConfig(entropy_coef=0.0, gamma=0.9)


def test_a_constant_bonus_beside_it_is_refused():
    spec = EntropySchedule().configure(PPOSpec())
    EntropySchedule().check(spec, describe_task("CartPole-v1"))
    both = replace(spec, objective=replace(spec.objective, entropy_coef=0.02))
    with pytest.raises(UserError, match=r"entropy-coef = 0.02: must be 0 beside --remedy entropy-schedule"):
        EntropySchedule().check(both, describe_task("CartPole-v1"))


def test_the_weight_is_recorded():
    changed, numbers = EntropySchedule().after_batch(batch_end(trail={"coef": jnp.asarray([[0.5, jnp.nan]])}))
    assert float(numbers["coef"]) == 0.5
    assert changed.state is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"start": -1.0}, "entropy-schedule.start = -1.0: must be a finite number of at least 0"),
        ({"end": float("inf")}, "entropy-schedule.end = inf: must be a finite number of at least 0"),
        ({"start": 0.0, "end": 0.0}, "entropy-schedule.end = 0.0: must be above 0 unless start is"),
    ],
)
def test_wrong_fields_are_refused(fields, message):
    with pytest.raises(UserError, match=re.escape(message)):
        EntropySchedule(**fields)
