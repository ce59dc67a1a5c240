"""Watching a study: what is counted, when it will end, and how that looks on terminals of several widths."""

import dataclasses
import io
import json
import os
import platform
import time

import pytest
from history_runs import ScriptKind, make_run
from rich.console import Console

from escapevelocity.errors import UserError
from escapevelocity.runs import Observer
from escapevelocity.runs.status import acquire
from escapevelocity.study import kinds, watcher
from escapevelocity.study.plan import Order, Planned, plan
from escapevelocity.study.store import Store
from escapevelocity.study.target import open_target
from escapevelocity.study.watch import Ended, Overview, Running, look
from escapevelocity.study.watch_view import follow, pace_line, plain_lines, print_lines, view

HERE, NOW = platform.node(), 1_000_000.0


class Stop(Observer):
    reason = "enough"

    def on_row(self, row):
        return False


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def store(tmp_path):
    """A finished run a, and b interrupted in its first segment."""
    make_run(tmp_path / "store" / "a")
    make_run(tmp_path / "store" / "b", [Stop()], scale=2.0)
    return Store(tmp_path / "store")


@pytest.fixture
def training(store):
    """Make b a run under way: half done after 8 s, 2 s ago, on this machine, with its lock held."""
    status = set_status(store, "b", state="running", steps_done=40, wall_time=8.0, pid=os.getpid(), host=HERE)
    os.utime(status, (NOW - 2, NOW - 2))
    lock = acquire(store.path / "b")
    yield store
    lock.release()


def set_status(store, name, **changes):
    path = store.path / name / "status.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return path


def tell(store, name, **changes):
    """Write a progress file as a worker does: 60 of 80 steps, 5 steps/s for each of 2 members."""
    told = {
        "name": name,
        "steps": 60,
        "steps_total": 80,
        "steps_per_second": 5.0,
        "alarms": ["entropy falls"],
    }
    told |= {"updated": NOW, "host": HERE, "pid": os.getpid(), "memory": 3 * 10**9, "members": 2}
    path = store.study_path / "progress" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**told, **changes}))


def planned(name, state="missing", seconds_left=None, seeds=(1,), **labels):
    return Planned(Order(name, "script", "{}", labels, seeds, 80), state, 0, 0.0, seconds_left, "")


def test_a_store_without_a_plan_is_called_by_the_settings_in_which_its_runs_differ(store):
    overview = look(store.path, now=NOW)
    assert {state: count for state, count in overview.counts.items() if count} == {
        "finished": 1,
        "interrupted": 1,
    }
    assert [(run.label, run.state, run.why) for run in overview.stopped] == [
        ("scale=2.0", "interrupted", "enough")
    ]
    assert [run.label for run in overview.finished] == ["scale=1.0"]
    assert (overview.title, overview.total, overview.is_over) == ("store", 2, False)


def test_a_run_without_progress_is_followed_by_its_status(training):
    (run,) = look(training, now=NOW).running
    # 40 steps × 2 seeds in 8 s; as much again takes 8 s, of which 2 s have gone by.
    assert (run.share, run.steps_per_second, run.seconds_left) == (0.5, 10.0, 6.0)
    assert (run.alarms, run.host) == (None, HERE)
    assert run.memory is not None
    assert run.memory > 0


def test_a_run_with_progress_is_followed_by_that(training):
    tell(training, "b")
    overview = look(training, now=NOW)
    (run,) = overview.running
    assert (run.share, run.steps_per_second, run.seconds_left) == (0.75, 10.0, 4.0)
    assert (run.alarms, run.memory) == (("entropy falls",), 3 * 10**9)
    assert (overview.steps_per_second, overview.seconds_left) == (10.0, 4.0)


def test_progress_of_a_process_that_no_longer_runs_it_does_not_count(training):
    tell(training, "b", pid=1)
    assert look(training, now=NOW).running[0].share == 0.5


def test_a_run_on_another_machine_whose_lock_is_not_seen_runs_while_it_tells(store):
    set_status(store, "b", state="running", host="far", pid=7)
    tell(store, "b", host="far", pid=7)
    (run,) = look(store, now=NOW + 10).running
    assert (run.host, run.core) == ("far", "")
    assert look(store, now=NOW + 61).running == ()
    tell(store, "b", host=HERE, pid=7)  # On this machine a lock that is free says that nobody trains.
    assert look(store, now=NOW).running == ()


