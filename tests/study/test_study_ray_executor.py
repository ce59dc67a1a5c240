"""A real Ray cluster of two nodes, one of which is killed in the middle of a study; and what can be asked wrongly."""

import importlib.util
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import local_counting
import psutil
import pytest

from escapevelocity.runs import read_records
from escapevelocity.study.cores import claimed_cores
from escapevelocity.study.kinds import kind
from escapevelocity.study.plan import Order
from escapevelocity.study.ray_executor import RayExecutor
from escapevelocity.study.store import Store, open_store
from escapevelocity.study.worker import Worker

HERE = Path(__file__).parent
# Not importorskip, which imports: Ray warns and handles signals, so it stays in processes of its own.
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")

SEGMENTS = 8
PATIENCE = 120.0  # seconds until a test gives up on a cluster that says nothing, rather than hang


@pytest.fixture(autouse=True, scope="module")
def importable():
    """Let nodes and worker processes import the counting kind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]))
        patch.delenv("RAY_ADDRESS", raising=False)
        yield


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two nodes of one CPU each. None of their processes is left behind, whatever happens."""
    log = tmp_path_factory.mktemp("ray") / "cluster.log"
    with open(log, "wb") as file:
        process = subprocess.Popen(
            [sys.executable, str(HERE / "ray_two_nodes.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
        )
    family = []
    try:
        address = process.stdout.readline().strip()
        assert address, log.read_text()
        family = psutil.Process(process.pid).children(recursive=True)

        def kill_second_node():
            process.stdin.write("kill\n")
            process.stdin.flush()
            assert process.stdout.readline() == "killed\n"

        yield SimpleNamespace(address=address, kill_second_node=kill_second_node)
    finally:
        with process.stdin, process.stdout:
            process.stdin.close()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for left in psutil.wait_procs(family, timeout=10)[1]:
            left.kill()


def tiny_ppo():
    """Two segments would take 20 episode limits; one is what a short run has."""
    ppo = kind("ppo")
    settings = {
        "task": "CartPole-v1",
        "steps": 256,
        "num_envs": 2,
        "rollout_length": 64,
        "minibatch_size": 64,
        "epochs": 2,
    }
    spec = ppo.spec(settings, (3, 4))
    return Order(ppo.folder(spec), "ppo", ppo.spec_text(spec), {}, (3, 4), ppo.steps(spec))


@pytest.fixture(scope="module")
def faulty(cluster, tmp_path_factory):
    """A study of two counting runs and a small PPO, whose second node is killed when both nodes are busy."""
    folder = tmp_path_factory.mktemp("study")
    diary = folder / "diary"
    diary.mkdir()
    # Longer than the PPO, by their steps: so these are begun first.
    counting = [
        local_counting.order(diary, start, segments=SEGMENTS, rows=4, pause=0.2, seeds=(1, 2))
        for start in (100, 200)
    ]
    orders, events = [tiny_ppo(), *counting], []

    def kill_when_busy():
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            if min(len(local_counting.notes(diary, start)) for start in (100, 200)) >= 3:
                return cluster.kill_second_node()
            time.sleep(0.05)

    killer = threading.Thread(target=kill_when_busy)
    killer.start()
    store = open_store(folder / "store", create=True)
    try:
        outcomes = RayExecutor(address=cluster.address).run(orders, store, events.append)
    finally:
        killer.join()
    return SimpleNamespace(
        orders=orders, store=store, diary=diary, outcomes=outcomes, events=events, counting=counting
    )


def rows(run):
    """A run's records but for the columns that say how long something took."""
    table = read_records(run)
    timed = [name for name in table.column_names if name == "wall_time" or name.startswith("time/")]
    return [repr(row) for row in table.drop_columns(timed).to_pylist()]


@needs_ray
@pytest.mark.slow
def test_a_study_finishes_though_a_node_was_killed(faulty):
    assert [(one.name, one.state) for one in faulty.outcomes] == [(o.name, "finished") for o in faulty.orders]
    retried = [event for event in faulty.events if event.kind == "retried"]
    assert len(retried) >= 1
    assert {event.name for event in retried} <= {order.name for order in faulty.counting}
    assert next(event.name for event in faulty.events if event.kind == "started") != faulty.orders[0].name
    assert not list(faulty.store.study_path.glob(".ray-*"))


@needs_ray
@pytest.mark.slow
def test_no_segment_beyond_one_per_lost_run_is_computed_twice(faulty):
    for order, start in zip(faulty.counting, (100, 200), strict=True):
        lost = sum(event == ("retried", order.name, event.text) for event in faulty.events)
        computed = [int(line.split()[1]) for line in local_counting.notes(faulty.diary, start)]
        assert sorted(set(computed)) == list(range(SEGMENTS))
        assert len(computed) - SEGMENTS <= lost


@needs_ray
@pytest.mark.slow
def test_records_are_those_of_a_local_worker_bit_for_bit(faulty, tmp_path):
    local = Store(tmp_path / "local")
    for order in faulty.orders:
        with claimed_cores(1) as cores:
            worker = Worker(tmp_path / "worker.log", cores, threads=1)
            worker.submit(order, local)
            outcome = worker.wait(PATIENCE)
            worker.close()
        assert outcome is not None
        assert outcome.state == "finished", (tmp_path / "worker.log").read_text()
        assert rows(faulty.store.run_path(order.name)) == rows(local.run_path(order.name))
