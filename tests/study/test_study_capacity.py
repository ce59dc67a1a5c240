"""Capacity losses for figures: measured once on finished runs, seen in histories, and only where that is cheap."""

import dataclasses

import numpy as np
import pytest

from escapevelocity.ppo import capacity
from escapevelocity.ppo.capacity import CapacityConfig
from escapevelocity.ppo.capacity_data import ProbeSize
from escapevelocity.ppo.capacity_run import table_name
from escapevelocity.study.capacity import TABLE, measure_capacity
from escapevelocity.study.grid import Study
from escapevelocity.study.history import collect, read_history
from escapevelocity.study.plan import plan
from escapevelocity.study.store import open_store
from escapevelocity.study.work import do

SMALL = Study(
    name="small",
    base={
        "task": "CartPole-v1",
        "steps": 256,
        "hidden": [8],
        "num_envs": 2,
        "rollout_length": 64,
        "epochs": 1,
    },
    axes={"minibatch_size": (64,)},
    seeds=(1, 2),
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with one finished run of two batches."""
    store = open_store(tmp_path_factory.mktemp("store"))
    for planned in plan(SMALL, store):
        assert do(planned.order, store).state == "finished"
    return store


def counted(names):
    def track(parts, name):
        for part in parts:
            names.append(name(part))
            yield part

    return track


def test_a_finished_run_is_measured_once_and_its_history_has_the_losses(store, monkeypatch):
    monkeypatch.setattr(capacity, "probe_size", lambda task: ProbeSize(128, 1, 64))
    assert table_name(CapacityConfig()) == TABLE
    names: list[str] = []
    assert measure_capacity(plan(SMALL, store), store, counted(names)) == []
    # Snapshots at the start and after each of two batches.
    assert [name.rpartition(" ")[2] for name in names] == ["0", "20", "40"]
    assert measure_capacity(plan(SMALL, store), store, counted(names)) == []
    assert len(names) == 3
    history = read_history(collect(store))
    steps, losses = history.values(history.runs[0], "capacity/actor")
    # A history has no row for what was measured before the first batch.
    assert steps.tolist() == [128.0, 256.0]
    assert losses.shape == (2, 2)
    assert np.isfinite(losses).all()


def test_runs_that_are_not_finished_are_left_alone(store):
    unfinished = [dataclasses.replace(one, state="interrupted") for one in plan(SMALL, store)]
    assert measure_capacity(unfinished, store, counted([])) == []
