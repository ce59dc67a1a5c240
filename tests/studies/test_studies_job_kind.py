"""Kinds of runs that take PPO's settings and compute with another job: a job that counts stands in for training."""

import dataclasses

import numpy as np
import pytest
from studies.job_kind import JobKind
from studies.segment_rule.kind import OneSegmentPPO
from studies.segment_rule.plan import FORTY, JOBS, ONE, SEEDS, study

from escapevelocity.ppo.job import PPOJob
from escapevelocity.runs import open_run
from escapevelocity.study.grid import cells
from escapevelocity.study.kinds import kind


class Counting:
    """Emits a row for each of four segments, and falls over where it is told to."""

    name = "counting"
    fails_at = -1

    def __init__(self):
        self.computed = []

    def segments(self, spec):
        return 4

    def step(self, spec, k):
        return 10 * k

    def initial_state(self, spec):
        return {"count": np.zeros(1)}

    def segment(self, spec, state, k, emit):
        if k == self.fails_at:
            raise OSError("the machine went away")
        self.computed.append(k)
        emit({"seed": spec.seeds[0], "batch": k, "env_steps": 10 * (k + 1)})
        return {"count": state["count"] + 1}


@pytest.fixture
def spec():
    return kind("ppo").spec({"task": "Hopper-v4", "steps": 4096}, (1,))


def test_a_run_that_fell_over_goes_on_and_a_finished_one_is_left_alone(spec, tmp_path):
    job = Counting()
    counting = JobKind(job)
    path, text = tmp_path / counting.folder(spec), counting.spec_text(spec)
    job.fails_at = 2
    with pytest.raises(OSError, match="went away"):
        counting.run(text, path, [])
    job.fails_at = -1
    assert counting.run(text, path, []).state == "finished"
    assert counting.run(text, path, []).state == "finished"
    assert job.computed == [0, 1, 2, 3]
    assert open_run(path).records()["env_steps"].to_pylist() == [10, 20, 30, 40]


def test_a_run_that_was_killed_before_its_first_status_goes_on(spec, tmp_path):
    job = Counting()
    counting = JobKind(job)
    path, text = tmp_path / counting.folder(spec), counting.spec_text(spec)
    job.fails_at = 0
    with pytest.raises(OSError, match="went away"):
        counting.run(text, path, [])
    (path / "status.json").unlink()
    job.fails_at = -1
    assert counting.run(text, path, []).state == "finished"
    assert job.computed == [0, 1, 2, 3]


def test_the_same_settings_are_another_run_under_another_job(spec):
    ours, counting = kind("ppo"), JobKind(Counting())
    assert counting.folder(spec).startswith("Hopper-v4-counting-")
    assert counting.folder(spec) != ours.folder(spec)
    assert '"job": "counting"' in counting.spec_text(spec)


def test_the_rules_differ_in_the_number_of_segments_alone():
    specs = {}
    for job in JOBS.values():
        grid = study(job)
        [first, second] = cells(grid)
        specs[job] = kind(job).spec(first.settings, grid.seeds[:5])
        assert kind(job).spec(second.settings, grid.seeds[:5]) == dataclasses.replace(
            specs[job], optimizer=dataclasses.replace(specs[job].optimizer, epochs=20)
        )
    assert specs[FORTY] == specs[ONE]
    assert (PPOJob().segments(specs[FORTY]), OneSegmentPPO().segments(specs[ONE])) == (40, 1)
    # 1,000,000 steps hold 488 batches of 2,048.
    assert PPOJob().step(specs[FORTY], 40) == OneSegmentPPO().step(specs[ONE], 1) == 488 * 2048
    assert len(SEEDS) == 10
