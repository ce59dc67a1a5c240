"""The compiled programs of a run: everything that happens on the device, each for all members of a group at once."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from escapevelocity.envs import BoxActions, Task
from escapevelocity.policy import ActionDistribution, Categorical, DiagonalNormal, Escort, Softmax, TanhNormal
from escapevelocity.ppo.advantages import Rewards, advantages_and_returns
from escapevelocity.ppo.config import PPOSpec
from escapevelocity.ppo.descent import initial_moments
from escapevelocity.ppo.initialization import initial_agent
from escapevelocity.ppo.measure import View, measure, view_and_references
from escapevelocity.ppo.networks import Actor, Agent
from escapevelocity.ppo.objective import Batch
from escapevelocity.ppo.treatment import Moment, Treatment
from escapevelocity.ppo.update import Learner, sample_order, update
from escapevelocity.runs.compiler import convolution_options


class Stream:
    """Random streams of a member; each key is the member's seed folded with a stream (and a batch number)."""

    INITIALIZATION, NOISE, ORDER, EVALUATION, REMEDIES = range(5)


class Transitions(NamedTuple):
    """One member's part of a `rollout.Rollout`, in the order of its fields: arrays are (time, environments, …)."""

    observations: Array
    next_observations: Array
    actions: Array
    noise: Array
    rewards: Array
    terminated: Array
    truncated: Array


class Programs(NamedTuple):
    """Jitted functions. Arrays have the members as first axis; rollout arrays have time before it."""

    initialize: Callable[..., Learner]
    """(seeds) -> learner."""
    draw_noise: Callable[..., Array]
    """(seeds, batch number) -> (time, members, environments, _)."""
    acting: Callable[..., tuple[Array, ...]]
    """(agent) -> the actor's arrays as `act` takes them."""
    act: Callable[..., Any]
    """(actor's arrays, observations, noise) -> actions and environment actions, side by side for Box tasks."""
    prepare: Callable[..., tuple[Batch, View, dict[str, Array]]]
    """(agent, rollout arrays, seeds, batch number) -> flattened batch with advantages, what the agent does on it, and
    columns of remedies that change rewards."""
    update: Callable[..., Any]
    """(learner, batch, seeds, batch number, share of the run that is done, learning rate, active) -> learner,
    statistics."""
    measure: Callable[..., Any]
    """(view before, agent after, batch) -> measurement."""


def action_distribution(spec: PPOSpec, task: Task) -> ActionDistribution:
    """The family of action distributions that the spec's head names."""
    if not isinstance(task.actions, BoxActions):
        count = task.actions.size
        return Escort(count, spec.network.escort_p) if spec.network.head == "escort" else Softmax(count)
    family = TanhNormal if spec.network.head == "tanh_normal" else DiagonalNormal
    std = "exp" if spec.network.head == "normal_independent" else "softplus"
    return family(task.actions.low, task.actions.high, std=std)


def input_shape(spec: PPOSpec, task: Task) -> tuple[int, ...]:
    """Shape of an observation as the networks see it."""
    if len(task.observation_shape) > 1 and spec.network.convolutions != "none":
        return task.observation_shape
    return (task.observation_size + spec.environment.append_time,)


def member_key(seed: Array, stream: int) -> Array:
    """The key of one of a member's random streams; it depends on the seed alone, whatever the settings."""
    return jax.random.fold_in(jax.random.key(seed), stream)


def make_treatment(spec: PPOSpec, task: Task) -> Treatment:
    """The spec's remedies, without those that change nothing."""
    shape, outputs = input_shape(spec, task), action_distribution(spec, task).num_outputs
    return Treatment(
        tuple(remedy for remedy in spec.remedies if not remedy.is_idle()),
        lambda key: initial_agent(key, spec.network, shape, outputs),
    )


@lru_cache(maxsize=8)
def build_programs(spec: PPOSpec, task: Task) -> Programs:
    """Build (not yet compile) the programs of a run."""
    distribution, treatment = action_distribution(spec, task), make_treatment(spec, task)
    shape = (spec.environment.rollout_length, spec.environment.num_envs)
    over_members = one_by_one if goes_one_by_one(spec) else jax.vmap
    jit = jax.jit
    if spec.network.convolutions == "nature":
        jit = partial(jax.jit, compiler_options=convolution_options())

    def initialize(seed: Array) -> Learner:
        agent = treatment.fresh(member_key(seed, Stream.INITIALIZATION))
        return Learner(agent, initial_moments(agent, spec.optimizer), treatment.initial(agent))

    def draw_noise(seed: Array, batch: Array) -> Array:
        key = jax.random.fold_in(member_key(seed, Stream.NOISE), batch)
        return distribution.draw_noise(key, shape)

    def moment(seed: Array, number: Array, progress: Array) -> Moment:
        return Moment(member_key(seed, Stream.REMEDIES), number.astype(jnp.int32), progress)

    def prepare(agent, *arrays):
        *rollout, seed, number = arrays
        now = moment(seed, number, jnp.float32(0))
        return _prepare(agent, Transitions(*rollout), now, distribution, spec, task, treatment)

    def update_member(learner, batch, seed, number, progress, learning_rate, active):
        key = jax.random.fold_in(member_key(seed, Stream.ORDER), number)
        order = sample_order(key, spec.batch_size, spec.optimizer.epochs)
        now = moment(seed, number, progress)
        return update(learner, batch, order, learning_rate, active, distribution, spec, treatment, now)

    like = jax.eval_shape(initialize, jnp.uint32(0)).agent.actor
    return Programs(
        initialize=jax.jit(jax.vmap(initialize)),
        draw_noise=jax.jit(jax.vmap(draw_noise, in_axes=(0, None), out_axes=1)),
        acting=_acting_program(spec),
        act=_act_program(distribution, jax.eval_shape(Actor.folded, like), jit),
        prepare=jit(over_members(prepare, in_axes=(0, *[1] * 7, 0, None))),
        update=jit(over_members(update_member, in_axes=(0, 0, 0, None, None, None, 0))),
        measure=jit(over_members(partial(measure, distribution=distribution, spec=spec), in_axes=(0, 0, 0))),
    )


