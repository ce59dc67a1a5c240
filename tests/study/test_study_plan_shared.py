"""Plans of several at once, behind a URL, and of those who only look."""

import os
import threading
from typing import ClassVar

import pytest
from history_runs import ScriptKind, make_run

from escapevelocity.errors import UserError
from escapevelocity.study import kinds
from escapevelocity.study import plan as planning
from escapevelocity.study.grid import Study
from escapevelocity.study.groups import only_planner, read_groups, write_groups
from escapevelocity.study.plan import plan
from escapevelocity.study.store import Store, open_store


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    monkeypatch.setitem(kinds.KINDS, "script", ScriptKind())
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "store", create=True)


def script(segments, seeds=(1, 2)):
    return Study("scripts", {}, {"segments": (segments,)}, seeds, "script")


def before_writing(monkeypatch, act):
    """Let something happen once, between a planner's look at the plan and its turn to write."""
    real = planning.only_planner

    def late(*arguments):
        monkeypatch.setattr(planning, "only_planner", real)
        act()
        return real(*arguments)

    monkeypatch.setattr(planning, "only_planner", late)


def test_what_others_plan_at_the_same_time_is_kept(store, monkeypatch):
    before_writing(monkeypatch, lambda: plan(script(2), store))
    plan(script(1), store)
    (other,) = plan(script(2), store)
    make_run(store.run_path(other.order.name), segments=2, seeds=(1, 2))
    more = plan(script(2, (1, 2, 3)), store)
    assert [(one.order.seeds, one.state) for one in more] == [((1, 2), "finished"), ((3,), "missing")]


def test_seeds_that_another_has_grouped_meanwhile_stay_together(store, monkeypatch):
    before_writing(monkeypatch, lambda: plan(script(1), store))
    assert [one.order.seeds for one in plan(script(1, (1, 2, 3)), store)] == [(1, 2), (3,)]
    assert list(read_groups(store.study_path).values()) == [[(1, 2), (3,)]]


def test_planners_wait_for_each_other_but_not_for_ever(store):
    entered, done = threading.Event(), threading.Event()

    def hold():
        with only_planner(store.study_path):
            entered.set()
            done.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait(30)
    with (
        pytest.raises(UserError, match="is being planned by another process"),
        only_planner(store.study_path, wait=0.01),
    ):
        pass
    done.set()
    thread.join()
    assert len(plan(script(1), store)) == 1


def refuse(*arguments):
    raise AssertionError("must not be written")


def test_a_complete_plan_is_read_where_nothing_can_be_written(store, monkeypatch):
    before = plan(script(1), store)
    for name in ("only_planner", "write_groups"):
        monkeypatch.setattr(planning, name, refuse)
    assert plan(script(1), store) == before


def test_who_only_looks_writes_nothing_and_sees_what_the_next_plan_will_be(store):
    seen = plan(script(1), store, record=False)
    assert list(store.path.iterdir()) == []
    assert plan(script(1), store) == seen


def test_a_plan_that_another_has_written_over_loses_no_run(store):
    """As two planners of one store behind a URL can, where no lock holds."""
    plan(script(1), store)
    others = dict(read_groups(store.study_path))
    (ours,) = plan(script(2, (1, 2, 3)), store)
    write_groups(store.study_path, others)
    make_run(store.run_path(ours.order.name), segments=2, seeds=(1, 2, 3))
    more = plan(script(2, (1, 2, 3, 4)), store)
    assert [(one.order.seeds, one.state) for one in more] == [((1, 2, 3), "finished"), ((4,), "missing")]


class Elsewhere(Store):
    """A store behind a URL, in which something may have happened whenever it is fetched."""

    asked: ClassVar[list[str]] = []
    arrivals: ClassVar[list] = []

    def refresh(self):
        self.asked.append("refresh")
        if self.arrivals:
            self.arrivals.pop(0)(self)

    def push_study(self):
        self.asked.append(f"push {sorted(map(len, read_groups(self.study_path).values()))}")


def test_a_store_that_is_elsewhere_is_fetched_before_its_plan_is_read_and_again_before_it_is_written(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(Elsewhere, "asked", [])
    name = plan(script(1), tmp_path / "here", record=False)[0].order.name

    def trained(store):
        make_run(store.run_path(name), seeds=(1, 2), segments=1)

    def planned(store):
        write_groups(store.study_path, {"a cell of another planner": [(7,), (8,)]})

    monkeypatch.setattr(Elsewhere, "arrivals", [trained, planned])
    (one,) = plan(script(1), Elsewhere(tmp_path))
    assert one.state == "finished"
    assert Elsewhere.asked == ["refresh", "refresh", "push [1, 2]"]
    plan(script(1), Elsewhere(tmp_path))
    assert Elsewhere.asked[3:] == ["refresh"]
