"""The live table, rendered to a string from rows whose numbers are known."""

import io
import re
import threading

import pytest
from rich.console import Console
from scripted_runs import BATCH, RowsJob, make_info, make_row, make_spec

from escapevelocity.report import LiveTable, PlainLines, terminal_observer
from escapevelocity.report._farewell import farewell
from escapevelocity.report._progress import Progress
from escapevelocity.runs import Status, start

NAN = float("nan")


def make_console():
    """A terminal of a fixed size, whatever COLUMNS says."""
    return Console(file=io.StringIO(), width=100, height=40, record=True, force_terminal=True, _environ={})


def show(rows, clock, styles=False, **info):
    """What the table shows after these rows."""
    table = LiveTable(make_console(), clock)
    table._progress = Progress(make_info(**info), clock)
    for row in rows:
        table.on_row(row)
    console = make_console()
    console.print(table.render())
    return console.export_text(styles=styles)


def table_row(text, label):
    return next(line.split() for line in text.splitlines() if line.split()[:1] == [label])


def test_each_member_has_a_row_with_its_latest_numbers(clock):
    rows = [make_row(7, 0), make_row(9, 0, perf__return_mean=1.0), make_row(7, 1, perf__return_mean=2345.6)]
    text = show(rows, clock, seeds=(7, 9))
    # return, length, entropy, KL, clip fraction, rank, dead, norm, lowest ratio, mean ratio below 1 − ε
    assert table_row(text, "7") == [
        "7",
        "2,346",
        "50",
        "1.50",
        "0.010",
        "0.125",
        "30",
        "2",
        "8",
        "0.300",
        "0.700",
    ]
    assert table_row(text, "9") == [
        "9",
        "1",
        "50",
        "1.50",
        "0.010",
        "0.125",
        "30",
        "2",
        "8",
        "0.300",
        "0.700",
    ]
    assert "!" not in text


def test_a_value_outside_its_healthy_range_is_bold_red_with_a_mark(clock):
    rows = [make_row(1, 0), make_row(1, 1, health__actor__feature_rank_pca=9.0, trust__kl=1.5)]
    assert table_row(show(rows, clock), "1") == [
        "1",
        "100",
        "50",
        "1.50",
        "1.50!",
        "0.125",
        "9!",
        "2",
        "8",
        "0.300",
        "0.700",
    ]
    styled = show(rows, clock, styles=True)
    assert re.findall(r"\x1b\[1;31m *([^ \x1b]+)", styled) == ["1.50!", "9!"]


def test_undefined_and_not_yet_measured_are_dashes(clock):
    row = make_row(1, 0, perf__return_mean=NAN, perf__length_mean=NAN, trust__ratio_below_mean=NAN)
    del row["policy/entropy"]
    assert table_row(show([row], clock), "1") == [
        "1",
        "–",
        "–",
        "–",
        "0.010",
        "0.125",
        "30",
        "2",
        "8",
        "0.300",
        "–",
    ]


def test_a_return_stays_until_another_episode_ends_but_an_undefined_ratio_does_not(clock):
    later = make_row(1, 1, perf__return_mean=NAN, perf__length_mean=NAN, trust__ratio_below_mean=NAN)
    assert table_row(show([make_row(1, 0), later], clock), "1")[1:3] == ["100", "50"]
    assert table_row(show([make_row(1, 0), later], clock), "1")[-1] == "–"


def test_health_measured_now_and_then_keeps_its_last_value(clock):
    unmeasured = {k: v for k, v in make_row(1, 1, perf__return_mean=5.0).items() if k[:6] != "health"}
    assert table_row(show([make_row(1, 0), unmeasured], clock), "1")[1] == "5"
    assert table_row(show([make_row(1, 0), unmeasured], clock), "1")[6] == "30"


def test_the_header_shows_task_progress_speed_and_segment(clock):
    rows = [make_row(1, b, segment=1) for b in range(25)]
    text = show(rows, clock, batches=100, segments_total=4, wall_time=75.0)
    assert "Hopper-v4  segment 2/4" in text
    assert "25%" in text
    assert "51,200 of 204,800 steps · – steps/s · 1:15 elapsed · – left" in text


def test_more_than_twelve_members_collapse_to_median_and_worst(clock):
    started = [make_row(s, 0) for s in range(1, 14)]
    rows = [
        make_row(s, 1, perf__return_mean=float(s), health__actor__feature_rank_pca=float(s))
        for s in range(1, 14)
    ]
    text = show(started + rows, clock, seeds=range(1, 14))
    # Medians of 1..13; the worst of return and rank is 1; neither end of length and entropy is bad.
    assert table_row(text, "median") == [
        "median",
        "7",
        "50",
        "1.50",
        "0.010",
        "0.125",
        "7!",
        "2",
        "8",
        "0.300",
        "0.700",
    ]
    assert table_row(text, "worst") == [
        "worst",
        "1",
        "–",
        "–",
        "0.010",
        "0.125",
        "1!",
        "2",
        "8",
        "0.300",
        "0.700",
    ]
    twelve = show(started[:12] + rows[:12], clock, seeds=range(1, 13))
    assert "median" not in twelve
    assert table_row(twelve, "12")[1] == "12"


