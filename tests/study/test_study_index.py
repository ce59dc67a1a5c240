"""The index: what it says of runs, and that the runs' folders stay the truth."""

import json
import os

import pytest
from history_runs import make_branch, make_run

from escapevelocity.errors import UserError
from escapevelocity.runs import Observer
from escapevelocity.runs.status import acquire
from escapevelocity.study import index
from escapevelocity.study.index import Indexed, list_indexed, varying_settings


class Stop(Observer):
    reason = "enough"

    def on_row(self, row):
        return False


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def store(tmp_path):
    make_run(tmp_path / "store" / "a")
    make_run(tmp_path / "store" / "deep" / "b", scale=2.0)
    make_run(tmp_path / "store" / "c", [Stop()], scale=3.0)
    return tmp_path / "store"


@pytest.fixture
def opened(monkeypatch):
    """Names of the folders that were opened."""
    found = []
    really = index.open_run

    def open_run(path):
        found.append(path.name)
        return really(path)

    monkeypatch.setattr(index, "open_run", open_run)
    return found


def states(runs):
    return {run.name: run.state for run in runs}


def test_runs_are_listed_with_what_is_needed_to_watch_them(store):
    make_branch(store / "a", 1, store / "d")
    runs = {run.name: run for run in list_indexed(store)}
    assert states(runs.values()) == {
        "a": "finished",
        "c": "interrupted",
        "d": "finished",
        "deep/b": "finished",
    }
    run = runs["a"]
    assert (run.steps_done, run.steps_total, run.steps_shared, run.seeds) == (80, 80, 0, (5, 3))
    assert run.settings["scale"] == 1.0
    assert (
        run.spec_hash == json.loads((store / "a/checkpoints/00000.json").read_text())["lineage"]["spec_hash"]
    )
    assert run.steps_per_second == pytest.approx(2 * 80 / run.wall_time)
    assert (runs["d"].steps_shared, runs["c"].why) == (40, "enough")


def test_finished_runs_are_not_opened_again(store, opened):
    first = list_indexed(store)
    assert sorted(opened) == ["a", "b", "c"]
    opened.clear()
    assert list_indexed(store) == first
    assert opened == ["c"]


def test_a_run_whose_status_has_changed_is_opened_again(store, opened):
    list_indexed(store)
    path = store / "a" / "status.json"
    status = json.loads(path.read_text())
    path.write_text(json.dumps({**status, "state": "failed", "why": "by hand"}))
    assert states(list_indexed(store))["a"] == "failed"
    path.write_text("{")
    torn = list_indexed(store)[0]
    assert (torn.state, torn.name) == ("interrupted", "a")  # As for a plan: it can be resumed.
    assert "status.json is damaged" in torn.why
    path.unlink()
    assert states(list_indexed(store))["a"] == "interrupted"
    lock = acquire(store / "a")
    assert states(list_indexed(store))["a"] == "running"
    lock.release()
    (store / "a" / "spec.json").write_text("{")
    assert states(list_indexed(store))["a"] == "damaged"


def test_a_run_that_is_gone_leaves_the_index(store):
    list_indexed(store)
    (store / "a").rename(store.parent / "a")
    list_indexed(store)
    assert list(json.loads((store / "_study" / "index.json").read_text())["runs"]) == ["deep/b"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format": 0, "runs": {}}', '{"format": 1, "runs": {"a": {}}}']
)
def test_a_damaged_index_is_made_anew(store, opened, text):
    before = list_indexed(store)
    path = store / "_study" / "index.json"
    whole = path.read_text()
    path.write_text(text)
    assert list_indexed(store) == before
    assert path.read_text() == whole


def test_a_run_counts_as_running_while_its_lock_is_held(store):
    path = store / "c" / "status.json"
    path.write_text(path.read_text().replace("interrupted", "running"))
    assert states(list_indexed(store))["c"] == "interrupted"
    lock = acquire(store / "c")
    assert states(list_indexed(store))["c"] == "running"
    lock.release()


def test_a_store_that_cannot_be_written_is_listed_all_the_same(store, monkeypatch):
    def refuse(path, data):
        raise UserError("no space")

    monkeypatch.setattr(index, "write_bytes", refuse)
    assert len(list_indexed(store)) == 3
    assert not (store / "_study").exists()


def test_a_store_that_is_not_there_is_a_mistake(tmp_path):
    with pytest.raises(
        UserError, match="is not a folder; give a study's file, or the folder that holds its runs"
    ):
        list_indexed(tmp_path / "nowhere")


def test_settings_that_vary_are_told_apart_from_those_that_all_runs_share():
    given = {"a": {"task": "T", "epochs": 10}, "b": {"task": "T", "epochs": 20, "pfo.coef": 1.0}, "c": {}}
    runs = [Indexed(name, "finished", settings=settings) for name, settings in given.items()]
    assert varying_settings(runs) == {"a": {"epochs": 10}, "b": {"epochs": 20, "pfo.coef": 1.0}, "c": {}}