def goes_one_by_one(spec: PPOSpec) -> bool:
    """Whether members are updated one after the other: on games' screens large convolutions gain nothing from being
    batched, and need memory; in MinAtar, XLA's routines for CPUs multiply single matrices faster than stacks of them
    (ten seeds' update took 2.4 s, and 3.2 s as a stack), while an accelerator would wait for many small programs.
    """
    convolutions = spec.network.convolutions
    return convolutions == "nature" or (convolutions == "minatar" and jax.default_backend() == "cpu")


def one_by_one(function: Callable[..., Any], in_axes: tuple[int | None, ...]) -> Callable[..., Any]:
    """Like `jax.vmap`, member after member."""

    def mapped(*arguments):
        moved = [
            argument
            if axis is None
            else jax.tree.map(partial(jnp.moveaxis, source=axis, destination=0), argument)
            for argument, axis in zip(arguments, in_axes, strict=True)
        ]
        each = [argument for argument, axis in zip(moved, in_axes, strict=True) if axis is not None]

        def one(own):
            own = iter(own)
            return function(
                *(
                    argument if axis is None else next(own)
                    for argument, axis in zip(moved, in_axes, strict=True)
                )
            )

        if (
            jax.tree.leaves(each)[0].shape[0] == 1
        ):  # A loop around one member would only keep XLA from fusing.
            return jax.tree.map(lambda x: x[None], one(jax.tree.map(lambda x: x[0], each)))
        return jax.lax.map(one, each)

    return mapped


def _acting_program(spec: PPOSpec) -> Callable[[Agent], tuple[Array, ...]]:
    """What the policy step is given: spectral normalisation is done once for all the steps of a batch."""
    if spec.network.spectral_norm == "none":
        return lambda agent: tuple(jax.tree.leaves(agent.actor))
    return jax.jit(jax.vmap(lambda agent: tuple(jax.tree.leaves(agent.actor.folded()))))


def _act_program(
    distribution: ActionDistribution, like: Actor, jit: Callable[..., Any]
) -> Callable[..., Array]:
    """The policy step. Its parameters come as a flat tuple: flattening a module costs more than the network."""
    structure = jax.tree.structure(like)

    def act(arrays: tuple, observations: Array, noise: Array) -> Array:
        actor: Actor = jax.tree.unflatten(structure, arrays)
        params = distribution.params(actor.outputs(actor.network.trace(observations)))
        action = distribution.sample(params, noise)
        if isinstance(distribution, Categorical):
            return action
        return jnp.concatenate([action, distribution.to_environment(action)], axis=-1)

    return jit(jax.vmap(act))


def _prepare(
    agent: Agent,
    rollout: Transitions,
    moment: Moment,
    distribution: ActionDistribution,
    spec: PPOSpec,
    task: Task,
    treatment: Treatment,
) -> tuple[Batch, View, dict[str, Array]]:
    """One member's rollout (time, environments, …) to a flattened batch with advantages and returns."""
    observations, next_observations, actions, noise, rewards, terminated, truncated = rollout

    def flat(x: Array) -> Array:
        return x.reshape(-1, *x.shape[2:])

    seen, references = view_and_references(agent, flat(observations), distribution, treatment)
    values = seen.critic.outputs[:, 0].reshape(rewards.shape)
    if spec.environment.rewards == "sign":
        rewards = jnp.sign(rewards)
    rewards, columns = treatment.rewards(rewards, moment)
    advantages, returns = advantages_and_returns(
        agent, values, next_observations, Rewards(rewards, terminated, truncated), task.episode_limit, spec
    )
    batch = Batch(
        observations=flat(observations),
        actions=flat(actions),
        noise=flat(noise),
        log_probs=distribution.log_prob(seen.params, flat(actions)),
        advantages=flat(advantages),
        returns=flat(returns),
        values=flat(values),
        references=references,
    )
    return batch, seen, columns