def test_a_plan_gives_labels_and_what_is_missing(training):
    plans = [
        planned("a", epochs=10, remedy="none"),
        planned("b", epochs=20, remedy="none"),
        planned("c", seeds=(1, 2), epochs=30, remedy="none"),
        planned("d", seeds=(3, 4), epochs=30, remedy="none"),
    ]
    overview = look(training, plans, "my-study", now=NOW)
    assert overview.counts == {
        **{"finished": 1, "running": 1, "missing": 2},
        **{"interrupted": 0, "failed": 0, "damaged": 0},
    }
    assert overview.title == "my-study"
    assert overview.running[0].label == "epochs=20 remedy=none"
    lone = look(training, [planned("c", seeds=(1, 2), x=1), planned("d", seeds=(3,), x=1)], now=NOW)
    assert lone.counts["missing"] == 2


def test_a_study_ends_when_its_last_run_does_with_as_many_at_a_time_as_now(training):
    # One runs for 6 s more; those that wait follow it one after the other: 6 + 10 + 5 s.
    plans = [planned("b"), planned("c", seconds_left=10.0), planned("d", seconds_left=5.0)]
    overview = look(training, plans, now=NOW)
    assert (overview.seconds_left, overview.unknown) == (21.0, 0)
    plans += [planned("e")]
    overview = look(training, plans, now=NOW)
    assert (overview.seconds_left, overview.unknown) == (21.0, 1)
    assert pace_line(overview).startswith("10 steps/s in all; at least 0:21 left")
    assert pace_line(overview).endswith("1 runs not counted")


def test_nothing_is_expected_while_nothing_runs(store):
    overview = look(store, [planned("b", seconds_left=3.0)], now=NOW)
    assert overview.seconds_left is None
    assert pace_line(overview) == "nothing is running; `ev study run` goes on with what is left"


def example(running=2, over=False):
    """An overview with a bit of everything."""
    runs = [
        *[Running("r", "epochs=20 activation=relu remedy=pfo", 0.25, 9000.0, 3600.0, ("step 1: dead", "step 2: rank"),
                  "vm", "1", 900_000_000)],
        *[Running(f"s{i}", f"epochs=10 activation=tanh remedy={i}", 0.1, 0.0, None, None, "far", "", None)
          for i in range(running - 1)],
    ]  # fmt: skip
    finished = tuple(
        Ended(f"f{i}", f"epochs={i}", "finished", "", NOW - 60 * (i + 1), 125.0) for i in range(4)
    )
    stopped = (Ended("x", "epochs=5 remedy=none", "failed", "loss is nan in batch 7", NOW, 1.0),)
    counts = {"finished": 4, "running": running, "interrupted": 0, "failed": 1, "damaged": 0, "missing": 13}
    if over:
        counts, runs, stopped = dict.fromkeys(counts, 0) | {"finished": 4}, [], ()
    return Overview("my-study", counts, tuple(runs), finished, stopped, NOW, 7200.0, 0)


def shown(overview, width, height=40):
    console = Console(width=width, file=io.StringIO(), color_system=None, force_terminal=True)
    console.print(view(overview, width, height))
    return console.file.getvalue()


@pytest.mark.parametrize("width", [40, 80, 140])
def test_the_view_fits_terminals_of_any_width(width):
    lines = shown(example(), width).splitlines()
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    for part in ("4 finished", "2 running", "1 failed", "13 missing", "25%", "1:00:00", "loss is nan"):
        assert part in text
    assert ("0.9 GB" in text, "vm core 1" in text) == (width == 140, width == 140)
    bar = next(line for line in lines if line.startswith("━"))
    # 4 finished, 2 running and 1 failed of 20; 13 are missing.
    assert (bar.count("━"), len(bar)) == (round(width * 7 / 20), width)


def test_the_view_shows_the_newest_warning_the_last_finished_and_why_runs_stopped():
    text = shown(example(), 140)
    assert "epochs=20 activation=relu remedy=pfo  step 2: rank" in text
    assert "step 1: dead" not in text
    assert "epochs=5 remedy=none  failed: loss is nan in batch 7" in text
    assert "epochs=0  2:05 of running, 1:00 ago" in text
    assert "epochs=3 " not in text  # The fourth to have finished.
    assert "9,000 steps/s in all; about 2:00:00 left, until " in text


def test_of_many_running_runs_those_are_shown_that_fit():
    text = shown(example(running=30), 80, height=24)
    assert text.count("activation=") == 6 + 1  # 24 − 18 lines, and the warning.
    assert "… and 24 more that are running" in text


