"""PPO as a job of the engine: a population trained segment by segment."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise, repeat
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from escapevelocity.envs import (
    DiscreteActions,
    ObservationStatistics,
    Task,
    describe_task,
    measure_observations,
)
from escapevelocity.errors import UserError, require
from escapevelocity.ppo.best import BestKeeper
from escapevelocity.ppo.config import DISCRETE_HEADS, PPOSpec
from escapevelocity.ppo.convolution import output_shape
from escapevelocity.ppo.experience import make_experience
from escapevelocity.ppo.group import Group, MemberRow
from escapevelocity.ppo.initialization import CONVOLUTIONS
from escapevelocity.ppo.programs import build_programs
from escapevelocity.ppo.update import Learner
from escapevelocity.runs import Emit, RunFailed


class TrainingState(NamedTuple):
    """All that training needs to go on from a boundary; every array has the members as first axis."""

    learner: Learner
    mean: Float[Array, "members inputs"]
    """Observation statistics."""
    std: Float[Array, "members inputs"]
    active: Bool[Array, " members"]
    """False for members that failed and are frozen."""


@lru_cache(maxsize=8)
def task_of(spec: PPOSpec) -> Task:
    """The spec's task, checked against the settings that depend on it.

    Raises:
        UserError: unknown task, unsupported spaces, or a head or time setting that does not fit.
    """
    env = spec.environment
    task = describe_task(
        spec.task,
        env.backend,
        env.episode_limit,
        frame_skip=env.frame_skip,
        sticky_actions=env.sticky_actions,
    )
    for remedy in spec.remedies:  # Before the head: a remedy that has chosen it says so.
        remedy.check(spec, task)
        if remedy.configure(spec) != spec:
            raise UserError(
                f"remedies: {remedy.name} sets what these settings have otherwise, and would do nothing; "
                "add it by --remedy, or in Python by apply_remedies"
            )
    discrete = isinstance(task.actions, DiscreteActions)
    if discrete != (spec.network.head in DISCRETE_HEADS):
        fitting = "softmax or escort" if discrete else "tanh_normal, normal or normal_independent"
        raise UserError(
            f"head = {spec.network.head!r}: {spec.task} has {'discrete' if discrete else 'Box'} actions; use {fitting}"
        )
    bounds = [] if isinstance(task.actions, DiscreteActions) else [*task.actions.low, *task.actions.high]
    if spec.network.head == "tanh_normal" and not np.isfinite(bounds).all():
        raise UserError(
            f"head = 'tanh_normal': {spec.task} has unbounded actions; use normal or normal_independent"
        )
    if env.append_time and task.episode_limit is None:
        raise UserError(
            f"append-time = True: {spec.task} has no time limit; give --episode-limit or --no-append-time"
        )
    _check_observations(spec, task)
    return task


def _check_observations(spec: PPOSpec, task: Task) -> None:
    """Raise `UserError` where the network or its inputs do not fit what the task shows."""
    env, shape = spec.environment, task.observation_shape
    seen = "×".join(map(str, shape))
    if spec.network.convolutions != "none":
        accepted = f"none for {spec.task}, whose observations are vectors of {seen}"
        require(len(shape) == 3, "convolutions", spec.network.convolutions, accepted)
        output_shape((shape[0], shape[1], shape[2]), CONVOLUTIONS[spec.network.convolutions])
    if len(shape) > 1:
        require(
            not env.append_time, "append-time", env.append_time, f"False for images ({spec.task}: {seen})"
        )
        accepted = f"none for images ({spec.task}: {seen})"
        require(env.normalization == "none", "normalization", env.normalization, accepted)


class PPOJob:
    """Proximal policy optimisation with its health measured (Schulman et al. 2017; Moalla et al. 2024).

    Args:
        keeper: keeps the best parameters beside the run; it changes nothing that is computed.
    """

    name = "ppo"

    def __init__(self, keeper: BestKeeper | None = None) -> None:
        self._keeper = keeper

    def segments(self, spec: PPOSpec) -> int:
        """Number of segments."""
        return spec.num_segments(task_of(spec).episode_limit)

    def step(self, spec: PPOSpec, k: int) -> int:
        """Environment steps per member when `k` segments are done."""
        return spec.boundary(k, self.segments(spec)) * spec.batch_steps

    def initial_state(self, spec: PPOSpec) -> TrainingState:
        """Fresh parameters, and observation statistics of a uniform policy."""
        task, env = task_of(spec), spec.environment
        learner = build_programs(spec, task).initialize(_seeds(spec.seeds))
        size = 0 if task.pixels else task.observation_size  # Images are not normalised.
        statistics = ObservationStatistics.identity(len(spec.seeds), size)
        if env.normalization == "fixed":
            statistics = measure_observations(
                task, spec.seeds, env.num_envs, env.normalization_steps, os.cpu_count() or 1
            )
        # As float32, like everything in a checkpoint, before the first use: resuming then changes nothing. What the
        # mean loses by that is no deviation: a large entry that never varies would be thousands of them.
        rounding = np.finfo(np.float32).eps * np.abs(statistics.mean)
        mean, std = (
            jnp.asarray(x, jnp.float32) for x in (statistics.mean, np.maximum(statistics.std, rounding))
        )
        return TrainingState(learner, mean, std, jnp.ones(len(spec.seeds), bool))

    def segment(self, spec: PPOSpec, state: TrainingState, k: int, emit: Emit) -> TrainingState:
        """Train from boundary `k` to boundary `k + 1` in fresh environments."""
        count = self.segments(spec)
        first, last = spec.boundary(k, count), spec.boundary(k + 1, count)
        groups = _groups(spec, state)
        experience = make_experience(spec, task_of(spec), state, k, groups)
        try:
            with ThreadPoolExecutor(len(groups)) as pool:
                if k == 0:
                    self._snapshot(spec, groups, 0, emit)
                for batch in range(first, last):
                    if self._keeper is not None:
                        self._keeper.before_update([group.learner.agent for group in groups])
                    experience.collect(batch)
                    boundary = batch + 1 == last
                    # Compiling two groups at once would hold twice the memory.
                    side_by_side = map if batch == first else pool.map
                    done = side_by_side(Group.learn, groups, repeat(batch), repeat(boundary))
                    rows = [row for group_rows in done for row in group_rows]
                    answers = [emit(row.columns) for row in rows]
                    if self._keeper is not None:
                        self._keeper.offer(row.columns for row in rows)
                    if not all(answers):
                        break
                    _keep_faults(rows, groups, emit)
                    self._snapshot(spec, groups, batch + 1, emit)
        finally:
            experience.close()
            if self._keeper is not None:
                self._keeper.save()
        return _join([group.state() for group in groups], state)

    def _snapshot(self, spec: PPOSpec, groups: list[Group], done: int, emit: Emit) -> None:
        index = spec.snapshot_index(done)
        if index is not None:
            agents = [group.learner.agent for group in groups]
            emit.snapshot(index, done * spec.batch_steps, jax.tree.map(lambda *x: np.concatenate(x), *agents))


def state_template(spec: PPOSpec) -> TrainingState:
    """A state of the right structure, shapes and dtypes, all zeros: what a checkpoint is loaded into."""
    task, members = task_of(spec), len(spec.seeds)
    learner = jax.eval_shape(build_programs(spec, task).initialize, _seeds(spec.seeds))
    size = 0 if task.pixels else task.observation_size
    statistics = jnp.zeros((members, size), jnp.float32)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), learner)
    return TrainingState(zeros, statistics, statistics, jnp.ones(members, bool))


def _seeds(seeds: tuple[int, ...]) -> Array:
    return jnp.asarray(seeds, jnp.uint32)


def _groups(spec: PPOSpec, state: TrainingState) -> list[Group]:
    """On a CPU two groups of members, which learn side by side; a lone member, and a population whose environments or
    networks fill the device by themselves, is one group."""
    task, members = task_of(spec), len(spec.seeds)
    together = members == 1 or task.backend in ("ale", "gymnax") or jax.default_backend() != "cpu"
    edges = [0, members] if together else [0, (members + 1) // 2, members]
    return [Group(spec, task, slice(*edge), state) for edge in pairwise(edges)]


def _join(parts: list[tuple[Learner, Any]], state: TrainingState) -> TrainingState:
    learner = jax.tree.map(lambda *x: jnp.concatenate(x), *[learner for learner, _ in parts])
    active = jnp.concatenate([active for _, active in parts])
    return TrainingState(learner, state.mean, state.std, active)


def _keep_faults(rows: list[MemberRow], groups: list[Group], emit: Emit) -> None:
    """Save the last good state and the offending batch of each member that just failed; without a member left, end."""
    failed = [row for row in rows if row.fault is not None]
    arrays = {f"{what}-seed-{row.seed}": tree for row in failed for what, tree in row.fault_arrays().items()}
    reason = "; ".join(row.columns["fault"] for row in failed)
    if failed and not any(group.active.any() for group in groups):
        raise RunFailed(reason, arrays)
    if failed:
        # The arrays name every seed; a file's name has no room for a large population's.
        others = f"-and-{len(failed) - 1}-more" if len(failed) > 1 else ""
        emit.fault(f"seed-{failed[0].seed}{others}", reason, arrays)
