"""Folders that must not be read or written, and names that no folder can have: one line each, never a traceback."""

import os
import tempfile

import pytest
from history_runs import ScriptKind, make_run

from escapevelocity.errors import UserError
from escapevelocity.study import kinds
from escapevelocity.study.grid import Study
from escapevelocity.study.history import collect
from escapevelocity.study.plan import plan
from escapevelocity.study.standing import standing
from escapevelocity.study.store import open_store
from escapevelocity.study.target import open_target
from escapevelocity.study.watch import look

STUDY = Study("scripts", {}, {"segments": (1, 2)}, job="script")


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    monkeypatch.setitem(kinds.KINDS, "script", ScriptKind())
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "store", create=True)


def lock_up(folder, monkeypatch):
    """Refuse all that is in a folder. The system's answer is given here, as root may do everything."""

    def refusing(real):
        def call(path, *arguments, **options):
            if str(path).startswith(f"{folder}/"):
                raise PermissionError(13, "Permission denied", str(path))
            return real(path, *arguments, **options)

        return call

    for name in ("stat", "listdir"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))


def test_a_run_whose_folder_must_not_be_read_is_damaged_and_the_others_are_seen(store, monkeypatch):
    first, second = plan(STUDY, store)
    for one in (first, second):
        make_run(store.run_path(one.order.name), segments=one.order.labels["segments"], seeds=(1,))
    with monkeypatch.context() as patch:
        lock_up(store.run_path(first.order.name), patch)
        planned = plan(STUDY, store)
        counts = look(store, planned).counts
        recorded = collect(store)
    assert [one.state for one in planned] == ["damaged", "finished"]
    assert planned[0].why.endswith("Permission denied; check its permissions")
    assert counts["damaged"] == counts["finished"] == 1
    assert recorded.exists()


def test_a_file_in_the_place_of_a_run_is_damaged(store):
    (one, other) = plan(STUDY, store)
    store.run_path(one.order.name).write_text("x")
    found = standing(store.run_path(one.order.name))
    assert (found.state, found.why) == ("damaged", f"{store.run_path(one.order.name)} is not a folder")
    assert [one.state for one in plan(STUDY, store)] == ["damaged", other.state]


def test_a_history_that_cannot_be_written_is_one_line(store, tmp_path, monkeypatch):
    make_run(store.run_path("a"))

    def refuse(*arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with pytest.raises(
        UserError, match=r"cannot write .*history\.parquet: Permission denied; .* another --out"
    ):
        collect(store)
    with pytest.raises(UserError, match=r"cannot write .*mine\.parquet: Permission denied"):
        collect(store, tmp_path / "mine.parquet")


def test_a_store_that_cannot_be_reached_is_one_line(tmp_path, monkeypatch):
    long = tmp_path / ("a" * 300)
    for act in (lambda: open_store(long), lambda: plan(STUDY, long), lambda: open_store(long, create=True)):
        with pytest.raises(UserError, match=r"store = .*: must be a folder that can be reached: .*too long"):
            act()
    with pytest.raises(UserError, match=r"cannot read aaa.*too long"):
        open_target("a" * 300)
    with pytest.raises(UserError, match="store = '~nobody-of-this-name/x': must be a folder that can be"):
        open_store("~nobody-of-this-name/x")
    lock_up(tmp_path / "locked", monkeypatch)
    for act in (open_store, lambda path: plan(STUDY, path)):
        with pytest.raises(UserError, match="must be a folder that can be reached: Permission denied"):
            act(tmp_path / "locked" / "in" / "store")
