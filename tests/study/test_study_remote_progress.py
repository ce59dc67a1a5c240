"""What one sees of runs that train elsewhere, in a store behind a URL."""

import os
import threading

import fsspec
import local_counting
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from escapevelocity.runs import RunInfo
from escapevelocity.study import tally
from escapevelocity.study.executors import Event
from escapevelocity.study.plan import Planned
from escapevelocity.study.progress import ProgressWriter, read_progress
from escapevelocity.study.remote import RemoteStore
from escapevelocity.study.work import do


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def url(tmp_path):
    yield f"memory://{tmp_path.name}"
    fsspec.filesystem("memory").store.clear()


@pytest.fixture
def orders(tmp_path):
    (tmp_path / "diary").mkdir()
    return [local_counting.order(tmp_path / "diary", number) for number in (1, 2, 3)]


def say(url, name, steps):
    """Let a run say on another machine how far it is."""
    store = RemoteStore(url, create=True)
    writer = ProgressWriter(store, name)
    writer.on_start(RunInfo(store.run_path(name), "local-count", None, 0, 4, steps, 80, 0.0))
    store._push_progress(name)


def test_fetching_progress_reads_one_small_file_per_run_and_nothing_else(url, orders, monkeypatch):
    do(orders[2], RemoteStore(url, create=True))
    say(url, "count-1", 40)
    say(url, "count-2", 60)
    reader, read, cat = RemoteStore(url), [], MemoryFileSystem.cat_file
    monkeypatch.setattr(
        MemoryFileSystem, "cat_file", lambda fs, path, **given: read.append(path) or cat(fs, path, **given)
    )
    reader.fetch_progress(["count-1", "count-9"])
    assert {name: one.steps for name, one in read_progress(reader).items()} == {"count-1": 40}
    assert [path.rpartition("/_study/")[2] for path in read] == [
        "progress/count-1.json",
        "progress/count-9.json",
    ]
    say(url, "count-1", 50)
    reader.fetch_progress(["count-1"])
    assert read_progress(reader)["count-1"].steps == 50


def test_a_store_out_of_reach_leaves_the_progress_that_was_fetched(url, monkeypatch):
    def down(fs, path, **given):
        raise OSError("the network is down")

    say(url, "count-1", 40)
    reader = RemoteStore(url)
    reader.fetch_progress(["count-1"])
    monkeypatch.setattr(MemoryFileSystem, "cat_file", down)
    reader.fetch_progress(["count-1"])
    assert read_progress(reader)["count-1"].steps == 40


def test_a_tally_shows_what_runs_elsewhere_say_and_looks_every_five_seconds(url, orders, monkeypatch):
    monkeypatch.setattr(tally, "_WAIT", None)  # However long it takes.
    now = [0.0]
    store = RemoteStore(url, create=True)
    shown = tally.Tally(
        [Planned(order, "missing", 0, 0.0, None, "") for order in orders], store, clock=lambda: now[0]
    )
    asked, fetch = [], store.fetch_progress
    monkeypatch.setattr(store, "fetch_progress", lambda names: asked.append(names) or fetch(names))
    assert shown.standing().steps == 0
    assert asked == []  # Nothing trains.
    shown.hear(Event("started", "count-1"))
    say(url, "count-1", 40)
    say(url, "count-2", 60)
    assert shown.standing().steps == 40
    say(url, "count-1", 50)
    now[0] = 4.9
    assert (shown.standing().steps, len(asked)) == (40, 1)
    now[0] = 5.0
    assert (shown.standing().steps, len(asked)) == (50, 2)
    assert asked[-1] == ["count-1"]


def test_a_tally_does_not_wait_for_a_slow_network(url, orders, monkeypatch):
    monkeypatch.setattr(tally, "_WAIT", 0.0)
    order, store, answer = orders[0], RemoteStore(url, create=True), threading.Event()
    now, asked = [0.0], []
    shown = tally.Tally([Planned(order, "missing", 0, 0.0, None, "")], store, clock=lambda: now[0])
    shown.hear(Event("started", "count-1"))
    monkeypatch.setattr(store, "fetch_progress", lambda names: asked.append(names) or answer.wait(60.0))
    shown.standing()
    now[0] = 100.0
    shown.standing()  # The first look is still under way: there is no second one.
    answer.set()
    assert asked == [["count-1"]]
