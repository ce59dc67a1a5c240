"""Plain lines: when a line comes, and what it says."""

import io

from scripted_runs import make_info, make_row

from escapevelocity.report import PlainLines
from escapevelocity.runs import Status


def run_through(clock, seconds_per_batch, batches=100, seeds=(1,), change=dict, stream=None):
    """The lines of a run of given speed; `change(seed, batch)` gives columns."""
    stream = io.StringIO() if stream is None else stream
    lines = PlainLines(stream, clock)
    lines.on_start(make_info(batches, seeds))
    for batch in range(batches):
        clock.now = seconds_per_batch * batch
        for seed in seeds:
            lines.on_row(make_row(seed, batch, **change(seed, batch) if change is not dict else {}))
    lines.on_end(Status("finished", "", 4, 4, 1, 1, 5.0))
    return stream


def shares(stream):
    return [int(line.split("%")[0]) for line in stream.getvalue().splitlines() if "%" in line]


def test_a_fast_run_prints_every_ten_seconds_with_the_first_and_the_last(clock):
    # 1 s a batch of 1 %: 5 % are 5 s, so the 10 s decide. A batch is printed when the next one's row comes.
    assert shares(run_through(clock, 1.0)) == [1, 11, 21, 31, 41, 51, 61, 71, 81, 91, 100]


def test_a_slow_run_prints_every_five_percent(clock):
    # 3 s a batch of 1 %: 10 s are 4 batches, so the 5 % decide.
    assert shares(run_through(clock, 3.0)) == [*range(1, 100, 5), 100]


def test_a_run_of_one_batch_prints_it_once(clock):
    assert shares(run_through(clock, 1.0, batches=1)) == [100]


def test_a_line_has_the_tables_numbers_and_marks(clock):
    ranks = (30.0, 4.0)
    stream = run_through(
        clock, 1.0, batches=2, change=lambda _, b: {"health__actor__feature_rank_pca": ranks[b]}
    )
    assert (
        "|  return 100  length 50  entropy 1.50  KL 0.010  clip frac. 0.125  actor rank 4!  dead units 2  "
        "pre-act norm 8  lowest ratio 0.300  mean <1−ε 0.700\n"
    ) in stream.getvalue()


def test_a_population_shows_medians_and_the_worst_where_it_is_outside_its_range(clock):
    ranks = {1: 4.0, 2: 20.0, 3: 30.0}
    stream = run_through(
        clock,
        1.0,
        batches=2,
        seeds=(1, 2, 3),
        change=lambda s, b: {"health__actor__feature_rank_pca": ranks[s] if b else 30.0},
    )
    assert "Hopper-v4: 4,096 steps per seed, 3 seeds, medians; in runs/demo" in stream.getvalue()
    assert "actor rank 20 (worst 4!)  dead units 2  " in stream.getvalue()


def test_a_line_comes_only_when_every_member_has_reported_its_batch(clock):
    stream = run_through(
        clock,
        100.0,
        batches=2,
        seeds=(1, 2, 3),
        change=lambda s, b: {"perf__return_mean": float(100 * b + s)},
    )
    found = [line for line in stream.getvalue().splitlines() if "%" in line]
    assert "return 2 " in found[0]  # the median of 1, 2, 3 of the first batch
    assert "return 102 " in found[1]


def test_what_has_no_column_is_named_at_the_end_of_the_line(clock):
    stream = run_through(clock, 1.0, batches=1, change=lambda *_: {"health__critic__dead_neurons": 40.0})
    assert "|  also outside! health/critic/dead_neurons 40 (seed 1)\n" in stream.getvalue()


def test_a_members_fault_is_told_once(clock):
    stream = run_through(
        clock,
        1.0,
        batches=4,
        change=lambda s, b: {"fault": f"seed {s}, batch {b}: non-finite loss" if b else ""},
    )
    faults = [line for line in stream.getvalue().splitlines() if line.startswith("fault: ")]
    assert faults == ["fault: seed 1, batch 1: non-finite loss"]


def test_a_log_in_ascii_loses_its_dashes_and_nothing_else(clock):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, "ascii", write_through=True)
    run_through(clock, 1.0, batches=1, stream=stream)
    assert b"mean <1??" in raw.getvalue()
    assert b"finished: 1 of 1 steps per seed" in raw.getvalue()


def test_messages_are_lines():
    stream = io.StringIO()
    PlainLines(stream).on_message("checkpoint 3 is damaged")
    assert stream.getvalue() == "checkpoint 3 is damaged\n"
