"""A group of members trained as one vmapped program: their rollout, their update, their rows."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

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
        rollout: the whole population's buffers.
    """

    def __init__(self, spec: PPOSpec, task: Task, members: slice, state: "TrainingState", rollout: Rollout):
        self.spec, self.seeds = spec, spec.seeds[members]
        self._programs = build_programs(spec, task)
        self._seed_array = jnp.asarray(self.seeds, jnp.uint32)
        self.learner: Learner = jax.tree.map(lambda x: jnp.asarray(x[members]), state.learner)
        self.active = np.array(state.active[members])
        self._rollout = rollout.of_members(members)
        self._episodes = EpisodeTracker(len(self.seeds), spec.environment.num_envs)

    def state(self) -> tuple[Learner, Any]:
        """The members' part of the state: learner and active."""
        return self.learner, jnp.asarray(self.active)

    def begin(self, batch: int) -> None:
        """Draw the batch's noise."""
        self._started = time.perf_counter()
        self._rollout.noise[...] = self._programs.draw_noise(self._seed_array, jnp.uint32(batch))

    def learn(self, batch: int, boundary: bool) -> list[MemberRow]:
        """Update on the collected batch and record it, one row for every member that was active.

        Args:
            batch: number of the batch in the run.
            boundary: whether the segment ends here, so that unfinished episodes are cut.
        """
        collected = time.perf_counter()
        spec, rollout = self.spec, self._rollout
        was_active, old = self.active.copy(), self.learner
        prepared, before = self._programs.prepare(
            old.agent,
            rollout.observations,
            rollout.next_observations,
            rollout.actions,
            rollout.noise,
            rollout.rewards,
            rollout.terminated,
            rollout.truncated,
        )
        faults = self._environment_faults()
        may_learn = (
            was_active & [not fault for fault in faults]
            if spec.monitoring.on_nonfinite == "stop"
            else was_active
        )
        self.learner, statistics = self._programs.update(
            old,
            prepared,
            self._seed_array,
            jnp.uint32(batch),
            jnp.float32(learning_rate(spec, batch)),
            may_learn,
        )
        statistics = jax.tree.map(np.asarray, statistics)
        updated = time.perf_counter()
        every = spec.monitoring.health_every
        measured: list[dict[str, Any]] = [{} for _ in self.seeds]
        if every and batch % every == 0:
            measurement = self._programs.measure(before, self.learner.agent, prepared)
            measured = health_rows(measurement, np.asarray(prepared.advantages), spec)
        now = time.perf_counter()
        times = {
            "time/collect": collected - self._started,
            "time/update": updated - collected,
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

    def _environment_faults(self) -> list[str]:
        """Per member, what the environments returned that is not finite ('' for nothing)."""
        rollout, faults = self._rollout, []
        for index in range(len(self.seeds)):
            # The first observation of an episode is the successor of nothing, so both arrays are looked at.
            finite = {
                "observation": np.isfinite(rollout.observations[:, index]).all()
                and np.isfinite(rollout.next_observations[:, index]).all(),
                "reward": np.isfinite(rollout.rewards[:, index]).all(),
            }
            wrong = [name for name, is_finite in finite.items() if not is_finite]
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
        return Fault(learner, {name: array[:, index].copy() for name, array in vars(self._rollout).items()})

    def _columns(self, batch: int, boundary: bool, statistics: UpdateStatistics) -> list[dict[str, Any]]:
        rollout = self._rollout
        summaries = self._episodes.add(rollout.rewards, rollout.terminated | rollout.truncated)
        cut = self._episodes.unfinished() if boundary else np.zeros(len(self.seeds), int)
        return [
            {
                "seed": seed,
                "batch": batch,
                "env_steps": (batch + 1) * self.spec.batch_size,
                **{f"perf/{name}": value for name, value in summaries[i]._asdict().items()},
                "perf/episodes_cut": int(cut[i]),
                "loss/objective_last": float(statistics.objective_last[i]),
                "loss/value": float(statistics.value[i]),
                "loss/entropy": float(statistics.entropy[i]),
                "loss/skipped_minibatches": int(statistics.skipped[i]),
                "norm/actor_gradient": float(statistics.actor_gradient[i]),
                "norm/critic_gradient": float(statistics.critic_gradient[i]),
            }
            for i, seed in enumerate(self.seeds)
        ]
