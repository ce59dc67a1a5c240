"""L2 Init against its closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from remedy_agents import agent_of, exact
from remedy_views import batch_end, minibatch_view

from escapevelocity.errors import UserError
from escapevelocity.ppo.remedies.l2_init import L2Init


@pytest.mark.parametrize("kind", ["layer_norm", "shared"])
def test_the_penalty_is_the_squared_distance_and_its_gradient_points_from_the_start(kind, rng):
    start, now, remedy = agent_of(kind, rng), agent_of(kind, rng), L2Init(coef=0.25)
    state = remedy.initial(start)

    def penalty(agent):
        term, numbers = remedy.penalty(minibatch_view(agent=agent, state=state))
        return term, numbers["distance"]

    (value, distance), gradient = jax.jit(jax.value_and_grad(penalty, has_aux=True))(now)
    steps = [exact(a) - exact(b) for a, b in zip(jax.tree.leaves(now), jax.tree.leaves(start), strict=True)]
    squares = sum((step**2).sum() for step in steps)
    np.testing.assert_allclose(distance, squares, rtol=1e-5)
    np.testing.assert_allclose(value, 0.25 * squares, rtol=1e-5)
    for ours, step in zip(jax.tree.leaves(gradient), steps, strict=True):
        np.testing.assert_allclose(ours, 2 * 0.25 * step, rtol=1e-5, atol=1e-6)


def test_the_mean_distance_of_the_applied_steps_is_recorded_and_the_start_kept():
    end = batch_end(trail={"distance": jnp.asarray([[1.0, jnp.nan], [4.0, 7.0]])}, state="start")
    changed, numbers = L2Init().after_batch(end)
    assert float(numbers["distance"]) == 4.0
    assert changed.state == "start"


def test_a_coefficient_of_zero_is_idle_and_a_negative_one_refused():
    assert L2Init(coef=0.0).is_idle()
    assert not L2Init().is_idle()
    with pytest.raises(UserError, match=r"l2-init.coef = nan: must be a finite number of at least 0"):
        L2Init(coef=float("nan"))
