"""The parts of the Ray executor without a cluster: its task, its book-keeping, and what can be asked wrongly."""

import importlib.util
import json
import queue
import signal
import socket
import time
from pathlib import Path
from types import SimpleNamespace

import local_counting
import pytest

from escapevelocity.errors import UserError
from escapevelocity.runs import read_status
from escapevelocity.study import ray_driver, ray_executor, ray_task
from escapevelocity.study.cores import claimed_cores
from escapevelocity.study.local import own_cores
from escapevelocity.study.ray_executor import RayExecutor
from escapevelocity.study.ray_task import train
from escapevelocity.study.store import open_store
from escapevelocity.study.worker import Worker

HERE = str(Path(__file__).parent)
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "store", create=True)


@pytest.fixture
def order(tmp_path):
    (tmp_path / "diary").mkdir()
    return local_counting.order(tmp_path / "diary", 5)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"cpus": 0}, "cpus = 0: must be a whole number, at least 1"),
        ({"cpus": -2}, "cpus = -2: must be a whole number, at least 1"),
        ({"gpus": -1.0}, "gpus = -1.0: must be a whole number, or a part of one"),
        ({"gpus": float("nan")}, "gpus = nan: must be a whole number, or a part of one"),
        ({"gpus": float("inf")}, "gpus = inf: must be a whole number, or a part of one"),
        ({"gpus": 1.5}, "gpus = 1.5: must be a whole number, or a part of one"),
        ({"retries": -1}, "retries = -1: must be at least 0"),
    ],
)
def test_numbers_out_of_range_are_refused(given, said):
    with pytest.raises(UserError, match=said):
        RayExecutor(**given)


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"Ray is not installed; pip install 'escapevelocity\[ray\]'"):
        RayExecutor()


@pytest.mark.parametrize("address", ["somewhere", "host:port", "http://host:8265", ":6379"])
def test_an_address_of_another_form_is_refused(address, monkeypatch, store, order):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    with pytest.raises(UserError, match="must be HOST:PORT of a cluster's head node, auto or local"):
        RayExecutor(address).run([order], store)


def test_ray_client_addresses_are_answered_with_ray_job_submit(monkeypatch, store, order):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    with pytest.raises(UserError, match="from outside of the cluster: ray job submit"):
        RayExecutor("ray://host:10001").run([order], store)


def test_an_address_where_nobody_listens_is_one_clear_line(monkeypatch, store, order):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # Bound but not listening: connections are refused.
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UserError, match=f"address = '{address}': cannot be reached: .*refused"):
            RayExecutor(address).run([order], store)


