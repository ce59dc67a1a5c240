"""The update of one batch against PyTorch, written in the plainest way."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_ppo import (
    assert_same_bits,
    fresh_learner,
    poisoned,
    random_batch,
    random_order,
    run_update,
    small_spec,
    task_for,
    to_torch,
    torch_mlp,
)

from escapevelocity.ppo.descent import clip_gradients
from escapevelocity.ppo.update import Quantity, sample_order
from escapevelocity.ppo.vectors import Vectors, from_vectors, to_vectors

CLASSIC = {
    "objective": {"entropy_coef": 0.01, "value_coef": 0.25, "clip_value": True},
    "optimizer": {"adam_eps": 1e-5, "clip_gradients": "jointly"},
}
CASES = {
    "tanh_normal, as the paper": small_spec("tanh_normal"),
    "tanh_normal, entropy, no normalisation": small_spec(
        "tanh_normal", objective={"entropy_coef": 0.05, "normalize_advantages": False, "clip_epsilon": 0.1}
    ),
    "normal, value clipping, ReLU": small_spec(
        "normal", objective={"clip_value": True}, network={"activation": "relu"}
    ),
    "normal_independent, as CleanRL": small_spec("normal_independent", **CLASSIC),
    "softmax, as CleanRL": small_spec("softmax", **CLASSIC),
    "softmax, no gradient clipping, other betas": small_spec(
        "softmax", optimizer={"max_grad_norm": float("inf"), "adam_beta1": 0.5, "adam_beta2": 0.9}
    ),
}


class TorchAgent:
    """PPO as one would write it in PyTorch."""

    def __init__(self, spec, agent):
        import torch

        self.torch, self.spec = torch, spec
        self.actor = torch_mlp(agent.actor.network, spec.network.activation)
        self.critic = torch_mlp(agent.critic, spec.network.activation)
        self.actor_parameters = list(self.actor.parameters())
        if agent.actor.log_std is not None:
            self.log_std = torch.nn.Parameter(to_torch(agent.actor.log_std))
            self.actor_parameters.append(self.log_std)
        self.parameters = [*self.actor_parameters, *self.critic.parameters()]
        o = spec.optimizer
        self.adam = torch.optim.Adam(
            self.parameters, o.learning_rate, betas=(o.adam_beta1, o.adam_beta2), eps=o.adam_eps
        )

    def log_prob_and_entropy(self, observations, actions, noise):
        torch, head = self.torch, self.spec.network.head
        outputs = self.actor(observations)
        if head == "softmax":
            distribution = torch.distributions.Categorical(logits=outputs)
            return distribution.log_prob(actions.long()), distribution.entropy()
        if head == "normal_independent":
            mean, std = outputs, self.log_std.exp().expand_as(outputs)
        else:
            mean, x = outputs.chunk(2, dim=-1)
            std = torch.nn.functional.softplus(x + np.log(np.exp(0.99) - 1)) + 0.01
        normal = torch.distributions.Normal(mean, std)
        if head != "tanh_normal":
            return normal.log_prob(actions).sum(-1), normal.entropy().sum(-1)
        squash, actions_space = torch.distributions.TanhTransform(), task_for(self.spec).actions
        half_range = (torch.tensor(actions_space.high) - torch.tensor(actions_space.low)) / 2

        def log_density(latent):
            slope = squash.log_abs_det_jacobian(latent, torch.tanh(latent)) + half_range.log()
            return (normal.log_prob(latent) - slope).sum(-1)

        return log_density(actions), -log_density(mean + std * noise)

    def step(self, batch):
        torch, c = self.torch, self.spec.objective
        log_probs, entropy = self.log_prob_and_entropy(batch.observations, batch.actions, batch.noise)
        ratio = (log_probs - batch.log_probs).clamp(np.log(1e-7), np.log(1e9)).exp()
        advantages = batch.advantages
        if c.normalize_advantages:
            centred = advantages - advantages.mean()
            advantages = centred / advantages.std(correction=0).clamp(min=1e-6)
        clipped = ratio.clamp(1 - c.clip_epsilon, 1 + c.clip_epsilon)
        objective = torch.min(ratio * advantages, clipped * advantages).mean()
        values = self.critic(batch.observations).squeeze(-1)
        value_error = (values - batch.returns) ** 2
        if c.clip_value:
            near = batch.values + (values - batch.values).clamp(-c.clip_epsilon, c.clip_epsilon)
            value_error = torch.max(value_error, (near - batch.returns) ** 2)
        loss = -objective + c.value_coef * value_error.mean() - c.entropy_coef * entropy.mean()
        self.adam.zero_grad()
        loss.backward()
        groups = [self.actor_parameters, list(self.critic.parameters())]
        norms = [torch.sqrt(sum((p.grad**2).sum() for p in group)).item() for group in groups]
        if self.spec.optimizer.clip_gradients == "jointly":
            groups = [self.parameters]
        for group in groups:
            torch.nn.utils.clip_grad_norm_(group, self.spec.optimizer.max_grad_norm)
        self.adam.step()
        active = ((ratio > 1 + c.clip_epsilon) & (advantages > 0)) | (
            (ratio < 1 - c.clip_epsilon) & (advantages < 0)
        )
        return {
            "objective": objective.item(),
            "value": value_error.mean().item(),
            "entropy": entropy.mean().item(),
            "actor_gradient": norms[0],
            "critic_gradient": norms[1],
            "clipped": active.float().mean().item(),
        }

    def arrays(self):
        """In the order of our leaves: the actor's weights, biases and log_std, the critic's weights and biases."""
        ordered = []
        for network in (self.actor, self.critic):
            ordered += [p for p in network.parameters() if p.ndim == 2]
            ordered += [p for p in network.parameters() if p.ndim == 1]
            if network is self.actor and hasattr(self, "log_std"):
                ordered.append(self.log_std)
        return [p.detach().numpy() for p in ordered]


def run_torch(spec, learner, batch, order):
    reference = TorchAgent(spec, learner.agent)
    tensors = jax.tree.map(to_torch, batch)
    size = spec.optimizer.minibatch_size
    steps = []
    for indices in order.reshape(-1, size):
        minibatch = jax.tree.map(lambda x, rows=indices: x[rows], tensors)
        steps.append(reference.step(minibatch))
    return reference.arrays(), steps


@pytest.mark.parametrize("name", CASES)
def test_one_step_and_all_steps_equal_pytorch(name):
    pytest.importorskip("torch")
    spec = CASES[name]
    learner = fresh_learner(spec)
    batch, order = random_batch(spec), random_order(spec)
    # A NaN in the second minibatch stops the guarded update right after the first, in the same compiled program.
    one_step = poisoned(batch, "advantages", order[0, 16], jnp.nan)
    # Float32: activations and gradients of 8 units and 16 samples carry a relative error of about 1e-6; Adam's first
    # step divides the gradient by its own size, so that one step of 1e-2 is exact to 1e-2 · 1e-6, and what remains is
    # the rounding of the parameters (6e-8). PyTorch's clipping divides by norm + 1e-6, which Adam divides out again.
    # Over 12 steps the errors add up, and each feeds into later gradients: 12 · (1e-2 · 1e-5 + 6e-8) < 1e-5.
    for given, part, tolerance in ((one_step, order[:1, :16], 1e-6), (batch, order, 1e-5)):
        expected, steps = run_torch(spec, learner, batch, part)
        ours, statistics = run_update(spec, learner, given, order)
        leaves = jax.tree.leaves(ours.agent)
        assert len(leaves) == len(expected)
        for mine, theirs in zip(leaves, expected, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=tolerance)
        assert int(ours.moments.count) == len(steps)
        assert statistics.objective_last == pytest.approx(steps[-1]["objective"], rel=1e-4, abs=1e-5)
        for column in ("value", "entropy", "actor_gradient", "critic_gradient"):
            mean = np.mean([step[column] for step in steps])
            assert float(getattr(statistics, column)) == pytest.approx(mean, rel=1e-4), column
        assert int(statistics.skipped) == 12 - len(steps)
    assert (int(statistics.fault), int(statistics.fault_minibatch)) == (0, -1)
    # The batch must try what it is for: clipped and unclipped samples, and gradients longer than allowed.
    assert 0.05 < np.mean([step["clipped"] for step in steps]) < 0.95
    norms = [np.hypot(step["actor_gradient"], step["critic_gradient"]) for step in steps]
    assert spec.optimizer.max_grad_norm == np.inf or max(norms) > spec.optimizer.max_grad_norm
    moved = max(np.abs(a - b).max() for a, b in zip(expected, jax.tree.leaves(learner.agent), strict=True))
    assert moved > 1e-2  # a thousand times the tolerance


def test_gradients_are_clipped_by_their_global_norm_and_not_entry_by_entry():
    gradients = Vectors(actor=jnp.asarray([3.0, 4.0, 0.0]), critic=jnp.asarray([0.3, 0.4]))
    clipped, actor, critic = clip_gradients(gradients, 0.5, jointly=False)
    assert (float(actor), float(critic)) == (5.0, 0.5)
    # Entry by entry it would be [0.5, 0.5, 0]; by layer or by network the direction stays: 0.1 · [3, 4, 0].
    np.testing.assert_allclose(clipped.actor, [0.3, 0.4, 0.0], rtol=1e-6)
    np.testing.assert_allclose(clipped.critic, [0.3, 0.4], rtol=1e-6)  # exactly at the limit: unchanged


def test_clipping_jointly_uses_one_norm_for_actor_and_critic():
    gradients = Vectors(actor=jnp.asarray([3.0]), critic=jnp.asarray([0.0, 4.0]))
    clipped, actor, critic = clip_gradients(gradients, 0.5, jointly=True)
    assert (float(actor), float(critic)) == (3.0, 4.0)
    np.testing.assert_allclose(clipped.actor, [0.3], rtol=1e-6)  # 0.5 / √(3² + 4²) = 0.1
    np.testing.assert_allclose(clipped.critic, [0.0, 0.4], rtol=1e-6)


def test_small_and_zero_gradients_are_left_alone():
    gradients = Vectors(actor=jnp.asarray([1e-3, -1e-3]), critic=jnp.zeros(2))
    clipped, _, _ = clip_gradients(gradients, 0.5, jointly=False)
    assert_same_bits(clipped, gradients)


def test_vectors_hold_every_number_once_and_give_the_same_tree_back():
    learner = fresh_learner(small_spec("normal_independent"))
    vectors = to_vectors(learner)
    count = sum(x.size for x in jax.tree.leaves(learner.agent))
    assert (
        vectors.agent.actor.size + vectors.agent.critic.size == count == vectors.moments.mu.actor.size + 113
    )
    assert_same_bits(from_vectors(vectors, like=learner.agent), learner)


def test_every_epoch_is_a_permutation_of_the_batch_and_no_two_are_alike():
    order = np.asarray(jax.jit(sample_order, static_argnums=(1, 2))(jax.random.key(5), 64, 10))
    assert order.shape == (10, 64)
    np.testing.assert_array_equal(np.sort(order, axis=1), np.tile(np.arange(64), (10, 1)))
    assert len({row.tobytes() for row in order}) == 10
    # A sample's place is uniform: the mean of 10 is 31.5 with a standard error of √(64²/12/10) = 5.8.
    assert np.abs(order.mean(axis=0) - 31.5).max() < 5 * 5.8


def test_an_entropy_coefficient_of_zero_leaves_no_trace_in_the_program():
    """0 · NaN would be NaN: noise, of which only the entropy estimate is made, must not reach the step at all."""
    without, with_term = small_spec("tanh_normal"), CASES["tanh_normal, entropy, no normalisation"]
    learner = fresh_learner(without)
    batch, order = random_batch(without), random_order(without)
    without_noise = batch._replace(noise=jnp.full_like(batch.noise, jnp.nan))
    clean, statistics = run_update(without, learner, batch, order)
    dirty, dirty_statistics = run_update(without, learner, without_noise, order)
    assert_same_bits(clean, dirty)
    assert int(dirty_statistics.fault) == Quantity.NONE
    assert np.isnan(dirty_statistics.entropy)
    assert np.isfinite(statistics.entropy)
    # The same noise stops a program that has the term, so that the test above can fail.
    _, caught = run_update(with_term, learner, without_noise, order)
    assert int(caught.fault) == Quantity.LOSS


def test_the_learning_rate_is_an_argument_and_zero_changes_no_parameter():
    spec = small_spec()
    learner = fresh_learner(spec)
    batch, order = random_batch(spec), random_order(spec)
    still, _ = run_update(spec, learner, batch, order, rate=0.0)
    assert_same_bits(still.agent, learner.agent)
    assert int(still.moments.count) == 12
    # Adam's first step is rate · g / |g| in every entry: at half the rate each entry moves half as far.
    one_step = poisoned(batch, "advantages", order[0, 16], jnp.nan)
    whole, half = (run_update(spec, learner, one_step, order, rate=rate)[0] for rate in (1e-2, 5e-3))
    for start, one, other in zip(*(jax.tree.leaves(x.agent) for x in (learner, whole, half)), strict=True):
        np.testing.assert_allclose(one - start, 2 * (other - start), atol=5e-7)  # four roundings near 1
