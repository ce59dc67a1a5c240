"""Small settings, batches and a hand-written PyTorch agent that PPO's tests share."""

import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

from escapevelocity.envs import BoxActions, DiscreteActions, Task
from escapevelocity.ppo.config import (
    EnvironmentConfig,
    MonitoringConfig,
    NetworkConfig,
    ObjectiveConfig,
    OptimizerConfig,
    PPOSpec,
)
from escapevelocity.ppo.descent import adam
from escapevelocity.ppo.initialization import initial_agent
from escapevelocity.ppo.objective import Batch
from escapevelocity.ppo.programs import action_distribution
from escapevelocity.ppo.update import Learner, update

INPUTS = 3
BOX = Task("Toy-v0", "gymnasium", (INPUTS,), BoxActions((-1.0, -2.0), (1.0, 3.0)), 10)
DISCRETE = Task("Toy-v0", "gymnasium", (INPUTS,), DiscreteActions(3), 10)
new_agent = jax.jit(initial_agent, static_argnums=(1, 2, 3))
SECTIONS = ("environment", "network", "objective", "optimizer", "monitoring")


def small_spec(head="tanh_normal", **changes):
    """Batches of 64 = 2 environments × 32, 3 epochs of 4 minibatches, two layers of 8 units.

    `changes` are fields of the spec, or dicts of fields of one of its sections.
    """
    spec = PPOSpec(
        task="Toy-v0",
        steps=64 * 4,
        environment=EnvironmentConfig(
            backend="gymnasium", num_envs=2, rollout_length=32, append_time=False, normalization="none"
        ),
        network=NetworkConfig(hidden=(8, 8), head=head),
        objective=ObjectiveConfig(),
        optimizer=OptimizerConfig(learning_rate=1e-2, max_grad_norm=0.2, epochs=3, minibatch_size=16),
        monitoring=MonitoringConfig(),
    )
    for name in SECTIONS:
        if name in changes:
            changes[name] = dataclasses.replace(getattr(spec, name), **changes[name])
    return dataclasses.replace(spec, **changes)


def task_for(spec):
    return DISCRETE if spec.network.head == "softmax" else BOX


@cache
def fresh_learner(spec, seed=0):
    distribution = action_distribution(spec, task_for(spec))
    agent = new_agent(jax.random.key(seed), spec.network, INPUTS, distribution.num_outputs)
    return Learner(agent, adam(spec.optimizer).init(agent))


@cache
def random_batch(spec, seed=0, samples=64):
    """A batch whose ratios and values are off by enough that both clips are active for some samples."""
    rng = np.random.default_rng(seed)
    distribution = action_distribution(spec, task_for(spec))

    @jax.jit
    def behaviour(agent, observations):
        params = distribution.params(agent.actor.outputs(agent.actor.network.trace(observations)))
        noise = distribution.draw_noise(jax.random.key(seed), (samples,))
        actions = distribution.sample(params, noise)
        return noise, actions, distribution.log_prob(params, actions), agent.values(observations)

    def normal(*shape, scale=1.0):
        return np.asarray(scale * rng.normal(size=shape), np.float32)

    observations = jnp.asarray(normal(samples, INPUTS))
    noise, actions, log_probs, values = behaviour(fresh_learner(spec, seed).agent, observations)
    values = np.asarray(values) + normal(samples, scale=0.3)
    return Batch(
        observations=observations,
        actions=actions,
        noise=noise,
        log_probs=jnp.asarray(np.asarray(log_probs) + normal(samples, scale=0.3)),
        advantages=jnp.asarray(normal(samples, scale=2.0)),
        returns=jnp.asarray(values + normal(samples)),
        values=jnp.asarray(values),
    )


def random_order(spec, samples=64, seed=0):
    """Indices of the samples, epoch by epoch, drawn by NumPy."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(samples) for _ in range(spec.optimizer.epochs)]).astype(np.int32)


@cache
def compiled_update(spec):
    """The update as the trainer compiles it, for any order of minibatches."""
    distribution = action_distribution(spec, task_for(spec))
    return jax.jit(
        lambda learner, batch, order, rate, active: update(
            learner, batch, order, rate, active, distribution, spec
        )
    )


def run_update(spec, learner, batch, order, rate=None, active=True):
    rate = jnp.float32(spec.optimizer.learning_rate if rate is None else rate)
    return compiled_update(spec)(learner, batch, jnp.asarray(order), rate, jnp.asarray(active))


def poisoned(batch, field, index, value):
    return batch._replace(**{field: getattr(batch, field).at[index].set(value)})


def torch_mlp(mlp, activation="tanh", dtype=None):
    """The same weights as a PyTorch network."""
    import torch

    activations = {
        "tanh": torch.nn.Tanh,
        "relu": torch.nn.ReLU,
        "gelu": torch.nn.GELU,
        "leaky_relu": torch.nn.LeakyReLU,
    }
    layers = []
    for weight, bias in zip(mlp.weights, mlp.biases, strict=True):
        linear = torch.nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            linear.weight.copy_(to_torch(weight))
            linear.bias.copy_(to_torch(bias))
        layers += [linear, activations[activation]()]
    return torch.nn.Sequential(*layers[:-1]).to(dtype or torch.float32)


def to_torch(array):
    import torch

    return torch.from_numpy(np.array(array))


def numpy_mlp(mlp, inputs, activation=np.tanh):
    """Outputs, features and pre-activations of every hidden layer in float64, from the same weights."""
    hidden, preactivations = np.asarray(inputs, np.float64), []
    for weight, bias in zip(mlp.weights[:-1], mlp.biases[:-1], strict=True):
        preactivations.append(hidden @ np.asarray(weight, np.float64).T + np.asarray(bias, np.float64))
        hidden = activation(preactivations[-1])
    return (
        hidden @ np.asarray(mlp.weights[-1], np.float64).T + np.asarray(mlp.biases[-1]),
        hidden,
        preactivations,
    )


def assert_same_bits(one, two):
    """Equal structure, and every array equal bit for bit (NaN equals NaN)."""
    leaves, others = jax.tree.leaves(one), jax.tree.leaves(two)
    assert jax.tree.structure(one) == jax.tree.structure(two)
    for leaf, other in zip(leaves, others, strict=True):
        np.testing.assert_array_equal(np.asarray(leaf), np.asarray(other))
