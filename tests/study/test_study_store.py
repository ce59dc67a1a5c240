"""Stores, progress files and single orders."""

import json
import os
import time

import local_counting
import pytest
from local_counting import CountJob, CountSpec, order

from escapevelocity.errors import UserError
from escapevelocity.runs import Observer, RunInfo, Status, read_records
from escapevelocity.runs.status import acquire
from escapevelocity.study.memory import available_memory, peak_memory, reset_peak
from escapevelocity.study.progress import ProgressWriter, progress_path, read_progress
from escapevelocity.study.store import open_store
from escapevelocity.study.work import do


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch):
    """No power is cut here, and fsync is most of the time of a run that counts."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "store", create=True)


def test_a_store_is_made_when_it_is_to_be_written_and_must_be_there_when_it_is_to_be_read(tmp_path):
    with pytest.raises(UserError, match=r"store = '.*new': must be a folder that exists"):
        open_store(tmp_path / "new")
    made = open_store(tmp_path / "new", create=True)
    assert made.path.is_dir()
    assert open_store(made.url).path == made.path
    assert open_store(f"file://{made.url}").path == made.path


def test_a_file_is_no_store(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="must be a folder, and this is a file"):
        open_store(tmp_path / "file")


def test_a_store_without_permission_is_refused_in_one_line(tmp_path, monkeypatch):
    # Root may do everything, so the system's answer is given here: readable, not writable.
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    assert open_store(tmp_path).path == tmp_path
    with pytest.raises(UserError, match="must be a folder that can be read and written; check its perm"):
        open_store(tmp_path, create=True)


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "_study"])
def test_a_run_is_the_name_of_one_folder(store, name):
    with pytest.raises(UserError, match=r"run name = .*: must be the name of one folder"):
        store.run_path(name)


def info(store, **changes):
    fields = {"segments_done": 0, "segments_total": 4, "steps_done": 0, "steps_total": 80, "wall_time": 0.0}
    return RunInfo(path=store.run_path("run"), job="local-count", spec=CountSpec(), **(fields | changes))


def test_progress_is_written_every_two_seconds_with_the_speed_of_the_last_thirty(store):
    now = [100.0]
    writer = ProgressWriter(store, "run", members=2, clock=lambda: now[0])
    writer.on_start(info(store))
    assert read_progress(store)["run"].seconds_left is None

    began = time.time()

    def row_at(seconds, steps):
        now[0] = 100.0 + seconds
        for seed in (1, 2):
            writer.on_row({"seed": seed, "batch": 0, "env_steps": steps})
        return read_progress(store)["run"]

    assert row_at(1.0, 10).steps == 0  # Less than two seconds after the first file.
    at = row_at(3.0, 20)
    # By hand: 10 steps in the 2 s between the first two batches, 60 steps left.
    assert (at.steps, at.steps_total, at.members, at.steps_per_second) == (20, 80, 2, 5.0)
    assert at.seconds_left == 12.0
    assert (at.host, at.pid, at.alarms) == (os.uname().nodename, os.getpid(), ())
    assert began <= at.updated <= time.time()
    # Marks older than 30 s are forgotten: from 20 steps at 3 s to 40 steps at 43 s, 0.5 a second.
    assert row_at(43.0, 40).steps_per_second == 0.5
    writer.on_end(Status("interrupted", steps_done=20))
    assert read_progress(store)["run"].steps == 20


def test_damaged_and_missing_progress_files_are_left_out(store):
    ProgressWriter(store, "good").on_start(info(store))
    for name, text in (("broken", "{"), ("list", "[]"), ("strange", json.dumps({"name": 1}))):
        progress_path(store, name).write_text(text)
    assert sorted(read_progress(store)) == ["good"]
    assert read_progress(store, ["broken", "missing"]) == {}


def test_the_peak_of_memory_begins_anew_with_each_run():
    block = bytearray(200_000_000)
    block[::4096] = b"x" * len(block[::4096])
    high = peak_memory()
    assert high > 200_000_000
    del block
    reset_peak()
    assert peak_memory() < high - 150_000_000


def test_a_container_leaves_what_its_limit_leaves(tmp_path, monkeypatch):
    from escapevelocity.study import memory

    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 500000\ninactive_file 100000\n")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert available_memory() == 400_000  # 1,000,000 − 700,000 + 100,000
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory() > 1_000_000


class Stopper(Observer):
    """Stops a run after so many rows, or does something else then."""

    def __init__(self, after, act=None):
        self.after, self.act, self.reason = after, act, "enough"

    def on_row(self, row):
        self.after -= 1
        if self.after == 0:
            return False if self.act is None else self.act()


def test_an_order_is_started_and_later_resumed_and_at_last_returned_as_it_is(tmp_path, store):
    first = do(order(tmp_path, 5), store, [Stopper(5)])
    assert (first.name, first.state, first.why) == ("count-5", "interrupted", "enough")
    second = do(order(tmp_path, 5), store)
    assert (second.state, second.why) == ("finished", "")
    assert second.memory > 0
    assert read_records(store.run_path("count-5"))["count"].to_pylist() == [6, 7, 8, 9, 10, 11, 12, 13]
    assert do(order(tmp_path, 5), store).state == "finished"
    assert read_progress(store)["count-5"].steps == CountJob().step(CountSpec(), 4)


def test_ctrl_c_is_an_outcome_and_no_exception(tmp_path, store):
    def press():
        raise KeyboardInterrupt

    assert do(order(tmp_path, 1), store, [Stopper(3, press)]).state == "interrupted"


def test_a_run_whose_lock_another_process_holds_is_claimed(tmp_path, store):
    store.run_path("count-1").mkdir()
    lock = acquire(store.run_path("count-1"))
    assert do(order(tmp_path, 1), store).state == "claimed"
    lock.release()
    assert do(order(tmp_path, 1), store).state == "finished"


@pytest.mark.parametrize("stopped_before", [False, True], ids=["start", "resume"])
def test_a_run_that_another_process_finishes_before_we_get_its_lock_is_finished(
    tmp_path, store, monkeypatch, stopped_before
):
    one = order(tmp_path, 1)
    if stopped_before:
        assert do(one, store, [Stopper(5)]).state == "interrupted"
    step = "resume" if stopped_before else "start"
    real = getattr(local_counting, step)

    def late(*arguments):  # The kind has looked at the run; now the other one trains it.
        monkeypatch.setattr(local_counting, step, real)
        real(*arguments)
        return real(*arguments)

    monkeypatch.setattr(local_counting, step, late)
    assert (do(one, store).state, do(one, store).why) == ("finished", "")
    computed = [line.split()[1] for line in local_counting.notes(tmp_path, 1)]
    assert computed == (["0", "1", "2", "2", "3"] if stopped_before else ["0", "1", "2", "3"])


def test_a_mistake_in_an_order_is_tried_once_and_fails(tmp_path, store, monkeypatch):
    tried = []

    def refuse(*arguments):
        tried.append(1)
        raise UserError("rows = 0: must be at least 1")

    monkeypatch.setattr(local_counting, "start", refuse)
    outcome = do(order(tmp_path, 1), store)
    assert (outcome.state, outcome.why, len(tried)) == ("failed", "rows = 0: must be at least 1", 1)


def test_a_mistake_that_shows_in_the_middle_of_our_own_run_is_not_computed_again(
    tmp_path, store, monkeypatch
):
    tried, real = [], CountJob.segment

    def segment(self, spec, state, k, emit):
        tried.append(k)
        if k == 1:
            raise UserError("environment: broke")
        return real(self, spec, state, k, emit)

    monkeypatch.setattr(CountJob, "segment", segment)
    outcome = do(order(tmp_path, 1), store)
    assert (outcome.state, outcome.why, tried) == ("failed", "environment: broke", [0, 1])


def test_an_order_of_an_unknown_kind_or_module_fails_in_one_line(tmp_path, store):
    import dataclasses

    known = order(tmp_path, 1)
    outcome = do(dataclasses.replace(known, job="local-cout"), store)
    assert outcome.state == "failed"
    assert outcome.why.startswith("job = 'local-cout': unknown kind of run; did you mean local-count?")
    outcome = do(dataclasses.replace(known, imports=("no_such_module",)), store)
    assert outcome.why.startswith("import = 'no_such_module': not found in the current folder")


def test_an_order_that_cannot_be_read_fails_and_its_worker_lives(tmp_path, store):
    from escapevelocity.study.worker_process import _work

    document = order(tmp_path, 1).to_json() | {"labels": {"epochs": [1]}}
    outcome = _work(json.dumps({"order": document, "store": store.url}))
    assert (outcome.name, outcome.state) == ("count-1", "failed")
    assert outcome.why.startswith("labels.epochs")