def test_what_has_no_column_is_named_below_when_it_is_outside_its_range(clock):
    rows = [make_row(s, 0, health__critic__dead_neurons=float(s)) for s in (43, 44)]
    text = " ".join(show(rows, clock, seeds=(3, 4)).split())
    assert "! also outside: health/critic/dead_neurons 43 to 44 (seeds 43, 44)" in text
    assert "also outside" not in show([make_row()], clock)


def test_a_frozen_member_is_called_frozen_and_its_fault_stays_on_the_screen(clock):
    fault = "seed 2, batch 0: non-finite loss in minibatch 3"
    rows = [make_row(1, 0), make_row(2, 0, fault=fault), *[make_row(1, b) for b in (1, 2, 3)]]
    text = show(rows, clock, seeds=(1, 2))
    assert table_row(text, "2")[1] == "frozen"
    assert f"fault: {fault}" in text
    # A member that only skipped a minibatch goes on, and is not frozen.
    assert "frozen" not in show([make_row(1, b, fault="skipped") for b in range(4)], clock)


def test_before_the_first_row_the_table_says_that_it_is_compiling(clock):
    assert "the first batch is under way" in show([], clock)


def test_rows_are_only_stored_and_never_drawn_in_the_thread_that_trains(clock, monkeypatch):
    drawn_in = []
    original = LiveTable.render

    def render(self):
        drawn_in.append(threading.current_thread())
        return original(self)

    monkeypatch.setattr(LiveTable, "render", render)
    table = LiveTable(make_console(), clock)
    table.on_start(make_info())
    drawn_in.clear()
    for batch in range(100):
        table.on_row(make_row(1, batch))
    assert threading.current_thread() not in drawn_in
    table.on_end(Status("finished"))
    assert threading.current_thread() in drawn_in


@pytest.mark.parametrize(
    ("status", "first", "commands"),
    [
        (
            Status("finished", "", 4, 4, 400, 400, 61.0),
            "finished: 400 of 400 steps",
            "ev diagnose R   ev plot R   ev show R",
        ),
        (
            Status("interrupted", "collapsed by step 380: performance collapse", 2, 4, 200, 400, 61.0, 0),
            "interrupted (collapsed by step 380: performance collapse): 200 of 400 steps",
            "ev diagnose R   ev plot R   ev show R",
        ),
        (
            Status("interrupted", "Ctrl-C", 2, 4, 200, 400, 61.0, 130),
            "interrupted (Ctrl-C): 200 of 400 steps",
            "ev resume R   ev diagnose R   ev plot R   ev show R",
        ),
        (
            Status("failed", "loss is nan", 2, 4, 200, 400, 61.0, 1),
            "failed (loss is nan): 200 of 400 steps",
            "ev diagnose R   ev show R   ev plot R",
        ),
    ],
)
@pytest.mark.parametrize("kind", [LiveTable, PlainLines])
def test_the_end_says_how_it_ended_where_it_is_and_what_to_type(kind, status, first, commands, clock):
    stream = io.StringIO()
    console = Console(file=stream, width=100, force_terminal=True, _environ={}, color_system=None)
    observer = kind(console if kind is LiveTable else stream, clock)
    observer.on_start(make_info(path="R"))
    observer.on_row(make_row())
    observer.on_end(status)
    lines = stream.getvalue().replace("\x1b[?25h", "").splitlines()
    assert lines[-2] == f"{first} per seed in 1:01; R"
    assert lines[-1] == f"next:  {commands}"


def test_the_next_commands_run_where_a_folder_has_a_space():
    lines = farewell(make_info(path="my runs/R"), Status("finished", "", 4, 4, 400, 400, 61.0, 0))
    assert lines[-1] == "next:  ev diagnose 'my runs/R'   ev plot 'my runs/R'   ev show 'my runs/R'"


def test_the_engine_drives_the_table_to_its_last_line(tmp_path, clock):
    table = LiveTable(make_console(), clock)
    status = start(RowsJob([make_row(1, b) for b in range(3)]), make_spec(3), tmp_path / "r", [table])
    assert status.state == "finished"
    text = table._console.export_text()
    assert f"finished: {3 * BATCH:,} of {3 * BATCH:,} steps per seed" in text


def test_messages_are_printed_as_they_are():
    console = make_console()
    LiveTable(console).on_message("resumed: [bold]checkpoint[/bold] 3 is damaged")
    assert "resumed: [bold]checkpoint[/bold] 3 is damaged" in console.export_text()


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_gets_the_table_and_anything_else_plain_lines(monkeypatch):
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(terminal_observer(Terminal()), LiveTable)
    assert isinstance(terminal_observer(io.StringIO()), PlainLines)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(terminal_observer(Terminal()), PlainLines)