def test_plain_lines_hold_all_that_the_view_shows():
    lines = plain_lines(example())
    assert lines[0] == "my-study: 4 finished, 2 running, 1 failed, 13 missing"
    label, _, told = lines[2].partition(": ")
    assert label == "running      epochs=20 activation=relu remedy=pfo"
    assert told == "25%, 9,000 steps/s, 1:00:00 left, 2 alarms, vm core 1, 0.9 GB"
    assert lines[3:6] == [
        "  warning    step 1: dead",
        "  warning    step 2: rank",
        "running      epochs=10 activation=tanh remedy=0: 10%, – steps/s, – left, far",
    ]
    assert lines[6] == "failed       epochs=5 remedy=none: loss is nan in batch 7"


def test_plain_lines_go_to_a_log_in_ascii():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    print_lines(example(), stream)
    stream.seek(0)
    assert "10%, ? steps/s" in stream.read()


def test_a_strangers_run_does_not_steer_the_terminal_of_who_watches(capsys):
    overview = example()
    stopped = dataclasses.replace(overview.stopped[0], why="\x1b[2J\x1b]0;title\x07")
    print_lines(dataclasses.replace(overview, stopped=(stopped,)))
    printed = capsys.readouterr().out
    assert "epochs=5 remedy=none: " in printed
    assert "\x1b" not in printed
    assert "\x07" not in printed


def test_following_ends_with_the_study_or_with_ctrl_c():
    console = Console(width=80, file=io.StringIO(), force_terminal=True)
    looks, slept = [example(), example(over=True)], []
    follow(lambda: looks.pop(0), console, 2.0, slept.append)
    assert (looks, slept) == ([], [2.0])
    assert "all runs are finished" in console.file.getvalue()

    def interrupt(seconds):
        raise KeyboardInterrupt

    follow(example, console, 2.0, interrupt)


def test_a_watcher_of_a_study_plans_again_when_a_run_has_ended_or_a_minute_is_over(tmp_path, monkeypatch):
    monkeypatch.setitem(kinds.KINDS, "script", ScriptKind())
    file, store = tmp_path / "grid.toml", tmp_path / "store"
    file.write_text('name = "grid"\njob = "script"\nseeds = [5, 3]\n[axes]\nscale = [1.0, 2.0]\n')
    store.mkdir()
    plans, clock = [], [0.0]
    monkeypatch.setattr(watcher, "plan", lambda *given, **how: plans.append(clock[0]) or plan(*given, **how))
    watch = watcher.Watcher(str(file), str(store), lambda: clock[0])
    overview = watch.look()
    assert (overview.title, overview.counts["missing"]) == ("grid", 2)
    for seconds in (59.0, 61.0, 62.0):
        clock[0] = seconds
        watch.look()
    assert plans == [0.0, 61.0]
    name = plan(*open_target(str(file), str(store)))[1].order.name
    make_run(store / name, scale=2.0)
    overview = watch.look()
    assert (overview.counts["finished"], overview.finished[0].label) == (1, "scale=2.0")
    assert plans == [0.0, 61.0, 62.0]


def test_a_study_whose_runs_are_all_kept_or_finished_is_over(tmp_path, monkeypatch):
    monkeypatch.setitem(kinds.KINDS, "script", ScriptKind())
    file, store = tmp_path / "grid.toml", tmp_path / "store"
    file.write_text('name = "grid"\njob = "script"\nseeds = [5, 3]\n[axes]\nscale = [1.0, 2.0]\n')
    store.mkdir()
    first, second = (one.order for one in plan(*open_target(str(file), str(store))))
    both = {first.name: first.seeds, second.name: second.seeds}
    overview = watcher.Watcher(str(file), str(store), kept=both).look()
    assert (overview.kept, overview.total, overview.is_over) == (2, 0, True)
    assert plain_lines(overview) == ["grid: 2 kept", "all runs are finished"]
    console = Console(width=80, file=io.StringIO(), force_terminal=True)
    follow(lambda: overview, console, sleep=lambda seconds: pytest.fail("it waits for what is done"))
    assert "2 kept" in console.file.getvalue()
    watch = watcher.Watcher(str(file), str(store), kept={first.name: first.seeds})
    assert (watch.look().kept, watch.look().is_over) == (1, False)
    make_run(store / second.name, scale=2.0)
    assert (watch.look().kept, watch.look().counts["finished"], watch.look().is_over) == (1, 1, True)
    # A store in which nothing is, is not over.
    assert not look(tmp_path / "store" / "_study", []).is_over


def test_a_target_is_a_study_or_a_store(tmp_path):
    assert open_target(str(tmp_path))[0] is None
    with pytest.raises(UserError, match=r"store = 'x': must be left out: .* is a store already"):
        open_target(str(tmp_path), "x")
    with pytest.raises(UserError, match="nowhere"):
        open_target(str(tmp_path / "nowhere"))


def test_now_is_the_clocks(store):
    before = time.time()
    assert before <= look(store).now <= time.time()
