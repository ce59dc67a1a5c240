"""A group of members trained as one vmapped program: their rollout, their update, their rows."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from escapevelocity.envs import Task
from escapevelocity.ppo.config import PPOSpec
from escapevelocity.ppo.episodes import EpisodeTracker
from escapevelocity.ppo.measure import health_rows
from escapevelocity.ppo.programs import build_programs
from escapevelocity.ppo.rollout import Rollout
from escapevelocity.ppo.update import Learner, Quantity, UpdateStatistics, learning_rate

if TYPE_CHECKING:
    from escapevelocity.ppo.job import TrainingState


class Fault(NamedTuple):
    """What is kept of a member whose numbers stopped being finite."""

    learner: Learner
    """Its last good state."""
    rollout: dict[str, np.ndarray]
    """The offending batch: the arrays of `Rollout` for this member."""


@dataclass
class MemberRow:
    """One member's record of one batch."""

    seed: int
    columns: dict[str, Any]
    fault: Fault | None
    """Set on the row of the batch where the member failed."""

    def fault_arrays(self) -> dict[str, Any]:
        """The fault's parts by name; empty where there is none."""
        return {} if self.fault is None else {"state": self.fault.learner, "batch": self.fault.rollout}


class Group:
    """Some members of the population during one segment.

    Args:
        spec: the run's settings.
        task: its task.
        members: which members of the population.
        state: the whole population's state at the boundary where the segment starts.
    """

    def __init__(self, spec: PPOSpec, task: Task, members: slice, state: "TrainingState"):
        self.spec, self.members, self.seeds = spec, members, spec.seeds[members]
        self.programs = build_programs(spec, task)
        self._seed_array = jnp.asarray(self.seeds, jnp.uint32)
        self.learner: Learner = jax.tree.map(lambda x: jnp.asarray(x[members]), state.learner)
        self.active = np.array(state.active[members])
        self.rollout: Rollout
        """The members' part of the batch; set before `learn`."""
        self._episodes = EpisodeTracker(len(self.seeds), spec.environment.num_envs)

    def state(self) -> tuple[Learner, Any]:
        """The members' part of the state: learner and active."""
        return self.learner, jnp.asarray(self.active)

    def begin(self, batch: int) -> Array:
        """Start the clock of a batch, which `collected` reads, and draw its noise: (time, members, environments, _)."""
        self._started = time.perf_counter()
        return self.programs.draw_noise(self._seed_array, jnp.uint32(batch))

    def collected(self) -> None:
        """Stop the clock of collecting. Groups may have to wait before they learn, which is time of neither."""
        self._collected = time.perf_counter()

    def learn(self, batch: int, boundary: bool) -> list[MemberRow]:
        """Update on the collected batch and record it, one row for every member that was active.

        Args:
            batch: number of the batch in the run.
            boundary: whether the segment ends here, so that unfinished episodes are cut.
        """
        began = time.perf_counter()
        spec, rollout = self.spec, self.rollout
        was_active, old = self.active.copy(), self.learner
        prepared, before, reward_columns = self.programs.prepare(
            old.agent,
            rollout.observations,
            self._successors(),
            rollout.actions,
            rollout.noise,
            rollout.rewards,
            rollout.terminated,
            rollout.truncated,
            self._seed_array,
            jnp.uint32(batch),
        )
        faults = self._environment_faults()
        may_learn = (
            was_active & [not fault for fault in faults]
            if spec.monitoring.on_nonfinite == "stop"
            else was_active
        )
        self.learner, statistics = self.programs.update(
            old,
            prepared,
            self._seed_array,
            jnp.uint32(batch),
            jnp.float32(batch / spec.num_batches),
            jnp.float32(learning_rate(spec, batch)),
            may_learn,
        )
        statistics = jax.tree.map(np.asarray, statistics)
        updated = time.perf_counter()
        statistics.remedies.update(jax.tree.map(np.asarray, reward_columns))
        every = spec.health_interval
        measured: list[dict[str, Any]] = [{} for _ in self.seeds]
        if every and batch % every == 0:
            measurement = self.programs.measure(before, self.learner.agent, prepared)
            measured = health_rows(measurement, np.asarray(prepared.advantages), spec)
        now = time.perf_counter()
        times = {
            "time/collect": self._collected - self._started,
            "time/update": updated - began,
            "time/health": now - updated,
        }
        columns = self._columns(batch, boundary, statistics)
        rows = []
        for index in map(int, np.flatnonzero(was_active)):
            text = faults[index] or self._update_fault(statistics, index)
            failed = bool(text) and spec.monitoring.on_nonfinite == "stop"
            where = f"seed {self.seeds[index]}, batch {batch}: {text}" if text else ""
            row = {**columns[index], **measured[index], **times, "fault": where}
            rows.append(MemberRow(self.seeds[index], row, self._fault(index) if failed else None))
            self.active[index] = not failed
        return rows

    def _successors(self) -> np.ndarray | Array:
        """What the critic may have to look at; of images only the last, where nothing is bootstrapped before it."""
        successors = self.rollout.next_observations
        few = successors.ndim > 4 and self.spec.environment.time_limit == "termination"
        return successors[-1:] if few else successors

    def _environment_faults(self) -> list[str]:
        """Per member, what the environments returned that is not finite ('' for nothing)."""
        # The first observation of an episode is the successor of nothing, so both arrays are looked at.
        observations = _finite(self.rollout.observations) & _finite(self.rollout.next_observations)
        finite = {"observation": observations, "reward": _finite(self.rollout.rewards)}
        faults = []
        for index in range(len(self.seeds)):
            wrong = [name for name, is_finite in finite.items() if not is_finite[index]]
            faults.append(f"non-finite {' and '.join(wrong)} from the environment" if wrong else "")
        return faults

    def _update_fault(self, statistics: UpdateStatistics, index: int) -> str:
        quantity = Quantity(int(statistics.fault[index]))
        if quantity is Quantity.NONE:
            return ""
        number = int(statistics.fault_minibatch[index])
        return f"non-finite {quantity.name.lower()} in minibatch {number}"

    def _fault(self, index: int) -> Fault:
        learner = jax.tree.map(lambda x: np.asarray(x[index]), self.learner)
        return Fault(learner, {name: np.array(array[:, index]) for name, array in vars(self.rollout).items()})

    def _columns(self, batch: int, boundary: bool, statistics: UpdateStatistics) -> list[dict[str, Any]]:
        rewards, terminated, truncated = (
            np.asarray(x) for x in (self.rollout.rewards, self.rollout.terminated, self.rollout.truncated)
        )
        summaries = self._episodes.add(rewards, terminated | truncated)
        cut = self._episodes.unfinished() if boundary else np.zeros(len(self.seeds), int)
        return [
            {
                "seed": seed,
                "batch": batch,
                "env_steps": (batch + 1) * self.spec.batch_steps,
                **{f"perf/{name}": value for name, value in summaries[i]._asdict().items()},
                "perf/episodes_cut": int(cut[i]),
                "loss/objective_last": float(statistics.objective_last[i]),
                "loss/value": float(statistics.value[i]),
                "loss/entropy": float(statistics.entropy[i]),
                "loss/skipped_minibatches": int(statistics.skipped[i]),
                "norm/actor_gradient": float(statistics.actor_gradient[i]),
                "norm/critic_gradient": float(statistics.critic_gradient[i]),
                **{name: float(column[i]) for name, column in statistics.remedies.items()},
            }
            for i, seed in enumerate(self.seeds)
        ]


def _finite(array: np.ndarray | Array) -> np.ndarray:
    """Per member, whether (time, members, …) holds finite numbers only."""
    if np.issubdtype(array.dtype, np.integer):
        return np.ones(array.shape[1], bool)
    other_axes = tuple(axis for axis in range(array.ndim) if axis != 1)
    library = jnp if isinstance(array, jax.Array) else np
    return np.asarray(library.isfinite(array).all(axis=other_axes))
