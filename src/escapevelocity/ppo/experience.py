"""Where batches come from: environments on the host that take turns with the network, or on the device inside jit."""

import dataclasses
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from escapevelocity.envs import BoxActions, ObservationStatistics, Task
from escapevelocity.ppo.config import PPOSpec
from escapevelocity.ppo.group import Group
from escapevelocity.ppo.programs import build_programs, input_shape
from escapevelocity.ppo.rollout import Rollout, collect, make_lanes, simulator_threads

if TYPE_CHECKING:
    from escapevelocity.ppo.device_rollout import Collector
    from escapevelocity.ppo.job import TrainingState


@runtime_checkable
class Experience(Protocol):
    """The environments of a population during one segment."""

    def collect(self, batch: int) -> None:
        """Run a batch with the groups' agents, and hand each group its part."""
        ...

    def close(self) -> None:
        """Free the simulators."""
        ...


def make_experience(
    spec: PPOSpec, task: Task, state: "TrainingState", segment: int, groups: Sequence[Group]
) -> Experience:
    """Fresh environments for one segment.

    Args:
        spec: the run's settings.
        task: its task.
        state: the population's state at the boundary.
        segment: number of the segment, from which the environments' seeds derive.
        groups: the groups of members that are handed their batches.
    """
    if task.backend == "gymnax":
        return DeviceExperience(spec, task, state, segment, groups)
    return HostExperience(spec, task, state, segment, groups)


class HostExperience:
    """Simulators on the host, in lanes: the network works for one while the simulators work on the others."""

    def __init__(
        self, spec: PPOSpec, task: Task, state: "TrainingState", segment: int, groups: Sequence[Group]
    ):
        env, members = spec.environment, len(spec.seeds)
        shape = task.observation_shape if task.pixels else input_shape(spec, task)
        self._rollout = Rollout.empty(env.rollout_length, members, env.num_envs, shape, task)
        self._length, self._groups = env.rollout_length, groups
        # Passes over images take so much longer than games that two half-sized ones would only cost more.
        count = 1 if task.pixels else 2
        statistics = ObservationStatistics(*(np.asarray(x, np.float64) for x in (state.mean, state.std)))
        self._lanes = make_lanes(
            task, env, self._rollout, spec.seeds, statistics, segment, count, simulator_threads(count)
        )
        # An accelerator has seen every image already, so that the batch need not travel there again.
        self._keeps_images = task.pixels and jax.default_backend() != "cpu"
        for group in groups:
            group.rollout = self._rollout.of_members(group.members)

    def collect(self, batch: int) -> None:
        """Run a batch with the groups' agents; the groups see it in the buffers they share with the lanes."""
        for group in self._groups:
            group.rollout.noise[...] = group.begin(batch)
        parameters = acting_parameters(self._groups)
        for lane in self._lanes:
            lane.kept = [] if self._keeps_images else None
            lane.begin(self._groups[0].programs.act, parameters)
        collect(self._lanes, self._length)
        if self._keeps_images:
            self._hand_over_images()
        for group in self._groups:
            group.collected()

    def _hand_over_images(self) -> None:
        images = jnp.concatenate([jnp.stack(lane.kept or []) for lane in self._lanes], axis=2)
        for group in self._groups:
            own = self._rollout.of_members(group.members)
            group.rollout = dataclasses.replace(own, observations=images[:, group.members])

    def close(self) -> None:
        """Free the simulators."""
        for lane in self._lanes:
            lane.close()


def acting_parameters(groups: Sequence[Group]) -> tuple[Array, ...]:
    """The arrays of all members' actors, members first."""
    parts = [group.programs.acting(group.learner.agent) for group in groups]
    return tuple(jnp.concatenate(leaves) for leaves in zip(*parts, strict=True))


class DeviceExperience:
    """Environments inside jit: a batch of the whole population is one program, and stays on the device."""

    def __init__(
        self, spec: PPOSpec, task: Task, state: "TrainingState", segment: int, groups: Sequence[Group]
    ):
        (self._group,) = groups
        self._collector = _device_collector(spec, task)
        self._mean, self._std = state.mean, state.std
        self._states = self._collector.begin(jnp.asarray(spec.seeds, jnp.uint32), jnp.uint32(segment))

    def collect(self, batch: int) -> None:
        """Run a batch with the group's agents."""
        noise = self._group.begin(batch)
        actors = self._group.programs.acting(self._group.learner.agent)
        self._states, collected = self._collector.collect(actors, self._mean, self._std, self._states, noise)
        jax.block_until_ready(collected)
        self._group.rollout = Rollout(noise=noise, **collected._asdict())
        self._group.collected()

    def close(self) -> None:
        """Nothing to free."""


@lru_cache(maxsize=8)
def _device_collector(spec: PPOSpec, task: Task) -> "Collector":
    """The same object for each segment, so that what was compiled for it is found again."""
    from escapevelocity.envs.device import make_device_environment
    from escapevelocity.ppo.device_rollout import build_collector

    act, box = build_programs(spec, task).act, isinstance(task.actions, BoxActions)

    def member_act(arrays: tuple[Array, ...], observations: Array, noise: Array) -> tuple[Array, Array]:
        drawn = act(*jax.tree.map(lambda x: x[None], (arrays, observations, noise)))[0]
        if not box:
            return drawn, drawn
        action, environment_action = jnp.split(drawn, 2, axis=-1)
        return action, environment_action

    env = spec.environment
    return build_collector(make_device_environment(task), env.num_envs, member_act, env.append_time)
