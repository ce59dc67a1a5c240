"""What is measured on snapshots: on which rows of the records it shows, and what is refused."""

import dataclasses
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from counting_job import CountingJob, CountingSpec

from escapevelocity.errors import UserError
from escapevelocity.runs import Origin, open_run, parent_at, seen_from, start, whole_records
from escapevelocity.runs import measured as measured_module
from escapevelocity.runs.measured import add_measured, read_measured, with_measured
from escapevelocity.runs.turns import taking_turns


def records(steps=(10, 20, 30, 40), seeds=(1, 2)):
    rows = [(seed, step) for step in steps for seed in seeds]
    return pa.table({"seed": [seed for seed, _ in rows], "env_steps": [step for _, step in rows]})


def measured(seed, steps, start=0.0):
    return [
        {"seed": seed, "snapshot": i, "env_steps": step, "x": start + step} for i, step in enumerate(steps)
    ]


def column(table, seed, name="x"):
    return [row[name] for row in table.to_pylist() if row["seed"] == seed]


def test_a_snapshot_shows_on_the_batch_that_it_was_taken_before_and_the_last_on_the_last(tmp_path):
    add_measured(tmp_path, "m", measured(1, (0, 20, 40)))
    table = with_measured(tmp_path, records())
    # Before any step: first batch. After 20: the batch that ends at 30. At the end: no batch follows.
    assert column(table, 1) == [0.0, None, 20.0, 40.0]
    assert column(table, 2) == [None] * 4
    assert table.column_names == ["seed", "env_steps", "x"]


def test_where_two_snapshots_meet_in_a_row_the_later_shows(tmp_path):
    add_measured(tmp_path, "m", measured(2, (0, 5, 30, 40)))
    assert column(with_measured(tmp_path, records()), 2) == [5.0, None, None, 40.0]


def test_a_snapshot_behind_the_records_shows_nowhere(tmp_path):
    # The rows of an interrupted segment are dropped when a run is resumed; so are its snapshots, but not this table.
    add_measured(tmp_path, "m", measured(1, (20, 80)))
    assert column(with_measured(tmp_path, records()), 1) == [None, None, 20.0, None]


def test_rows_are_replaced_by_seed_and_snapshot_and_kept_in_order(tmp_path):
    add_measured(tmp_path, "m", [*measured(2, (0, 20)), *measured(1, (0, 20))])
    add_measured(tmp_path, "m", measured(1, (0, 20, 30), start=100.0))
    rows = read_measured(tmp_path, "m")
    keys = [(row["snapshot"], row["seed"]) for row in rows]
    assert keys == [(0, 1), (0, 2), (1, 1), (1, 2), (2, 1)]
    assert [row["x"] for row in rows] == [100.0, 0.0, 120.0, 20.0, 130.0]


def test_two_that_measure_at_once_lose_no_rows(tmp_path, monkeypatch):
    """The second is let in between the first one's read and its write, and has to wait there."""
    real, others = measured_module.read_measured, []

    def slow(run_dir, name):
        rows = real(run_dir, name)
        if not others:
            others.append(threading.Thread(target=add_measured, args=(tmp_path, "m", measured(2, (0, 20)))))
            others[0].start()
            others[0].join(0.2)  # Without a lock it is done by then.
        return rows

    monkeypatch.setattr(measured_module, "read_measured", slow)
    add_measured(tmp_path, "m", measured(1, (0, 20)))
    others[0].join()
    keys = [(row["snapshot"], row["seed"]) for row in real(tmp_path, "m")]
    assert keys == [(0, 1), (0, 2), (1, 1), (1, 2)]


def test_a_table_that_somebody_else_goes_on_writing_is_refused_in_one_line(tmp_path):
    lock = tmp_path / "m" / ".lock"
    with (
        taking_turns(lock, "m is being written"),
        pytest.raises(UserError, match=r"^m is being written by another process; wait for it or stop it$"),
        taking_turns(lock, "m is being written", wait=0.01),
    ):
        pass
    with taking_turns(lock, "m is being written", wait=0.01):
        pass  # It is free again.


def test_of_two_tables_the_first_by_name_counts_and_records_come_before_both(tmp_path):
    add_measured(tmp_path, "m-9", measured(1, (0,), start=9.0))
    assert column(with_measured(tmp_path, records()), 1)[0] == 9.0
    add_measured(tmp_path, "m", measured(1, (0,), start=1.0))
    assert column(with_measured(tmp_path, records()), 1)[0] == 1.0
    own = records().append_column("x", pa.array([7.0] * 8))
    assert with_measured(tmp_path, own).equals(own)


def test_nothing_measured_leaves_the_records_as_they_are(tmp_path):
    assert with_measured(tmp_path, records()).equals(records())
    assert read_measured(tmp_path, "m") == []
    empty = pa.table({"segment": pa.array([], pa.int64())})
    add_measured(tmp_path, "m", measured(1, (0,)))
    assert with_measured(tmp_path, empty).equals(empty)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (None, "cannot be read: .*; remove it and measure again"),
        ({"seed": [1], "snapshot": [0], "x": [1.0]}, r"is no table of measurements \(env_steps\)"),
        (
            {"seed": [1], "snapshot": [0], "env_steps": [0], "x": ["a"]},
            r"is no table of measurements \(x\)",
        ),
    ],
)
def test_a_file_that_is_no_table_of_measurements_is_named(tmp_path, table, message):
    (tmp_path / "measured").mkdir()
    path = tmp_path / "measured" / "m.parquet"
    path.write_bytes(b"PAR1")
    if table is not None:
        pq.write_table(pa.table(table), path)
    for read in (lambda: read_measured(tmp_path, "m"), lambda: with_measured(tmp_path, records())):
        with pytest.raises(UserError, match=rf"m\.parquet {message}"):
            read()


def test_a_branch_shows_what_was_measured_of_the_past_that_it_shares(tmp_path):
    parent, branch, job = tmp_path / "parent", tmp_path / "branch", CountingJob()
    start(job, CountingSpec(), parent)
    point = dataclasses.replace(parent_at(open_run(parent), 2), path=seen_from(branch, parent))
    state = open_run(parent).load_checkpoint(2, job.initial_state(CountingSpec()))
    start(job, CountingSpec(), branch, origin=Origin(point, lambda: state))
    add_measured(parent, "m", [dict(row, y=row.pop("x")) for row in measured(1, (0, 30, 60, 90))])
    add_measured(branch, "m", [dict(row, y=row.pop("x")) for row in measured(1, (80,), start=100.0)])
    table, _ = whole_records(branch, open_run(branch).parent)
    # The past ends at step 60; what the parent was like at 60 and 90 belongs to its own future.
    found = zip(column(table, 1, "env_steps"), column(table, 1, "y"), strict=True)
    assert {step: y for step, y in found if y is not None} == {10: 0.0, 40: 30.0, 90: 180.0}
