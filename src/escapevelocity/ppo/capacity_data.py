"""What capacity loss is measured on: the observations that a policy meets in environments of the probe's own."""

import dataclasses
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int32, Num

from escapevelocity.envs import Task
from escapevelocity.policy import ActionDistribution
from escapevelocity.ppo.config import PPOSpec
from escapevelocity.ppo.experience import make_experience
from escapevelocity.ppo.group import Group
from escapevelocity.ppo.job import TrainingState
from escapevelocity.ppo.programs import action_distribution

_CHUNK = 100
"""At most so many steps of each environment are collected at a time: the buffers hold whole stacks of screens."""
_SEGMENT = 2**31
"""Environments are seeded as those of segment 2³¹ + probe seed, which no run reaches."""


class ProbeSize(NamedTuple):
    """How much is fitted, and how often."""

    steps: int
    """Agent steps of data, of all environments together."""
    epochs: int
    """Passes over them."""
    num_envs: int
    """Parallel environments that they come from."""


def probe_size(task: Task) -> ProbeSize:
    """Atari: 36,000 agent steps of one game, once; other tasks: 4,000 of four environments, four times over.

    As Moalla et al. 2024 (code, configurations `capacity-all`) have it for Atari and for MuJoCo.
    """
    return ProbeSize(36_000, 1, 1) if task.backend == "ale" else ProbeSize(4_000, 4, 4)


class Observations(NamedTuple):
    """What the networks see in every step, by time and environment; outside of programs the members come first."""

    frames: Num[Array, "samples ..."]
    """A network input per sample; of a game its newest screen alone, for a stack repeats each screen four times."""
    stacks: Int32[Array, "samples stacked"] | None
    """Of a game: the screens that each sample shows, oldest first."""

    def take(self, samples: Int32[Array, " batch"]) -> Num[Array, "batch ..."]:
        """Network inputs of some samples of one member."""
        if self.stacks is None:
            return self.frames[samples]
        return jnp.moveaxis(self.frames[self.stacks[samples]], 1, -1)


class _Behaviour(Group):
    """A group that only acts, on noise of its own."""

    draw: Callable[[int], Array]

    def begin(self, batch: int) -> Array:
        """Draw a chunk's noise: (time, members, environments, _)."""
        return self.draw(batch)


def collect_observations(
    spec: PPOSpec, task: Task, state: TrainingState, keys: Array, size: ProbeSize, probe_seed: int
) -> Observations:
    """Let members act in fresh environments and keep what they see.

    Args:
        spec: the run's settings, with these members' seeds.
        task: its task.
        state: the agents that act, and their observation statistics.
        keys: (members,) PRNG keys of the actions' noise.
        size: how much is collected.
        probe_seed: the environments' seeds follow from it and the members' seeds.
    """
    length = size.steps // size.num_envs
    chunk = max(divisor for divisor in range(1, _CHUNK + 1) if length % divisor == 0)
    spec = _acting_spec(spec, size.num_envs, chunk)
    members = len(spec.seeds)
    # Its programs use no seed: with the same ones for all, those of other members are found compiled.
    group = _Behaviour(dataclasses.replace(spec, seeds=tuple(range(members))), task, slice(0, members), state)
    draw = _noise_program(action_distribution(spec, task), (chunk, size.num_envs))
    group.draw = lambda number: draw(keys, jnp.uint32(number))
    experience = make_experience(spec, task, state, _SEGMENT + probe_seed, [group])
    frames, ended = [], []
    try:
        for number in range(length // chunk):
            experience.collect(number)
            rollout = group.rollout
            seen = np.asarray(rollout.observations)
            frames.append(np.array(seen[..., -1] if task.pixels else seen))
            ended.append(np.asarray(rollout.terminated) | np.asarray(rollout.truncated))
    finally:
        experience.close()
    seen = np.moveaxis(np.concatenate(frames), 0, 1)
    seen = seen.reshape(seen.shape[0], size.steps, *seen.shape[3:])
    stacks = stacked(np.concatenate(ended), task.observation_shape[-1]) if task.pixels else None
    return Observations(jnp.asarray(seen), None if stacks is None else jnp.asarray(stacks))


def stacked(
    ended: Bool[np.ndarray, "time members envs"], depth: int
) -> Int32[np.ndarray, "members samples depth"]:
    """Which screens `envs.FrameStack` shows in each step, as indices (time · environments + environment).

    Args:
        ended: whether the step ended its episode; the first step begins one.
        depth: screens in a stack. An episode's first screen stands in for those before it.
    """
    length, members, envs = ended.shape
    time = np.arange(length, dtype=np.int32)[:, None, None]
    begins = np.concatenate([np.ones_like(ended[:1]), ended[:-1]])
    start = np.maximum.accumulate(np.where(begins, time, 0), axis=0)
    back = np.arange(depth - 1, -1, -1, dtype=np.int32)
    shown = np.maximum(time[..., None] - back, start[..., None])
    indices = shown * envs + np.arange(envs, dtype=np.int32)[:, None]
    return np.moveaxis(indices, 1, 0).reshape(members, length * envs, depth).astype(np.int32)


def _acting_spec(spec: PPOSpec, num_envs: int, length: int) -> PPOSpec:
    """The same settings with batches of another shape; nothing is trained with them."""
    environment = dataclasses.replace(spec.environment, num_envs=num_envs, rollout_length=length)
    optimizer = dataclasses.replace(spec.optimizer, minibatch_size=num_envs * length)
    steps = environment.num_envs * environment.rollout_length * environment.frame_skip
    return dataclasses.replace(spec, environment=environment, optimizer=optimizer, steps=steps, branch=None)


@lru_cache(maxsize=8)
def _noise_program(
    distribution: ActionDistribution, shape: tuple[int, int]
) -> Callable[[Array, Array], Array]:
    """(keys, number of the chunk) -> (time, members, environments, _)."""

    def draw(key: Array, chunk: Array) -> Array:
        return distribution.draw_noise(jax.random.fold_in(key, chunk), shape)

    return jax.jit(jax.vmap(draw, in_axes=(0, None), out_axes=1))
