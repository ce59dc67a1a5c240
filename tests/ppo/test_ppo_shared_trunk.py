"""The update of a shared trunk, by one optimiser and by two, against PyTorch with its own clipping and Adam."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_ppo import (
    fresh_learner,
    random_batch,
    random_order,
    run_update,
    small_spec,
    to_torch,
    torch_mlp,
)

from escapevelocity.ppo.descent import initial_moments
from escapevelocity.ppo.update import Learner

STEPS = 12  # 3 epochs of 4 minibatches


def run_torch(spec, agent, batch, order):
    """(parameters in our order, number of steps at which the trunk's gradient was clipped by both norms)."""
    torch = pytest.importorskip("torch")
    layers = torch_mlp(agent.actor.network)
    trunk, actor_head, critic_head = layers[:-1], layers[-1], torch.nn.Linear(8, 1)
    with torch.no_grad():
        critic_head.weight.copy_(to_torch(agent.critic.weights[0]))
        critic_head.bias.copy_(to_torch(agent.critic.biases[0]))
    actor_parameters = [*trunk.parameters(), *actor_head.parameters()]
    critic_parameters = [*trunk.parameters(), *critic_head.parameters()]
    o, c, twice = spec.optimizer, spec.objective, spec.network.trunk_updates == "twice"
    rate = {"lr": o.learning_rate, "betas": (o.adam_beta1, o.adam_beta2), "eps": o.adam_eps}
    groups = (
        [actor_parameters, critic_parameters] if twice else [[*actor_parameters, *critic_head.parameters()]]
    )
    optimizers = [torch.optim.Adam(group, **rate) for group in groups]
    tensors, clipped = jax.tree.map(to_torch, batch), 0
    for rows in order.reshape(-1, o.minibatch_size):
        b = jax.tree.map(lambda x, rows=rows: x[rows], tensors)
        features = trunk(b.observations)
        log_probs = torch.log_softmax(actor_head(features), -1)
        chosen = log_probs.gather(1, b.actions.long()[:, None])[:, 0]
        advantages = (b.advantages - b.advantages.mean()) / b.advantages.std(correction=0)
        ratio = (chosen - b.log_probs).exp()
        bounded = ratio.clamp(1 - c.clip_epsilon, 1 + c.clip_epsilon)
        objective = torch.min(ratio * advantages, bounded * advantages).mean()
        loss = -objective + c.value_coef * (critic_head(features)[:, 0] - b.returns).square().mean()
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        norms = [torch.nn.utils.clip_grad_norm_(group, o.max_grad_norm).item() for group in groups]
        clipped += min(norms) > o.max_grad_norm
        for optimizer in optimizers:
            optimizer.step()
    ordered = [p for p in actor_parameters if p.ndim == 2] + [p for p in actor_parameters if p.ndim == 1]
    return [p.detach().numpy() for p in [*ordered, *critic_head.parameters()]], clipped


@pytest.mark.parametrize("updates", ["once", "twice"])
def test_the_update_of_a_shared_trunk_equals_pytorchs(updates):
    network = {"trunk": "shared", "trunk_updates": updates}
    spec = small_spec("softmax", network=network, optimizer={"max_grad_norm": 0.05})
    agent = fresh_learner(spec).agent
    batch, order = random_batch(spec), random_order(spec)
    ours, _ = run_update(spec, Learner(agent, initial_moments(agent, spec.optimizer)), batch, order)
    expected, clipped = run_torch(spec, agent, batch, order)
    assert clipped > STEPS // 2  # the batch must try what it is for
    # As in test_ppo_update: 12 steps of 1e-2 whose directions carry 1e-5; a trunk that is stepped twice has two each.
    for mine, theirs in zip(jax.tree.leaves(ours.agent), expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-5)


def test_one_and_two_optimisers_differ_and_two_move_the_trunk_further():
    moved = {}
    for updates in ("once", "twice"):
        spec = small_spec("softmax", network={"trunk": "shared", "trunk_updates": updates})
        agent = fresh_learner(spec).agent
        batch, order = random_batch(spec), random_order(spec)
        learner = Learner(agent, initial_moments(agent, spec.optimizer))
        after, _ = run_update(spec, learner, batch, order)
        moved[updates] = float(
            jnp.abs(after.agent.actor.network.weights[0] - agent.actor.network.weights[0]).mean()
        )
    assert (
        moved["twice"] > 1.5 * moved["once"]
    )  # two steps of Adam, both of about the learning rate, in one direction
