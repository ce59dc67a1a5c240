"""Weight decay against torch.optim.AdamW."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from remedy_agents import agent_of

from escapevelocity.errors import UserError
from escapevelocity.ppo.remedies.weight_decay import WeightDecay
from escapevelocity.ppo.remedy import Step


def test_adam_with_it_is_pytorchs_adamw(rng):
    torch = pytest.importorskip("torch")
    agent, rate, remedy = agent_of("layer_norm", rng), 0.05, WeightDecay(coef=0.3)
    leaves = [torch.tensor(np.asarray(x), requires_grad=True) for x in jax.tree.leaves(agent)]
    theirs = torch.optim.AdamW(leaves, lr=rate, weight_decay=0.3)
    adam = optax.scale_by_adam()
    moments = adam.init(agent)

    @jax.jit
    def step(agent, moments, gradients):
        with jax.numpy_dtype_promotion("standard"):  # Optax does not trace under "strict".
            directions, moments = adam.update(gradients, moments)
        after = jax.tree.map(lambda x, d: x - rate * d, agent, directions)
        learning_rate = jnp.float32(rate)
        return remedy.after_step(Step(agent, after, moments, None, None, None, learning_rate, ())), moments

    for _ in range(4):
        gradients = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), agent)
        for leaf, gradient in zip(leaves, jax.tree.leaves(gradients), strict=True):
            leaf.grad = torch.tensor(np.asarray(gradient))
        theirs.step()
        changed, moments = step(agent, moments, gradients)
        agent = changed.agent
        assert changed.state == ()
    for ours, leaf in zip(jax.tree.leaves(agent), leaves, strict=True):
        np.testing.assert_allclose(
            ours, leaf.detach().numpy(), rtol=1e-5, atol=5e-6
        )  # A step decays by 0.015 θ.


def test_a_coefficient_of_zero_is_idle_and_a_negative_one_refused():
    assert WeightDecay(coef=0.0).is_idle()
    assert not WeightDecay().is_idle()
    with pytest.raises(UserError, match=r"weight-decay.coef = -1.0: must be a finite number of at least 0"):
        WeightDecay(coef=-1.0)
