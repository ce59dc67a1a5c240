"""The compiled programs of a run: everything that happens on the device, each for all members of a group at once."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from escapevelocity.envs import BoxActions, Task
from escapevelocity.policy import ActionDistribution, DiagonalNormal, Softmax, TanhNormal, gae
from escapevelocity.ppo.config import PPOSpec
from escapevelocity.ppo.measure import View, measure, view
from escapevelocity.ppo.networks import Actor, Agent, initial_agent
from escapevelocity.ppo.objective import Batch
from escapevelocity.ppo.update import Learner, adam, sample_order, update


class Stream:
    """Random streams of a member; each key is the member's seed folded with a stream (and a batch number)."""

    INITIALIZATION, NOISE, ORDER, EVALUATION = range(4)


class Programs(NamedTuple):
    """Jitted functions. Arrays have the members as first axis; rollout arrays have time before it."""

    initialize: Callable[..., Learner]
    """(seeds) -> learner."""
    draw_noise: Callable[..., Array]
    """(seeds, batch number) -> (time, members, environments, _)."""
    act: Callable[..., Any]
    """(actor's arrays, observations, noise) -> actions and environment actions, side by side for Box tasks."""
    prepare: Callable[..., tuple[Batch, View]]
    """(agent, rollout arrays) -> flattened batch with advantages, and what the agent does on it."""
    update: Callable[..., Any]
    """(learner, batch, seeds, batch number, learning rate, active) -> learner, statistics."""
    measure: Callable[..., Any]
    """(view before, agent after, batch) -> measurement."""


def action_distribution(spec: PPOSpec, task: Task) -> ActionDistribution:
    """The family of action distributions that the spec's head names."""
    if not isinstance(task.actions, BoxActions):
        return Softmax(task.actions.size)
    family = TanhNormal if spec.network.head == "tanh_normal" else DiagonalNormal
    std = "exp" if spec.network.head == "normal_independent" else "softplus"
    return family(task.actions.low, task.actions.high, std=std)


def input_size(spec: PPOSpec, task: Task) -> int:
    """Entries of an observation as the networks see it."""
    return task.observation_size + spec.environment.append_time


def member_key(seed: Array, stream: int) -> Array:
    """The key of one of a member's random streams; it depends on the seed alone, whatever the settings."""
    return jax.random.fold_in(jax.random.key(seed), stream)


@lru_cache(maxsize=8)
def build_programs(spec: PPOSpec, task: Task) -> Programs:
    """Build (not yet compile) the programs of a run."""
    distribution = action_distribution(spec, task)
    shape = (spec.environment.rollout_length, spec.environment.num_envs)

    def initialize(seed: Array) -> Learner:
        key = member_key(seed, Stream.INITIALIZATION)
        agent = initial_agent(key, spec.network, input_size(spec, task), distribution.num_outputs)
        parameters: Any = agent  # An Equinox module is a pytree, which Optax's types leave out.
        return Learner(agent, adam(spec.optimizer).init(parameters))

    def draw_noise(seed: Array, batch: Array) -> Array:
        key = jax.random.fold_in(member_key(seed, Stream.NOISE), batch)
        return distribution.draw_noise(key, shape)

    def update_member(learner, batch, seed, number, learning_rate, active):
        key = jax.random.fold_in(member_key(seed, Stream.ORDER), number)
        order = sample_order(key, spec.batch_size, spec.optimizer.epochs)
        return update(learner, batch, order, learning_rate, active, distribution, spec)

    return Programs(
        initialize=jax.jit(jax.vmap(initialize)),
        draw_noise=jax.jit(jax.vmap(draw_noise, in_axes=(0, None), out_axes=1)),
        act=_act_program(distribution, jax.eval_shape(initialize, jnp.uint32(0)).agent.actor),
        prepare=jax.jit(
            jax.vmap(
                partial(_prepare, distribution=distribution, spec=spec), in_axes=(0, 1, 1, 1, 1, 1, 1, 1)
            )
        ),
        update=jax.jit(jax.vmap(update_member, in_axes=(0, 0, 0, None, None, 0))),
        measure=jax.jit(jax.vmap(partial(measure, distribution=distribution, spec=spec))),
    )


def _act_program(distribution: ActionDistribution, like: Actor) -> Callable[..., Array]:
    """The policy step. Its parameters come as a flat tuple: flattening a module costs more than the network."""
    structure = jax.tree.structure(like)

    def act(arrays: tuple, observations: Array, noise: Array) -> Array:
        actor: Actor = jax.tree.unflatten(structure, arrays)
        params = distribution.params(actor.outputs(actor.mlp.trace(observations)))
        action = distribution.sample(params, noise)
        if isinstance(distribution, Softmax):
            return action
        return jnp.concatenate([action, distribution.to_environment(action)], axis=-1)

    return jax.jit(jax.vmap(act))


def _prepare(
    agent: Agent,
    observations: Array,
    next_observations: Array,
    actions: Array,
    noise: Array,
    rewards: Array,
    terminated: Array,
    truncated: Array,
    *,
    distribution: ActionDistribution,
    spec: PPOSpec,
) -> tuple[Batch, View]:
    """One member's rollout (time, environments, …) to a flattened batch with advantages and returns."""

    def flat(x: Array) -> Array:
        return x.reshape(-1, *x.shape[2:])

    seen = view(agent, flat(observations), distribution)
    values = seen.critic.outputs[:, 0].reshape(rewards.shape)
    next_values = agent.critic(flat(next_observations))[:, 0].reshape(rewards.shape)
    ended = terminated | truncated
    if spec.environment.time_limit == "termination":
        terminated = ended
    advantages, returns = gae(
        rewards, values, next_values, terminated, ended, spec.objective.gamma, spec.objective.gae_lambda
    )
    batch = Batch(
        observations=flat(observations),
        actions=flat(actions),
        noise=flat(noise),
        log_probs=distribution.log_prob(seen.params, flat(actions)),
        advantages=flat(advantages),
        returns=flat(returns),
        values=flat(values),
    )
    return batch, seen
