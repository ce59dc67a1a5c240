"""What the columns of times measure, by a clock that stands still but where this test moves it."""

import dataclasses
import types

import pytest
from walk_runs import WALK, Recorder, shared_programs, use_programs

from escapevelocity.ppo import experience as experience_module
from escapevelocity.ppo import group as group_module
from escapevelocity.ppo.job import PPOJob

COLLECTING, UPDATE = 1.0, 1000.0


@pytest.fixture
def clock(monkeypatch):
    """Collecting a batch takes 1 s, the update of a group 1,000 s."""
    now = types.SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(group_module, "time", types.SimpleNamespace(perf_counter=lambda: now.seconds))

    def taking(seconds, call):
        def slow(*arguments):
            now.seconds += seconds
            return call(*arguments)

        return slow

    def programs(spec, task):
        found = shared_programs(spec, task)
        return found._replace(update=taking(UPDATE, found.update))

    use_programs(monkeypatch, programs)
    monkeypatch.setattr(experience_module, "collect", taking(COLLECTING, experience_module.collect))


@pytest.mark.usefixtures("clock")
def test_a_group_that_waits_for_another_counts_neither_its_update_nor_its_own_waiting_as_collecting():
    # Two groups, of which the second waits while the first compiles. One batch: later ones learn side by side.
    spec = dataclasses.replace(WALK, seeds=(1, 2), steps=64)
    emit, job = Recorder(), PPOJob()
    job.segment(spec, job.initial_state(spec), 0, emit)
    assert [row["seed"] for row in emit.rows] == [1, 2]
    assert [row["time/collect"] for row in emit.rows] == [COLLECTING, COLLECTING]
    assert [row["time/update"] for row in emit.rows] == [UPDATE, UPDATE]
