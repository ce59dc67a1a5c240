"""Collecting experience inside jit: a whole batch of every member is one program."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int32, Key, Num, UInt32

from escapevelocity.envs import Purpose
from escapevelocity.envs._observation import MIN_STD
from escapevelocity.envs.device import DeviceEnvironment, DeviceState, DeviceTransition

ENVIRONMENT_STREAM = 2**31
"""Folded into a member's key before anything else; the streams of `programs.Stream` count from 0."""

Act = Callable[[Any, Array, Array], tuple[Array, Array]]
"""One member's policy step: (actor, observations (envs, …), noise (envs, _)) -> actions as the distribution drew them
and as the environment takes them, each (envs,) int32 or (envs, size) float32."""


class EnvironmentStates(NamedTuple):
    """Environments between two batches; every array has the members, then their environments, as first axes."""

    key: Key[Array, "*shape"]
    """From member seed, segment and index of the environment."""
    draws: UInt32[Array, "*shape"]
    """Keys that were derived from `key` up to now: one for each step and each reset."""
    environment: DeviceState
    observation: Float[Array, "*shape"]
    """What the policy sees next, as the environment gave it."""


class Collected(NamedTuple):
    """A batch of real transitions, as in `rollout.Rollout`: arrays are (time, members, envs, …)."""

    observations: Float[Array, "time members envs *inputs"]
    """Network inputs."""
    next_observations: Float[Array, "time members envs *inputs"]
    """The true successors, as network inputs; final observations where an episode ended."""
    actions: Num[Array, "time members envs *size"]
    """As the distribution drew them."""
    rewards: Float[Array, "time members envs"]
    """As the task gave them."""
    terminated: Bool[Array, "time members envs"]
    """The task ended the episode."""
    truncated: Bool[Array, "time members envs"]
    """The time limit ended the episode."""


class Collector(NamedTuple):
    """Jitted functions."""

    begin: Callable[..., EnvironmentStates]
    """(seeds (members,) uint32, segment () uint32) -> states of fresh environments."""
    collect: Callable[..., tuple[EnvironmentStates, Collected]]
    """(actors: a pytree with the members as first axis, mean and std (members, observation_size), states, noise (time,
    members, envs, _)) -> states, collected."""


@lru_cache(maxsize=8)
def build_collector(
    environment: DeviceEnvironment, num_envs: int, act: Act, append_time: bool = False
) -> Collector:
    """Build (not yet compile) the programs that run the environments of a population.

    An environment that ended is reset within the same step, so that every row is a real transition. Whatever happens
    to a member depends on its seed, the segment and its own actions alone. With m members, e environments, time t and
    i inputs the two arrays of observations take 8·t·m·e·i bytes: MinAtar Breakout (i = 400) with 64 seeds, 16
    environments and 64 steps 200 MiB, Seaquest (i = 1,000) 500 MiB.

    Args:
        environment: the task.
        num_envs: environments per member.
        act: the policy step; it is traced. The same function finds again what was compiled for it.
        append_time: append 2t/limit − 1 to the observation, which must be a vector, and the task have a limit.
    """
    limit = environment.episode_limit if append_time else None

    def begin_one(seed: Array, segment: Array, index: Array) -> EnvironmentStates:
        return fresh_environment(environment, environment_key(seed, Purpose.TRAINING, segment, index))

    def begin(seeds: Array, segment: Array) -> EnvironmentStates:
        own = jax.vmap(begin_one, in_axes=(None, None, 0))
        indices = jnp.arange(num_envs, dtype=jnp.uint32)
        return jax.vmap(own, in_axes=(0, None, None))(seeds, segment, indices)

    def member_step(
        actor: Any, mean: Array, std: Array, states: EnvironmentStates, noise: Array
    ) -> tuple[EnvironmentStates, Collected]:
        observe = partial(network_inputs, mean=mean, std=std, time_limit=limit)
        elapsed = states.environment.elapsed
        inputs = observe(states.observation, elapsed)
        actions, environment_actions = act(actor, inputs, noise)
        states, step = jax.vmap(partial(advance, environment))(states, environment_actions)
        successors = observe(step.next_observation, elapsed + 1)
        return states, Collected(inputs, successors, actions, step.reward, step.terminated, step.truncated)

    def collect(
        actors: Any,
        mean: Float[Array, "members size"],
        std: Float[Array, "members size"],
        states: EnvironmentStates,
        noise: Float[Array, "time members envs _"],
    ) -> tuple[EnvironmentStates, Collected]:
        def step(states: EnvironmentStates, noise: Array) -> tuple[EnvironmentStates, Collected]:
            return jax.vmap(member_step)(actors, mean, std, states, noise)

        return jax.lax.scan(step, states, noise)

    return Collector(jax.jit(begin), jax.jit(collect))


def environment_key(seed: Array, purpose: Purpose, segment: Array, index: Array) -> Array:
    """The key of one environment, from the member's seed, the purpose, the segment and its index alone."""
    key = jax.random.fold_in(jax.random.key(seed), ENVIRONMENT_STREAM)
    for number in (int(purpose), segment, index):
        key = jax.random.fold_in(key, number)
    return key


def fresh_environment(environment: DeviceEnvironment, key: Key[Array, ""]) -> EnvironmentStates:
    """Start one environment, whose every draw will come from `key`."""
    state, observation = environment.reset(jax.random.fold_in(key, 0))
    return EnvironmentStates(key, jnp.uint32(1), state, observation)


def advance(
    environment: DeviceEnvironment, states: EnvironmentStates, action: Num[Array, "*size"]
) -> tuple[EnvironmentStates, DeviceTransition]:
    """Step one environment, and reset it at once where that ended its episode.

    Args:
        environment: the task.
        states: of one environment, without leading axes.
        action: as the environment takes it.

    Returns:
        The state to go on from, and the transition with the true successor.
    """
    step_key = jax.random.fold_in(states.key, states.draws)
    reset_key = jax.random.fold_in(states.key, states.draws + 1)
    stepped, transition = environment.step(step_key, states.environment, action)
    ended = transition.terminated | transition.truncated
    # Under vmap both branches of a condition run anyway; a fresh start costs little.
    state, observation = jax.tree.map(
        lambda new, old: jnp.where(ended, new, old),
        environment.reset(reset_key),
        (stepped, transition.next_observation),
    )
    return EnvironmentStates(states.key, states.draws + 2, state, observation), transition


def network_inputs(
    observations: Float[Array, "envs *shape"],
    elapsed: Int32[Array, " envs"],
    mean: Float[Array, " size"],
    std: Float[Array, " size"],
    time_limit: int | None,
) -> Float[Array, "envs *inputs"]:
    """What the networks of one member see: as `envs.Observer` writes it, in float32.

    Args:
        observations: as the environments gave them.
        elapsed: steps since the start of each episode.
        mean: of each entry of an observation, flattened.
        std: likewise.
        time_limit: appends 2t/limit − 1 to vectors; None appends nothing.
    """
    shape = observations.shape[1:]
    scale = 1.0 / jnp.maximum(std, MIN_STD)
    inputs = (observations - mean.reshape(1, *shape)) * scale.reshape(1, *shape)
    if time_limit is None:
        return inputs
    time = elapsed.astype(jnp.float32) * (2.0 / time_limit) - 1.0
    return jnp.concatenate([inputs, time[:, None]], axis=-1)