@needs_ray
def test_a_port_that_is_not_rays_is_given_up_after_a_while(monkeypatch, store, order):
    monkeypatch.setattr(ray_executor, "CONNECT", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        with pytest.raises(
            UserError, match="cannot be reached: no answer after 1 s; is it the port of Ray's head"
        ):
            RayExecutor(address).run([order], store)
    assert not list(store.study_path.glob(".ray-*"))


def lines_of(order, store, token=""):
    return [json.loads(line) for line in train(json.dumps(order.to_json()), store.url, token, 1)]


def test_the_task_trains_in_a_process_of_its_own_and_tells_how_it_ended(store, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", HERE)
    (tmp_path / "diary").mkdir()
    good, deadly = (local_counting.order(tmp_path / "diary", n, fault=f) for n, f in [(5, ""), (6, "1:kill")])
    started, ended = lines_of(good, store)
    assert list(started) == ["started"]
    assert (ended["outcome"]["name"], ended["outcome"]["state"]) == (good.name, "finished")
    assert read_status(store.run_path(good.name)).state == "finished"
    _, lost = lines_of(deadly, store)
    assert "its process was killed by SIGKILL; see " in lost["lost"]


def test_a_folder_that_is_not_the_same_on_the_node_is_refused_and_left_empty(store, order, monkeypatch):
    monkeypatch.setattr(ray_task, "_SIGHT", 0)
    _, ended = lines_of(order, store, token=".ray-token-that-was-written-elsewhere")
    assert ended["outcome"]["state"] == "failed"
    assert "must be on a disk that all nodes share, or a URL" in ended["outcome"]["why"]
    assert not store.run_path(order.name).exists()


def test_a_cancelled_task_lets_its_run_end_in_order_though_ray_blocks_sigint(store, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", HERE)
    (tmp_path / "diary").mkdir()
    order = local_counting.order(tmp_path / "diary", 7, pause=20.0)

    def cancel(worker):
        while not local_counting.notes(tmp_path / "diary", 7):
            time.sleep(0.02)
        raise KeyboardInterrupt  # As Ray does in a task that is cancelled.

    monkeypatch.setattr(ray_task, "_wait", cancel)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with pytest.raises(KeyboardInterrupt):
            lines_of(order, store)
        assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    status = read_status(store.run_path(order.name))
    assert (status.state, status.why) == ("interrupted", "stopped by SIGINT")


def test_a_cancelled_task_whose_run_does_not_end_in_time_is_still_a_cancelled_one(store, order, monkeypatch):
    did = []

    class DeafWorker(Worker):
        def __init__(self, log, cores, threads): ...

        def submit(self, order, store): ...

        def interrupt(self):
            did.append("interrupted")

        def wait(self, timeout=None):
            raise KeyboardInterrupt if not did else TimeoutError("worker is not done")

        def close(self):
            did.append("closed")

    monkeypatch.setattr(ray_task, "Worker", DeafWorker)
    with pytest.raises(KeyboardInterrupt):
        lines_of(order, store)
    assert did == ["interrupted", "closed"]


def test_claimed_cores_are_not_given_twice_and_come_back():
    mine = own_cores()
    with claimed_cores(1) as first, claimed_cores(len(mine)) as second:
        assert len(first) == 1
        assert set(first) <= set(mine)
        assert second == ()  # One is taken, so that not all are free.
        with claimed_cores(1) as third:
            assert set(third).isdisjoint(first)
    with claimed_cores(1) as again:
        assert again == first


class RayError(Exception):
    pass


class RayTaskError(RayError):
    cause = ModuleNotFoundError("No module named 'escapevelocity'")


class TaskCancelledError(RayError):
    pass


class ScriptedRay:
    """Says what a cluster would: each submission of a run plays the next of its acts, a list of lines or errors."""

    exceptions = SimpleNamespace(
        RayError=RayError, RayTaskError=RayTaskError, TaskCancelledError=TaskCancelledError
    )

    def __init__(self, acts):
        self.acts, self.submitted = acts, []

    def remote(self, function):
        return self

    def options(self, **options):
        self.options_given = options
        return SimpleNamespace(remote=self._start)

    def _start(self, order, store, token, cpus):
        name = json.loads(order)["name"]
        self.submitted.append(name)
        return iter(self.acts[name].pop(0))

    def wait(self, streams, num_returns, timeout):
        return streams[:num_returns], streams[num_returns:]

    def get(self, line):
        if isinstance(line, Exception):
            raise line
        return json.dumps(line)

    def cancel(self, stream): ...


def ended(name, state):
    return {"outcome": {"name": name, "state": state, "why": ""}}


def play(acts, retries=1, lines=()):
    """Let the driver work through a script; gives what it says and what it submitted."""
    ray, said, told = ScriptedRay(acts), [], queue.SimpleQueue()
    for line in lines:
        told.put(line)
    job = {"orders": [{"name": name} for name in acts], "store": "s", "token": "", "cpus": 2, "gpus": 0.5}
    ray_driver.Shift(ray, {**job, "retries": retries}, told, lambda **message: said.append(message)).work()
    return ray, said


DEAD = RayError("The node is dead. See the log.\nAnd more.")


def test_a_lost_run_is_submitted_again_and_told():
    started = {"started": "elsewhere"}
    ray, said = play(
        {"a": [[started, DEAD], [started, ended("a", "finished")]], "b": [[ended("b", "finished")]]}
    )
    assert sorted(ray.submitted) == ["a", "a", "b"]
    assert {"kind": "retried", "name": "a", "text": "RayError: The node is dead"} in said
    assert [message["outcome"]["state"] for message in said if "outcome" in message] == ["finished"] * 2
    assert ray.options_given == {"num_cpus": 2, "num_gpus": 0.5, "max_retries": 0, "num_returns": "streaming"}


def test_a_run_that_is_lost_too_often_has_failed():
    dead_worker = {"lost": "on h: its process was killed"}
    ray, said = play({"a": [[DEAD], [dead_worker], [ended("a", "finished")]]}, retries=1)
    assert ray.submitted == ["a", "a"]
    assert said[-1]["outcome"]["state"] == "failed"
    assert said[-1]["outcome"]["why"] == "lost 2 times; at last on h: its process was killed"


def test_an_error_in_python_is_not_tried_again():
    ray, said = play({"a": [[RayTaskError()]]})
    assert ray.submitted == ["a"]
    why = "ModuleNotFoundError: No module named 'escapevelocity'"
    assert said == [{"outcome": {"name": "a", "state": "failed", "why": why}}]


def test_a_lost_run_whose_process_still_holds_it_is_waited_for(monkeypatch):
    monkeypatch.setattr(ray_driver, "_AGAIN", 0.0)
    monkeypatch.setattr(ray_driver.time, "sleep", lambda seconds: None)
    acts = {"a": [[DEAD], [ended("a", "claimed")], [ended("a", "claimed")], [ended("a", "finished")]]}
    ray, said = play(acts)
    assert ray.submitted == ["a"] * 4
    assert [message["outcome"]["state"] for message in said if "outcome" in message] == ["finished"]


def test_a_run_claimed_by_others_is_looked_at_once_more_at_the_end():
    acts = {"a": [[ended("a", "claimed")], [ended("a", "finished")]], "b": [[ended("b", "finished")]]}
    ray, said = play(acts)
    assert ray.submitted == ["a", "b", "a"]
    assert [message["outcome"]["state"] for message in said] == ["claimed", "finished", "finished"]


def test_told_to_stop_it_takes_in_how_the_runs_end():
    acts = {
        "a": [[{"started": "h"}, TaskCancelledError()]],
        "b": [[{"started": "h"}, DEAD]],
        "c": [[TaskCancelledError()]],
    }
    ray, said = play(acts, lines=["stop"])
    assert sorted(ray.submitted) == ["a", "b", "c"]
    states = {m["outcome"]["name"]: m["outcome"]["state"] for m in said if "outcome" in m}
    assert states == {"a": "interrupted", "b": "interrupted", "c": "waiting"}
