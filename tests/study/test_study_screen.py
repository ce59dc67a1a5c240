"""What a person sees while a study trains."""

import io
import time

import pytest
from local_counting import order
from rich.console import Console

from escapevelocity.runs import RunInfo
from escapevelocity.study.executors import Event
from escapevelocity.study.plan import Planned
from escapevelocity.study.progress import ProgressWriter
from escapevelocity.study.screen import LiveScreen, PlainScreen, standing_line, summary_lines
from escapevelocity.study.store import open_store
from escapevelocity.study.tally import Tally
from escapevelocity.study.work import Outcome


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "store", create=True)


@pytest.fixture
def planned(tmp_path):
    """Four runs of 80 steps: one is finished, one was interrupted after 40; the last has two seeds."""
    orders = [order(tmp_path, number, seeds=(1, 2) if number == 3 else (1,)) for number in range(4)]
    states = [("finished", 80), ("interrupted", 40), ("missing", 0), ("missing", 0)]
    return [
        Planned(one, state, done, 0.0, None, "") for one, (state, done) in zip(orders, states, strict=True)
    ]


def train(store, name, steps, members=1, speed=5):
    """Let a run write its progress: `speed` steps a second."""
    now = [0.0]
    writer = ProgressWriter(store, name, members, clock=lambda: now[0])
    writer.on_start(RunInfo(store.run_path(name), "local-count", None, 0, 4, 0, 80, 0.0))
    for second in (10.0, 20.0):
        now[0] = second
        writer.on_row({"seed": 1, "env_steps": int(steps - (20.0 - second) * speed)})


def test_a_tally_counts_the_steps_of_all_seeds_and_expects_the_end_at_the_present_speed(planned, store):
    tally = Tally(planned, store)
    before = tally.standing()
    # By hand: three runs of 80 and one of 2 × 80 steps; 80 + 40 are done.
    assert (before.steps, before.steps_total, before.runs) == (120, 400, 4)
    assert dict(before.states) == {"finished": 1, "waiting": 3}
    for name in ("count-1", "count-3"):
        tally.hear(Event("started", name))
    train(store, "count-1", 60)
    train(store, "count-3", 70, members=2, speed=2)
    now = tally.standing()
    assert dict(now.states) == {"finished": 1, "waiting": 1, "training": 2}
    assert now.steps == 80 + 60 + 0 + 2 * 70
    assert now.steps_per_second == 5 + 2 * 2
    assert now.seconds_left == pytest.approx((20 + 80 + 2 * 10) / 9)
    tally.hear(Event("finished", "count-1"))
    tally.hear(Event("retried", "count-3", "its process was killed"))
    later = tally.standing()
    assert dict(later.states) == {"finished": 2, "waiting": 2}
    assert later.steps == 80 + 80 + 0 + 2 * 70
    assert not later.seconds_left > 0  # Nothing trains: not known.


def test_what_a_run_said_before_it_began_here_does_not_count(planned, store):
    train(store, "count-1", 60)
    tally = Tally(planned, store, clock=lambda: time.time() + 60)
    tally.hear(Event("started", "count-1"))
    assert tally.standing().running[0].progress is None


def test_the_line_about_a_study_says_how_far_and_how_long(planned, store):
    tally = Tally(planned, store)
    assert standing_line(tally.standing()) == (
        "4 runs: 1 finished, 3 waiting · 30% · – steps/s · end not known yet"
    )
    tally.hear(Event("started", "count-2"))
    train(store, "count-2", 60, speed=2)
    # 40 + 20 + 160 steps at 2 a second: 110 s.
    assert standing_line(tally.standing()).startswith(
        "4 runs: 1 finished, 1 training, 2 waiting · 45% · 2 steps/s · 1:50 left, until "
    )


def test_plain_lines_tell_each_event_with_its_labels(planned, store, capsys):
    with PlainScreen(Tally(planned, store)) as screen:
        screen.tell(Event("started", "count-2"))
        screen.tell(Event("failed", "count-2", "loss is nan"))
        screen.tell(Event("message", "", "a core is free"))
    assert capsys.readouterr().out.splitlines() == [
        "started count-2 (start 2)",
        "failed count-2 (start 2): loss is nan",
        "a core is free",
    ]


def test_plain_lines_say_now_and_then_how_the_study_stands(planned, store, capsys):
    with PlainScreen(Tally(planned, store), every=0.01):
        until = time.monotonic() + 30
        while time.monotonic() < until and "4 runs: 1 finished" not in capsys.readouterr().out:
            time.sleep(0.01)
    assert time.monotonic() < until


def test_the_live_table_shows_what_trains(planned, store):
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, color_system=None)
    tally = Tally(planned, store)
    with LiveScreen(tally, console) as screen:
        screen.tell(Event("started", "count-2"))
        train(store, "count-2", 60, speed=2)
        screen.tell(Event("finished", "count-1"))
        console.print(screen.render())
    text = out.getvalue()
    assert "finished count-1 (start 1)" in text
    (row,) = [line.split() for line in text.splitlines() if line.startswith("count-2")][-1:]
    assert row == ["count-2", "2", "75%", "2", "0:10"]


def test_the_summary_names_what_failed_and_what_to_do(store):
    outcomes = [
        Outcome("a", "finished"),
        Outcome("b", "failed", "loss is nan"),
        Outcome("c", "interrupted", "stopped by SIGINT"),
        Outcome("d", "claimed", "another process is training it"),
        Outcome("e", "waiting", "not begun"),
    ]
    assert summary_lines(outcomes, 3, store) == [
        "failed b: loss is nan",
        f"4 of 8 runs finished, 1 failed, 1 interrupted, 1 claimed, 1 not begun in {store.url}",
        "claimed: another process was training them when this one had nothing else left to do; the study is not "
        "finished before they are",
        "the same command goes on from here: each run from its last checkpoint",
    ]
    assert summary_lines([], 2, store) == [f"2 of 2 runs finished in {store.url}"]
    in_history = f"2 of 2 runs finished (1 of them kept in the history) in {store.url}"
    assert summary_lines([], 2, store, kept=1) == [in_history]
