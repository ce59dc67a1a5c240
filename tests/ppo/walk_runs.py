"""Runs of a small task on which the job's tests look: three members, three segments of two batches."""

import dataclasses
from functools import cache

import jax
import numpy as np
import pytest
from probe_environments import Walk  # importing it registers EvWalk-v0
from small_ppo import small_spec

from escapevelocity.ppo import group as group_module
from escapevelocity.ppo import job as job_module
from escapevelocity.ppo.job import PPOJob
from escapevelocity.ppo.programs import build_programs

# 10 × 6 steps × 2 environments fit three times into 384 steps.
WALK = small_spec("softmax", task="EvWalk-v0", steps=64 * 6, seeds=(1, 2, 3))


class Recorder:
    """An `Emit` that keeps what it is given, and asks to stop at a row if it is told to."""

    def __init__(self, stop_at=None):
        self.rows, self.snapshots, self.faults, self.stop_at = [], [], [], stop_at

    def __call__(self, row):
        self.rows.append(dict(row))
        return len(self.rows) != self.stop_at

    def snapshot(self, index, step, arrays):
        self.snapshots.append((index, step, jax.tree.map(np.array, arrays)))

    def fault(self, name, reason, arrays):
        self.faults.append((name, reason, arrays))


class Calls:
    """Records what the update was given and what came out, by group and batch."""

    def __init__(self, programs):
        self.programs, self.seen = programs, []

    def wrapped(self):
        def update(*arguments):
            answer = self.programs.update(*arguments)
            self.seen.append(jax.tree.map(np.array, (arguments, answer)))
            return answer

        return self.programs._replace(update=update)


def shared_programs(spec, task):
    """Programs for specs that differ only in seeds, length or cadence of health: the tests would be slow without.

    Programs must use none of these, so that this changes no result.
    """
    monitoring = dataclasses.replace(spec.monitoring, health_every=1)
    return build_programs(
        dataclasses.replace(spec, seeds=(1,), steps=spec.batch_size, monitoring=monitoring), task
    )


def use_programs(patch, build=shared_programs):
    """Make the job build its programs with `build`, as long as pytest's `patch` holds."""
    patch.setattr(group_module, "build_programs", build)
    patch.setattr(job_module, "build_programs", build)


def train(spec, first=0, last=None, state=None):
    """Segments `first` to `last`: their rows, and the state at each boundary."""
    job, rows, states, snapshots = PPOJob(), [], [], []
    state = job.initial_state(spec) if state is None else state
    for k in range(first, job.segments(spec) if last is None else last):
        emit = Recorder()
        state = job.segment(spec, state, k, emit)
        rows += emit.rows
        snapshots += emit.snapshots
        states.append(jax.tree.map(np.array, state))
    return rows, states, snapshots


@cache
def population():
    """Rows, boundary states and snapshots of a whole healthy run of seeds 1, 2, 3."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Walk, "faults", {}
        )  # The test that asks first may have set some, and the answer is kept.
        return train(WALK)


def without_times(rows):
    return [{name: value for name, value in row.items() if not name.startswith("time/")} for row in rows]


def assert_same_rows(rows, others):
    assert len(rows) == len(others)
    for row, other in zip(without_times(rows), without_times(others), strict=True):
        assert row.keys() == other.keys()
        for name, value in row.items():
            same = value == other[name] or (value != value and other[name] != other[name])
            assert same, (name, row["seed"], row["batch"], value, other[name])


def member(tree, index):
    return jax.tree.map(lambda x: np.asarray(x)[index], tree)
